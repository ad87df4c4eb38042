//! Whether links are alive, over a path that can be cut in either direction.

use std::{collections::VecDeque, net::UdpSocket, sync::atomic::AtomicBool, thread::JoinHandle};

use tokio::time::Instant;

use super::{dropped::nothing_is_left, streams::read_on, *};
use crate::error::Code;

/// A path to an address: what comes to it is sent on after a while, and what comes back is sent back,
/// unless it is cut.
struct Relay {
    addr: SocketAddr,
    cut: Arc<Cut>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Cut {
    forth: AtomicBool,
    back: AtomicBool,
    end: AtomicBool,
}

impl Relay {
    fn to(target: SocketAddr, delay: Duration) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = near.local_addr().unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        }
        let cut = Arc::<Cut>::default();
        let says = cut.clone();
        let thread = std::thread::spawn(move || {
            let (mut bytes, mut client) = (vec![0; 65536], None);
            let (mut forth, mut back) = (VecDeque::new(), VecDeque::new());
            while !says.end.load(Relaxed) {
                while let Ok((n, from)) = near.recv_from(&mut bytes) {
                    if n > 1 {
                        client = Some(from); // and not who looks whether anybody is here
                    }
                    if !says.forth.load(Relaxed) {
                        forth.push_back((Instant::now() + delay, bytes[..n].to_vec()));
                    }
                }
                while let Ok((n, _)) = far.recv_from(&mut bytes) {
                    if !says.back.load(Relaxed) {
                        back.push_back((Instant::now() + delay, bytes[..n].to_vec()));
                    }
                }
                let due = |queue: &mut VecDeque<(Instant, Vec<u8>)>| {
                    queue.pop_front_if(|(at, _)| *at <= Instant::now())
                };
                while let Some((_, bytes)) = due(&mut forth) {
                    far.send_to(&bytes, target).unwrap();
                }
                while let (Some((_, bytes)), Some(client)) = (due(&mut back), client) {
                    near.send_to(&bytes, client).unwrap();
                }
            }
        });
        Self { addr, cut, thread: Some(thread) }
    }

    fn cut(&self, forth: bool, back: bool) {
        self.cut.forth.store(forth, Relaxed);
        self.cut.back.store(back, Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut.end.store(true, Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// A node with a link to another one, over a path of its own.
async fn over_relay(every: Duration, delay: Duration) -> (TestNode, TestNode, Relay) {
    let mut a = TestNode::with(Options { health_check_interval: every, ..options("a") }).await;
    let b = TestNode::start("b").await;
    let relay = Relay::to(b.addr(), delay);
    assert_eq!(a.dial(relay.addr, Some("b")).await.unwrap(), b.peer);
    (a, b, relay)
}

const RARELY: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_or_fails_at_its_deadline() {
    let (a, b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let took = a.transport.ping(&b.peer, PATIENCE).await.unwrap();
    assert!(took < PATIENCE);
    let link = &a.transport.links()[0];
    assert_eq!((link.path, link.timeouts), (Path::Good, 0));
    assert!(link.packets_sent > 0 && link.packets_received > 0);
    assert!(link.heard.unwrap() < PATIENCE && link.rtt.is_some());
    relay.cut(true, true);
    let short = Duration::from_millis(200);
    let error = a.transport.ping(&b.peer, short).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == short), "{error:?}");
    let nobody = Peer { id: NodeId::new("nobody").unwrap(), instance: Instance(1) };
    assert_eq!(a.transport.ping(&nobody, short).await.unwrap_err().code(), Code::Unreachable);
    // One whose link goes meanwhile does not wait for its deadline.
    let (pinged, ()) = tokio::join!(a.transport.ping(&b.peer, 10 * PATIENCE), async {
        a.transport.close_link(&b.peer, "as asked");
    });
    assert_eq!(pinged.unwrap_err().code(), Code::LinkLost);
}

/// The stack hears of the trouble only when something is sent; the check is what sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_health_checks_find_a_peer_behind_a_black_hole() {
    let (mut a, b, relay) = over_relay(Duration::from_millis(100), Duration::ZERO).await;
    until("it is checked", || a.transport.stats().pings >= 1).await;
    let asking = a.transport.request(&b.peer, relay.addr, "hang", Bytes::new(), 3 * PATIENCE);
    let watching = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        relay.cut(true, true);
        let cut = Instant::now();
        loop {
            match a.events.recv().await.unwrap() {
                TransportEvent::LinkDown { peer, end } => {
                    assert_eq!(peer, b.peer);
                    break (end, cut.elapsed());
                }
                TransportEvent::LinkTrouble { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    };
    let (asked, (end, took)) = tokio::join!(asking, watching);
    // Its users hear of it as soon as the pool does.
    assert_eq!(asked.unwrap_err().code(), Code::LinkLost);
    assert!(end.is_broken(), "{end:?}");
    assert_eq!(end.to_string(), "no answer to a ping within 2s");
    // The stack alone would take 3 s.
    assert!(took < Duration::from_millis(2950), "{took:?}");
    let stats = a.transport.stats();
    assert_eq!((stats.unanswered, stats.broken, stats.pool.links_total), (1, 1, 0));
}

/// Nothing is under way, and what looks after links in trouble does not: the loop has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loop_of_health_checks_removes_an_idle_link_by_itself() {
    let (mut a, b, relay) = over_relay(Duration::from_millis(100), Duration::ZERO).await;
    until("it is checked", || a.transport.stats().pings >= 1).await;
    for link in a.transport.node().pool.links() {
        link.checking.store(true, Relaxed); // as if a check of its own were under way
    }
    relay.cut(true, true);
    let cut = Instant::now();
    let end = loop {
        match a.event().await {
            TransportEvent::LinkDown { peer, end } => {
                assert_eq!(peer, b.peer);
                break end;
            }
            TransportEvent::LinkTrouble { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(end.to_string(), "no answer to a ping within 2s");
    // The stack alone would take 3 s.
    assert!(cut.elapsed() < Duration::from_millis(2950), "{:?}", cut.elapsed());
    let stats = a.transport.stats();
    assert_eq!((stats.unanswered, stats.broken, stats.pool.links_total), (1, 1, 0));
}

/// Packets of the peer's come all the while: by what it receives, the stack would keep the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_fails_in_one_direction_is_named() {
    let (mut a, mut b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    let (asker, peer) = (a.transport.clone(), b.peer.clone());
    let addr = relay.addr;
    let asking = tokio::spawn(async move {
        asker.request(&peer, addr, "hang", Bytes::new(), 3 * PATIENCE).await
    });
    b.handler.arrived.acquire().await.unwrap().forget();
    relay.cut(true, false);
    let until_down = async {
        let (mut seen, mut pause) = (Vec::new(), tokio::time::interval(Duration::from_millis(50)));
        loop {
            tokio::select! {
                _ = pause.tick() => {
                    // The other end hears nothing, and cannot know more than that.
                    for (from, to) in [(&a, &b), (&b, &a)] {
                        let frame = Bytes::from_static(b"there?");
                        from.transport.send_frame(&to.peer, to.addr(), Class::Datagram, frame);
                    }
                    seen.extend(a.transport.links().first().map(|link| link.path));
                }
                event = a.events.recv() => match event.unwrap() {
                    TransportEvent::LinkDown { end, .. } => break (end, seen),
                    TransportEvent::LinkTrouble { .. } | TransportEvent::Frame { .. } => {}
                    event => panic!("{event:?}"),
                },
            }
        }
    };
    let (end, seen) = timeout(PATIENCE, until_down).await.expect("it ends");
    let expected = "no answer to a ping within 2s although the peer is heard: the path to it fails";
    assert_eq!((end.to_string().as_str(), end.is_broken()), (expected, true));
    assert!(seen.contains(&Path::Good) && seen.contains(&Path::ToPeerFails), "{seen:?}");
    assert_eq!(asking.await.unwrap().unwrap_err().code(), Code::LinkLost);
    let down = loop {
        match b.event().await {
            TransportEvent::LinkDown { end, .. } => break end,
            TransportEvent::LinkTrouble { .. } | TransportEvent::Frame { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert!(down.is_broken(), "{down:?}");
}

/// Where the way there and back takes longer than the time between two pings, and while other
/// packets are sent all the time: each of them puts the stack's probe time-out off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_far_away_that_dies_over_a_request_is_in_trouble_within_a_second() {
    let (mut a, b, relay) = over_relay(RARELY, Duration::from_millis(30)).await;
    for chatty in [false, true] {
        let asking = a.transport.request(&b.peer, relay.addr, "hang", Bytes::new(), 3 * PATIENCE);
        let watching = async {
            b.handler.arrived.acquire().await.unwrap().forget();
            // Until all is acknowledged. A pause that is too short only makes the test weaker.
            tokio::time::sleep(Duration::from_millis(300)).await;
            relay.cut(true, true);
            let cut = Instant::now();
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            let mut trouble = None;
            loop {
                tokio::select! {
                    _ = pause.tick() => if chatty {
                        let frame = Bytes::from_static(b"there?");
                        a.transport.send_frame(&b.peer, relay.addr, Class::Datagram, frame);
                    },
                    event = a.events.recv() => match event.unwrap() {
                        TransportEvent::LinkTrouble { .. } => trouble = Some(cut.elapsed()),
                        TransportEvent::LinkDown { .. } => break trouble,
                        event => panic!("{event:?}"),
                    },
                }
            }
        };
        let (asked, took) = tokio::join!(asking, watching);
        assert_eq!(asked.unwrap_err().code(), Code::LinkLost);
        let took = took.expect("trouble before the end");
        assert!(took < Duration::from_secs(1), "{took:?}, chatty: {chatty}");
        relay.cut(false, false);
        let answer = a.transport.request(&b.peer, relay.addr, "echo", "x".into(), PATIENCE).await;
        assert_eq!(answer.unwrap(), "x");
        while a.events.try_recv().is_ok() {}
    }
}

/// One that is read, at both ends, and one that waits for credit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_to_a_peer_that_vanishes_are_in_trouble_within_a_second_and_end() {
    let (mut a, b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let open = async || {
        let open = a.transport.open_stream(&b.peer, relay.addr, "ignore", PATIENCE).await.unwrap();
        (open, b.ignored().await)
    };
    let ((mut read, mut read_there), (mut full, mut full_there)) = (open().await, open().await);
    let lost = |error: Error| (error.code(), Instant::now());
    let mut waiting = vec![
        ("the reader", tokio::spawn(async move { lost(read_on(&mut read).await) })),
        ("the reader there", tokio::spawn(async move { lost(read_on(&mut read_there).await) })),
    ];
    let writing = tokio::spawn(async move {
        loop {
            if let Err(error) = full.write(vec![0; 1024], None).await {
                return lost(error);
            }
        }
    });
    waiting.push(("the writer", writing));
    until("it waits for credit", || full_there.receive_waiting() >= 64 << 10).await;
    // Until all is acknowledged. A pause that is too short only makes the test weaker.
    tokio::time::sleep(Duration::from_millis(300)).await;
    relay.cut(true, true);
    let cut = Instant::now();
    let event = a.event().await;
    assert!(matches!(event, TransportEvent::LinkTrouble { .. }), "{event:?}");
    assert!(cut.elapsed() < Duration::from_secs(1), "{:?}", cut.elapsed());
    for (who, waiting) in waiting {
        let (code, at) = timeout(PATIENCE, waiting).await.expect("an end").unwrap();
        let took = at - cut;
        assert_eq!(code, Code::LinkLost, "{who}");
        assert!(took < Duration::from_secs(4), "{who} after {took:?}");
    }
    assert_eq!(read_on(&mut full_there).await.code(), Code::LinkLost);
    drop(full_there);
    nothing_is_left(&a, &b).await;
    assert!(a.transport.links().is_empty() && b.transport.links().is_empty());
}

/// What a link says that waits on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_nobody_takes_and_datagrams_that_cannot_go_are_shown() {
    let (a, mut b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    let frame = Bytes::from(vec![1; 100_000]);
    a.transport.send_frame(&b.peer, relay.addr, Class::Stream, frame);
    until("it waits for the driver", || b.transport.links()[0].frame_bytes == 100_000).await;
    let TransportEvent::Frame { waiting, .. } = b.event().await else { panic!() };
    drop(waiting);
    assert_eq!(b.transport.links()[0].frame_bytes, 0);

    let waiting = || a.transport.links()[0].datagrams_waiting;
    assert_eq!(waiting(), 0);
    relay.cut(true, true);
    for _ in 0..250 {
        let frame = Bytes::from(vec![1; 1000]); // more in all than may be under way
        a.transport.send_frame(&b.peer, relay.addr, Class::Datagram, frame);
    }
    until("some wait", || waiting() > 0).await;
    relay.cut(false, false);
    until("all have gone", || waiting() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_at_work_and_answers_that_cannot_go_are_shown() {
    let (a, b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let at_b = || {
        let link = &b.transport.links()[0];
        (link.serving, link.payload_bytes, link.answer_bytes)
    };
    let payload = || Bytes::from(vec![1; 1000]);
    let asking = a.transport.request(&b.peer, relay.addr, "large", payload(), PATIENCE);
    let watching = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        assert_eq!(at_b(), (1, 1000, 0));
        relay.cut(true, true);
        b.handler.release.add_permits(1);
        until("the answer waits", || at_b() == (1, 0, LARGE_ANSWER as u64)).await;
        relay.cut(false, false);
    };
    let (answer, ()) = tokio::join!(asking, watching);
    assert_eq!(answer.unwrap().len(), LARGE_ANSWER);
    until("nothing is left", || at_b() == (0, 0, 0)).await;
}

/// The queue for datagrams is bounded: the oldest go, and are counted.
#[tokio::test]
async fn datagrams_beyond_the_queue_are_dropped_and_counted() {
    const SENT: u64 = 1000;
    let (a, mut b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    // Nothing else runs on this thread meanwhile.
    for n in 0..SENT {
        let frame = Bytes::copy_from_slice(&n.to_be_bytes());
        a.transport.send_frame(&b.peer, relay.addr, Class::Datagram, frame);
    }
    let waiting = a.transport.links()[0].datagrams_waiting as u64;
    let dropped = a.transport.stats().datagrams_dropped;
    assert!(waiting <= 256 && waiting + dropped == SENT, "{waiting} wait, {dropped} are gone");
    let TransportEvent::Frame { bytes, .. } = b.event().await else { panic!() };
    assert_eq!(bytes, dropped.to_be_bytes()[..], "the oldest went");
}

/// Each stream that is given up or fails leaves a line to tell, also where the peer reads none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_hear_what_became_of_its_streams_is_not_kept() {
    let (a, mut b, relay) = over_relay(RARELY, Duration::ZERO).await;
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    relay.cut(true, true);
    let (node, link) = (b.transport.node().clone(), b.transport.node().pool.links()[0].clone());
    let message = "x".repeat(1000);
    // Some of it goes to the stack, as long as the window has room.
    for id in 0..10_000 {
        let teller =
            crate::transport::stream::Teller { node: node.clone(), link: link.clone(), id };
        teller.failed(&message);
        assert!(link.streams.notes() <= 1 << 20);
    }
    assert!(b.transport.links().is_empty());
    let end = loop {
        match b.event().await {
            TransportEvent::LinkDown { end, .. } => break end,
            TransportEvent::LinkTrouble { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(end.to_string(), "the peer does not hear what became of its streams");
    drop(a);
}

/// A pause that is shorter than the deadline costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_trouble_that_recovers_stays() {
    let (mut a, b, relay) = over_relay(RARELY, Duration::ZERO).await;
    relay.cut(true, true);
    a.transport.send_frame(&b.peer, b.addr(), Class::Datagram, Bytes::from_static(b"there?"));
    let TransportEvent::LinkTrouble { .. } = a.event().await else { panic!() };
    let link = &a.transport.links()[0];
    assert_eq!(link.path, Path::Silent);
    assert!(link.timeouts >= 3, "{link:?}");
    let lost = link.packets_lost;
    relay.cut(false, false);
    let answer = a.transport.request(&b.peer, relay.addr, "echo", "x".into(), PATIENCE).await;
    assert_eq!(answer.unwrap(), "x");
    until("it is sound again", || {
        let link = &a.transport.links()[0];
        (link.path, link.timeouts) == (Path::Good, 0) && link.packets_lost > lost
    })
    .await;
    assert_eq!(a.transport.stats().dials, 1);
}
