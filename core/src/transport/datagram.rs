//! The unreliable path: bounded queues on both sides of the QUIC stack.
//!
//! s2n-quic's default sender yields to streams and **starves** behind a busy one; a heartbeat
//! must not. And its default receive queue has no bound when none is set.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use s2n_quic::{
    connection,
    provider::datagram::{
        ConnectionInfo, Endpoint, Packet, PreConnectionInfo, ReceiveContext, Receiver, Sender,
        WriteError,
    },
};

use super::{intake::Intake, stats::Stats};

/// The largest frame that is sent as a datagram; it fits the first packets of any path (measured:
/// about 1160 bytes right after the handshake). Larger ones go by stream.
pub const DATAGRAM_BYTES_MAX: usize = 1150;
/// How many datagrams wait on each side of a link. When full the oldest goes: membership frames
/// age badly.
const QUEUE_MAX: usize = 256;
/// In how many packets a datagram may fail to find room before it is dropped. Packets begin with
/// datagrams every other time, so this is never reached by one that could fit.
const MISSES_MAX: u32 = 4;
/// What we accept from a peer.
const FRAME_SIZE_MAX: u64 = 65_535;

/// Makes the queues of each connection.
pub(super) struct Datagrams {
    pub(super) stats: Arc<Stats>,
}

impl Endpoint for Datagrams {
    type Sender = Outbox;
    type Receiver = Inbox;

    fn create_connection(&mut self, info: &ConnectionInfo) -> (Outbox, Inbox) {
        let outgoing = Arc::new(Outgoing {
            queue: Mutex::default(),
            waker: info.waker.clone(),
            bytes_max: usize::try_from(info.max_datagram_payload).unwrap_or(usize::MAX),
            stats: self.stats.clone(),
        });
        let way = Mutex::new(Way::Waits(VecDeque::new()));
        let incoming = Arc::new(Incoming { way, stats: self.stats.clone() });
        (Outbox { outgoing, misses: 0 }, Inbox { incoming })
    }

    fn max_datagram_frame_size(&self, _: &PreConnectionInfo) -> u64 {
        FRAME_SIZE_MAX
    }
}

/// Our half of the sending queue.
pub(super) struct Outgoing {
    queue: Mutex<VecDeque<Bytes>>,
    waker: Waker,
    bytes_max: usize,
    stats: Arc<Stats>,
}

impl Outgoing {
    /// Whether a frame of this size may go as a datagram.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes <= DATAGRAM_BYTES_MAX.min(self.bytes_max)
    }

    /// Queues a datagram; when the queue is full the oldest is dropped.
    pub(super) fn push(&self, bytes: Bytes) {
        push_bounded(&mut self.queue.lock(), bytes, &self.stats);
        // Outside the lock: the connection takes its own lock first and ours after it.
        self.waker.wake_by_ref();
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().len()
    }

    /// Queues an empty datagram, which carries nothing and has to be acknowledged.
    pub(super) fn nudge(&self) {
        self.push(Bytes::new());
    }
}

fn push_bounded(queue: &mut VecDeque<Bytes>, bytes: Bytes, stats: &Stats) {
    if queue.len() >= QUEUE_MAX {
        queue.pop_front();
        stats.datagrams_dropped.up();
    }
    queue.push_back(bytes);
}

/// The stack's half of the sending queue.
pub(super) struct Outbox {
    outgoing: Arc<Outgoing>,
    misses: u32,
}

impl Outbox {
    pub(super) fn outgoing(&self) -> Arc<Outgoing> {
        self.outgoing.clone()
    }
}

impl Sender for Outbox {
    /// Writes what fits, whether or not streams have something to send.
    fn on_transmit<P: Packet>(&mut self, packet: &mut P) {
        let stats = &self.outgoing.stats;
        let mut queue = self.outgoing.queue.lock();
        while let Some(front) = queue.front() {
            match packet.write_datagram(front) {
                Ok(()) if front.is_empty() => {}
                Ok(()) => stats.datagrams_sent.up(),
                Err(WriteError::ExceedsPacketCapacity) if self.misses < MISSES_MAX => {
                    self.misses += 1;
                    return;
                }
                Err(_) => stats.datagrams_dropped.up(),
            }
            self.misses = 0;
            queue.pop_front();
        }
    }

    fn has_transmission_interest(&self) -> bool {
        !self.outgoing.queue.lock().is_empty()
    }

    fn on_connection_error(&mut self, _: connection::Error) {
        self.outgoing.queue.lock().clear();
    }
}

/// Where what arrives goes.
pub(super) struct Incoming {
    way: Mutex<Way>,
    stats: Arc<Stats>,
}

enum Way {
    /// Before the peer has said who it is.
    Waits(VecDeque<Bytes>),
    /// From the stack's own thread: a task for each link would be woken for each heartbeat.
    Flows(Arc<Intake>),
}

impl Incoming {
    /// What waits goes there, and what comes from now on.
    pub(super) fn flow_to(&self, intake: Arc<Intake>) {
        let mut way = self.way.lock();
        if let Way::Waits(queue) = &mut *way {
            for bytes in queue.drain(..) {
                intake.frame(bytes);
            }
        }
        *way = Way::Flows(intake);
    }

    pub(super) fn waiting(&self) -> usize {
        match &*self.way.lock() {
            Way::Waits(queue) => queue.len(),
            Way::Flows(_) => 0,
        }
    }
}

/// The stack's half of it.
pub(super) struct Inbox {
    incoming: Arc<Incoming>,
}

impl Inbox {
    pub(super) fn incoming(&self) -> Arc<Incoming> {
        self.incoming.clone()
    }
}

impl Receiver for Inbox {
    fn on_datagram(&mut self, _: &ReceiveContext<'_>, datagram: &[u8]) {
        if datagram.is_empty() {
            return; // a sign of life was asked for, and the stack gives it
        }
        let stats = &self.incoming.stats;
        stats.datagrams_received.up();
        let bytes = Bytes::copy_from_slice(datagram);
        match &mut *self.incoming.way.lock() {
            Way::Waits(queue) => push_bounded(queue, bytes, stats),
            Way::Flows(intake) => intake.frame_of_stack(bytes),
        }
    }

    fn on_connection_error(&mut self, _: connection::Error) {}
}
