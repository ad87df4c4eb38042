//! What the limits on strangers must not hinder: 200 honest nodes behind one address that join at
//! once.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use peerage::{Cluster, Secret};
use peerage_hostile::node;

const NODES: usize = 200;
/// All in one process, on two cores, with our own code hardly optimised; 4 to 8 s measured.
const JOIN_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_behind_one_address_join_at_once() {
    let secret = Secret::generate();
    let begun = Instant::now();
    let seed = node("seed", &secret).start().await.unwrap();
    let mut nodes = Vec::new();
    for n in 1..NODES {
        nodes.push(node(&format!("m{n}"), &secret).seed(seed.addr()).start().await.unwrap());
    }
    let joined = nodes.iter().map(|node| node.join(JOIN_MAX));
    for join in joined.collect::<Vec<_>>() {
        join.await.unwrap();
    }
    let joined = begun.elapsed();
    let all: Vec<&Cluster> = nodes.iter().chain([&seed]).collect();
    while all.iter().any(|node| node.stats().alive < NODES) {
        assert!(begun.elapsed() < JOIN_MAX, "not all see all");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sum =
        |of: fn(&peerage::Stats) -> u64| all.iter().map(|node| of(&node.stats())).sum::<u64>();
    eprintln!(
        "joined after {joined:?}, all see all after {:?}; {} retries, {} handshakes refused, {} hellos displaced, {} frames refused",
        begun.elapsed(),
        sum(|stats| stats.transport.retries),
        sum(|stats| stats.transport.handshakes_refused),
        sum(|stats| stats.transport.hellos_displaced),
        sum(|stats| stats.transport.frames_refused),
    );
    assert_eq!(sum(|stats| stats.transport.handshakes_refused), 0);
    assert_eq!(sum(|stats| stats.transport.hellos_displaced), 0);
    assert_eq!(sum(|stats| stats.transport.frames_refused), 0);
    let ends: Vec<_> = nodes
        .into_iter()
        .chain([seed])
        .map(|node| tokio::spawn(async move { node.shutdown_now().await }))
        .collect();
    for end in ends {
        end.await.unwrap().unwrap();
    }
}
