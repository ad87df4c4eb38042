//! What only the inside can provoke.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    Secret,
    event::EventKind,
    transport::{
        Class,
        tests::{PANIC_FRAME, PANIC_LEASE},
    },
};

async fn pair() -> (Cluster, Cluster) {
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start().await.unwrap();
    let node = Cluster::builder("c", "n").secret(secret).seed(other.addr()).start().await.unwrap();
    node.join(Duration::from_secs(10)).await.unwrap();
    (other, node)
}

/// Waits until they end.
async fn ended(events: &mut Events) {
    let all = async { while events.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_driver_ends_the_node_loudly() {
    let (other, node) = pair().await;
    let mut events = node.events();
    let addr = node.addr();

    node.command(Command::Panic).await.unwrap();
    ended(&mut events).await;
    assert_eq!(node.closed().unwrap().code(), Code::Internal);
    let error = node.request("other", "t", "", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(node.leave().await.unwrap_err().code(), Code::Internal);
    // No half-living node: the socket is closed.
    std::net::UdpSocket::bind(addr).unwrap();
    assert!(other.closed().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_pump_ends_the_node_loudly_and_nobody_else() {
    let (other, node) = pair().await;
    let mut events = node.events();
    let addr = node.addr();

    let frame = Bytes::from_static(PANIC_FRAME);
    other.0.transport.send_frame(&node.local().peer(), addr, Class::Stream, frame);
    ended(&mut events).await;
    let error = node.closed().unwrap();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.to_string().contains("the pump was asked to panic"), "{error}");
    std::net::UdpSocket::bind(addr).unwrap();
    assert!(other.closed().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_pool_in_a_request_ends_the_node_loudly_and_not_the_caller() {
    let (other, node) = pair().await;
    let mut events = node.events();
    let (transport, peer) = (&node.0.transport, other.local().peer());

    let asked = transport.request(&peer, PANIC_LEASE, "t", Bytes::new(), Duration::from_secs(1));
    let error = asked.await.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    ended(&mut events).await;
    let error = node.closed().unwrap();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.to_string().contains("the pool was asked to panic"), "{error}");
    assert!(other.closed().is_none());
}

/// A computer that was suspended for longer than the dead are remembered: its timers know nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_suspended_for_long_begins_anew() {
    static SUSPENDED_MS: AtomicU64 = AtomicU64::new(0);
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start().await.unwrap();
    let config = Cluster::builder("c", "n").secret(secret).seed(other.addr());
    let config = config.config().clone();
    let retention = config.dead_retention;
    let runtime = Runtime::shared().unwrap();
    let suspended = || Duration::from_millis(SUSPENDED_MS.load(Relaxed));
    let system = clock::System { suspended, ..clock::SYSTEM };
    let (gate, opened) = oneshot::channel();
    let node = Cluster::start_here(config, runtime.clone(), opened, rand::random(), system);
    let node = runtime.handle().spawn(node).await.unwrap().unwrap();
    drop(gate);
    node.join(Duration::from_secs(10)).await.unwrap();
    let (mut events, mut seen_by_other) = (node.events(), other.events());
    let mut until_anew = async || {
        let mut names = Vec::new();
        while names.last() != Some(&"MemberJoined") {
            names.push(soon(events.next()).await.unwrap().kind.name());
        }
        names.retain(|name| *name != "LocalHealthChanged");
        names
    };

    // A pause counts from when the next tick was due, which a heartbeat of the other may come before.
    SUSPENDED_MS.fetch_add(retention.as_millis() as u64 / 2 + 1_000, Relaxed);
    assert_eq!(until_anew().await, ["MemberFailed", "MemberJoined"]);
    // For less it keeps what it knows, and holds nothing against anybody.
    SUSPENDED_MS.fetch_add(retention.as_millis() as u64 / 3, Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await; // a tick is due by then
    assert!(events.try_next().is_none());
    assert_eq!(other.get("n").unwrap().state, State::Alive);
    assert!(seen_by_other.try_next().is_none());
}

/// A node whose loop is late after this time, somebody who sees it, and its questions.
async fn asked(after: Duration) -> (Cluster, Cluster, LoopQuestions) {
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start().await.unwrap();
    let node = Cluster::builder("c", "n").secret(secret).seed(other.addr());
    let node = node.unresponsive_after(after).start().await.unwrap();
    node.join(Duration::from_secs(10)).await.unwrap();
    let questions = node.loop_questions();
    (other, node, questions)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("it takes too long")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_does_not_answer_is_told_and_never_suspected() {
    let after = Duration::from_millis(300);
    let (other, node, mut questions) = asked(after).await;
    let mut events = other.events();
    let seen = |unresponsive| other.get("n").is_some_and(|m| m.unresponsive == unresponsive);
    for expected in 1..=3 {
        let question = soon(questions.next()).await.unwrap();
        assert_eq!(question, expected);
        node.answer_loop(question);
    }
    let before = Instant::now();
    let unanswered = soon(questions.next()).await.unwrap();
    let next = tokio::spawn(async move { (questions.next().await, questions) });
    until("it is told", || seen(true)).await;
    assert!(before.elapsed() >= after);
    assert!(node.local().unresponsive);
    assert!(!next.is_finished());
    // An answer to an older question is none.
    node.answer_loop(unanswered - 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.local().unresponsive);
    node.answer_loop(unanswered);
    let (question, _questions) = soon(next).await.unwrap();
    assert_eq!(question, Some(unanswered + 1));
    until("it responds again", || seen(false)).await;
    let mut updates = Vec::new();
    while let Some(event) = events.try_next() {
        match event.kind {
            EventKind::MemberUpdated { member } => updates.push(member.unresponsive),
            EventKind::LocalHealthChanged { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(updates, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_end_with_the_node_whatever_they_wait_for() {
    // For the time of the next one.
    let (_other, node, mut questions) = asked(Duration::from_secs(3600)).await;
    node.answer_loop(soon(questions.next()).await.unwrap());
    let next = tokio::spawn(async move { questions.next().await });
    node.leave().await.unwrap();
    assert_eq!(soon(next).await.unwrap(), None);

    // For an answer that is not late yet.
    let (_other, node, mut questions) = asked(Duration::from_secs(3600)).await;
    soon(questions.next()).await.unwrap();
    let next = tokio::spawn(async move { questions.next().await });
    drop(node);
    assert_eq!(soon(next).await.unwrap(), None);

    // For one that is.
    let (other, node, mut questions) = asked(Duration::from_millis(100)).await;
    soon(questions.next()).await.unwrap();
    let next = tokio::spawn(async move { questions.next().await });
    until("it is told", || other.get("n").is_some_and(|m| m.unresponsive)).await;
    drop(node);
    assert_eq!(soon(next).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_asked_any_more_responds() {
    let (other, _node, mut questions) = asked(Duration::from_millis(100)).await;
    let seen = |unresponsive| other.get("n").is_some_and(|m| m.unresponsive == unresponsive);
    soon(questions.next()).await.unwrap();
    let next = tokio::spawn(async move { questions.next().await });
    until("it is told", || seen(true)).await;
    next.abort();
    until("it responds", || seen(false)).await;
}

/// Two nodes on one runtime, which have met.
async fn pair_on(runtime: &tokio::runtime::Handle) -> (Cluster, Cluster) {
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start_on(runtime).await;
    let other = other.unwrap();
    let node = Cluster::builder("c", "n").secret(secret).seed(other.addr());
    let node = node.start_on(runtime).await.unwrap();
    node.join(Duration::from_secs(10)).await.unwrap();
    (other, node)
}

async fn runs_on_the_runtime_of_the_program() {
    let here = tokio::runtime::Handle::current();
    let (other, node) = pair_on(&here).await;
    let where_handled = || async {
        let there = tokio::runtime::Handle::current();
        Ok(Bytes::from(there.id().to_string()))
    };
    other.handle("where", move |_| where_handled()).unwrap();
    let answer = node.request("other", "where", "", None).await.unwrap();
    assert_eq!(answer, here.id().to_string());
    assert!(soon(node.leave()).await.unwrap().complete());
    assert!(soon(other.leave()).await.unwrap().complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_runs_on_the_runtime_of_the_program() {
    runs_on_the_runtime_of_the_program().await;
}

#[tokio::test]
async fn a_node_runs_on_a_runtime_of_one_thread() {
    runs_on_the_runtime_of_the_program().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_runtime_is_shut_down_has_ended_and_says_why() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (other, node) = pair_on(runtime.handle()).await;
    let mut events = node.events();
    runtime.shutdown_background();
    ended(&mut events).await;
    let error = node.closed().unwrap();
    assert_eq!(error.code(), Code::Closed);
    assert!(error.to_string().contains("the runtime that it ran on was shut down"), "{error}");
    assert_eq!(node.request("other", "t", "", None).await.unwrap_err().code(), Code::Closed);
    assert_eq!(soon(node.leave()).await.unwrap_err().code(), Code::Closed);
    drop(other);
}

#[tokio::test]
async fn a_runtime_without_timers_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let node = Cluster::builder("c", "n").insecure().start_on(runtime.handle()).await;
    let Err(Error::Argument { field, expected, .. }) = node else { panic!("{node:?}") };
    assert_eq!(field, "runtime");
    assert!(expected.contains("enable_all"), "{expected}");
    runtime.shutdown_background();
}
