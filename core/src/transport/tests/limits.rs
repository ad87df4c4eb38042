//! What one peer may take, however many links and processes it has.

use super::*;
use crate::transport::stream::KIND;

/// Asks for something that takes until it is released, and waits until the handler has it.
async fn begin(from: &Arc<TestNode>, to: &TestNode, topic: &'static str, payload: Bytes) {
    let (asker, peer, addr) = (from.clone(), to.peer.clone(), to.addr());
    tokio::spawn(async move {
        asker.transport.request(&peer, addr, topic, payload, PATIENCE).await.unwrap()
    });
    timeout(PATIENCE, to.handler.arrived.acquire()).await.expect("it is let in").unwrap().forget();
}

fn is_busy(error: &Error, limit: usize) -> bool {
    matches!(error, Error::Busy { max, .. } if *max == limit)
}

async fn several_links_take_no_more_than_one(links: Vec<Arc<TestNode>>, b: &TestNode) {
    let c = TestNode::start("c").await;
    c.request(b, "echo", "").await.unwrap();
    for n in 0..6 {
        begin(&links[n % links.len()], b, "held", Bytes::new()).await;
    }
    for link in &links {
        let error = link.request(b, "echo", "").await.unwrap_err();
        assert!(is_busy(&error, 6), "{error:?}");
    }
    assert_eq!(c.request(b, "echo", "others").await.unwrap(), "others");
    assert_eq!(b.transport.stats().requests_refused, links.len() as u64);
    b.handler.release.add_permits(6);
    until("they are answered", || b.transport.stats().requests_in == 0).await;

    let mut streams = Vec::new();
    for n in 0..6 {
        streams.push(links[n % links.len()].open(b, "ignore").await.unwrap());
    }
    for link in &links {
        let error = link.open(b, "ignore").await.unwrap_err();
        assert!(is_busy(&error, 6), "{error:?}");
    }
    assert!(c.open(b, "echo").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_of_one_node_have_one_share() {
    let b = TestNode::with(Options { requests_max: 8, streams_max: 8, ..options("b") }).await;
    let mut processes = Vec::new();
    for _ in 0..3 {
        let process = TestNode::start("a").await;
        process.request(&b, "echo", "").await.unwrap();
        processes.push(Arc::new(process));
    }
    until("each has a link", || b.transport.links().len() == 3).await;
    several_links_take_no_more_than_one(processes, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_links_of_one_process_have_one_share() {
    let three = |id| Options { requests_max: 8, streams_max: 8, links_per_peer: 3, ..options(id) };
    let (a, b) = (TestNode::with(three("a")).await, TestNode::with(three("b")).await);
    a.request(&b, "echo", "").await.unwrap();
    for slot in [1, 2] {
        assert_eq!(a.transport.node().open_slot(&b.peer, b.addr()).await.unwrap(), slot);
    }
    until("both have them", || b.transport.links().len() == 3).await;
    // The least loaded is used, so they take turns.
    several_links_take_no_more_than_one(vec![Arc::new(a)], &b).await;
}

/// A handler of a message goes on without the link that it came on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_no_new_one_as_long_as_anything_is_left_of_its_links() {
    let b = TestNode::with(Options { requests_max: 4, ..options("b") }).await;
    let (sender, mut messages) = mpsc::channel(1);
    *b.handler.messages.lock() = Some(sender);
    let a = TestNode::start("a").await;
    for n in 1..=4 {
        // The first one has room; the handlers of the others wait.
        a.transport.message(&b.peer, b.addr(), "m", Bytes::new(), PATIENCE).await.unwrap();
        until("it is being handled", || {
            let stats = b.transport.stats();
            stats.requests_in + stats.requests_handled == n
        })
        .await;
    }
    drop(a);
    until("its link has gone", || b.transport.links().is_empty()).await;
    assert_eq!(b.transport.stats().requests_in, 3);
    let (again, c) = (TestNode::start("a").await, TestNode::start("c").await);
    let error = again.request(&b, "echo", "").await.unwrap_err();
    assert!(is_busy(&error, 3), "{error:?}");
    assert_eq!(c.request(&b, "echo", "others").await.unwrap(), "others");
    for _ in 0..4 {
        timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
    }
    until("they are handled", || b.transport.stats().requests_in == 0).await;
    assert_eq!(again.request(&b, "echo", "room").await.unwrap(), "room");
}

/// A deadline of the peer's own, however far away, does not keep what waits for room.
#[tokio::test(start_paused = true)]
async fn a_large_payload_waits_for_room_for_ten_seconds() {
    const LARGE: usize = 1 << 20;
    let b = TestNode::with(Options { payload_max: LARGE as u64, ..options("b") }).await;
    let (a, again) = (Arc::new(TestNode::start("a").await), TestNode::start("a").await);
    let payload = Bytes::from(vec![7; LARGE]);
    let forever = Duration::from_millis(u32::MAX.into());
    let mut held = Vec::new();
    for _ in 0..2 {
        let (a, peer, addr, payload) = (a.clone(), b.peer.clone(), b.addr(), payload.clone());
        held.push(tokio::spawn(async move {
            a.transport.request(&peer, addr, "held", payload, forever).await
        }));
        b.handler.arrived.acquire().await.unwrap().forget();
    }
    // On another link of the same node, it is the same room.
    for from in [&*a, &again] {
        let began = tokio::time::Instant::now();
        let ask =
            |deadline| from.transport.request(&b.peer, b.addr(), "echo", payload.clone(), deadline);
        let error = ask(forever).await.unwrap_err();
        let expected = "requests at the peer";
        assert!(matches!(error, Error::Busy { what, max: 2 } if what == expected), "{error:?}");
        let message = from.transport.message(&b.peer, b.addr(), "m", payload.clone(), forever);
        let error = message.await.unwrap_err();
        let expected = "messages at the peer";
        assert!(matches!(error, Error::Busy { what, .. } if what == expected), "{error:?}");
        let took = began.elapsed();
        assert!((20..22).contains(&took.as_secs()), "{took:?}");
        // An earlier deadline ends it before.
        let error = ask(Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        // Smaller ones need no room.
        assert_eq!(from.request(&b, "echo", "small").await.unwrap(), "small");
    }
    assert_eq!(b.transport.stats().requests_refused, 4);
    b.handler.release.add_permits(2);
    for held in held {
        assert_eq!(held.await.unwrap().unwrap(), "released");
    }
    assert_eq!(a.request(&b, "echo", payload.clone()).await.unwrap(), payload);
    until("nothing is left", || b.transport.stats().requests_in == 0).await;
    assert!(b.transport.links().iter().all(|link| link.payload_bytes == 0));
}

/// A record about a stream that there is not, of a kind that nobody knows.
const RECORD: Bytes = Bytes::from_static(b"\0\x09\x63\0\0\0\0\0\0\0\x01");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_told_of_its_streams_on_one_stream() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.request(&b, "echo", "").await.unwrap();
    let handle = a.transport.node().pool.of(&b.peer)[0].handle.clone();
    let tell = async || {
        let mut stream = handle.clone().open_send_stream().await.unwrap();
        stream.send(Bytes::from_static(&[KIND])).await.unwrap();
        let _ = stream.flush().await; // it may be stopped by now
        stream
    };
    let mut first = tell().await;
    for _ in 0..100 {
        let mut stream = tell().await;
        // The peer tells us to stop.
        let stopped = async {
            while stream.send(RECORD).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, stopped).await.expect("nobody listens to it");
    }
    first.send(RECORD).await.unwrap();
    first.flush().await.unwrap();
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
    // The one of a link whose streams have something to tell is heard.
    let c = TestNode::start("c").await;
    let mut stream = c.open(&b, "echo").await.unwrap();
    for _ in 0..100 {
        stream.write(vec![7; 10_000], PATIENCE).await.unwrap(); // more than the first credit
        let mut back = 0;
        while back < 10_000 {
            back += stream.read(PATIENCE).await.unwrap().unwrap().len();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_end_costs_the_link() {
    let (mut a, mut b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.dial(b.addr(), None).await.unwrap();
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    a.transport.pin(&b.peer, true);
    b.transport.pin(&a.peer, true);
    let mut stream =
        a.transport.node().pool.of(&b.peer)[0].handle.clone().open_send_stream().await.unwrap();
    stream.send(Bytes::from_static(&[KIND])).await.unwrap();
    stream.send(RECORD).await.unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(b.transport.has_link(&a.peer), "there may be nothing to tell");
    stream.send(RECORD.slice(..1)).await.unwrap();
    let began = tokio::time::Instant::now();
    let down = timeout(2 * PATIENCE, b.events.recv()).await.expect("it is closed").unwrap();
    let TransportEvent::LinkDown { end, .. } = down else { panic!("{down:?}") };
    assert_eq!(end.to_string(), "the peer does not finish what it tells of its streams");
    let took = began.elapsed();
    assert!((10..12).contains(&took.as_secs()), "{took:?}");
    assert_eq!(b.transport.stats().stalled, 1);
}
