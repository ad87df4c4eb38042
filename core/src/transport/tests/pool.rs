//! The pool under use: what is leased stays, and room is made for what waits.

use std::sync::atomic::Ordering::Relaxed;

use rand::Rng;

use super::{dropped::nothing_is_left, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_use_is_never_evicted() {
    const PEERS: usize = 6;
    let a = Arc::new(TestNode::with(Options { links_max: 3, ..options("a") }).await);
    let mut peers = Vec::new();
    for n in 0..PEERS {
        peers.push(TestNode::start(&format!("b{n}")).await);
    }
    let peers = Arc::new(peers);
    let asking = (0..16).map(|_| {
        let (a, peers) = (a.clone(), peers.clone());
        tokio::spawn(async move {
            for _ in 0..400 {
                let to = rand::rng().random_range(0..PEERS);
                // An evicted one would end with LinkLost.
                assert_eq!(a.request(&peers[to], "echo", "x").await.unwrap(), "x");
            }
        })
    });
    for task in asking.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let stats = a.transport.stats();
    assert!(stats.evicted >= 1000, "{} evictions", stats.evicted);
    assert_eq!(stats.requests_out, 0);
    assert!(stats.pool.links_total <= 3, "{:?}", stats.pool);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fifty_first_link_waits_for_one_of_fifty() {
    let a = Arc::new(TestNode::start("a").await);
    let mut hanging = Vec::new();
    let mut peers = Vec::new();
    for n in 0..50 {
        let b = Arc::new(TestNode::start(&format!("b{n}")).await);
        let (asking, asked) = (a.clone(), b.clone());
        hanging.push(tokio::spawn(async move { asking.request(&asked, "hang", "").await }));
        b.handler.arrived.acquire().await.unwrap().forget();
        peers.push(b);
    }
    assert_eq!(a.transport.stats().pool.links_total, 50);
    let late = TestNode::start("late").await;
    let short = Duration::from_millis(100);
    let asked = a.transport.request(&late.peer, late.addr(), "echo", Bytes::new(), short).await;
    let error = asked.unwrap_err();
    assert!(matches!(error, Error::PoolFull { current: 50, max: 50 }), "{error:?}");
    hanging[17].abort();
    assert_eq!(a.request(&late, "echo", "now").await.unwrap(), "now");
    assert!(!a.transport.has_link(&peers[17].peer));
    assert_eq!(a.transport.stats().pool.links_total, 50);
}

/// By the wake-up alone, in whichever way a link becomes free, and as many as find room then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_room_is_woken_when_there_is_some() {
    let small = Options { links_max: 2, ..options("a") };
    let a = Arc::new(TestNode::with(small).await);
    let pool = &a.transport.node().pool;
    pool.only_when_told.store(true, Relaxed);
    for way in ["answered", "cancelled", "unpinned", "lost"] {
        let (b, c) = (Arc::new(TestNode::start("b").await), TestNode::start("c").await);
        let topic = if way == "answered" { "held" } else { "hang" };
        let mut asking = None;
        if way == "unpinned" {
            a.request(&b, "echo", "").await.unwrap();
            a.transport.pin(&b.peer, true);
        } else {
            let (asking_a, asked) = (a.clone(), b.clone());
            let ask = async move { asking_a.request(&asked, topic, "").await };
            asking = Some(tokio::spawn(ask));
            b.handler.arrived.acquire().await.unwrap().forget();
        }
        a.request(&c, "echo", "").await.unwrap();
        a.transport.pin(&c.peer, true);
        assert_eq!(a.transport.stats().pool.links_total, 2);

        let before = pool.waits.load(Relaxed);
        let late = Arc::new(TestNode::start("late").await);
        let waiting = {
            let (a, late) = (a.clone(), late.clone());
            tokio::spawn(async move { a.request(&late, "echo", way).await })
        };
        until("it waits", || pool.waits.load(Relaxed) > before).await;
        match way {
            "answered" => b.handler.release.add_permits(1),
            "cancelled" => asking.as_ref().unwrap().abort(),
            "unpinned" => a.transport.pin(&b.peer, false),
            "lost" => b.transport.abort(),
            _ => unreachable!(),
        }
        let answer = timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
        assert_eq!(answer.unwrap(), way);
        a.transport.pin(&c.peer, false);
    }
}

#[tokio::test]
async fn a_pool_above_its_limit_shrinks_once_its_peers_are_served() {
    let small = Options { links_max: 1, link_idle_timeout: Duration::from_secs(4), ..options("a") };
    let a = TestNode::with(small).await;
    let mut peers = Vec::new();
    for n in 0..4 {
        let mut peer = TestNode::start(&format!("b{n}")).await;
        peer.dial(a.addr(), None).await.unwrap();
        peers.push(peer);
    }
    until("it is within its limit", || a.transport.stats().pool.links_total == 1).await;
    let stats = a.transport.stats();
    assert_eq!((stats.accepted, stats.evicted, stats.idled), (4, 3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_dial_is_told_and_leaves_nothing_in_the_pool() {
    let (mut a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    for round in 1..=3 {
        // Those who wait for the dial hear of its end, well before their deadline.
        let asks = (0..8).map(|_| {
            let transport = a.transport.clone();
            let peer = b.peer.clone();
            tokio::spawn(async move {
                transport.request(&peer, PANIC_ADDR, "echo", Bytes::new(), 10 * PATIENCE).await
            })
        });
        for ask in asks.collect::<Vec<_>>() {
            let answer = timeout(PATIENCE, ask).await.expect("it does not hang").unwrap();
            assert!(matches!(answer, Err(Error::Closed(_))), "{answer:?}");
        }
        let event = a.event().await;
        let told = matches!(&event, TransportEvent::Panic { what: "dial", message } if message.contains("asked to panic"));
        assert!(told, "{event:?}");
        // The next one is a dial of its own, so no earlier one was left in the table.
        assert!(a.transport.stats().dials >= round);
    }
    nothing_is_left(&a, &b).await;
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
    assert_eq!(a.transport.stats().pool.links_total, 1);
}

/// Where the peer was told to stop and knows that we know, s2n-quic keeps its stream for ever if it is
/// reset then; so a link would come to its end once that had happened as often as there may be streams.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_by_both_ends_leaves_no_stream() {
    const STREAMS_MAX: usize = 4096;
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.request(&b, "echo", "x").await.unwrap();
    let link = a.transport.node().pool.of(&b.peer)[0].clone();
    let mut done = 0;
    while done < STREAMS_MAX + 500 {
        let mut streams = Vec::new();
        for _ in 0..64 {
            let mut handle = link.handle.clone();
            let opened = timeout(PATIENCE, handle.open_bidirectional_stream()).await;
            let (mut receive, mut send) = opened.expect("there is room for it").unwrap().split();
            send.send(Bytes::from_static(b"\0")).await.unwrap(); // half of a length
            receive.stop_sending(16u8.into()).unwrap();
            streams.push((receive, send));
        }
        // There and back: the peer's stack has reset them. And again: it knows that we know.
        link.ping(PATIENCE).await.unwrap();
        link.ping(PATIENCE).await.unwrap();
        done += streams.len();
        for (_, mut send) in streams {
            send.reset(16u8.into()).unwrap();
        }
    }
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
}
