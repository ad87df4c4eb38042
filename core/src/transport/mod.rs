//! The transport: authenticated QUIC links to other nodes, and what travels on them.
//!
//! It decides nothing about membership. It dials when told, keeps a bounded pool of links, says
//! hello before anything else so that nobody talks to a stranger, carries membership frames
//! (unreliably as datagrams, reliably on streams) and requests, and reports what it observes as
//! [`TransportEvent`]s.
//!
//! * [`secret`], `identity`, `tls`: who may talk to us and how that is proved;
//! * `endpoint`, `gather`, `datagram`, `health`: what we plug into the QUIC stack;
//! * `hello`, `dial`, `end`: how a connection becomes a link, and why it ceases to be one;
//! * `link`, `pool`: links, their table, leases and eviction;
//! * `request`, `reader`: requests and messages on streams;
//! * `node`: what the tasks share, and their end.

mod datagram;
mod dial;
mod end;
mod endpoint;
mod gather;
mod health;
mod hello;
mod identity;
mod link;
mod node;
mod pool;
mod reader;
mod request;
mod reset;
pub mod secret;
mod stats;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

pub use self::{
    datagram::DATAGRAM_BYTES_MAX, end::LinkEnd, link::FRAME_BYTES_MAX, request::TOPIC_BYTES_MAX,
    stats::TransportStats,
};
use self::{end::Code, identity::Identity, node::Node, request::Call};
use crate::{
    config::Security,
    error::{Error, Result},
    member::{Instance, NodeId, Peer},
    panics,
};

/// How many events wait for the driver.
pub const EVENTS_MAX: usize = 4096;
/// How many of those places membership frames, which may be lost, leave to what may not.
const EVENTS_RESERVED: usize = 512;

/// What a transport is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name; nodes of others are refused.
    pub cluster: String,
    /// Who we are.
    pub node_id: NodeId,
    /// Which process of that name we are.
    pub instance: Instance,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach us, if not at the bound address.
    pub advertise: Option<SocketAddr>,
    /// How nodes prove that they belong together.
    pub security: Security,
    /// The most links of our own making; peers may open a few more.
    pub links_max: usize,
    /// How long an unused link is kept.
    pub link_idle_timeout: Duration,
    /// How long making a link may take.
    pub connect_timeout: Duration,
    /// The largest payload of a request, an answer or a message.
    pub payload_max: u64,
    /// The most requests of peers' that are handled at once.
    pub requests_max: usize,
}

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
    },
    /// A task of the transport panicked, or its endpoint ended; the node must be stopped.
    Panic {
        /// Which task.
        what: &'static str,
        /// What it said.
        message: String,
    },
}

/// What takes peers' requests; a panic in it is answered as [`Refusal::Handler`].
///
/// The transport holds it as long as it runs: it must not hold the [`Transport`] in turn, or
/// dropping that would end nothing.
pub trait Inbound: Send + Sync + 'static {
    /// Handles a request. Dropped when nobody waits for the answer any more.
    fn request(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
        deadline: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

    /// Handles a message.
    fn message(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Why a request has no answer.
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
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkInfo {
    /// Who is at the other end.
    pub peer: Peer,
    /// Where the peer listens.
    pub addr: SocketAddr,
    /// The smoothed round trip of the path, once measured.
    pub rtt: Option<Duration>,
    /// Our requests under way on it.
    pub in_flight: usize,
    /// The peer's requests under way on it.
    pub serving: usize,
    /// Whether we dialed it.
    pub dialed: bool,
    /// Whether it is kept although unused.
    pub pinned: bool,
    /// How long nobody has used it.
    pub idle: Duration,
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
        Self::bind_as(options, &identity, inbound)
    }

    fn bind_as(
        options: Options,
        identity: &Identity,
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
        request::request(self.node(), call, addr).await
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
        request::message(self.node(), call, addr).await
    }

    /// Closes the link to a process, if there is one; whoever uses it gets an error.
    pub fn close_link(&self, peer: &Peer, reason: &str) {
        if let Some(link) = self.node().pool.get(peer) {
            self.node().drop_link(&link, LinkEnd::Closed(reason.into()));
            link.close(Code::Closed);
        }
    }

    /// Keeps the link to a process although it is unused, or stops to. Lasts as long as the link.
    pub fn pin(&self, peer: &Peer, pinned: bool) {
        if let Some(link) = self.node().pool.get(peer) {
            link.pinned.store(pinned, Relaxed);
            self.node().pool.stir();
        }
    }

    /// Whether there is a link to this process.
    pub fn has_link(&self, peer: &Peer) -> bool {
        self.node().pool.get(peer).is_some()
    }

    /// All links, in no order.
    pub fn links(&self) -> Vec<LinkInfo> {
        let links = self.node().pool.links();
        let info = |link: Arc<link::Link>| LinkInfo {
            peer: link.peer.clone(),
            addr: link.addr,
            rtt: link.health.rtt(),
            in_flight: link.leases.load(Relaxed),
            serving: link.serving.load(Relaxed),
            dialed: link.dialed,
            pinned: link.pinned.load(Relaxed),
            idle: link.unused(),
        };
        links.into_iter().map(info).collect()
    }

    /// The counters.
    pub fn stats(&self) -> TransportStats {
        self.node().stats.read(self.node().pool.len())
    }

    /// Takes no more requests, lets those under way finish within `drain`, closes all links and
    /// ends every task and socket. Returns how many requests, in both directions, were cut off.
    pub async fn shutdown(&self, drain: Duration) -> usize {
        self.node().shutdown(drain).await
    }

    /// Ends everything at once, without waiting for it.
    pub fn abort(&self) {
        self.node().abort();
    }
}
