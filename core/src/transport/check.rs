//! Whether links are alive: a ping that the peer has to answer, for every link from time to time, for
//! one on which something waits all the while, and for one in trouble at once. A link without an
//! answer leaves the pool, and whoever uses it gets an error.
//!
//! The stack by itself ends a connection on which nothing is *received*, and is in doubt about one
//! after three probe time-outs. That is not enough: where a path fails in one direction, packets
//! still come while nothing of ours arrives; and each packet sent puts the probe time-out off (RFC
//! 9002, section 6.2.1), so that on a link in use it may not come for long.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Relaxed, Release, SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{
    end::{Code, LinkEnd, NOBODY_THERE, SUCCEEDED},
    knock::Doors,
    link::Link,
    node::Node,
};
use crate::{
    error::{Error, Result},
    seldom::seldom,
};

/// How long a peer has to answer a ping of ours that decides over its link. A process that was
/// stopped for a moment, or a path that was cut, finds its links where they were. One that is gone is known
/// sooner where its host says so.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// How long a peer has where another process shows itself at its address: two may share one behind a
/// forwarded port, and a greeting of the one before may have waited.
const SUCCEEDED_DEADLINE: Duration = Duration::from_millis(500);

/// How often the peer is asked again meanwhile, by an empty datagram: the stack repeats a ping less and
/// less often, would not see in time that a path is there again, and sends no second one while the
/// first is under way.
const PING_AGAIN: Duration = Duration::from_millis(250);

/// After so long without a word on a link with streams of the peer's its end is asked: three of its own
/// questions should have come.
const UNHEARD: Duration = Duration::from_millis(300);

/// How often a node looks which links are quiet, ...
pub(super) const KEEP_EVERY: Duration = Duration::from_millis(500);
/// ... which is where nothing was heard for so long. Above the default interval of heartbeats: where they
/// go, a keep-alive as well would double the packets. With that, a link is silent for 1.75 s at most, of
/// the 3 s after which QUIC takes it for dead; a ping that is lost is repeated many times before.
const QUIET: Duration = Duration::from_millis(1250);
/// The end that did not dial leaves it to the other for so much longer: both may look in the same
/// moment, and the ping of one is enough.
const QUIET_OTHER: Duration = Duration::from_millis(1250 + 500);

/// A sign of life that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// What proves that it came; see [`super::health::Health::mark`].
    mark: u64,
    since: Instant,
}

impl Link {
    /// Asks the peer for a sign of life. Fails where the link has ended.
    fn ask(&self) -> Result<Awaited> {
        let asked = Awaited { mark: self.health.mark(), since: Instant::now() };
        // While another ping is under way, this one would send nothing.
        self.outgoing.nudge();
        self.handle.clone().ping().map_err(|error| self.lost(&LinkEnd::of(&error)))?;
        Ok(asked)
    }

    /// Asks the peer for a sign of life, and waits for it. Returns how long that took.
    pub(super) async fn ping(&self, deadline: Duration) -> Result<Duration> {
        let asked = self.ask()?;
        let asking = async {
            let mut again = interval_at(asked.since + PING_AGAIN, PING_AGAIN);
            loop {
                again.tick().await;
                self.outgoing.nudge();
            }
        };
        let answer = async {
            tokio::select! {
                () = self.health.answer_since(asked.mark) => Ok(asked.since.elapsed()),
                () = self.ended() => Err(self.lost(&LinkEnd::Closed("the link ended".into()))),
                never = asking => never,
            }
        };
        timeout(deadline, answer).await.unwrap_or_else(|_| {
            Err(Error::Timeout { target: self.peer.id.to_string(), after: deadline })
        })
    }

    /// Returns once the peer's host says that nobody listens there, and nothing of the peer's has come
    /// meanwhile: a firewall that rejects says the same.
    async fn deserted(&self, doors: &Doors) {
        let Some(at) = self.door() else { return pending().await };
        let since = Instant::now();
        doors.nobody_at(at).await;
        if self.health.heard().is_some_and(|ago| ago < since.elapsed()) {
            pending().await
        }
    }

    fn lost(&self, end: &LinkEnd) -> Error {
        Error::LinkLost { target: self.peer.id.to_string(), reason: end.to_string() }
    }

    /// Sees to it that something is under way that the peer has to acknowledge, and whether it is
    /// in trouble since it does not. Asks anew only after an answer, so as to keep no probe time-out
    /// from coming.
    fn keep_asking(&self) -> bool {
        let mut awaited = self.awaited.lock();
        match *awaited {
            Some(asked) if !self.health.answered_since(asked.mark) => {
                asked.since.elapsed() >= self.health.patience() && self.health.doubt()
            }
            _ => {
                drop(awaited); // asking takes the connection's lock
                let asked = self.ask().ok();
                awaited = self.awaited.lock();
                *awaited = asked;
                false
            }
        }
    }
}

impl Node {
    /// Something begins, and is counted already, that waits for a peer.
    pub(super) fn ask_from_now_on(&self) {
        // Whoever ceases to ask says so first, and then looks whether something is under way.
        if !self.asking.load(SeqCst) {
            self.asked.notify_one();
        }
    }

    /// Whether anything that waits for a peer is under way: requests and streams of ours, and streams
    /// of peers'.
    pub(super) fn something_waits(&self) -> bool {
        let stats = &self.stats;
        stats.requests_out.get() + stats.streams_out.get() + stats.streams_in.get() > 0
    }

    /// Asks the peers of all links on which something waits whether they are there. Whether there are
    /// any.
    pub(super) fn ping_where_something_waits(&self, trouble: &Notify) -> bool {
        if !self.something_waits() {
            return false;
        }
        for link in self.pool.links_and_retired() {
            // Whoever opened a stream asks all the while; where nothing of that comes any more we ask.
            let unheard = || link.health.heard().is_none_or(|ago| ago >= UNHEARD);
            let serves = || link.streaming.load(Relaxed) > 0 && unheard();
            if link.leases.load(Relaxed) == 0 && !serves() {
                *link.awaited.lock() = None;
            } else if link.keep_asking() {
                trouble.notify_one();
            }
        }
        true
    }

    /// Keeps up the links on which nothing is heard: all of them at once, so that the machine wakes once
    /// for many. The stack would do so for each at its own time, and at both ends.
    pub(super) fn keep_links_up(&self) {
        for link in self.pool.links_and_retired() {
            let quiet = if link.dialed { QUIET } else { QUIET_OTHER };
            if link.health.heard().is_none_or(|ago| ago >= quiet) {
                let _ = link.handle.clone().ping(); // it may have just ended
            }
        }
    }

    /// Pings every link from time to time, until the transport stops.
    pub(super) async fn keep_checking(self: &Arc<Self>, every: Duration) {
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let mut asked = Vec::new();
            for link in self.pool.links_and_retired() {
                self.stats.pings.up();
                if let Ok(awaited) = link.ask() {
                    asked.push((link, awaited)); // otherwise it has just ended
                }
            }
            let node = self.clone();
            self.spawn("link checks", async move {
                tokio::select! {
                    () = node.stop.cancelled() => return,
                    () = sleep(PING_DEADLINE) => {}
                }
                for (link, asked) in asked {
                    if !link.health.answered_since(asked.mark) {
                        node.unanswered(&link, asked.since);
                    }
                }
            });
        }
    }

    /// Pings a link in trouble, and ends it if there is no answer, or if nobody listens there any more.
    pub(super) fn check(self: &Arc<Self>, link: &Arc<Link>) {
        if link.checking.swap(true, AcqRel) {
            return;
        }
        let (node, link) = (self.clone(), link.clone());
        self.spawn("link check", async move {
            let asked = Instant::now();
            node.stats.pings.up();
            let answer = tokio::select! {
                () = node.stop.cancelled() => return,
                answer = link.ping(PING_DEADLINE) => answer,
                () = link.deserted(&node.doors) => {
                    return node.give_up(&link, NOBODY_THERE.into(), Code::Gone);
                }
            };
            link.checking.store(false, Release);
            if let Err(Error::Timeout { .. }) = answer {
                node.unanswered(&link, asked);
            }
        });
    }

    /// Ends the links to those who listened where the peer of this one does now, unless they answer: an
    /// address has one process at a time, so they are most likely dead. Where such a one had been dialed
    /// its successor's endpoint says so itself ([`super::reset`]); where it had dialed, nobody has its port
    /// any more.
    pub(super) fn end_predecessors_of(self: &Arc<Self>, link: &Link) {
        for old in self.pool.of_predecessors(link) {
            let node = self.clone();
            self.spawn("link check", async move {
                let answer = tokio::select! {
                    () = node.stop.cancelled() => return,
                    answer = old.ping(SUCCEEDED_DEADLINE) => answer,
                };
                let silent = matches!(answer, Err(Error::Timeout { .. }));
                if !silent || old.has_ended() || old.given_up.swap(true, AcqRel) {
                    return;
                }
                seldom!(INFO, 10, target: "peerage::link", peer = ?old.peer, SUCCEEDED);
                node.drop_link(&old, LinkEnd::Broken(SUCCEEDED.into()));
                old.close(Code::Succeeded);
            });
        }
    }

    /// Ends a link whose peer was asked for a sign of life and gave none.
    fn unanswered(&self, link: &Arc<Link>, asked: Instant) {
        // Later than what was on its way to us when the silence began.
        let since = asked.elapsed().saturating_sub(link.health.patience());
        let heard = link.health.heard().is_some_and(|ago| ago < since);
        let although = if heard { " although the peer is heard: the path to it fails" } else { "" };
        let reason = format!("no answer to a ping within {PING_DEADLINE:?}{although}");
        self.give_up(link, reason, Code::Unanswered);
    }

    /// Ends a link, once, unless it was closed meanwhile.
    fn give_up(&self, link: &Arc<Link>, reason: String, code: Code) {
        if link.has_ended() || link.given_up.swap(true, AcqRel) {
            return;
        }
        self.stats.unanswered.up();
        seldom!(INFO, 10, target: "peerage::link", peer = %link.peer.id, reason, "given up");
        self.drop_link(link, LinkEnd::Broken(reason));
        link.close(code);
    }
}
