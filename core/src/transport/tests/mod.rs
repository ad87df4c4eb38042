//! The transport over real loopback sockets. Nothing here sleeps for luck: every wait is for a
//! condition, under a deadline.

mod dropped;
mod health;
mod keys;
mod lifetime;
mod limits;
mod links;
mod paused;
mod pki;
mod pool;
mod requests;
mod security;
pub(crate) mod simulated;
mod slots;
mod streams;

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::*;
use crate::{config::Security, member::Instance};

const PATIENCE: Duration = Duration::from_secs(10);
/// How many tasks a transport without links has: they accept, look after links, check them, and
/// look after keys.
const TASKS_IDLE: usize = 4;

/// What the topic `large` answers, once released.
const LARGE_ANSWER: usize = 1 << 20;

/// A transport with its events.
struct TestNode {
    transport: Transport,
    events: mpsc::Receiver<TransportEvent>,
    peer: Peer,
    handler: Arc<Handler>,
}

/// Answers a few topics.
struct Handler {
    /// Fires when a hanging request is dropped.
    dropped: parking_lot::Mutex<Option<oneshot::Sender<()>>>,
    /// Fires when a hanging request arrives.
    arrived: Semaphore,
    /// Lets one held request be answered.
    release: Semaphore,
    messages: parking_lot::Mutex<Option<mpsc::Sender<(Peer, String, Bytes)>>>,
    /// Streams that nobody reads.
    ignored: Arc<parking_lot::Mutex<Vec<Stream>>>,
}

struct Shared(Arc<Handler>);

struct OnDrop(Option<oneshot::Sender<()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

impl Inbound for Shared {
    fn request(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
        _: Duration,
    ) -> Result<Answering, Refusal> {
        const TOPICS: [&str; 7] = ["echo", "who", "fail", "panic", "held", "large", "hang"];
        if !TOPICS.contains(&topic.as_str()) {
            return Err(Refusal::UnknownTopic);
        }
        let handler = self.0.clone();
        Ok(Box::pin(async move {
            match topic.as_str() {
                "echo" => Ok(payload),
                "who" => Ok(from.id.to_string().into()),
                "fail" => Err("as asked".into()),
                "panic" => panic!("on purpose"),
                "held" => {
                    handler.arrived.add_permits(1);
                    let _ = handler.release.acquire().await;
                    Ok("released".into())
                }
                "large" => {
                    handler.arrived.add_permits(1);
                    let _ = handler.release.acquire().await;
                    Ok(vec![7; LARGE_ANSWER].into())
                }
                _ => {
                    let _on_drop = OnDrop(handler.dropped.lock().take());
                    handler.arrived.add_permits(1);
                    std::future::pending().await
                }
            }
        }))
    }

    fn message(
        &self,
        from: Peer,
        topic: String,
        payload: Bytes,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let sender = self.0.messages.lock().clone();
        Box::pin(async move {
            if let Some(sender) = sender {
                let _ = sender.send((from, topic, payload)).await;
            }
        })
    }

    fn stream(&self, topic: &str) -> Option<StreamHandler> {
        streams::handler(&self.0, topic)
    }
}

fn options(id: &str) -> Options {
    let config = crate::Cluster::builder("test", id).insecure();
    let instance =
        Instance(rand::Rng::random(&mut <rand::rngs::StdRng as rand::SeedableRng>::from_os_rng()));
    Options::of(config.config(), instance).unwrap()
}

impl TestNode {
    async fn start(id: &str) -> Self {
        Self::with(options(id)).await
    }

    async fn with(options: Options) -> Self {
        let identity = Identity::load(&options.security, &options.node_id).unwrap();
        Self::as_identity(options, identity)
    }

    /// One that does not look whether its own certificate is good.
    async fn careless(options: Options) -> Self {
        let Security::Pem { ca, cert, key } = &options.security else { panic!() };
        let identity = Identity::from_pem(ca, cert, key).unwrap();
        Self::as_identity(options, identity)
    }

    fn as_identity(options: Options, identity: Identity) -> Self {
        let peer = Peer { id: options.node_id.clone(), instance: options.instance };
        let handler = Arc::new(Handler {
            dropped: None.into(),
            arrived: Semaphore::new(0),
            release: Semaphore::new(0),
            messages: None.into(),
            ignored: Arc::default(),
        });
        let (transport, events) =
            Transport::bind_as(options, identity, Arc::new(Shared(handler.clone()))).unwrap();
        Self { transport, events, peer, handler }
    }

    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// The next event.
    async fn event(&mut self) -> TransportEvent {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("the transport runs")
    }

    async fn request(
        &self,
        to: &TestNode,
        topic: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Bytes> {
        self.transport.request(&to.peer, to.addr(), topic, payload.into(), PATIENCE).await
    }

    /// Dials and returns how that ended.
    async fn dial(&mut self, addr: SocketAddr, expect: Option<&str>) -> Result<Peer> {
        self.transport.dial(addr, expect.map(|id| NodeId::new(id).unwrap()));
        loop {
            match self.event().await {
                TransportEvent::LinkUp { peer, dialed: Some(dialed), .. } if dialed == addr => {
                    return Ok(peer);
                }
                TransportEvent::DialFailed { addr: failed, error, .. } if failed == addr => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    /// Asserts that nobody got a link to this node.
    fn assert_no_link(&mut self) {
        assert!(self.transport.links().is_empty());
        while let Ok(event) = self.events.try_recv() {
            assert!(!matches!(event, TransportEvent::LinkUp { .. }), "{event:?}");
        }
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come about"));
}

/// A dial to this address panics, likewise.
pub(super) const PANIC_ADDR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// A lease of a link to this address panics, with the pool's lock held.
pub(crate) const PANIC_LEASE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

/// A pump that is handed this frame panics: what a defect of ours would do.
pub(crate) const PANIC_FRAME: &[u8] = b"panic in the pump";
