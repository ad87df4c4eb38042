//! A valid peer whose stack is well and which never reads anything: neither requests nor messages get
//! through to it, ten seconds long. Whoever calls it waits until the deadline and no longer, what
//! waits is the callers' own, and others are served as ever.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage::{
    Cluster, Code, Secret,
    member::{Instance, NodeId, Peer},
    transport::{Answering, Inbound, Options, Refusal, Transport, TransportEvent},
};
use peerage_hostile::{Intruder, PATIENCE, rss_kib, until};
use tokio::task::JoinSet;

const LOAD: Duration = Duration::from_secs(10);
/// How many call at once, half of them requests and half messages.
const CALLERS: usize = 96;
const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
const WITHIN: Duration = Duration::from_millis(400);
/// How much later than its deadline a call may end, on a machine that is busy.
const LATE_MAX: Duration = Duration::from_secs(2);
/// For all but one in a hundred requests to the peer that is well. Without the load it is a
/// millisecond.
const P99_MAX: Duration = Duration::from_millis(500);
/// What the process may grow besides what the callers hold, in KiB: 4 MiB for the window of the
/// intruder, and what the allocator keeps. Were what timed out kept, it would be a gigabyte.
const GROWTH_MAX_KIB: u64 = 96 << 10;

struct Echo;

impl Inbound for Echo {
    fn request(
        &self,
        _: Peer,
        _: String,
        payload: Bytes,
        _: Duration,
    ) -> Result<Answering, Refusal> {
        Ok(Box::pin(async { Ok(payload) }))
    }
}

fn options(id: &str, secret: &Secret) -> Options {
    let config = Cluster::builder("test", id).secret(secret.clone());
    Options::of(config.config(), Instance(1)).unwrap()
}

/// What the stack of the intruder takes in that it never hands on.
const WINDOW_MAX: usize = 8 << 20;

#[derive(Default)]
struct Calls {
    late: AtomicUsize,
    /// Bytes of messages that the peer's stack has, which is all that sending one promises.
    taken: AtomicUsize,
}

/// Calls again and again; every call ends at its deadline, but for what fits the peer's window.
async fn call(node: Transport, peer: Peer, addr: SocketAddr, n: usize, calls: Arc<Calls>) {
    let begun = Instant::now();
    while begun.elapsed() < LOAD {
        let payload = Bytes::from(vec![0x5a; SIZES[n / 2 % SIZES.len()]]);
        let since = Instant::now();
        let is_request = n.is_multiple_of(2);
        let outcome = if is_request {
            node.request(&peer, addr, "echo", payload, WITHIN).await.map(drop)
        } else {
            node.message(&peer, addr, "echo", payload, WITHIN).await
        };
        let took = since.elapsed();
        assert!(took < WITHIN + LATE_MAX, "{took:?}");
        match outcome {
            Ok(()) if !is_request => {
                calls.taken.fetch_add(SIZES[n / 2 % SIZES.len()], Relaxed);
            }
            outcome => {
                assert_eq!(outcome.expect_err("nobody read it").code(), Code::Timeout);
                assert!(took >= WITHIN, "{took:?}");
                calls.late.fetch_add(1, Relaxed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_holds_up_its_callers_alone() {
    let secret = Secret::generate();
    let (node, mut events) = Transport::bind(options("n0", &secret), Arc::new(Echo)).await.unwrap();
    let (well, mut others) = Transport::bind(options("n1", &secret), Arc::new(Echo)).await.unwrap();
    tokio::spawn(async move { while others.recv().await.is_some() {} });
    let intruder = Intruder::new(Some(&secret), "intruder");
    let (handle, acceptor) = intruder.link(node.local_addr()).await;
    until("the intruder has a link", || node.links().len() == 1).await;
    let deaf = node.links().pop().unwrap();
    let friend = Peer { id: NodeId::new("n1").unwrap(), instance: Instance(1) };
    let ask = || node.request(&friend, well.local_addr(), "echo", "well".into(), PATIENCE);
    ask().await.unwrap();

    let before = rss_kib();
    let (calls, begun) = (Arc::<Calls>::default(), Instant::now());
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        callers.spawn(call(node.clone(), deaf.peer.clone(), deaf.addr, n, calls.clone()));
    }
    let (mut most, mut took) = (before, Vec::new());
    while begun.elapsed() < LOAD {
        let since = Instant::now();
        assert_eq!(ask().await.expect("who is well answers"), "well");
        took.push(since.elapsed());
        most = most.max(rss_kib());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    let held: usize = (0..CALLERS).map(|n| SIZES[n / 2 % SIZES.len()]).sum();
    let (grown, bound) = (most - before, (held as u64 >> 10) + GROWTH_MAX_KIB);
    eprintln!(
        "{} calls timed out; grown by {grown} KiB of {bound} KiB, {} of them the callers'; {} requests to the other, p50 {p50:?}, p99 {p99:?}",
        calls.late.load(Relaxed),
        held >> 10,
        took.len()
    );
    assert!(grown <= bound);
    assert!(calls.taken.load(Relaxed) <= WINDOW_MAX, "{} bytes taken", calls.taken.load(Relaxed));
    assert!(p99 <= P99_MAX, "{p99:?}");
    assert_eq!((node.stats().requests_out, node.links().len()), (0, 2));
    while let Ok(event) = events.try_recv() {
        assert!(matches!(event, TransportEvent::LinkUp { .. }), "{event:?}");
    }
    drop((handle, acceptor));
    node.shutdown(Duration::ZERO).await;
    well.shutdown(Duration::ZERO).await;
}
