//! The pool: one small synchronous table behind one short lock, and leases on its links.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::seq::IteratorRandom;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{
    Class, TransportEvent,
    end::{Code, LinkEnd},
    link::Link,
    node::Node,
};
use crate::{
    error::{Error, Result},
    member::{NodeId, Peer},
};

/// How many dials may be under way at once.
const DIALS_MAX: usize = 64;
/// How many membership frames wait for one dial.
const PENDING_MAX: usize = 32;
/// How many dials at once frames alone may cause; further frames to strangers are dropped, as the
/// network may drop any. Where dials are quick that is hundreds a second; where nobody answers in
/// time, they must not take the machine from those who still try to.
const FRAME_DIALS_MAX: usize = 6;
/// How often a full pool is looked at by those who wait for room in it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many links peers may open to us above the limit for our own: a full node must still be
/// able to answer newcomers.
pub(super) const RESERVE: usize = 16;

/// What a dial is for: an address and who is to answer there.
pub(super) type DialKey = (SocketAddr, Option<NodeId>);
/// How it ended; nothing while it runs.
type Outcome = Option<Result<Arc<Link>>>;

struct Dial {
    outcome: watch::Receiver<Outcome>,
    /// Frames to send once the link is up, with the process that they are meant for.
    pending: Vec<(Peer, Class, Bytes)>,
}

#[derive(Default)]
struct Table {
    links: HashMap<Peer, Arc<Link>>,
    dials: HashMap<DialKey, Dial>,
    closed: bool,
}

/// The table and who waits for it.
#[derive(Default)]
pub(super) struct Pool {
    table: Mutex<Table>,
    /// Woken when a link may have become free, or a dial ended.
    room: Notify,
    pub(super) max: usize,
}

/// A use of a link; while it lasts, the link is not evicted.
pub(super) struct Lease {
    pub(super) link: Arc<Link>,
    node: Arc<Node>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.touch();
        self.node.stats.requests_out.down();
        if self.link.leases.fetch_sub(1, Relaxed) == 1 {
            self.node.pool.room.notify_waiters();
        }
        self.node.settled();
    }
}

/// What became of a new link.
pub(super) enum Installed {
    /// It is the link to its peer now.
    Up,
    /// It is, and this one was before.
    Instead(Arc<Link>),
    /// Another one stays.
    Surplus(Arc<Link>),
    /// The pool is closed.
    Closed,
}

enum Step {
    Ready(Lease),
    /// A dial is under way; whether this call began it.
    Dialing(watch::Receiver<Outcome>, bool),
    Full,
}

/// What waiting for a dial came to.
enum Dialed {
    /// There is a link, of this dial's or of the peer's.
    Here(Lease),
    Ended(Result<Arc<Link>>),
    /// The deadline came first.
    Late,
    /// The transport stopped.
    Gone,
}

impl Pool {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    pub(super) fn get(&self, peer: &Peer) -> Option<Arc<Link>> {
        self.table.lock().links.get(peer).cloned()
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.table.lock().links.values().cloned().collect()
    }

    /// Where some of those listen that there are links to.
    pub(super) fn some(&self, count: usize) -> Vec<SocketAddr> {
        let table = self.table.lock();
        table.links.values().map(|link| link.addr).choose_multiple(&mut rand::rng(), count)
    }

    pub(super) fn len(&self) -> usize {
        self.table.lock().links.len()
    }

    /// Wakes whoever waits for room.
    pub(super) fn stir(&self) {
        self.room.notify_waiters();
    }
}

impl Table {
    /// Makes room for one more link: decides which to evict and removes it in the same step.
    /// `Err` when all are in use.
    fn make_room(&mut self, node: &Node, max: usize) -> Result<Option<Arc<Link>>, ()> {
        if self.links.len() + self.dials.len() < max {
            return Ok(None);
        }
        let idle = self.links.values().filter(|link| link.evictable());
        let Some(victim) = idle.min_by_key(|link| link.last_use()).cloned() else { return Err(()) };
        self.remove(node, &victim, LinkEnd::Evicted);
        node.stats.evicted.up();
        Ok(Some(victim))
    }

    fn remove(&mut self, node: &Node, link: &Arc<Link>, end: LinkEnd) -> bool {
        if !self.links.get(&link.peer).is_some_and(|held| Arc::ptr_eq(held, link)) {
            return false;
        }
        self.links.remove(&link.peer);
        node.emit(TransportEvent::LinkDown { peer: link.peer.clone(), end });
        true
    }
}

/// Events about links are emitted under the table's lock (without waiting), so that they come in
/// the order of what they tell.
impl Node {
    /// Leases the link to a process, dialing it if there is none.
    pub(super) async fn lease(
        self: &Arc<Self>,
        peer: &Peer,
        addr: SocketAddr,
        until: Instant,
    ) -> Result<Lease> {
        let mut began = false;
        loop {
            let mut room = std::pin::pin!(self.pool.room.notified());
            let step = match self.try_lease(peer, addr)? {
                Step::Full => {
                    room.as_mut().enable(); // before the second look, so that no wake is missed
                    self.try_lease(peer, addr)?
                }
                other => other,
            };
            match step {
                Step::Ready(lease) => return Ok(lease),
                // Links become free to go by age as well, of which nobody tells.
                Step::Full => {
                    let look = until.min(Instant::now() + LOOK_AGAIN);
                    if timeout_at(look, room).await.is_err() && look == until {
                        return Err(self.pool_full());
                    }
                }
                Step::Dialing(outcome, ours) => {
                    began |= ours;
                    let unreachable = |reason: &str| Error::Unreachable {
                        target: peer.id.to_string(),
                        reason: reason.into(),
                    };
                    match self.dialed(peer, outcome, until).await {
                        Dialed::Here(lease) => return Ok(lease),
                        Dialed::Late => return Err(unreachable("no link within the deadline")),
                        Dialed::Gone => return Err(self.closed()),
                        Dialed::Ended(Ok(link)) if link.peer != *peer => {
                            return Err(unreachable("another process answers under its id"));
                        }
                        // A dial that began before the peer was there says nothing about now.
                        Dialed::Ended(Err(Error::Unreachable { .. })) if !began => {}
                        Dialed::Ended(Err(error)) => return Err(error),
                        Dialed::Ended(Ok(_)) => {} // look again: it is there, or lost already
                    }
                }
            }
        }
    }

    /// Waits for the end of a dial, or for the peer's own dial to come through meanwhile.
    async fn dialed(
        self: &Arc<Self>,
        peer: &Peer,
        mut outcome: watch::Receiver<Outcome>,
        until: Instant,
    ) -> Dialed {
        loop {
            let mut room = std::pin::pin!(self.pool.room.notified());
            room.as_mut().enable(); // before the look, so that no wake is missed
            if let Some(lease) = self.lease_held(&self.pool.table.lock(), peer) {
                return Dialed::Here(lease);
            }
            tokio::select! {
                biased; // whoever makes a dial's end known wakes all who wait for room as well
                ended = timeout_at(until, outcome.wait_for(Option::is_some)) => return match ended {
                    Ok(Ok(ended)) => ended.clone().map_or(Dialed::Gone, Dialed::Ended),
                    Ok(Err(_)) => Dialed::Gone,
                    Err(_) => Dialed::Late,
                },
                () = room => {}
            }
        }
    }

    fn pool_full(&self) -> Error {
        Error::PoolFull { current: self.pool.len(), max: self.pool.max }
    }

    fn try_lease(self: &Arc<Self>, peer: &Peer, addr: SocketAddr) -> Result<Step> {
        let mut table = self.pool.table.lock();
        if table.closed || self.is_draining() {
            return Err(self.closed());
        }
        if let Some(lease) = self.lease_held(&table, peer) {
            return Ok(Step::Ready(lease));
        }
        let key = (addr, Some(peer.id.clone()));
        if let Some(dial) = table.dials.get(&key) {
            return Ok(Step::Dialing(dial.outcome.clone(), false));
        }
        let begun = self.begin_dial(&mut table, key, Vec::new());
        drop(table);
        match begun {
            Ok((outcome, evicted)) => {
                close_evicted(evicted);
                Ok(Step::Dialing(outcome, true))
            }
            Err(_) => Ok(Step::Full),
        }
    }

    fn lease_held(self: &Arc<Self>, table: &Table, peer: &Peer) -> Option<Lease> {
        let link = table.links.get(peer)?;
        let first = link.leases.fetch_add(1, Relaxed) == 0;
        self.stats.requests_out.up();
        if first {
            self.asked.notify_one();
        }
        Some(Lease { link: link.clone(), node: self.clone() })
    }

    /// Dials for the driver, which hears how it ends.
    pub(super) fn dial_for_driver(self: &Arc<Self>, addr: SocketAddr, expect: Option<NodeId>) {
        let mut table = self.pool.table.lock();
        if table.closed {
            return;
        }
        let held = table.links.values().find(|link| match &expect {
            Some(id) => link.peer.id == *id && link.addr == addr,
            None => link.addr == addr,
        });
        if let Some(link) = held {
            return self.emit_up(link, Some(addr));
        }
        let key = (addr, expect);
        if table.dials.contains_key(&key) {
            return; // it will be heard how that one ends
        }
        match self.begin_dial(&mut table, key.clone(), Vec::new()) {
            Ok((_, evicted)) => {
                drop(table);
                close_evicted(evicted);
            }
            Err(error) => self.emit(TransportEvent::DialFailed { addr, expect: key.1, error }),
        }
    }

    /// Sends a frame on the link to a process, or keeps it until one is dialed.
    pub(super) fn send_frame(
        self: &Arc<Self>,
        peer: &Peer,
        addr: SocketAddr,
        class: Class,
        bytes: Bytes,
    ) {
        let mut table = self.pool.table.lock();
        if table.closed {
            return self.stats.frames_dropped.up();
        }
        if let Some(link) = table.links.get(peer).cloned() {
            drop(table);
            return link.send_frame(self, class, bytes);
        }
        let key = (addr, Some(peer.id.clone()));
        let frame = (peer.clone(), class, bytes);
        if let Some(dial) = table.dials.get_mut(&key) {
            if dial.pending.len() < PENDING_MAX {
                return dial.pending.push(frame);
            }
            return self.stats.frames_dropped.up();
        }
        let for_frames = table.dials.values().filter(|dial| !dial.pending.is_empty()).count();
        if for_frames >= FRAME_DIALS_MAX {
            return self.stats.frames_dropped.up();
        }
        match self.begin_dial(&mut table, key, vec![frame]) {
            Ok((_, evicted)) => {
                drop(table);
                close_evicted(evicted);
            }
            Err(_) => self.stats.frames_dropped.up(),
        }
    }

    fn begin_dial(
        self: &Arc<Self>,
        table: &mut Table,
        key: DialKey,
        pending: Vec<(Peer, Class, Bytes)>,
    ) -> Result<(watch::Receiver<Outcome>, Option<Arc<Link>>)> {
        if table.dials.len() >= DIALS_MAX {
            return Err(Error::Busy { what: "dials", max: DIALS_MAX });
        }
        let max = self.pool.max;
        let evicted = table
            .make_room(self, max)
            .map_err(|()| Error::PoolFull { current: table.links.len(), max })?;
        let (done, outcome) = watch::channel(None);
        table.dials.insert(key.clone(), Dial { outcome: outcome.clone(), pending });
        self.stats.dials.up();
        let node = self.clone();
        self.spawn("dial", async move { node.run_dial(key, done).await });
        Ok((outcome, evicted))
    }

    async fn run_dial(self: Arc<Self>, key: DialKey, done: watch::Sender<Outcome>) {
        // Whatever happens in between, a panic included, the dial leaves the table.
        let guard = DialGuard { node: &self, key: &key };
        let result = tokio::select! {
            () = self.stop.cancelled() => return, // those who wait see the sender go
            result = self.dial(&key) => result,
        };
        let pending = guard.finish(&result, done);
        match result {
            Ok(link) => {
                for (peer, class, bytes) in pending {
                    if peer == link.peer {
                        link.send_frame(&self, class, bytes);
                    } else {
                        self.stats.frames_dropped.up();
                    }
                }
            }
            Err(_) => {
                self.stats.dial_failures.up();
                self.stats.frames_dropped.add(pending.len() as u64);
            }
        }
    }

    /// Puts a link that passed the hello into the table, or leaves it out for a better one. Both
    /// ends decide alike.
    pub(super) fn install(&self, link: &Arc<Link>, dialed: Option<SocketAddr>) -> Installed {
        let mut table = self.pool.table.lock();
        if table.closed {
            return Installed::Closed;
        }
        match table.links.get(&link.peer).cloned() {
            // A link in trouble is not worth keeping for the sake of its rank.
            Some(held) if held.rank > link.rank && !held.health.in_trouble() => {
                if dialed.is_some() {
                    self.emit_up(&held, dialed);
                }
                Installed::Surplus(held)
            }
            Some(held) => {
                link.pinned.store(held.pinned.load(Relaxed), Relaxed);
                table.links.insert(link.peer.clone(), link.clone());
                if dialed.is_some() {
                    self.emit_up(link, dialed);
                }
                Installed::Instead(held)
            }
            None => {
                table.links.insert(link.peer.clone(), link.clone());
                self.emit_up(link, dialed);
                Installed::Up
            }
        }
    }

    /// Whether there is room for one more link from a peer; evicts an unused one if that helps.
    pub(super) fn admit_link(&self, peer: &Peer) -> bool {
        let mut table = self.pool.table.lock();
        if table.links.contains_key(peer) {
            return true; // it takes the place of one
        }
        let evicted = match table.make_room(self, self.pool.max) {
            Ok(evicted) => evicted,
            Err(()) => return table.links.len() < self.pool.max + RESERVE,
        };
        drop(table);
        close_evicted(evicted);
        true
    }

    fn emit_up(&self, link: &Link, dialed: Option<SocketAddr>) {
        self.emit(TransportEvent::LinkUp { peer: link.peer.clone(), addr: link.addr, dialed });
    }

    /// Closes a link that nobody has used for a while; decided and removed in the same step.
    pub(super) fn close_unused(&self, link: &Arc<Link>) {
        let mut table = self.pool.table.lock();
        let removed = link.evictable() && table.remove(self, link, LinkEnd::Idle);
        drop(table);
        if removed {
            self.stats.idled.up();
            link.close(Code::Unused);
            self.pool.stir();
        }
    }

    /// Closes unused links above the limit for our own: peers may open some more, for as long as it
    /// takes to serve them.
    pub(super) fn close_surplus(&self) {
        loop {
            let mut table = self.pool.table.lock();
            if table.links.len() <= self.pool.max {
                return;
            }
            let idle = table.links.values().filter(|link| link.evictable());
            let Some(victim) = idle.min_by_key(|link| link.last_use()).cloned() else { return };
            table.remove(self, &victim, LinkEnd::Evicted);
            drop(table);
            self.stats.evicted.up();
            victim.close(Code::Unused);
        }
    }

    /// Takes a link out of the table, if it is there, and tells the driver.
    pub(super) fn drop_link(&self, link: &Arc<Link>, end: LinkEnd) -> bool {
        let removed = self.pool.table.lock().remove(self, link, end);
        self.pool.stir();
        removed
    }

    /// Takes all links out of the table and lets no more in.
    pub(super) fn close_pool(&self, reason: &str) -> Vec<Arc<Link>> {
        let mut table = self.pool.table.lock();
        table.closed = true;
        let links: Vec<_> = table.links.values().cloned().collect();
        for link in &links {
            table.remove(self, link, LinkEnd::Closed(reason.into()));
        }
        drop(table);
        self.pool.stir();
        links
    }
}

/// Closing takes the connection's lock, so it is done outside ours.
fn close_evicted(evicted: Option<Arc<Link>>) {
    if let Some(link) = evicted {
        link.close(Code::Unused);
    }
}

struct DialGuard<'a> {
    node: &'a Arc<Node>,
    key: &'a DialKey,
}

impl DialGuard<'_> {
    /// Takes the dial out of the table, tells those who wait and the driver of a failure, and
    /// returns the frames. Out of the table and told in one step: who finds no dial there must not
    /// take it that none was made.
    fn finish(
        self,
        result: &Result<Arc<Link>>,
        done: watch::Sender<Outcome>,
    ) -> Vec<(Peer, Class, Bytes)> {
        let mut table = self.node.pool.table.lock();
        let dial = table.dials.remove(self.key);
        let _ = done.send(Some(result.clone())); // nobody may be waiting
        drop(table);
        if let Err(error) = result {
            let (addr, expect) = self.key.clone();
            self.node.emit(TransportEvent::DialFailed { addr, expect, error: error.clone() });
        }
        dial.map(|dial| dial.pending).unwrap_or_default()
    }
}

impl Drop for DialGuard<'_> {
    fn drop(&mut self) {
        self.node.pool.table.lock().dials.remove(self.key);
        self.node.pool.stir();
    }
}
