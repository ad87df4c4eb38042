//! Links, the pool and membership frames.

use super::*;
use crate::{Secret, error::Code};

#[tokio::test]
async fn frames_of_both_classes_arrive_with_their_sender() {
    let (a, mut b) = (TestNode::start("a").await, TestNode::start("b").await);
    let large = Bytes::from(vec![9; 100_000]);
    let cases = [
        (Class::Datagram, Bytes::from_static(b"small")),
        (Class::Stream, Bytes::from_static(b"sure")),
        (Class::Datagram, Bytes::from(vec![1; DATAGRAM_BYTES_MAX])),
        (Class::Datagram, large.clone()),
        (Class::Stream, large),
    ];
    for (class, frame) in cases {
        // The first goes out when the link is up.
        a.transport.send_frame(&b.peer, b.addr(), class, frame.clone());
        let got = loop {
            match b.event().await {
                TransportEvent::Frame { peer, bytes, .. } => break (peer, bytes),
                event => assert!(matches!(event, TransportEvent::LinkUp { .. }), "{event:?}"),
            }
        };
        assert_eq!(got, (a.peer.clone(), frame));
    }
    let stats = a.transport.stats();
    assert_eq!((stats.datagrams_sent, stats.dials, stats.frames_dropped), (2, 1, 0));
}

#[tokio::test]
async fn a_dial_says_where_the_peer_listens_and_repeats_itself_when_asked() {
    let (mut a, mut b) = (TestNode::start("a").await, TestNode::start("b").await);
    assert_eq!(a.dial(b.addr(), None).await.unwrap(), b.peer);
    let TransportEvent::LinkUp { peer, addr, dialed } = b.event().await else { panic!() };
    assert_eq!((peer, addr, dialed), (a.peer.clone(), a.addr(), None));
    assert_eq!(a.dial(b.addr(), Some("b")).await.unwrap(), b.peer);
    assert_eq!(a.transport.stats().dials, 1);
    assert!(b.events.try_recv().is_err(), "the other side hears of it once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_leave_one_link() {
    for round in 0..20 {
        let (mut a, mut b) = (TestNode::start("a").await, TestNode::start("b").await);
        a.transport.dial(b.addr(), Some(b.peer.id.clone()));
        b.transport.dial(a.addr(), None);
        let (link_a, link_b) = (a.event().await, b.event().await);
        assert!(matches!(link_a, TransportEvent::LinkUp { .. }), "{link_a:?}");
        assert!(matches!(link_b, TransportEvent::LinkUp { .. }), "{link_b:?}");
        until("both dials end", || {
            let (a, b) = (a.transport.stats(), b.transport.stats());
            a.accepted + b.accepted == a.dials + b.dials
        })
        .await;
        // The surplus link is closed in the end, and nobody mistakes that for the end of the other.
        assert_eq!(a.transport.links().len(), 1, "round {round}");
        assert_eq!(b.transport.links().len(), 1, "round {round}");
        if a.transport.stats().dials + b.transport.stats().dials == 2
            && a.transport.stats().accepted == 1
        {
            until("the smaller's stays", || {
                a.transport.links()[0].dialed && !b.transport.links()[0].dialed
            })
            .await;
        }
        assert!(a.request(&b, "echo", "x").await.is_ok());
        assert!(b.request(&a, "echo", "x").await.is_ok());
        if round == 0 {
            until("the surplus is closed", || {
                a.transport.node().tasks.len() + b.transport.node().tasks.len()
                    <= 2 * TASKS_IDLE + 2
            })
            .await;
            assert!(a.transport.has_link(&b.peer) && b.transport.has_link(&a.peer));
        }
        for node in [&mut a, &mut b] {
            while let Ok(event) = node.events.try_recv() {
                assert!(
                    matches!(event, TransportEvent::LinkUp { dialed: Some(_), .. }),
                    "{event:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_closed_link_is_reported_once_at_each_end() {
    let (mut a, mut b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.dial(b.addr(), None).await.unwrap();
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    a.transport.close_link(&b.peer, "as asked");
    let TransportEvent::LinkDown { peer, end } = a.event().await else { panic!() };
    assert_eq!((peer, end), (b.peer.clone(), LinkEnd::Closed("as asked".into())));
    let TransportEvent::LinkDown { peer, end } = b.event().await else { panic!() };
    assert_eq!((peer, end), (a.peer.clone(), LinkEnd::Broken("the peer closed it".into())));
    until("links end", || {
        a.transport.node().tasks.len() == TASKS_IDLE && b.transport.node().tasks.len() == TASKS_IDLE
    })
    .await;
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[tokio::test]
async fn a_link_that_another_one_has_taken_the_place_of_is_closed_as_well() {
    // Known by an address that nobody dials, so that a second dial is none to the first link.
    let any = Options { listen: ([0, 0, 0, 0], 0).into(), ..options("b") };
    let (mut a, b) = (TestNode::start("a").await, TestNode::with(any).await);
    let mut stream = b.transport.open_stream(&a.peer, a.addr(), "echo", PATIENCE).await.unwrap();
    let theirs = b.transport.node().pool.of(&a.peer)[0].clone();
    let ours = a.transport.node().pool.of(&b.peer)[0].clone();
    a.dial(([127, 0, 0, 1], b.addr().port()).into(), Some("b")).await.unwrap();
    let holds = |node: &TestNode, link| node.transport.node().pool.holds(link);
    until("another link is in its place", || !holds(&a, &ours) && !holds(&b, &theirs)).await;
    let new = a.transport.node().pool.of(&b.peer)[0].clone();
    assert!(Arc::ptr_eq(&ours.share, &new.share), "what they may take is one share");
    assert!(a.transport.links_and_draining().iter().any(|link| link.draining));
    let talking = tokio::spawn({
        let node = b.transport.node().clone();
        async move {
            loop {
                theirs.send_frame(&node, Class::Stream, Bytes::from_static(b"nonsense"));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    while !matches!(a.event().await, TransportEvent::Frame { .. }) {}
    a.transport.close_link(&b.peer, "as asked");
    // Those that came before, and the end of the other; nothing else runs meanwhile.
    while a.events.try_recv().is_ok() {}
    until("it has ended", || ours.has_ended()).await;
    let error = stream.read(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::LinkLost, "{error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(a.events.try_recv().is_err(), "nothing of it is heard");
    talking.abort();
}

#[tokio::test]
async fn the_least_recently_used_idle_link_makes_room() {
    let mut small = options("a");
    small.links_max = 2;
    let a = TestNode::with(small).await;
    let (b, c, d) =
        (TestNode::start("b").await, TestNode::start("c").await, TestNode::start("d").await);
    a.request(&b, "echo", "").await.unwrap();
    a.request(&c, "echo", "").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await; // uses are told apart by the millisecond
    a.request(&b, "echo", "").await.unwrap();
    a.request(&d, "echo", "").await.unwrap();
    assert!(
        a.transport.has_link(&b.peer)
            && a.transport.has_link(&d.peer)
            && !a.transport.has_link(&c.peer)
    );
    assert_eq!(a.transport.stats().evicted, 1);
    // A pin outweighs the order of use.
    tokio::time::sleep(Duration::from_millis(2)).await;
    a.request(&d, "echo", "").await.unwrap();
    a.transport.pin(&b.peer, true);
    a.request(&c, "echo", "").await.unwrap();
    assert!(a.transport.has_link(&b.peer) && a.transport.has_link(&c.peer));
}

#[tokio::test]
async fn a_full_node_refuses_links_and_names_others() {
    let mut small = options("a");
    small.links_max = 1;
    let a = TestNode::with(small).await;
    let mut peers = Vec::new();
    for n in 0..=super::super::pool::RESERVE {
        let mut peer = TestNode::start(&format!("b{n}")).await;
        peer.dial(a.addr(), None).await.unwrap();
        until("the link is in both pools", || a.transport.has_link(&peer.peer)).await;
        a.transport.pin(&peer.peer, true);
        peers.push(peer);
    }
    let late = TestNode::start("c").await;
    let mut late = late;
    late.transport.dial(a.addr(), None);
    let mut named = None;
    let error = loop {
        match late.event().await {
            TransportEvent::Full { addr, others } if addr == a.addr() => named = Some(others),
            TransportEvent::DialFailed { error, .. } => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(error, Error::Busy { max: 1, .. }), "{error:?}");
    let named = named.unwrap();
    assert_eq!(named.len(), 8);
    assert!(named.iter().all(|addr| peers.iter().any(|peer| peer.addr() == *addr)));
}

#[tokio::test]
async fn a_peer_gets_what_it_came_for_before_its_link_makes_room() {
    let mut small = options("a");
    small.links_max = 1;
    let a = TestNode::with(small).await;
    let begun = std::time::Instant::now();
    let (mut b, mut c) = (TestNode::start("b").await, TestNode::start("c").await);
    b.dial(a.addr(), None).await.unwrap();
    c.dial(a.addr(), None).await.unwrap();
    until("both are there", || a.transport.has_link(&c.peer)).await;
    let young = begun.elapsed() < Duration::from_secs(1);
    assert!(a.transport.has_link(&b.peer) || !young);
    // It has been answered: now it makes room.
    a.transport.send_frame(&b.peer, b.addr(), Class::Stream, Bytes::from_static(b"welcome"));
    until("the answer is there", || a.transport.stats().frames_sent == 1).await;
    let mut d = TestNode::start("d").await;
    d.dial(a.addr(), None).await.unwrap();
    until("it has gone", || !a.transport.has_link(&b.peer)).await;
}

#[tokio::test]
async fn a_pool_in_use_makes_callers_wait_until_their_deadline() {
    let mut small = options("a");
    small.links_max = 1;
    let a = Arc::new(TestNode::with(small).await);
    let (b, c) = (Arc::new(TestNode::start("b").await), TestNode::start("c").await);
    let hanging = tokio::spawn({
        let (a, b) = (a.clone(), b.clone());
        async move { a.request(&b, "hang", "").await }
    });
    b.handler.arrived.acquire().await.unwrap().forget();
    let short = Duration::from_millis(50);
    let error =
        a.transport.request(&c.peer, c.addr(), "echo", Bytes::new(), short).await.unwrap_err();
    assert!(matches!(error, Error::PoolFull { current: 1, max: 1 }), "{error:?}");
    let waiting = a.request(&c, "echo", "now");
    let release = async {
        tokio::task::yield_now().await;
        hanging.abort();
    };
    let (answer, ()) = tokio::join!(waiting, release);
    assert_eq!(answer.unwrap(), "now");
    assert!(!a.transport.has_link(&b.peer));
}

#[tokio::test]
async fn a_pool_in_use_leaves_room_for_probes_and_joining() {
    let mut small = options("a");
    small.links_max = 1;
    let mut a = TestNode::with(small).await;
    let (b, mut c) = (TestNode::start("b").await, TestNode::start("c").await);
    let d = TestNode::start("d").await;
    let asking = a.transport.clone();
    let (to, addr) = (b.peer.clone(), b.addr());
    let hanging =
        tokio::spawn(
            async move { asking.request(&to, addr, "hang", Bytes::new(), 2 * PATIENCE).await },
        );
    b.handler.arrived.acquire().await.unwrap().forget();
    let short = Duration::from_millis(50);
    let error =
        a.transport.request(&c.peer, c.addr(), "echo", Bytes::new(), short).await.unwrap_err();
    assert!(matches!(error, Error::PoolFull { current: 1, max: 1 }), "{error:?}");
    a.transport.send_frame(&c.peer, c.addr(), Class::Datagram, Bytes::from_static(b"probe"));
    while !matches!(c.event().await, TransportEvent::Frame { .. }) {}
    assert_eq!(a.dial(d.addr(), None).await.unwrap(), d.peer);
    assert!(a.transport.has_link(&b.peer), "and what is in use stays");
    hanging.abort();
}

#[tokio::test]
async fn unused_links_are_closed_and_used_ones_are_not() {
    let mut idle = options("a");
    idle.link_idle_timeout = Duration::from_millis(300);
    let mut a = TestNode::with(idle).await;
    let (mut b, c) = (TestNode::start("b").await, TestNode::start("c").await);
    a.dial(b.addr(), None).await.unwrap();
    a.dial(c.addr(), None).await.unwrap();
    a.transport.pin(&c.peer, true);
    let TransportEvent::LinkUp { .. } = b.event().await else { panic!() };
    let TransportEvent::LinkDown { peer, end } = a.event().await else { panic!() };
    assert_eq!((peer, end), (b.peer.clone(), LinkEnd::Idle));
    let TransportEvent::LinkDown { peer, end } = b.event().await else { panic!() };
    assert_eq!((peer, end), (a.peer.clone(), LinkEnd::UnusedByPeer));
    assert!(a.transport.has_link(&c.peer));
    assert_eq!(a.transport.stats().idled, 1);
    assert!(b.request(&a, "echo", "").await.is_ok(), "a link is made anew when needed");
}

#[tokio::test]
async fn a_link_on_which_we_serve_is_neither_idle_nor_evicted() {
    let small = Options {
        links_max: 1,
        link_idle_timeout: Duration::from_millis(200),
        ..options("server")
    };
    let server = TestNode::with(small).await;
    let (asker, other) = (TestNode::start("asker").await, TestNode::start("other").await);
    let held = asker.request(&server, "held", "");
    let meanwhile = async {
        server.handler.arrived.acquire().await.unwrap().forget();
        let within = Duration::from_secs(1);
        let error = server.transport.request(&other.peer, other.addr(), "echo", "".into(), within);
        assert_eq!(error.await.unwrap_err().code(), Code::PoolFull);
        let stats = server.transport.stats();
        assert_eq!((stats.idled, stats.evicted, stats.pool.links_total), (0, 0, 1));
        server.handler.release.add_permits(1);
    };
    assert_eq!(tokio::join!(held, meanwhile).0.unwrap(), "released");
    // Nobody needs it now.
    assert_eq!(server.request(&other, "echo", "").await.unwrap(), "");
    let stats = server.transport.stats();
    assert_eq!(stats.idled + stats.evicted, 1);
}

/// Probes and gossip go over whatever links there are: they must not be what keeps them, or a
/// node would hold as many as it may for ever.
#[tokio::test]
async fn membership_datagrams_do_not_keep_a_link() {
    let mut idle = options("a");
    idle.link_idle_timeout = Duration::from_millis(300);
    let mut a = TestNode::with(idle).await;
    let b = TestNode::start("b").await;
    a.dial(b.addr(), None).await.unwrap();
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut ended = None;
    while ended.is_none() && tokio::time::Instant::now() < until {
        a.transport.send_frame(&b.peer, b.addr(), Class::Datagram, Bytes::from_static(b"ping"));
        ended = timeout(Duration::from_millis(20), a.event()).await.ok();
    }
    assert!(
        matches!(ended, Some(TransportEvent::LinkDown { end: LinkEnd::Idle, .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_silent_peer_is_trouble_before_its_link_is_down() {
    // The peer runs on a runtime of its own, which stops being driven once the link is up.
    let (told, hear) = oneshot::channel();
    let (up, is_up) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let frozen = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let b = frozen.block_on(async {
            let b = TestNode::start("b").await;
            told.send((b.addr(), b.peer.clone())).unwrap();
            is_up.await.unwrap();
            b
        });
        (frozen, b)
    });
    let (addr, id) = hear.await.unwrap();
    let mut a = TestNode::start("a").await;
    a.dial(addr, None).await.unwrap();
    up.send(()).unwrap();
    let kept = thread.join().unwrap();
    for _ in 0..3 {
        a.transport.send_frame(&id, addr, Class::Datagram, Bytes::from_static(b"anybody?"));
    }
    let TransportEvent::LinkTrouble { peer } = a.event().await else { panic!() };
    assert_eq!(peer, id);
    let TransportEvent::LinkDown { peer, end } = a.event().await else { panic!() };
    assert_eq!((peer, end.is_broken()), (id.clone(), true), "{end}");
    assert_eq!(end.to_string(), "no answer to a ping within 2s");
    let short = Duration::from_millis(100);
    let error = a.transport.request(&id, addr, "echo", Bytes::new(), short).await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    tokio::task::spawn_blocking(move || drop(kept)).await.unwrap();
}

/// A node that dies without a word with its runtime: its tasks stop where they are.
struct Mortal {
    runtime: tokio::runtime::Runtime,
    transport: Transport,
    peer: Peer,
    addr: SocketAddr,
    handler: Arc<Handler>,
}

impl Mortal {
    async fn die(self) {
        let die = move || self.runtime.shutdown_timeout(PATIENCE);
        tokio::task::spawn_blocking(die).await.unwrap();
    }
}

fn mortal(id: &'static str, listen: SocketAddr) -> Mortal {
    mortal_with(Options { listen, ..options(id) })
}

fn mortal_with(options: Options) -> Mortal {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let node = std::thread::scope(|scope| {
        let start = || runtime.block_on(TestNode::with(options));
        scope.spawn(start).join().unwrap()
    });
    let (peer, addr, handler) = (node.peer.clone(), node.addr(), node.handler.clone());
    let transport = node.transport.clone();
    // Its handle would say goodbye when it is dropped.
    std::mem::forget(node);
    Mortal { runtime, transport, peer, addr, handler }
}

#[tokio::test]
async fn a_peer_that_dies_over_a_request_is_in_trouble_within_a_second() {
    let mut a = TestNode::start("a").await;
    let b = mortal("b", ([127, 0, 0, 1], 0).into());
    assert_eq!(a.dial(b.addr, Some("b")).await.unwrap(), b.peer);
    let (peer, addr) = (b.peer.clone(), b.addr);
    let asking = a.transport.request(&peer, addr, "hang", Bytes::new(), PATIENCE);
    let watching = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        // Until all is acknowledged: what is not would show by itself that nobody is there. A pause
        // that is too short only makes the test weaker.
        tokio::time::sleep(Duration::from_millis(300)).await;
        b.die().await;
        let died = std::time::Instant::now();
        let TransportEvent::LinkTrouble { peer: troubled } = a.events.recv().await.unwrap() else {
            panic!("the link went first")
        };
        assert_eq!(troubled, peer);
        died.elapsed()
    };
    let (asked, took) = tokio::join!(asking, watching);
    // Keep-alives, which go out every second, would find it after 1.1 s to 2 s.
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(asked.unwrap_err().code(), Code::LinkLost);
}

/// By the secret as by a private key, the tokens are the same after a restart.
#[tokio::test]
async fn a_process_in_the_place_of_another_ends_its_links_at_the_next_packet() {
    let pki = pki::Pki::new("reset");
    let secret = Secret::generate();
    let with_secret = |id| Options { security: Security::Secret(secret.clone()), ..options(id) };
    for (a, b) in [
        (options("a"), options("b")),
        (with_secret("a"), with_secret("b")),
        (pki.options("a", "a"), pki.options("b", "b")),
    ] {
        let security = b.security.clone();
        knows_nothing_of_its_links(TestNode::with(a).await, mortal_with(b), security).await;
    }
}

/// A process that is started after a rotation of secrets begins with the new one.
#[tokio::test]
async fn so_does_one_that_has_the_secret_that_came_last() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let with = |id, secret: &Secret| {
        let security = Security::Secret(secret.clone());
        Options { security, ..options(id) }
    };
    let (a, b) = (TestNode::with(with("a", &old)).await, mortal_with(with("b", &old)));
    for transport in [&a.transport, &b.transport] {
        transport.set_secrets(&[new.clone(), old.clone()]).unwrap();
    }
    knows_nothing_of_its_links(a, b, Security::Secret(new)).await;
}

/// Lets `b` die, and another process come in its place.
async fn knows_nothing_of_its_links(mut a: TestNode, b: Mortal, security: Security) {
    let (before, addr) = (b.peer.clone(), b.addr);
    assert_eq!(a.dial(addr, Some("b")).await.unwrap(), before);
    a.transport.request(&before, addr, "echo", Bytes::new(), PATIENCE).await.unwrap();
    b.die().await;
    let after = TestNode::with(Options { listen: addr, security, ..options("b") }).await;
    a.transport.send_frame(&before, addr, Class::Datagram, Bytes::from_static(b"there?"));
    let end = loop {
        if let TransportEvent::LinkDown { peer, end } = a.event().await {
            assert_eq!(peer, before);
            break end;
        }
    };
    // Not its silence, which would end it as well, but later.
    assert_eq!(end.to_string(), "the peer does not know it any more");
    assert!(end.is_broken(), "its member is looked after");
    assert_eq!(a.request(&after, "echo", "").await.unwrap(), "");
}

/// Links that the dead process had dialed hear of no reset: nobody has the port that it dialed from.
#[tokio::test]
async fn a_process_in_the_place_of_another_ends_its_links_when_it_comes() {
    let mut a = TestNode::start("a").await;
    let b = mortal("b", ([127, 0, 0, 1], 0).into());
    let (before, addr, to) = (b.peer.clone(), b.addr, a.addr());
    b.transport.dial(to, None);
    while !matches!(a.event().await, TransportEvent::LinkUp { .. }) {}
    let asking = {
        let (transport, peer) = (a.transport.clone(), before.clone());
        tokio::spawn(
            async move { transport.request(&peer, addr, "hang", Bytes::new(), PATIENCE).await },
        )
    };
    b.handler.arrived.acquire().await.unwrap().forget();
    assert_eq!(a.transport.stats().dials, 0, "it went over the link that the peer had dialed");
    b.die().await;
    // A namesake elsewhere proves nothing, ...
    let mut elsewhere = TestNode::start("b").await;
    elsewhere.dial(to, None).await.unwrap();
    until("both are there", || a.transport.links().len() == 2).await;
    assert!(a.transport.has_link(&before));
    // ... who listens at its address does.
    let mut after = TestNode::with(Options { listen: addr, ..options("b") }).await;
    after.dial(to, None).await.unwrap();
    let error = asking.await.unwrap().unwrap_err();
    let expected = end::SUCCEEDED;
    assert!(matches!(&error, Error::LinkLost { reason, .. } if reason == expected), "{error:?}");
    let end = loop {
        if let TransportEvent::LinkDown { peer, end } = a.event().await {
            assert_eq!(peer, before);
            break end;
        }
    };
    assert!(end.is_broken() && end.to_string() == expected, "{end}");
    assert_eq!(a.request(&after, "echo", "").await.unwrap(), "");
    assert!(a.transport.has_link(&elsewhere.peer));
}

#[tokio::test]
async fn an_answer_carries_the_acknowledgement_that_is_due() {
    const EXCHANGES: u64 = 40;
    let mut a = TestNode::start("a").await;
    let mut b = TestNode::start("b").await;
    a.dial(b.addr(), Some("b")).await.unwrap();
    until("both have it", || b.transport.has_link(&a.peer)).await;
    a.transport.pin(&b.peer, true);
    let word = || Bytes::from_static(b"heartbeat");
    let heard = |event| matches!(event, TransportEvent::Frame { .. });
    let mut sent = 0;
    for exchange in 0..2 * EXCHANGES {
        if exchange == EXCHANGES {
            // By now the stack would have found out that the path takes marks of congestion.
            sent = a.transport.stats().packets_sent + b.transport.stats().packets_sent;
        }
        a.transport.send_frame(&b.peer, b.addr(), Class::Datagram, word());
        while !heard(b.event().await) {}
        b.transport.send_frame(&a.peer, a.addr(), Class::Datagram, word());
        while !heard(a.event().await) {}
        tokio::time::sleep(Duration::from_millis(60)).await; // longer than an acknowledgement waits
    }
    let sent = a.transport.stats().packets_sent + b.transport.stats().packets_sent - sent;
    // Word, answer, acknowledgement of that; and now and then the stack wants that acknowledged.
    assert!((3 * EXCHANGES..=3 * EXCHANGES + 20).contains(&sent), "{sent} packets");
}
