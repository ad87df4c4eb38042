//! The way of a peer's membership frames to the driver.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::{EVENTS_RESERVED, TransportEvent, share::PeerShare, stats::Stats};
use crate::{member::Peer, panics::caught_here};

/// That of one link. It holds neither link nor connection, so that the stack may hold it.
pub(super) struct Intake {
    peer: Peer,
    share: Arc<PeerShare>,
    /// How many bytes of this link's wait for the driver.
    waiting: Arc<AtomicUsize>,
    closed: AtomicBool,
    events: mpsc::Sender<TransportEvent>,
    stats: Arc<Stats>,
}

impl Intake {
    pub(super) fn new(
        peer: Peer,
        share: Arc<PeerShare>,
        events: mpsc::Sender<TransportEvent>,
        stats: Arc<Stats>,
    ) -> Self {
        Self { peer, share, waiting: Arc::default(), closed: AtomicBool::new(false), events, stats }
    }

    /// Hands a frame to the driver, or drops it when the driver is behind or the peer has had its share.
    pub(super) fn frame(&self, bytes: Bytes) {
        #[cfg(test)]
        assert_ne!(&bytes[..], super::tests::PANIC_FRAME, "the pump was asked to panic");
        if self.is_closed() {
            return self.stats.frames_dropped.up();
        }
        let Some(waiting) = self.share.take(Instant::now(), &self.waiting, bytes.len()) else {
            return self.stats.frames_refused.up();
        };
        let peer = self.peer.clone();
        // Some room is kept for what must not be lost.
        if self.events.capacity() <= EVENTS_RESERVED
            || self.events.try_send(TransportEvent::Frame { peer, bytes, waiting }).is_err()
        {
            self.stats.frames_dropped.up();
        }
    }

    /// The same, called by the stack: a panic must not end that before it is told.
    pub(super) fn frame_of_stack(&self, bytes: Bytes) {
        if let Err(message) = caught_here(|| self.frame(bytes)) {
            let what = "datagram";
            if self.events.try_send(TransportEvent::Panic { what, message }).is_err() {
                self.stats.events_dropped.up();
            }
        }
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    /// How many bytes wait for the driver.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }
}
