//! Streams over real sockets, as programs use them.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use peerage::{Cluster, Code, Error, EventKind, Secret, Stream};
use support::{PATIENCE, cluster_of, in_time, node, until};

async fn pair() -> (Cluster, Cluster) {
    let mut nodes = cluster_of(2, &Secret::generate()).await;
    let b = nodes.pop().unwrap();
    (nodes.pop().unwrap(), b)
}

async fn echo(mut stream: Stream) -> Result<(), String> {
    while let Some(bytes) = stream.read(None).await.map_err(|e| e.to_string())? {
        stream.write(bytes, None).await.map_err(|e| e.to_string())?;
    }
    stream.finish(None).await.map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_to_another_and_to_oneself() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        node.handle_streams("echo", echo).unwrap();
    }
    for (from, target) in [(&a, "n1"), (&b, "n0"), (&a, "n0")] {
        let mut stream = from.open_stream(target, "echo", None).await.unwrap();
        assert_eq!((stream.peer().as_str(), stream.topic()), (target, "echo"));
        for word in ["both", "ways"] {
            stream.write(word, PATIENCE).await.unwrap();
            assert_eq!(stream.read(PATIENCE).await.unwrap().unwrap(), word);
        }
        stream.finish(PATIENCE).await.unwrap();
        assert_eq!(stream.read(PATIENCE).await.unwrap(), None);
    }
    until("nothing is open", || a.stats().transport.streams_in == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_the_opening_has_its_own_error() {
    let (a, b) = pair().await;
    b.handle_streams("echo", echo).unwrap();
    b.handle("asked", |_| async { Ok(Bytes::new()) }).unwrap();
    let code = async |target: &str, topic: &str, deadline: Duration| {
        a.open_stream(target, topic, deadline).await.unwrap_err().code()
    };
    assert_eq!(code("n1", "nothing", PATIENCE).await, Code::UnknownTopic);
    assert_eq!(code("n1", "asked", PATIENCE).await, Code::UnknownTopic, "it is for requests");
    assert_eq!(code("n9", "echo", PATIENCE).await, Code::UnknownMember);
    assert_eq!(code("n1", "", PATIENCE).await, Code::Argument);
    assert_eq!(code("n1", &"t".repeat(257), PATIENCE).await, Code::Argument);
    assert_eq!(code("n1", "echo", Duration::ZERO).await, Code::Argument);
    let asked = a.request("n1", "echo", "", PATIENCE).await.unwrap_err();
    assert_eq!(asked.code(), Code::UnknownTopic, "it is for streams");
    a.leave().await.unwrap();
    let error = a.open_stream("n1", "echo", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Closed);
    assert_eq!(a.handle_streams("late", echo).unwrap_err().code(), Code::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_one_handler_for_streams() {
    let a = node("n0", &Secret::generate()).start().await.unwrap();
    a.handle("t", |_| async { Ok(Bytes::new()) }).unwrap(); // that is for requests
    a.handle_streams("t", echo).unwrap();
    let error = a.handle_streams("t", echo).unwrap_err();
    assert!(matches!(error, Error::Argument { field: "topic", .. }), "{error}");
    assert!(a.unhandle_streams("t"));
    assert!(!a.unhandle_streams("t"));
    a.handle_streams("t", echo).unwrap();
    assert_eq!(a.handle_streams("", echo).unwrap_err().code(), Code::Argument);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_waits_for_streams_and_says_what_it_cut_off() {
    let secret = Secret::generate();
    let patient = Duration::from_secs(10);
    let a = node("n0", &secret).drain_timeout(patient).start().await.unwrap();
    let b = node("n1", &secret).seed(a.addr()).start().await.unwrap();
    b.join(PATIENCE).await.unwrap();
    until("they know one another", || a.stats().alive == 2).await;
    b.handle_streams("echo", echo).unwrap();
    let mut stream = a.open_stream("n1", "echo", PATIENCE).await.unwrap();
    let leaving = tokio::spawn({
        let a = a.clone();
        async move { a.leave().await.unwrap() }
    });
    until("it leaves", || a.closed().is_some()).await;
    stream.write("still", PATIENCE).await.unwrap();
    assert_eq!(stream.read(PATIENCE).await.unwrap().unwrap(), "still");
    stream.finish(PATIENCE).await.unwrap();
    assert_eq!(stream.read(PATIENCE).await.unwrap(), None);
    drop(stream);
    let report = in_time("the end", leaving).await.unwrap();
    assert!(report.complete(), "{report:?}");

    let c = node("n2", &secret).seed(b.addr()).drain_timeout(Duration::from_millis(50));
    let c = c.start().await.unwrap();
    c.join(PATIENCE).await.unwrap();
    until("it knows n1", || c.get("n1").is_some()).await;
    let mut cut = c.open_stream("n1", "echo", PATIENCE).await.unwrap();
    let report = c.leave().await.unwrap();
    assert_eq!(report.requests_cut_off, 1, "{report:?}");
    assert_eq!(cut.read(PATIENCE).await.unwrap_err().code(), Code::LinkLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_ends_its_streams() {
    let (a, b) = pair().await;
    b.handle_streams("echo", echo).unwrap();
    let mut stream = a.open_stream("n1", "echo", PATIENCE).await.unwrap();
    let reading = tokio::spawn(async move { stream.read(None).await.unwrap_err().code() });
    b.shutdown_now().await.unwrap();
    let code = in_time("the error", reading).await.unwrap();
    // Its handler is dropped before the link is closed, or after.
    assert!(matches!(code, Code::LinkLost | Code::StreamReset), "{code:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_cost_no_heartbeat() {
    let (a, b) = pair().await;
    let mut events = a.events();
    b.handle_streams("echo", echo).unwrap();
    b.handle_streams("ignore", |stream| async move {
        let _unread = stream;
        std::future::pending().await
    })
    .unwrap();
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut stream = a.open_stream("n1", "ignore", PATIENCE).await.unwrap();
        let error = stream.write(vec![0; 1 << 20], Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        stalled.push(stream);
    }
    // Longer than a silence may last, and another stream is busy all the while.
    let (began, mut echoed) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(4) {
        let mut stream = a.open_stream("n1", "echo", PATIENCE).await.unwrap();
        stream.write(vec![0; 40_000], PATIENCE).await.unwrap();
        stream.finish(PATIENCE).await.unwrap();
        while let Some(bytes) = stream.read(PATIENCE).await.unwrap() {
            echoed += bytes.len();
        }
    }
    assert!(echoed >= 40 * 40_000, "{echoed} bytes in {:?}", began.elapsed());
    let explained = a.explain("n1").await.unwrap().unwrap();
    assert!(explained.heard.is_some_and(|ago| ago < Duration::from_secs(3)), "{explained:?}");
    while let Some(event) = events.try_next() {
        assert!(!matches!(event.kind, EventKind::MemberSuspected { .. }), "{event:?}");
    }
}
