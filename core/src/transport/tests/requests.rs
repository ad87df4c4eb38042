//! Requests and messages.

use super::{super::end::Code as Closing, *};
use crate::error::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_of_nothing_and_of_ten_mebibytes() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    assert!(a.request(&b, "echo", Bytes::new()).await.unwrap().is_empty());
    for size in [1, 1024, 1025, 70_000, 10 << 20] {
        let payload: Bytes =
            (0..size).map(|i: usize| ((i * 31) >> 3) as u8).collect::<Vec<_>>().into();
        assert_eq!(a.request(&b, "echo", payload.clone()).await.unwrap(), payload, "{size} bytes");
    }
    assert_eq!(b.request(&a, "who", "").await.unwrap(), "b", "the same link serves the other way");
    assert_eq!(b.transport.stats().dials, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_come_to_memory_that_was_used_before() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let shelves = || [&a, &b].map(|node| &node.transport.node().shelf);
    let ask = async |round: u8| {
        let payload = Bytes::from(vec![round; 1_000_000 - usize::from(round)]);
        let answer = a.request(&b, "echo", payload.clone()).await.unwrap();
        assert_eq!(answer, payload);
        answer
    };
    let rounds = async {
        for round in (0..=255).cycle() {
            ask(round).await;
            if shelves().iter().all(|shelf| shelf.reused() >= 10) {
                return;
            }
        }
    };
    timeout(PATIENCE, rounds).await.expect("memory is used again at both ends");
    until("given back to the allocator", || shelves().iter().all(|shelf| shelf.kept() == 0)).await;
    let held = ask(7).await;
    for node in [&a, &b] {
        node.transport.shutdown(PATIENCE).await;
    }
    assert!(held.iter().all(|byte| *byte == 7), "what somebody holds is not touched");
    drop(held);
    assert_eq!(shelves().map(|shelf| shelf.kept()), [0; 2], "nothing is kept after the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_one_dial_and_one_link() {
    let (a, b) = (Arc::new(TestNode::start("a").await), Arc::new(TestNode::start("b").await));
    let mut all = tokio::task::JoinSet::new();
    for worker in 0..128u64 {
        let (a, b) = (a.clone(), b.clone());
        all.spawn(async move {
            for round in 0..20u64 {
                let payload = (worker * 1000 + round).to_be_bytes().to_vec();
                assert_eq!(a.request(&b, "echo", payload.clone()).await.unwrap(), payload);
            }
        });
    }
    while let Some(result) = all.join_next().await {
        result.unwrap();
    }
    assert_eq!(a.transport.stats().dials, 1);
    assert_eq!(a.transport.links().len(), 1);
    assert_eq!(a.transport.stats().requests_out, 0);
    until("handled", || b.transport.stats().requests_handled == 128 * 20).await;
    until("settled", || b.transport.stats().requests_in == 0).await;
}

#[tokio::test]
async fn refusals_say_what_they_are() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let Err(Error::UnknownTopic { target, topic }) = a.request(&b, "nothing", "x").await else {
        panic!()
    };
    assert_eq!((target.as_str(), topic.as_str()), ("b", "nothing"));
    let Err(Error::Handler { message, .. }) = a.request(&b, "fail", "x").await else { panic!() };
    assert_eq!(message, "as asked");
    let Err(Error::Handler { message, .. }) = a.request(&b, "panic", "x").await else { panic!() };
    assert!(message.contains("on purpose"), "{message}");
    let long = "t".repeat(TOPIC_BYTES_MAX + 1);
    assert_eq!(a.request(&b, &long, "").await.unwrap_err().code(), Code::Argument);
    assert_eq!(a.request(&b, "echo", "still alive").await.unwrap(), "still alive");
}

#[tokio::test]
async fn payloads_over_a_limit_are_refused_on_either_side() {
    let mut small = options("b");
    small.payload_max = 1024;
    let (a, b) = (TestNode::start("a").await, TestNode::with(small).await);
    let error = a.request(&b, "echo", vec![0; 3 << 20]).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 3_145_728, max: 1024 }), "{error:?}");
    let error = b.request(&a, "echo", vec![0; 1025]).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    let error = a
        .transport
        .message(&b.peer, b.addr(), "m", vec![0; 3 << 20].into(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::TooLarge, "{error}");
}

/// Also where the peer does not read: what was too large has gone by then.
#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_not_kept() {
    let mut small = options("b");
    small.payload_max = 1024;
    let (a, b) = (TestNode::start("a").await, TestNode::with(small).await);
    b.handler.release.add_permits(1);
    let error = a.request(&b, "large", "").await.unwrap_err();
    let bytes = LARGE_ANSWER as u64;
    assert!(matches!(error, Error::TooLarge { bytes: b, max: 1024 } if b == bytes), "{error:?}");
    until("it is over", || b.transport.stats().requests_in == 0).await;
    assert_eq!(b.transport.stats().requests_handled, 1);
    assert!(b.transport.links().iter().all(|link| link.answer_bytes == 0));
}

#[tokio::test]
async fn too_many_at_once_are_refused() {
    let mut one = options("b");
    one.requests_max = 1;
    let (a, b) = (TestNode::start("a").await, TestNode::with(one).await);
    let (a, b) = (Arc::new(a), Arc::new(b));
    let hanging = tokio::spawn({
        let (a, b) = (a.clone(), b.clone());
        async move { a.request(&b, "hang", "").await }
    });
    b.handler.arrived.acquire().await.unwrap().forget();
    let error = a.request(&b, "echo", "").await.unwrap_err();
    assert!(matches!(error, Error::Busy { max: 1, .. }), "{error:?}");
    hanging.abort();
    until("room again", || b.transport.stats().requests_in == 0).await;
    assert!(a.request(&b, "echo", "").await.is_ok());
}

#[tokio::test]
async fn a_cancelled_request_frees_its_lease_and_its_handler() {
    let (a, b) = (Arc::new(TestNode::start("a").await), Arc::new(TestNode::start("b").await));
    let (dropped, was_dropped) = oneshot::channel();
    *b.handler.dropped.lock() = Some(dropped);
    let hanging = tokio::spawn({
        let (a, b) = (a.clone(), b.clone());
        async move { a.request(&b, "hang", "").await }
    });
    b.handler.arrived.acquire().await.unwrap().forget();
    assert_eq!(a.transport.links()[0].in_flight, 1);
    hanging.abort();
    timeout(PATIENCE, was_dropped).await.expect("the handler is dropped in time").unwrap();
    assert_eq!(a.transport.links()[0].in_flight, 0);
    assert_eq!(a.transport.stats().requests_out, 0);
    until("abandoned", || b.transport.stats().requests_abandoned == 1).await;
}

#[tokio::test]
async fn a_deadline_is_kept_and_frees_the_handler() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let after = Duration::from_millis(200);
    let error =
        a.transport.request(&b.peer, b.addr(), "hang", Bytes::new(), after).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after: said, .. } if said == after), "{error:?}");
    until("abandoned", || b.transport.stats().requests_in == 0).await;
}

#[tokio::test]
async fn a_peer_that_goes_fails_its_requests_at_once() {
    let a = TestNode::start("a").await;
    let b = TestNode::start("b").await;
    let (peer, addr) = (b.peer.clone(), b.addr());
    let request = a.transport.request(&peer, addr, "hang", Bytes::new(), Duration::from_secs(60));
    let end = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        drop(b);
    };
    let (result, ()) =
        timeout(PATIENCE, async { tokio::join!(request, end) }).await.expect("at once");
    assert_eq!(result.unwrap_err().code(), Code::LinkLost);
}

#[tokio::test]
async fn a_peer_that_refuses_is_dialed_ever_more_rarely() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    // It answers at once that it is somebody else.
    let wrong = Peer { id: NodeId::new("c").unwrap(), ..b.peer.clone() };
    let ask = |within| a.transport.request(&wrong, b.addr(), "echo", Bytes::new(), within);
    let until = Instant::now() + Duration::from_secs(3);
    let mut asked = 0;
    while Instant::now() < until {
        let error = ask(until - Instant::now()).await.unwrap_err();
        assert_eq!(error.code(), crate::Code::WrongNode, "{error}");
        asked += 1;
    }
    // Without a pause it would be one after the other, hundreds of them. On average they are 50,
    // 100, 200 … ms apart; twenty would take an average of a sixth of that.
    assert!((3..20).contains(&asked), "{asked}");
    assert!(a.transport.stats().dials <= asked, "{} dials", a.transport.stats().dials);
    // Whoever comes to us meanwhile is there at once.
    let mut c = TestNode::start("c").await;
    c.dial(a.addr(), Some("a")).await.unwrap();
    assert_eq!(a.request(&c, "who", "").await.unwrap(), "a");
}

#[tokio::test]
async fn nobody_there_is_unreachable_after_one_dial() {
    let mut quick = options("a");
    quick.connect_timeout = Duration::from_millis(100);
    let a = TestNode::with(quick).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let nobody = Peer { id: NodeId::new("nobody").unwrap(), instance: Instance(1) };
    for round in 1..=10 {
        let asked = a.transport.request(&nobody, addr, "echo", Bytes::new(), PATIENCE);
        let error = asked.await.unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "{error}");
        assert_eq!(a.transport.stats().dials, round, "a dial that failed is not begun anew");
    }
}

#[tokio::test]
async fn a_request_waits_for_a_dial_no_longer_than_its_deadline() {
    let a = TestNode::start("a").await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    let nobody = Peer { id: NodeId::new("nobody").unwrap(), instance: Instance(1) };
    let deadline = Duration::from_millis(100);
    let asked = a.transport.request(&nobody, addr, "echo", Bytes::new(), deadline);
    let error = asked.await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    // The dial goes on: it did not end the request.
    assert_eq!(a.transport.stats().dial_failures, 0);
}

#[tokio::test]
async fn another_process_under_the_same_id_gets_no_request() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let old = Peer { id: b.peer.id.clone(), instance: Instance(b.peer.instance.0 ^ 1) };
    let error =
        a.transport.request(&old, b.addr(), "echo", Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
    assert!(a.transport.has_link(&b.peer));
}

#[tokio::test]
async fn messages_arrive_with_their_sender() {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    let (sender, mut messages) = mpsc::channel(4);
    *b.handler.messages.lock() = Some(sender);
    for size in [0, 5, 300_000] {
        let payload = Bytes::from(vec![7; size]);
        a.transport.message(&b.peer, b.addr(), "m", payload.clone(), PATIENCE).await.unwrap();
        let got = timeout(PATIENCE, messages.recv()).await.unwrap().unwrap();
        assert_eq!(got, (a.peer.clone(), "m".to_owned(), payload));
    }
}

/// A peer closes links for reasons of its own. What it had taken by then may have been handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_asked_again_only_where_the_peer_had_not_taken_it() {
    for code in [Closing::Unused, Closing::Duplicate] {
        let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
        let arrived = &b.handler.arrived;
        let link = || b.transport.node().pool.of(&a.peer)[0].clone();
        let close = async {
            arrived.acquire().await.unwrap().forget();
            link().close(code);
        };
        let (held, ()) = tokio::join!(a.request(&b, "held", ""), close);
        assert_eq!(held.unwrap_err().code(), Code::LinkLost);
        assert_eq!(arrived.available_permits(), 0, "it was asked once");

        // On its way when the link was given up.
        assert_eq!(a.request(&b, "echo", "").await.unwrap(), "");
        let old = link();
        old.hear_no_more();
        let close = async {
            until("it is under way", || a.transport.links()[0].in_flight == 1).await;
            a.transport.ping(&b.peer, PATIENCE).await.unwrap(); // it is there
            assert_eq!(arrived.available_permits(), 0);
            old.close(code);
            arrived.acquire().await.unwrap().forget(); // on another link
            b.handler.release.add_permits(1);
        };
        let (late, ()) = tokio::join!(a.request(&b, "held", ""), close);
        assert_eq!(late.unwrap(), "released");
        assert_eq!(arrived.available_permits(), 0, "it was handled once");
    }
}
