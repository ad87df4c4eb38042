//! The pool's dials: for requests, for the driver and for frames, from the beginning until nobody
//! waits for them any more. There is one dial for any number of those.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use tracing::Instrument;

use super::{Class, Gone, Inner, NoRoom, close_evicted};
use crate::{
    error::Result,
    member::{NodeId, Peer},
    seldom::seldom,
    transport::{TransportEvent, link::Link, node::Node},
};

/// How many membership frames wait for one dial.
const PENDING_MAX: usize = 32;
/// How many dials at once frames alone may cause; further frames to strangers are dropped, as the
/// network may drop any. Where dials are quick that is hundreds a second; where nobody answers in
/// time, they must not take the machine from those who still try to.
const FRAME_DIALS_MAX: usize = 6;

/// What a dial is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::transport) struct DialKey {
    pub(in crate::transport) addr: SocketAddr,
    /// Who is to answer there; anybody, if none.
    pub(in crate::transport) expect: Option<NodeId>,
    /// Which of the links to it.
    pub(in crate::transport) slot: u16,
}

/// How it ended; nothing while it runs.
pub(super) type Outcome = Option<Result<Arc<Link>>>;

/// A dial under way.
pub(super) struct Dial {
    pub(super) outcome: watch::Receiver<Outcome>,
    /// Frames to send once the link is up, with the process that they are meant for.
    pending: Vec<(Peer, Class, Bytes)>,
}

/// Who waits for a dial, and the link that had to go for it.
type Begun = (watch::Receiver<Outcome>, Option<Gone<Arc<Link>>>);

impl Node {
    /// Dials for the driver, which hears how it ends.
    pub(in crate::transport) fn dial_for_driver(
        self: &Arc<Self>,
        addr: SocketAddr,
        expect: Option<NodeId>,
    ) {
        let mut guard = self.pool.inner.lock();
        let inner = &mut *guard;
        if inner.table.closed {
            return;
        }
        let held = inner.table.links().find(|link| match &expect {
            Some(id) => link.peer.id == *id && link.addr == addr,
            None => link.addr == addr,
        });
        if let Some(link) = held {
            return self.emit_up(link, Some(addr));
        }
        let key = DialKey { addr, expect, slot: 0 };
        if inner.table.dial(&key).is_some() {
            return; // it will be heard how that one ends
        }
        match self.begin_dial(inner, key.clone(), Vec::new(), true) {
            Ok((_, gone)) => {
                drop(guard);
                close_evicted(gone);
            }
            Err(no_room) => {
                let error = self.no_room(no_room, inner);
                self.emit(TransportEvent::DialFailed { addr, expect: key.expect, error });
            }
        }
    }

    /// Sends a frame on the link to a process, or keeps it until one is dialed.
    pub(in crate::transport) fn send_frame(
        self: &Arc<Self>,
        peer: &Peer,
        addr: SocketAddr,
        class: Class,
        bytes: Bytes,
    ) {
        let mut guard = self.pool.inner.lock();
        let inner = &mut *guard;
        if inner.table.closed {
            return self.stats.frames_dropped.up();
        }
        let links = inner.table.of(peer);
        let sound = links.iter().find(|link| !link.health.in_trouble());
        if let Some(link) = sound.or(links.first()).cloned() {
            drop(guard);
            return link.send_frame(self, class, bytes);
        }
        let key = DialKey { addr, expect: Some(peer.id.clone()), slot: 0 };
        let frame = (peer.clone(), class, bytes);
        if let Some(dial) = inner.table.dial_mut(&key) {
            if dial.pending.len() < PENDING_MAX {
                return dial.pending.push(frame);
            }
            return self.stats.frames_dropped.up();
        }
        let for_frames = inner.table.dials().filter(|dial| !dial.pending.is_empty()).count();
        if for_frames >= FRAME_DIALS_MAX {
            return self.stats.frames_dropped.up();
        }
        match self.begin_dial(inner, key, vec![frame], true) {
            Ok((_, gone)) => {
                drop(guard);
                close_evicted(gone);
            }
            Err(_) => self.stats.frames_dropped.up(),
        }
    }

    /// Begins a dial that is not under way yet.
    pub(super) fn begin_dial(
        self: &Arc<Self>,
        inner: &mut Inner,
        key: DialKey,
        pending: Vec<(Peer, Class, Bytes)>,
        of_membership: bool,
    ) -> Result<Begun, NoRoom> {
        let (done, outcome) = watch::channel(None);
        let dial = Dial { outcome: outcome.clone(), pending };
        let gone = inner.table.begin_dial(key.clone(), dial, of_membership)?;
        self.note_evicted(gone.as_ref());
        self.stats.dials.up();
        let node = self.clone();
        let span = tracing::debug_span!(
            target: "peerage::dial",
            "dial",
            addr = %key.addr,
            expect = key.expect.as_ref().map(tracing::field::display),
            slot = key.slot,
        );
        self.spawn("dial", async move { node.run_dial(key, done).await }.instrument(span));
        Ok((outcome, gone))
    }

    async fn run_dial(self: Arc<Self>, key: DialKey, done: watch::Sender<Outcome>) {
        // Whatever happens in between, a panic included, the dial leaves the table.
        let guard = DialGuard { node: &self, key: &key, ended: false };
        let began = Instant::now();
        let result = tokio::select! {
            () = self.stop.cancelled() => return, // those who wait see the sender go
            result = self.dial(&key) => result,
        };
        self.inbound.dialed(began.elapsed(), result.as_ref().err());
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
}

/// Sees to it that a dial leaves the table.
struct DialGuard<'a> {
    node: &'a Arc<Node>,
    key: &'a DialKey,
    /// Whether it has left: another one to the same place may have begun since.
    ended: bool,
}

impl DialGuard<'_> {
    /// Takes the dial out of the table, tells those who wait and the driver of a failure, and
    /// returns the frames. Out of the table and told in one step: who finds no dial there must not
    /// take it that none was made.
    fn finish(
        mut self,
        result: &Result<Arc<Link>>,
        done: watch::Sender<Outcome>,
    ) -> Vec<(Peer, Class, Bytes)> {
        let key = self.key;
        let mut guard = self.node.pool.inner.lock();
        let inner = &mut *guard;
        self.ended = true;
        let dial = inner.table.end_dial(key);
        match result {
            Ok(_) => inner.backoff.made(key),
            Err(error) => inner.backoff.failed(key, error, Instant::now(), &mut inner.rng),
        }
        let _ = done.send(Some(result.clone())); // nobody may be waiting
        drop(guard);
        match result {
            // Of no concern to the driver: there are other links to that peer.
            Err(error) if key.slot > 0 => {
                seldom!(DEBUG, 10, target: "peerage::dial", %error, "no further link");
            }
            Err(error) => {
                seldom!(DEBUG, 10, target: "peerage::dial", %error, "failed");
                let DialKey { addr, expect, .. } = key.clone();
                self.node.emit(TransportEvent::DialFailed { addr, expect, error: error.clone() });
            }
            Ok(_) => {}
        }
        dial.map(|dial| dial.pending).unwrap_or_default()
    }
}

impl Drop for DialGuard<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.node.pool.inner.lock().table.end_dial(self.key);
        }
        self.node.pool.stir();
    }
}
