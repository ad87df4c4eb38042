//! What the tests over real sockets share: starting nodes, waiting for conditions, cutting paths.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test binary uses its part

pub mod paths;
pub mod recorder;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use peerage::{Builder, Cluster, Event, EventKind, Events, Secret, State};

/// No test waits longer for a condition.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn node(id: &str, secret: &Secret) -> Builder {
    Cluster::builder("test", id).secret(secret.clone())
}

/// Starts `n0` … and joins all others to `n0`, all at once.
pub async fn cluster_of(n: usize, secret: &Secret) -> Vec<Cluster> {
    let mut nodes = vec![node("n0", secret).start().await.unwrap()];
    let seed = nodes[0].addr();
    for i in 1..n {
        nodes.push(node(&format!("n{i}"), secret).seed(seed).start().await.unwrap());
    }
    for node in &nodes {
        node.join(PATIENCE).await.unwrap();
    }
    all_see(&nodes, n).await;
    nodes
}

/// Waits until every node sees so many alive members.
pub async fn all_see(nodes: &[Cluster], alive: usize) {
    for node in nodes {
        until(&format!("{} sees {alive} alive", node.local().id), || node.stats().alive == alive)
            .await;
    }
}

/// Waits until a condition holds; the panic says what it waited for.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn state_is(node: &Cluster, id: &str, state: State) {
    let what = format!("{} sees {id} {state}", node.local().id);
    until(&what, || node.get(id).is_some_and(|m| m.state == state)).await;
}

/// The next event that fits; the others are returned with it, in order, it last.
pub async fn event(
    events: &mut Events,
    what: &str,
    fits: impl Fn(&EventKind) -> bool,
) -> Vec<Event> {
    let mut seen = Vec::new();
    in_time(what, async {
        while let Some(event) = events.next().await {
            seen.push(event);
            if seen.last().is_some_and(|e| fits(&e.kind)) {
                return;
            }
        }
        panic!("the events ended before {what}");
    })
    .await;
    seen
}

pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

pub fn is_about(kind: &EventKind, name: &str, id: &str) -> bool {
    kind.name() == name && kind.member().is_some_and(|m| m.id.as_str() == id)
}
