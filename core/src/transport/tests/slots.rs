//! Several links to one peer.

use super::*;

fn with_slots(id: &str, links_per_peer: usize) -> Options {
    Options { links_per_peer, ..options(id) }
}

/// The slots of the links, in order.
fn slots(node: &TestNode) -> Vec<u16> {
    let mut slots: Vec<_> = node.transport.links().iter().map(|link| link.slot).collect();
    slots.sort_unstable();
    slots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_opened_under_load_and_the_least_loaded_is_used() {
    const ASKING: usize = 220;
    let a = Arc::new(TestNode::with(with_slots("a", 3)).await);
    let mut b = TestNode::with(with_slots("b", 3)).await;
    let b_peer = (b.peer.clone(), b.addr());
    let mut asking = Vec::new();
    for n in 0..ASKING {
        let (asker, (peer, addr)) = (a.clone(), b_peer.clone());
        asking.push(tokio::spawn(async move {
            asker.transport.request(&peer, addr, "held", Bytes::new(), PATIENCE).await
        }));
        b.handler.arrived.acquire().await.unwrap().forget();
        if n + 1 < 64 {
            assert_eq!(slots(&a), [0], "at {n}");
        }
        // Once a further link is asked for, it is waited for, so that the counts are certain.
        let expected = match n {
            0..=63 => 1,
            64..=128 => 2,
            _ => 3,
        };
        until("the links that are asked for", || a.transport.links().len() >= expected).await;
    }
    assert_eq!(slots(&a), [0, 1, 2]);
    until("the other end has them", || slots(&b) == [0, 1, 2]).await;
    let loads: Vec<_> = a.transport.links().iter().map(|link| link.in_flight).collect();
    assert_eq!(loads.iter().sum::<usize>(), ASKING);
    assert!(loads.iter().all(|load| (64..=92).contains(load)), "{loads:?}");
    let stats = a.transport.stats();
    assert_eq!((stats.dials, stats.pool.pool_misses), (3, 1));
    assert_eq!(stats.pool.pool_hits, ASKING as u64 - 1);
    b.handler.release.add_permits(ASKING);
    for task in asking {
        assert_eq!(task.await.unwrap().unwrap(), "released");
    }
    // The driver hears of the peer, not of each link to it.
    let mut ups = 0;
    while let Ok(event) = b.events.try_recv() {
        assert!(matches!(event, TransportEvent::LinkUp { .. }), "{event:?}");
        ups += 1;
    }
    assert_eq!(ups, 1);
}

#[tokio::test]
async fn one_slot_more_than_the_limit_is_refused_and_requests_share_what_there_is() {
    let (mut a, mut b) =
        (TestNode::with(with_slots("a", 2)).await, TestNode::with(with_slots("b", 2)).await);
    a.dial(b.addr(), None).await.unwrap();
    assert_eq!(a.transport.node().open_slot(&b.peer, b.addr()).await.unwrap(), 1);
    let error = a.transport.node().open_slot(&b.peer, b.addr()).await.unwrap_err();
    assert!(matches!(error, Error::PoolFull { current: 2, max: 2 }), "{error:?}");
    let all = (0..300).map(|_| a.request(&b, "echo", "x"));
    for answer in futures(all).await {
        assert_eq!(answer.unwrap(), "x");
    }
    assert_eq!(slots(&a), [0, 1]);
    // The last link is the peer's end, the first is not.
    for expected in [1, 0] {
        let link = a.transport.node().pool.of(&b.peer)[0].clone();
        link.close(Code::Closed);
        until("it has gone", || a.transport.links().len() == expected).await;
    }
    let mut told = Vec::new();
    while told.last() != Some(&"down") {
        told.push(match b.event().await {
            TransportEvent::LinkUp { .. } => "up",
            TransportEvent::LinkTrouble { .. } => "trouble",
            TransportEvent::LinkDown { .. } => "down",
            event => panic!("{event:?}"),
        });
    }
    assert_eq!(told, ["up", "trouble", "down"]);
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut done = Vec::new();
    let mut all: Vec<_> = all.map(|one| Box::pin(one)).collect();
    std::future::poll_fn(|cx| {
        all.retain_mut(|one| match one.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn a_peer_with_a_smaller_limit_keeps_it_and_nothing_is_lost() {
    let (mut a, b) =
        (TestNode::with(with_slots("a", 4)).await, TestNode::with(with_slots("b", 1)).await);
    a.dial(b.addr(), None).await.unwrap();
    let error = a.transport.node().open_slot(&b.peer, b.addr()).await.unwrap_err();
    assert!(matches!(error, Error::Busy { what: "links at the peer", max: 1 }), "{error:?}");
    for answer in futures((0..300).map(|_| a.request(&b, "echo", "x"))).await {
        assert_eq!(answer.unwrap(), "x");
    }
    assert_eq!((slots(&a), slots(&b)), (vec![0], vec![0]));
    // What failed was none of the driver's dials.
    while let Ok(event) = a.events.try_recv() {
        assert!(matches!(event, TransportEvent::LinkUp { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn simultaneous_dials_leave_one_link_in_each_slot() {
    for _ in 0..5 {
        let (mut a, b) =
            (TestNode::with(with_slots("a", 3)).await, TestNode::with(with_slots("b", 3)).await);
        a.dial(b.addr(), None).await.unwrap();
        until("both have it", || b.transport.has_link(&a.peer)).await;
        let both = tokio::join!(
            a.transport.node().open_slot(&b.peer, b.addr()),
            b.transport.node().open_slot(&a.peer, a.addr()),
        );
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
        let same = || {
            let ranks = |node: &TestNode, of: &Peer| -> Vec<_> {
                let links = node.transport.node().pool.of(of);
                links.iter().map(|link| (link.slot, link.rank)).collect()
            };
            let retired = |node: &TestNode| {
                let pool = &node.transport.node().pool;
                pool.links_and_retired().len() - pool.links().len()
            };
            ranks(&a, &b.peer) == ranks(&b, &a.peer) && retired(&a) + retired(&b) == 0
        };
        until("both keep the same", same).await;
        assert_eq!(slots(&a), [0, 1]);
        assert_eq!(a.request(&b, "echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn statistics_of_the_pool() {
    let a = TestNode::start("a").await;
    let (b, c, d) =
        (TestNode::start("b").await, TestNode::start("c").await, TestNode::start("d").await);
    for node in [&b, &c, &d, &b] {
        a.request(node, "echo", "").await.unwrap();
    }
    a.transport.pin(&b.peer, true);
    let asking = a.request(&c, "held", "");
    let looking = async {
        c.handler.arrived.acquire().await.unwrap().forget();
        let stats = a.transport.stats();
        let pool = stats.pool;
        assert_eq!((pool.links_total, pool.links_pinned, pool.links_leased), (3, 1, 1));
        assert_eq!((pool.links_idle, pool.pool_hits, pool.pool_misses), (1, 2, 3));
        assert_eq!((pool.hit_rate(), stats.dials), (Some(0.4), 3));
        let links = a.transport.links();
        let pinned: Vec<_> = links.iter().filter(|link| link.pinned).collect();
        assert!(pinned.len() == 1 && pinned[0].peer == b.peer);
        c.handler.release.add_permits(1);
    };
    assert_eq!(tokio::join!(asking, looking).0.unwrap(), "released");
}
