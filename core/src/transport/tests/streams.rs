//! Streams of programs over real links.

use std::{sync::atomic::AtomicBool, time::Instant};

use super::{
    dropped::{nothing_is_left, polled},
    *,
};
use crate::error::Code;

const MIB: usize = 1 << 20;

/// Takes the streams of a few topics.
pub(super) fn handler(handler: &Arc<Handler>, topic: &str) -> Option<StreamHandler> {
    let handler = handler.clone();
    Some(match topic {
        "echo" => taken(|mut stream| async move {
            while let Some(bytes) = stream.read(None).await.map_err(|e| e.to_string())? {
                stream.write(bytes, None).await.map_err(|e| e.to_string())?;
            }
            stream.finish(None).await.map_err(|e| e.to_string())
        }),
        // Answers with how much came, once all did.
        "count" => taken(|mut stream| async move {
            let mut count = 0;
            while let Some(bytes) = stream.read(None).await.map_err(|e| e.to_string())? {
                count += bytes.len();
            }
            stream.write(count.to_string(), None).await.map_err(|e| e.to_string())?;
            stream.finish(None).await.map_err(|e| e.to_string())
        }),
        // Finishes before it reads anything.
        "finished" => taken(|mut stream| async move {
            stream.write("all of it", None).await.map_err(|e| e.to_string())?;
            stream.finish(None).await.map_err(|e| e.to_string())?;
            while stream.read(None).await.map_err(|e| e.to_string())?.is_some() {}
            Ok(())
        }),
        "reset" => taken(|mut stream| async move {
            stream.write("lost", None).await.map_err(|e| e.to_string())?;
            stream.reset(7).map_err(|e| e.to_string())?;
            while stream.read(None).await.map_err(|e| e.to_string())?.is_some() {}
            Ok(())
        }),
        "stop" => taken(|mut stream| async move {
            stream.stop(8).map_err(|e| e.to_string())?;
            stream.write("still", None).await.map_err(|e| e.to_string())?;
            stream.finish(None).await.map_err(|e| e.to_string())
        }),
        "drop" => taken(|stream| async move {
            drop(stream);
            std::future::pending().await
        }),
        "fail" => taken(|_stream| async { Err("as asked".into()) }),
        "panic" => taken(|_stream| async { panic!("on purpose") }),
        "ignore" => taken(move |stream| {
            handler.ignored.lock().push(stream);
            handler.arrived.add_permits(1);
            async { Ok(()) }
        }),
        _ => return None,
    })
}

fn taken<F, Fut>(take: F) -> StreamHandler
where
    F: Fn(Stream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    Arc::new(move |stream| Box::pin(take(stream)))
}

impl TestNode {
    pub(super) async fn open(&self, to: &TestNode, topic: &str) -> Result<Stream> {
        self.transport.open_stream(&to.peer, to.addr(), topic, PATIENCE).await
    }

    /// The other end of a stream that nobody reads.
    pub(super) async fn ignored(&self) -> Stream {
        self.handler.arrived.acquire().await.unwrap().forget();
        self.handler.ignored.lock().pop().unwrap()
    }
}

async fn pair() -> (TestNode, TestNode) {
    (TestNode::start("a").await, TestNode::start("b").await)
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| ((i * 31) >> 3) as u8).collect::<Vec<_>>().into()
}

async fn all(stream: &mut ReceiveHalf) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(bytes) = stream.read(PATIENCE).await? {
        assert!(!bytes.is_empty());
        whole.extend_from_slice(&bytes);
    }
    Ok(whole)
}

fn reset_code(error: &Error) -> u32 {
    match error {
        Error::StreamReset { target, code } if target == "b" => *code,
        other => panic!("{other:?}"),
    }
}

/// Reads until that fails.
pub(super) async fn read_on(stream: &mut Stream) -> Error {
    loop {
        match stream.read(PATIENCE).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a clean end"),
            Err(error) => return error,
        }
    }
}

/// Writes until that fails.
pub(super) async fn write_on(stream: &mut Stream) -> Error {
    loop {
        if let Err(error) = stream.write(vec![0; 1024], PATIENCE).await {
            return error;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_both_ways_at_once() {
    let (a, b) = pair().await;
    for (from, to) in [(&a, &b), (&b, &a), (&a, &a)] {
        let stream = if std::ptr::eq(from, to) {
            from.transport.open_stream_here("echo").unwrap()
        } else {
            from.open(to, "echo").await.unwrap()
        };
        assert_eq!((stream.peer(), stream.topic()), (&to.peer.id, "echo"));
        let (mut send, mut receive) = stream.split();
        let bytes = pattern(3 * MIB); // more than any window
        let sent = bytes.clone();
        let sending = tokio::spawn(async move {
            let mut rest = sent;
            for size in [1, 70_000, 5, MIB].iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                send.write(rest.split_to((*size).min(rest.len())), PATIENCE).await.unwrap();
            }
            send.finish(PATIENCE).await.unwrap();
            send.sent()
        });
        assert_eq!(all(&mut receive).await.unwrap(), bytes);
        assert_eq!(receive.read(PATIENCE).await.unwrap(), None, "the end stays");
        assert_eq!(sending.await.unwrap(), bytes.len() as u64);
    }
    assert_eq!((a.transport.stats().dials, b.transport.stats().dials), (1, 0), "one link");
    nothing_is_left(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_on_its_own() {
    let (a, b) = pair().await;
    let mut stream = a.open(&b, "count").await.unwrap();
    stream.write(pattern(MIB), PATIENCE).await.unwrap();
    stream.finish(PATIENCE).await.unwrap();
    let error = stream.write("more", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::Argument, "{error}");
    assert_eq!(all(&mut stream.split().1).await.unwrap(), MIB.to_string().as_bytes());

    let (mut send, mut receive) = a.open(&b, "finished").await.unwrap().split();
    assert_eq!(all(&mut receive).await.unwrap(), b"all of it");
    send.write(pattern(MIB), PATIENCE).await.unwrap();
    send.finish(PATIENCE).await.unwrap();
    drop((send, receive));
    nothing_is_left(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_reach_the_other_end() {
    let (a, b) = pair().await;
    let mut stream = a.open(&b, "reset").await.unwrap();
    assert_eq!(reset_code(&read_on(&mut stream).await), 7);
    stream.write("the other direction goes on", PATIENCE).await.unwrap();
    stream.finish(PATIENCE).await.unwrap();
    drop(stream);

    let mut stream = a.open(&b, "stop").await.unwrap();
    assert_eq!(reset_code(&write_on(&mut stream).await), 8);
    assert_eq!(all(&mut stream.split().1).await.unwrap(), b"still");

    // The other way round.
    let mut stream = a.open(&b, "ignore").await.unwrap();
    let mut other = b.ignored().await;
    stream.reset(Stream::CODE_MAX).unwrap();
    stream.stop(0).unwrap();
    let error = other.read(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::StreamReset { code: Stream::CODE_MAX, .. }), "{error:?}");
    let error = write_on(&mut other).await;
    assert!(matches!(error, Error::StreamReset { code: 0, .. }), "{error:?}");
    assert_eq!(stream.read(PATIENCE).await.unwrap_err().code(), Code::Argument);
    for wrong in [stream.reset(Stream::CODE_MAX + 1), stream.stop(Stream::DROPPED)] {
        assert_eq!(wrong.unwrap_err().code(), Code::Argument);
    }
    drop((stream, other));
    nothing_is_left(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_write_hears_of_a_stop_at_once() {
    let (a, b) = pair().await;
    let mut stream = a.open(&b, "ignore").await.unwrap();
    let mut other = b.ignored().await;
    let waiting = tokio::spawn(async move { stream.write(pattern(4 * MIB), PATIENCE).await });
    until("it waits", || other.receive_waiting() >= 64 << 10).await;
    other.stop(3).unwrap();
    assert_eq!(reset_code(&waiting.await.unwrap().unwrap_err()), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_unfinished_has_no_clean_end() {
    let (a, b) = pair().await;
    // By a handler that is at work for long, ...
    let mut stream = a.open(&b, "drop").await.unwrap();
    let error = stream.read(PATIENCE).await.unwrap_err();
    assert_eq!(reset_code(&error), Stream::DROPPED);
    assert_eq!(reset_code(&write_on(&mut stream).await), Stream::DROPPED);
    // ... by a task that a handler gave it to, ...
    let mut stream = a.open(&b, "ignore").await.unwrap();
    drop(b.ignored().await);
    assert_eq!(reset_code(&stream.read(PATIENCE).await.unwrap_err()), Stream::DROPPED);
    // ... and by the opener.
    let mut stream = a.open(&b, "ignore").await.unwrap();
    stream.write("begun", PATIENCE).await.unwrap();
    let mut other = b.ignored().await;
    drop(stream);
    let error = read_on(&mut other).await; // some may have been read before
    assert!(matches!(error, Error::StreamReset { code: Stream::DROPPED, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_tells_the_opener_why() {
    let (a, b) = pair().await;
    for (topic, message) in [("fail", "as asked"), ("panic", "panicked: on purpose")] {
        for round in 0..20 {
            let mut stream = if round == 0 {
                b.transport.open_stream_here(topic).unwrap()
            } else {
                a.open(&b, topic).await.unwrap()
            };
            for error in [stream.read(PATIENCE).await.unwrap_err(), write_on(&mut stream).await] {
                let Error::Handler { target, topic: about, message: said } = &error else {
                    panic!("{error:?}")
                };
                assert_eq!((target.as_str(), about.as_str(), said.as_str()), ("b", topic, message));
            }
        }
    }
    assert_eq!(a.request(&b, "echo", "still alive").await.unwrap(), "still alive");
    nothing_is_left(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_come_when_it_is_opened() {
    let two = Options { streams_max: 2, ..options("b") };
    let (a, b) = (TestNode::start("a").await, TestNode::with(two).await);
    let error = a.open(&b, "nothing").await.unwrap_err();
    assert!(
        matches!(&error, Error::UnknownTopic { target, topic } if target == "b" && topic == "nothing")
    );
    assert_eq!(b.transport.open_stream_here("nothing").unwrap_err().code(), Code::UnknownTopic);
    let error = a.open(&b, &"t".repeat(TOPIC_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Argument);

    let held = [a.open(&b, "ignore").await.unwrap(), a.open(&b, "ignore").await.unwrap()];
    let error = a.open(&b, "ignore").await.unwrap_err();
    assert!(matches!(error, Error::Busy { max: 2, .. }), "{error:?}");
    assert_eq!(b.transport.open_stream_here("ignore").unwrap_err().code(), Code::Busy);
    // What we open ourselves is bounded as well.
    let ours = [b.open(&a, "ignore").await.unwrap(), b.open(&a, "ignore").await.unwrap()];
    let error = b.open(&a, "ignore").await.unwrap_err();
    assert!(matches!(error, Error::Busy { what: "streams", max: 2 }), "{error:?}");
    assert_eq!(b.transport.stats().streams_refused, 2);
    drop((held, ours));
    for node in [&a, &b, &a, &b] {
        drop(node.ignored().await);
    }
    nothing_is_left(&a, &b).await;
    assert!(a.open(&b, "echo").await.is_ok(), "there is room again");
}

#[tokio::test]
async fn one_peer_leaves_a_quarter_of_the_streams_to_others_and_keeps_its_requests() {
    let small = Options { streams_max: 8, requests_max: 4, ..options("b") };
    let (a, b, c) =
        (TestNode::start("a").await, TestNode::with(small).await, TestNode::start("c").await);
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(a.open(&b, "ignore").await.unwrap());
    }
    let error = a.open(&b, "ignore").await.unwrap_err();
    assert!(matches!(error, Error::Busy { max: 6, .. }), "{error:?}");
    assert!(c.open(&b, "echo").await.is_ok());
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_to_who_does_not_read_ends_at_the_deadline() {
    let (a, b) = pair().await;
    for here in [false, true] {
        let mut stream = if here {
            b.transport.open_stream_here("ignore").unwrap()
        } else {
            a.open(&b, "ignore").await.unwrap()
        };
        let mut other = b.ignored().await;
        let short = Duration::from_millis(100);
        let error = stream.write(pattern(MIB), short).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert_eq!(stream.sent(), 64 << 10, "what is taken ahead of a reader that never read");
        // It is still open, and goes on where it stopped.
        let rest = pattern(MIB).slice(stream.sent() as usize..);
        let reading = tokio::spawn(async move {
            let mut whole = Vec::new();
            while let Some(bytes) = other.read(PATIENCE).await.unwrap() {
                whole.extend_from_slice(&bytes);
            }
            whole
        });
        stream.write(rest, PATIENCE).await.unwrap();
        stream.finish(PATIENCE).await.unwrap();
        assert_eq!(reading.await.unwrap(), pattern(MIB));
        let error = stream.read(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.code(), Code::Argument, "no deadline");
    }
    let mut stream = a.open(&b, "ignore").await.unwrap();
    let _other = b.ignored().await;
    let error = stream.read(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.code(), Code::Timeout, "reading has deadlines as well");
}

/// The whole life of a stream, with several windows each way, so that it is polled often however
/// much comes at once.
async fn use_one(a: &TestNode, b: &TestNode) {
    let bytes = pattern(5 * MIB);
    let (mut send, mut receive) = a.open(b, "echo").await.unwrap().split();
    let sending = async {
        send.write(bytes.clone(), PATIENCE).await.unwrap();
        send.finish(PATIENCE).await.unwrap();
    };
    let ((), read) = tokio::join!(sending, all(&mut receive));
    assert_eq!(read.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_dropped_at_any_point_leaves_nothing() {
    let b = TestNode::start("b").await;
    let mut times = 1;
    loop {
        let a = TestNode::start("a").await; // the dial is one of the points
        let done = polled(times, use_one(&a, &b)).await.is_some();
        nothing_is_left(&a, &b).await;
        assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
        a.transport.shutdown(Duration::ZERO).await;
        until("the other end has closed it", || b.transport.links().is_empty()).await;
        if done {
            assert!(times > 8, "it was done after {times} polls only");
            break;
        }
        times += 1 + times / 8; // the first points are all different, the later ones alike
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_hear_at_once_that_the_link_is_lost() {
    let (a, b) = pair().await;
    let mut reads = a.open(&b, "ignore").await.unwrap();
    let mut read = b.ignored().await;
    let mut writes = a.open(&b, "ignore").await.unwrap();
    let mut written = b.ignored().await;
    let reading = tokio::spawn(async move { reads.read(None).await.unwrap_err() });
    let writing = tokio::spawn(async move { writes.write(pattern(MIB), None).await.unwrap_err() });
    until("it waits for credit", || written.receive_waiting() >= 64 << 10).await;
    a.transport.close_link(&b.peer, "as a test");
    let since = Instant::now();
    let errors = async {
        [
            reading.await.unwrap(),
            writing.await.unwrap(),
            read.read(None).await.unwrap_err(),
            read_on(&mut written).await,
            write_on(&mut read).await,
        ]
    };
    for error in timeout(PATIENCE, errors).await.expect("at once") {
        assert_eq!(error.code(), Code::LinkLost, "{error:?}");
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    drop((read, written));
    nothing_is_left(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_slow_nothing_else_on_their_link() {
    let (a, b) = pair().await;
    let mut stalled = Vec::new();
    // At the least window of each they would fill the link's own several times over.
    for _ in 0..200 {
        let mut stream = a.open(&b, "ignore").await.unwrap();
        let error = stream.write(pattern(MIB), Duration::from_millis(1)).await;
        assert_eq!(error.unwrap_err().code(), Code::Timeout);
        b.handler.arrived.acquire().await.unwrap().forget();
        stalled.push(stream);
    }
    // Some had a reader that kept up, and then stopped reading with a full window.
    for _ in 0..16 {
        let mut stream = a.open(&b, "ignore").await.unwrap();
        let mut other = b.ignored().await;
        let has_stopped = Arc::new(AtomicBool::new(false));
        let stopped = has_stopped.clone();
        let sending = tokio::spawn(async move {
            let (piece, short) = (pattern(MIB), Duration::from_millis(100));
            while stream.write(piece.clone(), short).await.is_ok() || !stopped.load(Relaxed) {}
            stream
        });
        let mut read = 0;
        while read < 4 * MIB {
            read += other.read(PATIENCE).await.unwrap().unwrap().len();
        }
        has_stopped.store(true, Relaxed);
        b.handler.ignored.lock().push(other);
        stalled.push(sending.await.unwrap());
    }
    let unread: usize = b.handler.ignored.lock().iter().map(Stream::receive_waiting).sum();
    assert!(unread >= 20 * MIB, "{unread} bytes wait, which is no more than the link's window");

    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let since = Instant::now();
        assert_eq!(a.request(&b, "echo", "x").await.unwrap(), "x");
        assert_eq!(b.request(&a, "echo", "x").await.unwrap(), "x");
        slowest = slowest.max(since.elapsed());
    }
    let large = pattern(8 * MIB);
    assert_eq!(a.request(&b, "echo", large.clone()).await.unwrap(), large);
    use_one(&a, &b).await;
    use_one(&b, &a).await;
    assert!(slowest < Duration::from_secs(1), "a request took {slowest:?}");
    assert_eq!(b.transport.links().len(), 1, "all that on one link");
    drop(stalled);
    b.handler.ignored.lock().clear();
    nothing_is_left(&a, &b).await;
}

#[tokio::test]
async fn a_link_with_a_stream_is_neither_idle_nor_evicted() {
    let small = Options { links_max: 1, link_idle_timeout: Duration::from_secs(1), ..options("a") };
    let (a, b, c) =
        (TestNode::with(small).await, TestNode::start("b").await, TestNode::start("c").await);
    let mut stream = a.open(&b, "echo").await.unwrap();
    let short = Duration::from_millis(1500); // longer than a link may be idle
    let asked = a.transport.request(&c.peer, c.addr(), "echo", Bytes::new(), short).await;
    assert_eq!(asked.unwrap_err().code(), Code::PoolFull);
    stream.write("there", PATIENCE).await.unwrap();
    assert_eq!(stream.read(PATIENCE).await.unwrap().unwrap(), "there");
    let stats = a.transport.stats();
    assert_eq!((stats.streams_out, stats.requests_out, stats.idled, stats.evicted), (1, 0, 0, 0));
    drop(stream);
    assert_eq!(a.request(&c, "echo", "now").await.unwrap(), "now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_streams_and_cuts_them_off_after_that() {
    let (a, b) = pair().await;
    let mut done = a.open(&b, "ignore").await.unwrap();
    let mut other = b.ignored().await;
    let ending = tokio::spawn({
        let transport = b.transport.clone();
        async move { transport.shutdown(PATIENCE).await }
    });
    until("it drains", || b.transport.stats().streams_in == 1 && b.transport.node().is_draining())
        .await;
    assert_eq!(a.open(&b, "echo").await.unwrap_err().code(), Code::Unreachable);
    done.write("last", PATIENCE).await.unwrap();
    done.finish(PATIENCE).await.unwrap();
    assert_eq!(other.read(PATIENCE).await.unwrap().unwrap(), "last");
    other.finish(PATIENCE).await.unwrap();
    drop(other);
    assert_eq!(ending.await.unwrap(), 0);

    let c = TestNode::start("c").await;
    let mut cut = a.open(&c, "ignore").await.unwrap();
    let mut other = c.ignored().await;
    assert_eq!(c.transport.shutdown(Duration::from_millis(50)).await, 1);
    assert_eq!(cut.read(PATIENCE).await.unwrap_err().code(), Code::LinkLost);
    assert_eq!(other.read(PATIENCE).await.unwrap_err().code(), Code::LinkLost);
}

#[tokio::test]
async fn a_node_without_streams_gives_them_up_at_once() {
    let (a, b) = pair().await;
    assert_eq!(a.request(&b, "echo", "x").await.unwrap(), "x"); // there is a link
    // What a head of ours is to a node that knows requests only: one with a topic that is too long.
    let link = a.transport.node().pool.of(&b.peer)[0].clone();
    let stream = link.handle.clone().open_bidirectional_stream().await.unwrap();
    let (mut receive, mut send) = stream.split();
    let mut head = vec![0xff, 0xff];
    head.extend_from_slice(&[0; 14]);
    send.send(head.into()).await.unwrap();
    let answer = timeout(PATIENCE, receive.receive()).await.expect("at once");
    let Err(s2n_quic::stream::Error::StreamReset { error, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(u64::from(error), 20);
}

#[tokio::test]
async fn who_sends_more_than_it_was_given_credit_for_is_stopped() {
    let (a, b) = pair().await;
    let mut stream = a.open(&b, "ignore").await.unwrap();
    let mut other = b.ignored().await;
    stream.forget_credit();
    let error = stream.write(pattern(MIB), PATIENCE).await;
    let error = match error {
        Ok(()) => write_on(&mut stream).await,
        Err(error) => error,
    };
    assert_eq!(reset_code(&error), Stream::DROPPED);
    assert_eq!(read_on(&mut other).await.code(), Code::LinkLost);
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_its_link_becoming_surplus() {
    // Known by an address that nobody dials, so that a second dial is none to the first link.
    let any = Options { listen: ([0, 0, 0, 0], 0).into(), ..options("b") };
    let (mut a, b) = (TestNode::start("a").await, TestNode::with(any).await);
    let mut stream = b.open(&a, "echo").await.unwrap();
    let old = b.transport.node().pool.of(&a.peer)[0].clone();
    a.dial(([127, 0, 0, 1], b.addr().port()).into(), Some("b")).await.unwrap();
    until("another link is in its place", || {
        b.transport.node().pool.of(&a.peer).first().is_some_and(|link| !Arc::ptr_eq(link, &old))
    })
    .await;
    let draining = |node: &TestNode| {
        let links = node.transport.links_and_draining().into_iter();
        let links = links.filter(|link| link.draining);
        links.map(|link| (link.in_flight, link.serving)).collect::<Vec<_>>()
    };
    assert_eq!(draining(&b), [(1, 0)]);
    until("the other end says so", || draining(&a) == [(0, 1)]).await;
    // Nobody else uses the new one.
    a.transport.pin(&b.peer, true);
    b.transport.pin(&a.peer, true);
    // Whatever else was on it would be cut off by then.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        stream.write("still", PATIENCE).await.unwrap();
        assert_eq!(stream.read(PATIENCE).await.unwrap().unwrap(), "still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(stream);
    until("it is closed", || old.handle.clone().ping().is_err()).await;
    assert!(a.transport.has_link(&b.peer) && b.transport.has_link(&a.peer));
    until("none is drained", || draining(&a).is_empty() && draining(&b).is_empty()).await;
    drop(old); // what is left of its connection
    nothing_is_left(&a, &b).await;
}
