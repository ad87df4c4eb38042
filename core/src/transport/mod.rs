//! The transport: authenticated QUIC links to other nodes, and what travels on them.
//!
//! It decides nothing about membership. It dials when told, keeps a bounded pool of links, says
//! hello before anything else so that nobody talks to a stranger, carries membership frames
//! (unreliably as datagrams, reliably on streams) and requests, and reports what it observes as
//! [`TransportEvent`]s.
//!
//! * [`secret`], `identity`, `keys`, `tls`: who may talk to us and how that is proved;
//! * `renew`, `files`: what happens when that changes;
//! * `endpoint`, `socket`, `admission`, `gather`, `datagram`, `health`: what we plug into the QUIC stack;
//! * `hello`, `dial`, `end`: how a connection becomes a link, and why it ceases to be one;
//! * `link`, `pool`, `backoff`: links, their table, leases and eviction, and when to dial again;
//! * `check`, `knock`: whether links are alive;
//! * `places`, `share`: what one peer may take of what all share;
//! * `request`, `reader`, `shelf`: requests and messages on QUIC streams, and the memory they come to;
//! * `stream`: the streams that programs open to one another;
//! * `options`, `node`: what it is started with, what its tasks share, and their end.

mod admission;
mod backoff;
#[cfg(test)]
mod chance;
mod check;
mod datagram;
mod dial;
mod end;
mod endpoint;
#[cfg(any(test, feature = "simulator"))]
pub mod feed;
mod files;
mod gather;
mod give_up;
mod health;
mod hello;
mod identity;
mod intake;
mod keys;
mod knock;
mod link;
mod node;
mod options;
mod places;
mod pool;
mod reader;
mod renew;
mod request;
mod reset;
pub mod secret;
mod share;
mod shelf;
mod socket;
mod stats;
mod stream;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use self::pool::Standing;

pub(crate) use self::stream::check_code;
pub use self::{
    datagram::DATAGRAM_BYTES_MAX,
    end::LinkEnd,
    health::Path,
    link::FRAME_BYTES_MAX,
    options::Options,
    request::TOPIC_BYTES_MAX,
    share::Waiting,
    stats::{PoolStats, TransportStats},
    stream::{Handled, ReceiveHalf, SendHalf, Stream, StreamHandler},
};
use self::{end::Code, identity::Identity, node::Node, request::Call};
use crate::{
    error::{Error, Result},
    member::{NodeId, Peer},
    panics,
};

/// How many events wait for the driver.
pub const EVENTS_MAX: usize = 4096;
/// How many of those places membership frames, which may be lost, leave to what may not.
const EVENTS_RESERVED: usize = 512;

/// How a membership frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Unreliably, and past everything else; a frame too large for a packet goes by stream.
    Datagram,
    /// Reliably, on a stream of its own, as long as the link lives.
    Stream,
}

/// What the transport reports to its driver.
#[derive(Debug)]
pub enum TransportEvent {
    /// There is a link to this process now; or there was one already when it was to be dialed.
    LinkUp {
        /// Who is at the other end.
        peer: Peer,
        /// Where the peer says that it listens.
        addr: SocketAddr,
        /// The address that we dialed, if we did.
        dialed: Option<SocketAddr>,
    },
    /// The last link to this process is gone.
    LinkDown {
        /// Who was at the other end.
        peer: Peer,
        /// Why it is gone.
        end: LinkEnd,
    },
    /// The peer has not answered the last few packets; said once until it answers again.
    LinkTrouble {
        /// Who is at the other end.
        peer: Peer,
    },
    /// A dial ended without a link, whoever asked for it.
    DialFailed {
        /// Where.
        addr: SocketAddr,
        /// Who was to answer.
        expect: Option<NodeId>,
        /// Why.
        error: Error,
    },
    /// Who was dialed has no room for another link. The dial fails as well.
    Full {
        /// Where.
        addr: SocketAddr,
        /// Who might have room, it says; 8 at most.
        others: Vec<SocketAddr>,
    },
    /// A membership frame arrived.
    Frame {
        /// Who sent it: the link says so, not the frame.
        peer: Peer,
        /// The frame.
        bytes: Bytes,
        /// Its place among those of its sender that wait, until it is dropped.
        waiting: Waiting,
    },
    /// Something about our certificates.
    Keys(KeyEvent),
    /// A task of the transport panicked, or its endpoint ended; the node must be stopped.
    Panic {
        /// Which task.
        what: &'static str,
        /// What it said.
        message: String,
    },
}

/// What there is to tell of certificates from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// The files changed, and are used now.
    Reloaded {
        /// The file with our certificate.
        path: String,
    },
    /// The files changed and cannot be used; those before stay in use.
    Rejected {
        /// The file with our certificate.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Less than a third, a tenth, or nothing is left of a certificate's time.
    Expiring {
        /// The file.
        path: String,
        /// How much.
        left: Duration,
    },
}

/// A request that is being handled: its answer, or what its handler says of its failure.
pub type Answering = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// What takes peers' requests, and hears what there is to measure; a panic in it is answered as
/// [`Refusal::Handler`]. By default it takes nothing.
///
/// The transport holds it as long as it runs: it must not hold the [`Transport`] in turn, or
/// dropping that would end nothing.
pub trait Inbound: Send + Sync + 'static {
    /// Handles a request, or refuses it. Dropped when nobody waits for the answer any more.
    fn request(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Answering, Refusal> {
        let _ = (from, topic, payload, deadline);
        Err(Refusal::UnknownTopic)
    }

    /// Handles a message.
    fn message(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _ = (from, topic, payload);
        Box::pin(async {})
    }

    /// What takes the streams of a topic, if anything does.
    fn stream(&self, topic: &str) -> Option<StreamHandler> {
        let _ = topic;
        None
    }

    /// A dial of ours has ended after so long, with a link or without.
    fn dialed(&self, took: Duration, failed: Option<&Error>) {
        let _ = (took, failed);
    }

    /// The handshake of a connection, which we dialed or the peer, was complete after so long.
    fn shook_hands(&self, took: Duration, dialed: bool) {
        let _ = (took, dialed);
    }
}

/// Why a request has no answer, or a stream is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody handles the topic.
    UnknownTopic,
    /// The handler failed, and this is what it said.
    Handler(String),
    /// So many requests are under way, which is the limit.
    Busy(usize),
    /// The node takes no more requests.
    Closed,
    /// The payload is too large.
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
}

/// A reading of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Who is at the other end.
    pub peer: Peer,
    /// Where the peer listens.
    pub addr: SocketAddr,
    /// Which of several links to the same peer it is, from 0.
    pub slot: u16,
    /// What this end can tell of the path.
    pub path: Path,
    /// The smoothed round trip of the path, once measured.
    pub rtt: Option<Duration>,
    /// How long ago a packet of the peer's came last.
    pub heard: Option<Duration>,
    /// Probe timeouts in a row: how often in vain the stack waited for an answer.
    pub timeouts: u32,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Our requests under way on it, and the streams that we opened.
    pub in_flight: usize,
    /// The peer's requests under way on it, and the streams that it opened.
    pub serving: usize,
    /// Room that the payloads of the peer's requests and messages on it take now.
    pub payload_bytes: u64,
    /// Bytes of our handlers' answers that are on their way to the peer.
    pub answer_bytes: u64,
    /// Bytes of streams that have arrived and that nobody has read.
    pub stream_bytes: u64,
    /// Bytes of the peer's membership frames of it that wait for the driver.
    pub frame_bytes: usize,
    /// Datagrams that wait, to be sent or to be looked at.
    pub datagrams_waiting: usize,
    /// Whether we dialed it.
    pub dialed: bool,
    /// Whether it is kept although unused.
    pub pinned: bool,
    /// How long nobody has used it.
    pub idle: Duration,
    /// Whether it has given way to another one, and is closed once nothing is under way on it.
    pub draining: bool,
}

/// A running transport. Clones share it; dropping the last one ends it like [`Transport::abort`].
#[derive(Clone)]
pub struct Transport(Arc<Face>);

/// Only handles hold this, never a task.
struct Face(Arc<Node>);

impl Drop for Face {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("me", &self.0.0.me)
            .field("local", &self.0.0.local)
            .finish()
    }
}

impl Transport {
    /// Binds the sockets and starts to accept links, on the current tokio runtime.
    pub async fn bind(
        options: Options,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(Transport, mpsc::Receiver<TransportEvent>)> {
        let identity = Identity::load(&options.security, &options.node_id)?;
        Self::bind_as(options, identity, inbound)
    }

    fn bind_as(
        options: Options,
        identity: Identity,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(Transport, mpsc::Receiver<TransportEvent>)> {
        let (node, events) = Node::start(options, identity, inbound)?;
        Ok((Self(Arc::new(Face(node))), events))
    }

    fn node(&self) -> &Arc<Node> {
        &self.0.0
    }

    /// The address that we listen on.
    pub fn local_addr(&self) -> SocketAddr {
        self.node().local
    }

    /// The address that we tell others.
    pub fn advertised(&self) -> SocketAddr {
        self.node().advertised
    }

    /// Dials in the background; `expect` refuses everybody else. Ends in
    /// [`TransportEvent::LinkUp`], at once if there is such a link already, or in
    /// [`TransportEvent::DialFailed`]. At most 64 dials are under way at once, and only one to the
    /// same address for the same node.
    pub fn dial(&self, addr: SocketAddr, expect: Option<NodeId>) {
        self.node().dial_for_driver(addr, expect);
    }

    /// Sends a membership frame, best effort and without waiting. Without a link to this process
    /// one is dialed, and up to 32 frames wait for it.
    pub fn send_frame(&self, peer: &Peer, addr: SocketAddr, class: Class, bytes: Bytes) {
        self.node().send_frame(peer, addr, class, bytes);
    }

    /// Takes a hold on the link to a process, as a request does first. For benchmarks.
    #[doc(hidden)]
    pub async fn lease(
        &self,
        peer: &Peer,
        addr: SocketAddr,
        until: Instant,
    ) -> Result<impl Send + use<'_>> {
        self.node().lease(peer, addr, until).await
    }

    /// Sends a request and waits for the answer, at most until the deadline. Dropping the future
    /// cancels the request at the peer.
    pub async fn request(
        &self,
        peer: &Peer,
        addr: SocketAddr,
        topic: &str,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Bytes> {
        let call = Call { peer, topic, payload, deadline, until: Instant::now() + deadline };
        // Pinned first, or it is copied on its way.
        let work = pin!(request::request(self.node(), call, addr));
        work.instrument(span("request", peer, topic)).await
    }

    /// Sends a message and waits until the peer's stack has all of it; that says nothing about
    /// its handler.
    pub async fn message(
        &self,
        peer: &Peer,
        addr: SocketAddr,
        topic: &str,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<()> {
        let call = Call { peer, topic, payload, deadline, until: Instant::now() + deadline };
        let work = pin!(request::message(self.node(), call, addr));
        work.instrument(span("message", peer, topic)).await
    }

    /// Opens a stream and waits until the peer has taken it, at most until the deadline.
    pub async fn open_stream(
        &self,
        peer: &Peer,
        addr: SocketAddr,
        topic: &str,
        deadline: Duration,
    ) -> Result<Stream> {
        let until = Instant::now() + deadline;
        let call = Call { peer, topic, payload: Bytes::new(), deadline, until };
        stream::open(self.node(), call, addr).instrument(span("stream", peer, topic)).await
    }

    /// Opens a stream to our own handler.
    pub fn open_stream_here(&self, topic: &str) -> Result<Stream> {
        stream::open_here(self.node(), topic)
    }

    /// Closes the links to a process, if there are any, those being drained included; whoever uses
    /// them gets an error.
    pub fn close_link(&self, peer: &Peer, reason: &str) {
        for link in self.node().pool.of_and_retired(peer) {
            link.hear_no_more(); // before the driver hears of its end
            self.node().drop_link(&link, LinkEnd::Closed(reason.into()));
            link.close(Code::Closed);
        }
    }

    /// Keeps a link to a process although it is unused, or stops to. Lasts as long as there is one.
    pub fn pin(&self, peer: &Peer, pinned: bool) {
        self.node().pool.pin(peer, pinned);
    }

    /// Whether there is a link to this process.
    pub fn has_link(&self, peer: &Peer) -> bool {
        !self.node().pool.of(peer).is_empty()
    }

    /// All links of the pool, in no order.
    pub fn links(&self) -> Vec<LinkStats> {
        let mut links = self.links_and_draining();
        links.retain(|link| !link.draining);
        links
    }

    /// These, and those that have given way to another one and are being drained.
    pub fn links_and_draining(&self) -> Vec<LinkStats> {
        let info = |(link, standing): (Arc<link::Link>, Standing)| {
            let packets = link.health.counts();
            LinkStats {
                peer: link.peer.clone(),
                addr: link.addr,
                slot: link.slot,
                path: link.health.path(),
                rtt: link.health.rtt(),
                heard: link.health.heard(),
                timeouts: packets.timeouts,
                packets_sent: packets.sent,
                packets_received: packets.received,
                packets_lost: packets.lost,
                in_flight: link.leases.load(Relaxed),
                serving: link.serving.load(Relaxed) + link.streaming.load(Relaxed),
                payload_bytes: link.payloads.held(),
                answer_bytes: link.answers.held(),
                stream_bytes: link.streams.waiting(),
                frame_bytes: link.intake.waiting(),
                datagrams_waiting: link.datagrams_waiting(),
                dialed: link.dialed,
                pinned: standing == Standing::Pinned,
                idle: link.unused(),
                draining: standing == Standing::Retired,
            }
        };
        self.node().pool.links_and_standing().into_iter().map(info).collect()
    }

    /// Asks a process for a sign of life on the first link to it, and returns how long that took.
    /// Makes no link. Fails with [`Error::Timeout`] if there is none within the deadline, and with
    /// [`Error::Unreachable`] without a link.
    pub async fn ping(&self, peer: &Peer, deadline: Duration) -> Result<Duration> {
        match self.node().pool.of(peer).first() {
            Some(link) => link.ping(deadline).await,
            None => {
                let reason = "there is no link to it".into();
                Err(Error::Unreachable { target: peer.id.to_string(), reason })
            }
        }
    }

    /// Proves itself by the first of these secrets from now on, and believes whoever holds any of
    /// them. Links are made anew where that is needed; those made with none of them are closed within
    /// 5 s, with what is still under way on them.
    pub fn set_secrets(&self, secrets: &[secret::Secret]) -> Result<()> {
        self.node().set_secrets(secrets)
    }

    /// Reads the PEM files again, and does likewise. Where they cannot be used, those before stay.
    pub async fn reload_certificates(&self) -> Result<()> {
        self.node().reload_certificates().await
    }

    /// How long the first to end of our certificates from files, and of those we trust, still
    /// holds.
    pub fn certificate_left(&self) -> Option<Duration> {
        let validity = self.node().keys.validity()?;
        Some(validity.left(std::time::SystemTime::now()))
    }

    /// The counters.
    pub fn stats(&self) -> TransportStats {
        self.node().stats.read(self.node().pool.stats())
    }

    /// Takes no more requests and streams, lets those under way finish within `drain`, closes all
    /// links and ends every task and socket. Returns how many, in both directions, were cut off.
    pub async fn shutdown(&self, drain: Duration) -> usize {
        self.node().shutdown(drain).await
    }

    /// Ends everything at once, without waiting for it.
    pub fn abort(&self) {
        self.node().abort();
    }
}

/// What a call to a peer runs in, for logs; within the caller's own span.
fn span(kind: &'static str, peer: &Peer, topic: &str) -> tracing::Span {
    tracing::debug_span!(target: "peerage::request", "call", kind, peer = %peer.id, topic)
}
