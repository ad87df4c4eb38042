//! What is given up leaves nothing: calls that are dropped wherever they stand, and holders of a
//! lease that panic.

use std::task::{Context, Poll};

use super::{simulated::are_at_rest_but_for_tasks, *};
use crate::{
    error::Code,
    transport::{give_up::give_up, pool::Entry},
};

/// Polls a future so many times at most, and drops it then.
pub(super) struct Polled<F> {
    inner: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for Polled<F> {
    /// Nothing if it was dropped.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        if let Poll::Ready(output) = inner.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        self.left -= 1;
        if self.left == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

pub(super) fn polled<F: Future>(times: usize, future: F) -> Polled<F> {
    Polled { inner: Some(Box::pin(future)), left: times }
}

/// Neither end has anything under way: no lease, dial, handshake or stream, and what connections there
/// are both have as links, which may have two tasks each that look after streams.
pub(super) async fn nothing_is_left(a: &TestNode, b: &TestNode) {
    at_rest(&[a, b], 2).await;
}

/// The same of these, with so many tasks at most that look after the streams of a link.
async fn at_rest(nodes: &[&TestNode], tasks_more: usize) {
    let transports: Vec<_> = nodes.iter().map(|node| node.transport.clone()).collect();
    let few_tasks = |transport: &Transport| {
        let (is, links) = (transport.node().tasks.len(), transport.node().pool.links().len());
        let most = TASKS_IDLE + links * (1 + tasks_more);
        if is <= most { Ok(()) } else { Err(format!("{is} tasks, not {most}")) }
    };
    let mut found = Ok(());
    let wait = async {
        while {
            found = are_at_rest_but_for_tasks(&transports)
                .and_then(|()| transports.iter().try_for_each(few_tasks));
            found.is_err()
        } {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = timeout(PATIENCE, wait).await.is_ok();
    assert!(in_time, "{}", found.unwrap_err());
}

/// What can be dropped.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Request,
    Message,
    Stream,
}

const KINDS: [Kind; 3] = [Kind::Request, Kind::Message, Kind::Stream];

async fn call(kind: Kind, a: &TestNode, to: (&Peer, SocketAddr), payload: &Bytes) -> Result<()> {
    let (transport, (peer, addr), payload) = (&a.transport, to, payload.clone());
    match kind {
        Kind::Request => {
            let answer = transport.request(peer, addr, "echo", payload.clone(), PATIENCE).await?;
            assert_eq!(answer, payload);
        }
        Kind::Message => transport.message(peer, addr, "echo", payload, PATIENCE).await?,
        Kind::Stream => drop(transport.open_stream(peer, addr, "echo", PATIENCE).await?),
    }
    Ok(())
}

/// Whom it takes besides the link's own task.
fn tasks_more(kind: Kind) -> usize {
    if matches!(kind, Kind::Stream) { 2 } else { 0 }
}

fn at(node: &TestNode) -> (&Peer, SocketAddr) {
    (&node.peer, node.addr())
}

async fn is_well(kind: Kind, a: &TestNode, b: &TestNode) {
    at_rest(&[a, b], tasks_more(kind)).await;
    assert_eq!(a.request(b, "echo", "still").await.unwrap(), "still");
    at_rest(&[a, b], tasks_more(kind)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_after_any_poll_leaves_nothing() {
    let b = TestNode::start("b").await;
    let payload = Bytes::from(vec![7; 3 << 20]); // more than a stream's window
    for kind in KINDS {
        for times in 1.. {
            let a = TestNode::start("a").await; // the dial is one of the points
            let done = polled(times, call(kind, &a, at(&b), &payload)).await;
            is_well(kind, &a, &b).await;
            a.transport.shutdown(Duration::ZERO).await;
            until("the other end has closed it", || b.transport.links().is_empty()).await;
            if let Some(done) = done {
                done.unwrap();
                // It waited for a dial and an answer at least.
                assert!(times > 2, "{kind:?} was done after {times} polls only");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_while_nobody_answers_its_dial_leaves_nothing() {
    let b = TestNode::start("b").await;
    for kind in KINDS {
        let quick = Options { connect_timeout: Duration::from_millis(300), ..options("a") };
        let a = TestNode::with(quick).await;
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let nowhere = (&b.peer, silent.local_addr().unwrap());
        assert!(polled(1, call(kind, &a, nowhere, &Bytes::new())).await.is_none());
        assert_eq!(a.transport.node().pool.dials(), 1, "{kind:?}");
        assert_eq!(a.transport.stats().requests_out, 0, "{kind:?}");
        until("the dial has ended", || a.transport.node().pool.dials() == 0).await;
        is_well(kind, &a, &b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_while_the_pool_is_full_leaves_nothing() {
    let (b, c) = (TestNode::start("b").await, TestNode::start("c").await);
    for kind in KINDS {
        for times in 1..=4 {
            let a = TestNode::with(Options { links_max: 1, ..options("a") }).await;
            let mut holding = Box::pin(a.request(&c, "hang", ""));
            let dropping = async {
                c.handler.arrived.acquire().await.unwrap().forget();
                // It looks again every 100 ms.
                assert!(polled(times, call(kind, &a, at(&b), &Bytes::new())).await.is_none());
                let stats = a.transport.stats();
                assert_eq!((stats.dials, stats.requests_out, stats.streams_out), (1, 1, 0));
            };
            tokio::select! {
                ended = &mut holding => panic!("{ended:?}"),
                () = dropping => drop(holding),
            }
            assert_eq!(a.transport.stats().dials, 1, "{kind:?}: nobody waits any more");
            at_rest(&[&a, &b, &c], tasks_more(kind)).await;
            assert_eq!(a.request(&b, "echo", "now").await.unwrap(), "now");
            at_rest(&[&a, &b, &c], tasks_more(kind)).await;
            a.transport.shutdown(Duration::ZERO).await;
            at_rest(&[&b, &c], 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_while_it_waits_to_dial_again_leaves_nothing() {
    let other = TestNode::with(Options { cluster: "other".into(), ..options("b") }).await;
    for kind in KINDS {
        let a = TestNode::start("a").await; // one that has failed little waits little
        let mut waited = 0;
        for _ in 0..200 {
            let failed = call(Kind::Request, &a, at(&other), &Bytes::new()).await.unwrap_err();
            assert_eq!(failed.code(), Code::WrongCluster, "{failed}");
            let dials = a.transport.stats().dials;
            let dropped = polled(1, call(kind, &a, at(&other), &Bytes::new())).await;
            // Unless its time had come already.
            let waits = a.transport.stats().dials == dials;
            assert!(dropped.is_none());
            waited += usize::from(waits);
            until("no dial is left", || a.transport.node().pool.dials() == 0).await;
            if waited == 3 {
                break;
            }
        }
        assert_eq!(waited, 3, "{kind:?}");
        nothing_is_left(&a, &other).await;
    }
}

/// Opens streams until there may be no more of them for now.
async fn as_many_as_may_be<S>(mut open: impl AsyncFnMut() -> S) -> Vec<S> {
    let mut all = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), open()).await {
        all.push(stream);
    }
    // Of the 4,096 that the peer allows, some may be gone without its having said so.
    assert!(all.len() > 3000, "{} streams", all.len());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_while_there_may_be_no_more_streams_leaves_nothing() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.request(&b, "echo", "x").await.unwrap();
    let link = a.transport.node().pool.of(&b.peer)[0].clone();
    let mut handle = link.handle.clone();
    for kind in KINDS {
        let dropping = async || {
            for _ in 0..10 {
                assert!(polled(1, call(kind, &a, at(&b), &Bytes::new())).await.is_none());
            }
            let stats = a.transport.stats();
            assert_eq!((stats.requests_out, stats.streams_out, link.load()), (0, 0, 0));
        };
        if matches!(kind, Kind::Message) {
            let all = as_many_as_may_be(async || handle.open_send_stream().await.unwrap()).await;
            dropping().await;
            for mut send in all {
                give_up(&mut send, 16u8);
            }
        } else {
            let open = async || handle.open_bidirectional_stream().await.unwrap();
            let all = as_many_as_may_be(open).await;
            dropping().await;
            for stream in all {
                let (mut receive, mut send) = stream.split();
                give_up(&mut send, 16u8);
                receive.stop_sending(16u8.into()).unwrap();
            }
        }
        // The peer has taken some of them for requests.
        until("it has let them go", || b.transport.links().iter().all(|link| link.serving == 0))
            .await;
        timeout(PATIENCE, call(kind, &a, at(&b), &Bytes::new())).await.expect("in time").unwrap();
        nothing_is_left(&a, &b).await;
    }
}

#[tokio::test]
async fn who_panics_with_a_lease_holds_it_no_longer() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let (transport, peer, addr) = (a.transport.clone(), b.peer.clone(), b.addr());
    let holder = tokio::spawn(async move {
        let _lease = transport.lease(&peer, addr, Instant::now() + PATIENCE).await.unwrap();
        assert_eq!(transport.stats().pool.links_leased, 1);
        panic!("on purpose");
    });
    assert!(holder.await.unwrap_err().is_panic());
    nothing_is_left(&a, &b).await;

    // And so with one who asks: its request goes with it.
    let (transport, peer) = (a.transport.clone(), b.peer.clone());
    let asks = tokio::spawn(async move {
        let request = transport.request(&peer, addr, "hang", Bytes::new(), PATIENCE);
        let mut request = std::pin::pin!(request);
        let panics = std::future::poll_fn(|cx| {
            assert!(request.as_mut().poll(cx).is_pending());
            if transport.stats().requests_out == 1 {
                panic!("on purpose")
            }
            Poll::<()>::Pending
        });
        panics.await;
    });
    assert!(asks.await.unwrap_err().is_panic());
    nothing_is_left(&a, &b).await;
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
}
