//! A member whose handlers stall, under full load for ten seconds: messages, then requests, then
//! streams that it does not read. Whoever sends to it waits until its deadline or is refused, the memory of the process stays within what the
//! configuration allows, and a third member notices nothing. One test in this binary, since it
//! measures the memory of the whole process, all ends included.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::{Cluster, EventKind, Result, Secret};
use support::{PATIENCE, all_see, node, until};
use tokio::{sync::Semaphore, task::JoinSet};

const LOAD: Duration = Duration::from_secs(10);
/// How many call at once, ...
const CALLERS: usize = 96;
/// ... each with payloads of one of these sizes, and for how long.
const SIZES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
const WITHIN: Duration = Duration::from_millis(400);
/// How much later than its deadline a call may end, on a machine that is busy.
const LATE_MAX: Duration = Duration::from_secs(2);
/// How long the requests to the third member may take, but for one in a hundred. Without the load it
/// is a millisecond.
const P99_MAX: Duration = Duration::from_millis(500);

const PAYLOAD_MAX: u64 = 1 << 20;
const REQUESTS_MAX: u32 = 64;
/// What one link holds at most at the end that receives: docs/ARCHITECTURE.md, "What a link may hold".
const LINK_MAX: u64 =
    2 * PAYLOAD_MAX + (REQUESTS_MAX - REQUESTS_MAX / 4) as u64 * (64 << 10) + (4 << 20);
/// What the allocator and the transport's shelf keep besides: some 30 GB go through them. Were what is
/// refused or too late kept, it would be gigabytes.
const SLACK: u64 = 128 << 20;

fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// How long it keeps a stream that it does not read.
const KEPT: Duration = Duration::from_millis(1200);

/// What it is called with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Message,
    Request,
    Stream,
}

/// How the calls ended.
type Outcomes = Arc<Mutex<BTreeMap<&'static str, usize>>>;

/// More than a window holds that nobody reads.
const WRITES_MAX: usize = 8;

/// Writes into a stream until that takes no more.
async fn write_on(asks: &Cluster, payload: Bytes) -> Result<()> {
    let mut stream = asks.open_stream("n1", "stall", WITHIN).await?;
    for _ in 0..WRITES_MAX {
        stream.write(payload.clone(), WITHIN).await?;
    }
    Ok(())
}

/// One caller: as many calls as it is let, one after the other.
async fn call(asks: Cluster, call: Call, size: usize, begun: Instant, outcomes: Outcomes) {
    while begun.elapsed() < LOAD {
        // Its own bytes each time: what is kept of an earlier call would be memory of its own.
        let payload = Bytes::from(vec![0x5a; size]);
        let since = Instant::now();
        let outcome = match call {
            Call::Message => asks.send("n1", "stall", payload, WITHIN).await,
            Call::Request => asks.request("n1", "stall", payload, WITHIN).await.map(drop),
            Call::Stream => write_on(&asks, payload).await,
        };
        let within = if call == Call::Stream { WRITES_MAX as u32 * WITHIN } else { WITHIN };
        assert!(since.elapsed() < within + LATE_MAX, "it ended after {:?}", since.elapsed());
        let name = match outcome {
            Ok(()) => "Ok",
            Err(error) => error.code().name(),
        };
        *outcomes.lock().entry(name).or_default() += 1;
        if name == "Busy" {
            tokio::time::sleep(Duration::from_millis(1)).await; // refused: the choice is the caller's
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stalls_costs_bounded_memory_and_slows_nobody_else() {
    let secret = Secret::generate();
    let start = |id: &str| node(id, &secret).payload_max(PAYLOAD_MAX).requests_max(REQUESTS_MAX);
    let mut nodes = vec![start("n0").start().await.unwrap()];
    for id in ["n1", "n2"] {
        nodes.push(start(id).seed(nodes[0].addr()).start().await.unwrap());
        nodes.last().unwrap().join(PATIENCE).await.unwrap();
    }
    all_see(&nodes, 3).await;
    let accused = Arc::<Mutex<Vec<String>>>::default();
    for node in &nodes {
        let (mut events, accused) = (node.events(), accused.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let fine = !matches!(
                    event.kind,
                    EventKind::MemberSuspected { .. } | EventKind::MemberFailed { .. }
                );
                if !fine {
                    accused.lock().push(format!("{event:?}"));
                }
            }
        });
    }
    let gate = Arc::new(Mutex::new(Arc::new(Semaphore::new(0))));
    let held = gate.clone();
    nodes[1]
        .handle("stall", move |request| {
            let gate = held.lock().clone();
            async move {
                let _ = gate.acquire().await; // until it is closed
                Ok(Bytes::from(request.payload.len().to_string()))
            }
        })
        .unwrap();
    nodes[2].handle("echo", |request| async move { Ok(request.payload) }).unwrap();

    // It keeps each for a while and reads nothing.
    nodes[1]
        .handle_streams("stall", |stream| async move {
            tokio::time::sleep(KEPT).await;
            drop(stream);
            Ok(())
        })
        .unwrap();

    for kind in [Call::Message, Call::Request, Call::Stream] {
        let before = rss();
        let (begun, outcomes) = (Instant::now(), Outcomes::default());
        let mut callers = JoinSet::new();
        for n in 0..CALLERS {
            let size = SIZES[n % SIZES.len()];
            callers.spawn(call(nodes[0].clone(), kind, size, begun, outcomes.clone()));
        }
        let (mut most, mut took) = (before, Vec::new());
        let (mut payloads, mut unread) = (0, 0);
        while begun.elapsed() < LOAD {
            let since = Instant::now();
            let answer = nodes[0].request("n2", "echo", "well", WITHIN + LATE_MAX).await;
            assert_eq!(answer.expect("the third member answers"), "well");
            took.push(since.elapsed());
            most = most.max(rss());
            for link in nodes[1].stats().links {
                payloads = payloads.max(link.payload_bytes);
                unread = unread.max(link.stream_bytes);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
        took.sort_unstable();
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        let callers: usize = (0..CALLERS).map(|n| SIZES[n % SIZES.len()]).sum();
        let (grown, bound) = (most - before, callers as u64 + LINK_MAX + SLACK);
        eprintln!(
            "{kind:?}: {:?}; grown by {} KiB of {} KiB ({} of the callers, {} of the link); {} requests to the third, p50 {p50:?}, p99 {p99:?}",
            outcomes.lock(),
            grown >> 10,
            bound >> 10,
            callers >> 10,
            LINK_MAX >> 10,
            took.len(),
        );
        assert!(grown <= bound, "grown by {grown} bytes of {bound}");
        // What is shown is what there is.
        if kind == Call::Stream {
            assert!(unread > 0);
        } else {
            // Large ones, and those that are just not.
            let small = REQUESTS_MAX as u64 * 3 / 4 * SIZES[0] as u64;
            assert!((1..=2 * PAYLOAD_MAX + small).contains(&payloads), "{payloads}");
        }
        assert!(p99 <= P99_MAX, "{p99:?}");
        // A message is sent when it has been taken; the stack may be told first that it will not be.
        let others: &[&str] = match kind {
            Call::Message => &["Ok", "LinkLost"],
            Call::Request => &[],
            Call::Stream => &["StreamReset"], // given up by the other end, on a machine that is slow
        };
        let expected = |name: &&str| ["Timeout", "Busy"].contains(name) || others.contains(name);
        assert!(outcomes.lock().keys().all(expected), "{outcomes:?}");
        assert!(outcomes.lock().values().sum::<usize>() >= CALLERS, "nobody called: {outcomes:?}");
        let serving = nodes[1].stats().transport.requests_in;
        assert!(serving <= u64::from(REQUESTS_MAX), "{serving} are under way");
        let ended = |name: &str| outcomes.lock().get(name).copied().unwrap_or(0);
        assert!(ended("Timeout") >= CALLERS / 2, "the pressure was not felt: {outcomes:?}");
        // Everything is as it was: whatever was held is handled, and the next is taken. (Messages have
        // no deadline once they are taken; their handlers hold them.)
        let closed = std::mem::replace(&mut *gate.lock(), Arc::new(Semaphore::new(1)));
        closed.close();
        until("nothing is under way", || {
            nodes.iter().all(|node| {
                let stats = node.stats().transport;
                let requests = stats.requests_in + stats.requests_out;
                requests + stats.streams_in + stats.streams_out == 0
            })
        })
        .await;
        let answer = nodes[0].request("n1", "stall", vec![0; SIZES[2]], PATIENCE).await;
        assert_eq!(answer.unwrap(), SIZES[2].to_string());
        *gate.lock() = Arc::new(Semaphore::new(0));
    }
    assert!(accused.lock().is_empty(), "{:#?}", accused.lock());
    for node in &nodes {
        node.shutdown_now().await.unwrap();
    }
}
