//! A process whose threads are all taken notices it. In a test binary of its own, since all nodes of a
//! process share these threads.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{thread, time::Duration};

use peerage::Secret;
use support::{PATIENCE, cluster_of};
use tokio::{task::JoinSet, time::Instant};

/// How long one handler, which must not do so, keeps a thread of ours.
const BLOCKED: Duration = Duration::from_millis(600);
/// The most threads that the library has.
const THREADS_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_thread_notices_and_gives_others_time() {
    let nodes = cluster_of(2, &Secret::generate()).await;
    nodes[1]
        .handle("blocks", |_| async {
            thread::sleep(BLOCKED);
            Ok(Default::default())
        })
        .unwrap();
    // Twice as many as there are threads, so that no chance leaves one free; not more, since that would
    // cost the links.
    let threads = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, THREADS_MAX));
    let deadline = Instant::now() + PATIENCE;
    while nodes.iter().any(|node| node.stats().membership.starved == 0) {
        assert!(Instant::now() < deadline, "it is not noticed");
        let mut asked = JoinSet::new();
        for _ in 0..2 * threads {
            let node = nodes[0].clone();
            asked.spawn(async move { node.request("n1", "blocks", "", PATIENCE).await });
        }
        for answer in asked.join_all().await {
            answer.unwrap();
        }
    }
    for node in &nodes {
        assert_eq!(node.stats().alive, 2, "nobody is judged by it");
    }
}
