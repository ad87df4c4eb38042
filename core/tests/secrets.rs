//! A secret is replaced on a cluster at work, as the documentation says: nothing is lost and nobody
//! is suspected.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use peerage::{Cluster, EventKind, Secret};
use support::{PATIENCE, cluster_of, in_time, node, until};

const NODES: usize = 3;
/// For how long each step is at work: longer than a link may last that is not believed any more.
const STEP: Duration = Duration::from_secs(6);

/// What all of them heard, and what they were told.
#[derive(Default)]
struct Work {
    ended: AtomicBool,
    answered: AtomicU64,
    sent: AtomicU64,
    heard: AtomicU64,
    streamed: AtomicU64,
}

fn take(node: &Cluster, work: &Arc<Work>) {
    node.handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    let heard = work.clone();
    node.handle("count", move |request| {
        heard.heard.fetch_add(1, SeqCst);
        async move { Ok(request.payload) }
    })
    .unwrap();
    node.handle_streams("echo", |mut stream| async move {
        let told = |e: peerage::Error| e.to_string();
        while let Some(bytes) = stream.read(None).await.map_err(told)? {
            stream.write(bytes, None).await.map_err(told)?;
        }
        stream.finish(None).await.map_err(told)
    })
    .unwrap();
}

/// Asks, tells and streams without a pause; each must come through.
async fn ask(node: Cluster, to: String, work: Arc<Work>) {
    while !work.ended.load(Relaxed) {
        let answer = node.request(&to, "echo", "asked", PATIENCE).await.unwrap();
        assert_eq!(answer, "asked");
        work.answered.fetch_add(1, SeqCst);
        node.send(&to, "count", "told", PATIENCE).await.unwrap();
        work.sent.fetch_add(1, SeqCst);
        let mut stream = node.open_stream(&to, "echo", PATIENCE).await.unwrap();
        stream.write("streamed", PATIENCE).await.unwrap();
        stream.finish(PATIENCE).await.unwrap();
        let mut back = Vec::new();
        while let Some(bytes) = stream.read(PATIENCE).await.unwrap() {
            back.extend_from_slice(&bytes);
        }
        assert_eq!(back, b"streamed");
        work.streamed.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await; // leave some CPU to the others
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_at_work_replaces_its_secret_and_loses_nothing() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let nodes = cluster_of(NODES, &old).await;
    let mut events: Vec<_> = nodes.iter().map(Cluster::events).collect();
    let work = Arc::<Work>::default();
    nodes.iter().for_each(|node| take(node, &work));
    let mut asking = Vec::new();
    for node in &nodes {
        for other in &nodes {
            let (from, to) = (&node.local().id, other.local().id.to_string());
            if from.as_str() != to {
                asking.push(tokio::spawn(ask(node.clone(), to, work.clone())));
            }
        }
    }
    for secrets in
        [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()], vec![new.clone()]]
    {
        let before = work.answered.load(SeqCst);
        for node in &nodes {
            node.set_secrets(&secrets).unwrap();
        }
        tokio::time::sleep(STEP).await;
        assert!(work.answered.load(SeqCst) >= before + 100, "it is at work");
    }
    // Whoever has the new one comes in, and whoever has the old one does not.
    let late = node("late", &new).seed(nodes[0].addr()).start().await.unwrap();
    late.join(PATIENCE).await.unwrap();
    late.leave().await.unwrap();
    let stale = node("stale", &old).seed(nodes[0].addr()).start().await.unwrap();
    stale.join(Duration::from_secs(2)).await.unwrap_err();
    stale.shutdown_now().await.unwrap();
    work.ended.store(true, Relaxed);
    for asking in asking {
        in_time("the last answer", asking).await.unwrap();
    }
    until("all that was told was heard", || work.heard.load(SeqCst) == work.sent.load(SeqCst))
        .await;
    eprintln!(
        "{} requests, {} messages, {} streams",
        work.answered.load(SeqCst),
        work.sent.load(SeqCst),
        work.streamed.load(SeqCst)
    );
    for node in &nodes {
        node.shutdown_now().await.unwrap();
    }
    for events in &mut events {
        while let Some(event) = in_time("the end of the events", events.next()).await {
            // Nodes that go at once leave without a word, and may be missed before the last is gone.
            let accuses = matches!(
                event.kind,
                EventKind::MemberSuspected { .. } | EventKind::MemberFailed { .. }
            );
            assert!(!accuses, "{event:?}");
        }
    }
}
