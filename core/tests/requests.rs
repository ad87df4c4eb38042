//! Requests and events over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage::{Cluster, Code, EventKind, Secret};
use support::{PATIENCE, cluster_of, in_time, node, until};

async fn pair() -> (Cluster, Cluster) {
    let mut nodes = cluster_of(2, &Secret::generate()).await;
    let b = nodes.pop().unwrap();
    (nodes.pop().unwrap(), b)
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_and_ten_mebibytes() {
    let (a, b) = pair().await;
    b.handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    assert_eq!(a.request("n1", "echo", "", PATIENCE).await.unwrap(), "");
    let large: Bytes = (0..10 << 20).map(|i: u32| i as u8).collect::<Vec<u8>>().into();
    assert_eq!(a.request("n1", "echo", large.clone(), PATIENCE).await.unwrap(), large);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_learns_who_asks_and_answers_go_both_ways() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        node.handle("who", |request| async move { Ok(request.from.to_string().into()) }).unwrap();
    }
    assert_eq!(a.request("n1", "who", "", PATIENCE).await.unwrap(), "n0");
    assert_eq!(b.request("n0", "who", "", PATIENCE).await.unwrap(), "n1");
    assert_eq!(a.request("n0", "who", "", PATIENCE).await.unwrap(), "n0", "and to oneself");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_has_its_own_error() {
    let (a, b) = pair().await;
    b.handle("fails", |_| async { Err("no such thing".into()) }).unwrap();
    b.handle("panics", |_| async { panic!("at the handler") }).unwrap();
    b.handle("panics at once", |request: peerage::Request| {
        assert!(request.topic.is_empty(), "before it began");
        std::future::ready(Ok(Bytes::new()))
    })
    .unwrap();
    b.handle("hangs", |_| std::future::pending()).unwrap();

    let since = Instant::now();
    let error = a.request("n1", "nobody", "", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic);
    assert!(since.elapsed() < Duration::from_secs(5), "at once, not at the deadline");

    let error = a.request("n1", "fails", "", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Handler);
    assert!(error.to_string().contains("no such thing"));
    let error = a.request("n1", "panics", "", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Handler);
    assert!(error.to_string().contains("at the handler"), "{error}");
    for asker in [&a, &b] {
        let error = asker.request("n1", "panics at once", "", PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), Code::Handler);
        assert!(error.to_string().contains("before it began"), "{error}");
        // A message has nobody to tell, unless it goes to oneself.
        let _ = asker.send("n1", "panics at once", "", PATIENCE).await;
    }

    let error = a.request("n1", "hangs", "", Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert_eq!(a.request("n9", "t", "", PATIENCE).await.unwrap_err().code(), Code::UnknownMember);
    assert_eq!(a.request("n1", "", "", PATIENCE).await.unwrap_err().code(), Code::Argument);
    assert_eq!(a.request("n1", "t", "", Duration::ZERO).await.unwrap_err().code(), Code::Argument);
    let huge = Bytes::from(vec![0; (64 << 20) + 1]);
    assert_eq!(a.request("n1", "t", huge, PATIENCE).await.unwrap_err().code(), Code::TooLarge);
    // A panic in a handler ends that request and nothing else.
    assert!(b.closed().is_none());
    assert_eq!(a.request("n1", "fails", "", PATIENCE).await.unwrap_err().code(), Code::Handler);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_midway_fails_the_request_within_its_deadline() {
    let (a, b) = pair().await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let tell = begun.clone();
    b.handle("hangs", move |_| {
        tell.notify_one();
        std::future::pending()
    })
    .unwrap();
    let asking = tokio::spawn(async move {
        let since = Instant::now();
        let error = a.request("n1", "hangs", "", Duration::from_secs(10)).await.unwrap_err();
        (error.code(), since.elapsed())
    });
    in_time("the request to arrive", begun.notified()).await;
    b.shutdown_now().await.unwrap();
    let (code, took) = in_time("the error", asking).await.unwrap();
    assert!(matches!(code, Code::LinkLost | Code::Closed), "{code:?}");
    assert!(took < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_handler() {
    let (a, b) = pair().await;
    let (tell, mut heard) = tokio::sync::mpsc::channel(1);
    b.handle("news", move |request| {
        let tell = tell.clone();
        async move {
            tell.send(request.payload).await.map_err(|e| e.to_string())?;
            Ok(Bytes::new())
        }
    })
    .unwrap();
    a.send("n1", "news", "extra", None).await.unwrap();
    assert_eq!(in_time("the message", heard.recv()).await.unwrap(), "extra");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_one_handler() {
    let secret = Secret::generate();
    let a = node("n0", &secret).start().await.unwrap();
    a.handle("t", |_| async { Ok(Bytes::new()) }).unwrap();
    assert_eq!(a.handle("t", |_| async { Ok(Bytes::new()) }).unwrap_err().code(), Code::Argument);
    assert!(a.unhandle("t"));
    a.handle("t", |_| async { Ok(Bytes::new()) }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_gets_events_dropped_and_is_right_again() {
    let secret = Secret::generate();
    let a = node("n0", &secret).event_queue(2).start().await.unwrap();
    let mut slow = a.events();
    let mut others = Vec::new();
    for i in 1..6 {
        others.push(node(&format!("n{i}"), &secret).seed(a.addr()).start().await.unwrap());
    }
    until("all have joined", || a.stats().alive == 6 && a.stats().events_dropped > 0).await;
    let event = in_time("the gap", slow.next()).await.unwrap();
    let EventKind::EventsDropped { count, members } = event.kind else { panic!("{event:?}") };
    assert!(count >= 3);
    let mut known: Vec<_> = members.iter().map(|m| m.id.to_string()).collect();
    // From here on nothing is missed again: what the snapshot lacks arrives as events.
    let mut last = event.seq;
    while let Some(event) = slow.try_next() {
        assert_eq!(event.seq, last + 1);
        last = event.seq;
        if let EventKind::MemberJoined { member } = &event.kind {
            known.push(member.id.to_string());
        }
    }
    known.sort();
    assert_eq!(known, ["n0", "n1", "n2", "n3", "n4", "n5"]);
}
