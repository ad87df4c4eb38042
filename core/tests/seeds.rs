//! Seeds of which none admits anybody.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use peerage::{Cluster, Code, Error, Secret};
use support::{PATIENCE, all_see, node, until};

/// A socket that nobody reads.
fn black_hole() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn addr(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_seed_can_be_reached_all_are_named_and_nothing_is_left() {
    let secret = Secret::generate();
    let nobody = addr(&black_hole()); // which is gone by now
    let silent = black_hole();
    let elsewhere = Cluster::builder("other", "n1").secret(secret.clone()).start().await.unwrap();
    let stranger = node("n2", &Secret::generate()).start().await.unwrap();
    let seeds = [nobody, addr(&silent), elsewhere.addr(), stranger.addr()];
    let mut builder = node("n0", &secret).connect_timeout(Duration::from_secs(1));
    for seed in seeds {
        builder = builder.seed(seed);
    }
    let alone = builder.start().await.unwrap();

    let (deadline, began) = (Duration::from_secs(3), Instant::now());
    let error = alone.join(deadline).await.unwrap_err();
    let took = began.elapsed();
    assert!(took >= deadline && took < deadline + Duration::from_millis(500), "{took:?}");
    let Error::JoinFailed(reasons) = &error else { panic!("{error:?}") };
    // Each with what is wrong with it.
    let reason = |of: SocketAddr| {
        let found = reasons.iter().find(|(addr, _)| *addr == of);
        &found.unwrap_or_else(|| panic!("{of} is not named: {error}")).1
    };
    assert_eq!(reasons.len(), seeds.len());
    assert!(reason(seeds[0]).contains("no answer"), "{error}");
    assert!(reason(seeds[1]).contains("no answer"), "{error}");
    assert!(reason(seeds[2]).contains("another cluster"), "{error}");
    assert!(reason(seeds[3]).contains("not authenticated"), "{error}");

    let stats = alone.stats();
    assert_eq!((stats.alive, stats.transport.pool.links_total), (1, 0));
    let bound = alone.addr();
    alone.shutdown_now().await.unwrap();
    UdpSocket::bind(bound).expect("its socket is closed");
    let left = |node: &Cluster| {
        let stats = node.stats().transport;
        (stats.pool.links_total, stats.handshakes_unfinished) != (0, 0)
    };
    until("those who refused have nothing of it", || !left(&elsewhere) && !left(&stranger)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_seed_that_appears_is_joined() {
    let secret = Secret::generate();
    let (silent, late) = (black_hole(), black_hole());
    let at = addr(&late);
    let first = node("n0", &secret).seed(addr(&silent)).seed(at).start().await.unwrap();
    let error = first.join(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code(), Code::JoinFailed);
    // Others wait already when it comes.
    let joining = tokio::spawn({
        let first = first.clone();
        async move { first.join(PATIENCE).await }
    });
    drop(late);
    let seed = node("n1", &secret).listen(at).start().await.unwrap();
    joining.await.unwrap().unwrap();
    all_see(&[first, seed], 2).await;
}
