//! Requests and messages on QUIC streams.
//!
//! A request is a bidirectional stream: a head of `topic length u16, deadline in ms u32, payload
//! length u64`, the topic, the payload; the answer is `status u8, payload length u64` and the
//! payload. Where the topic's length would be, the streams of programs have a mark (see
//! [`super::stream`]). A message is a unidirectional stream: the kind byte, then the same head, topic
//! and payload. All numbers are big-endian. Lengths are checked before anything is allocated, and
//! buffers grow as bytes arrive.

mod arriving;
mod serving;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use s2n_quic::{
    application,
    stream::{self, BidirectionalStream, SendStream},
};
use tokio::time::{Instant, sleep};

#[cfg(any(test, feature = "simulator"))]
pub(super) use arriving::read_head;
pub(super) use arriving::read_length;
use arriving::{head_in_time, passage, payload_in_time};
use serving::Serving;

use super::{
    Refusal,
    end::{LinkEnd, describe, is_unheard},
    give_up::give_up,
    link::Link,
    node::Node,
    panics::{caught_box, caught_here},
    reader::{ReadError, Reader, Source},
    shelf::Shelf,
    stream as streams,
};
use crate::{
    deadline::in_time,
    error::{Error, Result},
    member::Peer,
    seldom::Seldom,
};

/// Kinds of unidirectional streams; `stream` has another.
pub(super) const KIND_FRAME: u8 = 0;
pub(super) const KIND_MESSAGE: u8 = 1;

/// The longest topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 256;
const HEAD: usize = 2 + 4 + 8;
pub(super) const ANSWER_HEAD: usize = 1 + 8;
/// No refusal is longer.
pub(super) const REFUSAL_MAX: u64 = 4096;
/// A payload up to this size is copied behind its head into one buffer: cheaper than two.
const COPIED_MAX: usize = 1024;
/// An answer above this size is waited for until the peer has it; a smaller one is in the
/// network's hands as soon as it is finished.
const FLUSHED_MIN: usize = 8 << 10;
/// How often a handler at work looks whether its caller is still there.
const ATTENTION: Duration = Duration::from_millis(50);
/// How long a peer may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a request is tried again after the link was closed, unused in the peer's eyes, just
/// as it began.
const TRIES: usize = 3;

/// Lines about handlers of messages that panic: a peer may know how to make one do so.
static PANICKED: Seldom = Seldom::new(10);

/// Answers, on the wire.
pub(super) mod status {
    pub(in crate::transport) const DONE: u8 = 0;
    pub(super) const UNKNOWN_TOPIC: u8 = 1;
    pub(super) const HANDLER: u8 = 2;
    pub(super) const BUSY: u8 = 3;
    pub(super) const CLOSED: u8 = 4;
    pub(super) const TOO_LARGE: u8 = 5;
}

/// Codes with which a stream is given up.
pub(super) mod gave_up {
    pub(in crate::transport) const CANCELLED: u8 = 16;
    pub(super) const BUSY: u8 = 17;
    pub(in crate::transport) const TOO_LARGE: u8 = 18;
    pub(super) const CLOSED: u8 = 19;
    pub(in crate::transport) const ABANDONED: u8 = 20;
    pub(in crate::transport) const ANSWERED: u8 = 21;
}

/// What the caller of a request or message wants.
pub(super) struct Call<'a> {
    pub(super) peer: &'a Peer,
    pub(super) topic: &'a str,
    pub(super) payload: Bytes,
    pub(super) deadline: Duration,
    pub(super) until: Instant,
}

/// Why an exchange on a link failed.
pub(super) enum Failed {
    /// The link was closed, of no use to the peer, before it took this: another link may be tried.
    Unheard(stream::Error),
    /// The peer reset the stream, with this code.
    GivenUp(application::Error),
    Error(Error),
}

impl Call<'_> {
    /// Checks what must not even be tried.
    pub(super) fn check(&self, payload_max: u64) -> Result<()> {
        if self.topic.len() > TOPIC_BYTES_MAX {
            return Err(Error::Argument {
                field: "topic",
                value: format!("{} bytes", self.topic.len()),
                expected: format!("at most {TOPIC_BYTES_MAX} bytes"),
            });
        }
        let bytes = self.payload.len() as u64;
        if bytes > payload_max { Err(Error::TooLarge { bytes, max: payload_max }) } else { Ok(()) }
    }

    pub(super) fn target(&self) -> String {
        self.peer.id.to_string()
    }

    /// The head, the topic, and the payload if it is small, in one buffer.
    fn encode(&self, kind: Option<u8>) -> [Bytes; 2] {
        let copied = if self.payload.len() <= COPIED_MAX { self.payload.len() } else { 0 };
        let mut head = BytesMut::with_capacity(1 + HEAD + self.topic.len() + copied);
        if let Some(kind) = kind {
            head.put_u8(kind);
        }
        head.put_u16(self.topic.len() as u16); // checked to fit
        head.put_u32(u32::try_from(self.deadline.as_millis()).unwrap_or(u32::MAX));
        head.put_u64(self.payload.len() as u64);
        head.put_slice(self.topic.as_bytes());
        if copied > 0 {
            head.put_slice(&self.payload);
            return [head.freeze(), Bytes::new()];
        }
        [head.freeze(), self.payload.clone()]
    }

    pub(super) fn timeout(&self) -> Error {
        Error::Timeout { target: self.target(), after: self.deadline }
    }

    /// What the end of a stream means; none, if there was no stream yet.
    pub(super) fn failed(&self, error: stream::Error, stream: Option<u64>) -> Failed {
        let reason = match &error {
            stream::Error::ConnectionError { error: connection, .. } => {
                if is_unheard(connection, stream) {
                    return Failed::Unheard(error);
                }
                describe(connection)
            }
            stream::Error::StreamReset { error, .. } => return Failed::GivenUp(*error),
            other => other.to_string(),
        };
        Failed::Error(self.lost(&reason))
    }

    pub(super) fn lost(&self, reason: &str) -> Error {
        Error::LinkLost { target: self.target(), reason: reason.into() }
    }
}

/// Sends a request and waits for its answer.
pub(super) async fn request(
    node: &Arc<Node>,
    call: Call<'_>,
    addr: std::net::SocketAddr,
) -> Result<Bytes> {
    call.check(node.payload_max)?;
    for attempt in 1.. {
        let lease = node.lease(call.peer, addr, call.until).await?;
        let outcome = {
            let work = pin!(exchange(node, &lease.link, &call));
            in_time(work, || call.until).await
        };
        match outcome {
            Err(_) => return Err(call.timeout()),
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failed::Error(error))) => return Err(error),
            // The peer keeps the deadline as well, and where tasks are late that is heard first.
            Ok(Err(Failed::GivenUp(_))) if Instant::now() >= call.until => {
                return Err(call.timeout());
            }
            Ok(Err(Failed::GivenUp(_))) => return Err(call.lost("the peer gave the request up")),
            Ok(Err(Failed::Unheard(error))) => again(node, &lease.link, &call, attempt, error)?,
        }
    }
    Err(call.timeout())
}

/// Sends a message and waits until the peer's stack has all of it.
pub(super) async fn message(
    node: &Arc<Node>,
    call: Call<'_>,
    addr: std::net::SocketAddr,
) -> Result<()> {
    call.check(node.payload_max)?;
    for attempt in 1.. {
        let lease = node.lease(call.peer, addr, call.until).await?;
        let outcome = {
            let work = pin!(hand_over(&lease.link, &call, node.payload_max));
            in_time(work, || call.until).await
        };
        match outcome {
            Err(_) => return Err(call.timeout()),
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failed::Error(error))) => return Err(error),
            Ok(Err(Failed::GivenUp(_))) => return Err(call.lost("the peer gave the message up")),
            Ok(Err(Failed::Unheard(error))) => again(node, &lease.link, &call, attempt, error)?,
        }
    }
    Err(call.timeout())
}

/// Lets go of a link that turned out to be closed, so that another one is made.
pub(super) fn again(
    node: &Node,
    link: &Arc<Link>,
    call: &Call<'_>,
    attempt: usize,
    error: stream::Error,
) -> Result<()> {
    node.drop_link(link, LinkEnd::UnusedByPeer);
    if attempt < TRIES {
        return Ok(());
    }
    Err(call.lost(&error.to_string()))
}

/// An exchange on its way. Dropped before its end, it tells the peer to stop.
struct Exchange {
    send: SendStream,
    reader: Reader,
    done: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.done {
            // Errors mean that there is nothing left to stop.
            give_up(&mut self.send, gave_up::CANCELLED);
            let _ = self.reader.stream.stop_sending(gave_up::CANCELLED.into());
        }
    }
}

async fn exchange(node: &Node, link: &Link, call: &Call<'_>) -> Result<Bytes, Failed> {
    let mut handle = link.handle.clone();
    let stream = handle
        .open_bidirectional_stream()
        .await
        .map_err(|error| call.failed(error.into(), None))?;
    let id = stream.id();
    let (receive, send) = stream.split();
    let mut exchange = Exchange { send, reader: Reader::new(receive), done: false };
    let mut parts = call.encode(None);
    let parts = if parts[1].is_empty() { &mut parts[..1] } else { &mut parts[..] };
    match exchange.send.send_vectored(parts).await.and_then(|()| exchange.send.finish()) {
        // A peer that refuses does not read on, and says why in its answer.
        Ok(()) | Err(stream::Error::StreamReset { .. }) => {}
        Err(error) => return Err(call.failed(error, Some(id))),
    }
    let answer = read_answer(&node.shelf, &mut exchange.reader, id, call, node.payload_max).await?;
    exchange.reader.end().await;
    exchange.done = true;
    answer.map_err(Failed::Error)
}

/// Reads an answer: the payload, or the refusal that it stands for.
pub(super) async fn read_answer(
    shelf: &Arc<Shelf>,
    reader: &mut Reader<impl Source>,
    stream: u64,
    call: &Call<'_>,
    payload_max: u64,
) -> Result<Result<Bytes>, Failed> {
    let lost = |error| match error {
        ReadError::Stream(error) => call.failed(error, Some(stream)),
        ReadError::Ended | ReadError::TooLong => Failed::Error(call.lost("the answer ends early")),
    };
    let mut head = reader.exact(ANSWER_HEAD).await.map_err(lost)?;
    let (status, length) = (head.get_u8(), head.get_u64());
    if length > payload_max {
        return Err(Failed::Error(Error::TooLarge { bytes: length, max: payload_max }));
    }
    let mut payload = reader.payload(length as usize, shelf).await.map_err(lost)?;
    let mut number = || if payload.len() >= 8 { payload.get_u64() } else { 0 };
    Ok(Err(match status {
        status::DONE => return Ok(Ok(payload)),
        status::UNKNOWN_TOPIC => {
            Error::UnknownTopic { target: call.target(), topic: call.topic.into() }
        }
        status::HANDLER => Error::Handler {
            target: call.target(),
            topic: call.topic.into(),
            message: String::from_utf8_lossy(&payload).into_owned(),
        },
        status::BUSY => Error::Busy { what: "requests at the peer", max: number() as usize },
        status::CLOSED => shutting_down(call),
        status::TOO_LARGE => Error::TooLarge { bytes: number(), max: number() },
        _ => call.lost("its answer has an unknown status"),
    }))
}

fn shutting_down(call: &Call<'_>) -> Error {
    Error::Unreachable { target: call.target(), reason: "it is shutting down".into() }
}

async fn hand_over(link: &Link, call: &Call<'_>, payload_max: u64) -> Result<(), Failed> {
    let mut handle = link.handle.clone();
    let stream =
        handle.open_send_stream().await.map_err(|error| call.failed(error.into(), None))?;
    let id = stream.id();
    let refused = |error| match error {
        stream::Error::StreamReset { error: code, .. } => {
            Failed::Error(match u64::from(code) as u8 {
                gave_up::BUSY => Error::Busy { what: "messages at the peer", max: 0 },
                gave_up::TOO_LARGE => {
                    Error::TooLarge { bytes: call.payload.len() as u64, max: payload_max }
                }
                gave_up::CLOSED => shutting_down(call),
                // As with requests: the peer keeps the deadline as well.
                _ if Instant::now() >= call.until => call.timeout(),
                _ => call.lost("the peer gave the message up"),
            })
        }
        other => call.failed(other, Some(id)),
    };
    let mut cancel = CancelSend(stream, false);
    let mut parts = call.encode(Some(KIND_MESSAGE));
    let parts = if parts[1].is_empty() { &mut parts[..1] } else { &mut parts[..] };
    cancel.0.send_vectored(parts).await.map_err(refused)?;
    cancel.0.close().await.map_err(refused)?;
    cancel.1 = true;
    Ok(())
}

/// A message on its way: dropped early, the stream is reset instead of ended.
struct CancelSend(SendStream, bool);

impl Drop for CancelSend {
    fn drop(&mut self) {
        if !self.1 {
            give_up(&mut self.0, gave_up::CANCELLED);
        }
    }
}

/// Takes a peer's request, or its stream, in a task of its own.
pub(super) fn serve(node: &Arc<Node>, link: &Arc<Link>, stream: BidirectionalStream) {
    let admitted = Serving::admit(node, link);
    let (inner, link) = (node.clone(), link.clone());
    node.spawn("request", async move {
        let (receive, mut send) = stream.split();
        let mut reader = Reader::new(receive);
        let (serving, answer) = match admitted {
            Err(refusal) => (None, Some(Err(refusal))),
            Ok(mut serving) => {
                let until = Instant::now() + HEAD_TIMEOUT;
                let topic = in_time(pin!(read_length(&mut reader)), || until).await;
                let topic = topic.unwrap_or_else(|_| {
                    inner.stats.stalled.up();
                    None
                });
                if topic == Some(streams::MARK) {
                    serving.is_stream = true;
                    drop(serving);
                    // On the heap, or every request would be as large.
                    let serving = streams::serve(&inner, &link, reader, send, until);
                    return Box::pin(serving).await;
                }
                let answer = match topic {
                    Some(topic) => {
                        handle(&inner, &link, &mut reader, &mut send, topic, until).await
                    }
                    None => None,
                };
                (Some(serving), answer)
            }
        };
        let Some(answer) = answer else {
            return give_up(&mut send, gave_up::ABANDONED);
        };
        if reader.open {
            let _ = reader.stream.stop_sending(gave_up::ANSWERED.into()); // likewise
        }
        let bytes = answer.as_ref().map_or(0, |payload| payload.len() as u64);
        let _held = link.answers.hold(bytes);
        let sent = {
            let work = pin!(respond(&mut send, answer));
            in_time(work, || passage(bytes)).await
        };
        if sent.is_err() {
            inner.stats.stalled.up();
            give_up(&mut send, gave_up::ABANDONED);
        }
        if let Some(mut serving) = serving {
            serving.settled = matches!(sent, Ok(Ok(())));
        }
    });
}

/// Reads a request and has it handled; `None` when nobody waits for an answer any more.
async fn handle(
    node: &Arc<Node>,
    link: &Arc<Link>,
    reader: &mut Reader,
    send: &mut SendStream,
    topic: u16,
    head_until: Instant,
) -> Option<Result<Bytes, Refusal>> {
    let head = head_in_time(node, reader, head_until, Some(topic)).await?;
    if head.bytes > node.payload_max {
        return Some(Err(Refusal::TooLarge { bytes: head.bytes, max: node.payload_max }));
    }
    let (payload, _room) = match payload_in_time(node, link, reader, &head).await? {
        Ok(arrived) => arrived,
        Err(refusal) => return Some(Err(refusal)),
    };
    let panicked = |panic| Refusal::Handler(format!("panicked: {panic}"));
    let peer = link.peer.clone();
    let work = caught_here(|| node.inbound.request(peer, head.topic, payload, head.deadline));
    let work = match work {
        Ok(Ok(work)) => caught_box(work),
        Ok(Err(refusal)) => return Some(Err(refusal)),
        Err(panic) => return Some(Err(panicked(panic))),
    };
    let outcome = attended(node, work, head.until, |cx| {
        matches!(send.poll_send_ready(cx), Poll::Ready(Err(_)))
    });
    let answer = outcome.await?.map_err(panicked).and_then(|a| a.map_err(Refusal::Handler));
    // What is too large is not kept until the peer has read that it is.
    let max = node.payload_max;
    Some(answer.and_then(|payload| match payload.len() as u64 {
        bytes if bytes > max => Err(Refusal::TooLarge { bytes, max }),
        _ => Ok(payload),
    }))
}

/// Waits for a handler as long as somebody waits for it. A reset of an answer that has not begun
/// wakes nobody, so it is looked for at intervals; a handler that is quick pays nothing for that.
async fn attended<F: Future>(
    node: &Node,
    work: F,
    until: Instant,
    mut gone: impl FnMut(&mut Context<'_>) -> bool,
) -> Option<F::Output> {
    let mut work = pin!(work);
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    if let Poll::Ready(output) = first {
        return Some(output); // as most do: without a look at the clock
    }
    loop {
        tokio::select! {
            biased;
            output = &mut work => return Some(output),
            () = sleep(ATTENTION) => {
                let gone = std::future::poll_fn(|cx| Poll::Ready(gone(cx))).await;
                if gone || node.stop.is_cancelled() || Instant::now() >= until {
                    return None;
                }
            }
        }
    }
}

pub(super) async fn respond(
    send: &mut SendStream,
    answer: Result<Bytes, Refusal>,
) -> stream::Result<()> {
    let numbers =
        |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>().into();
    let (status, payload): (u8, Bytes) = match answer {
        Ok(payload) => (status::DONE, payload),
        Err(Refusal::UnknownTopic) => (status::UNKNOWN_TOPIC, Bytes::new()),
        Err(Refusal::Handler(mut message)) => {
            message.truncate(message.floor_char_boundary(COPIED_MAX));
            (status::HANDLER, message.into())
        }
        Err(Refusal::Busy(max)) => (status::BUSY, numbers(&[max as u64])),
        Err(Refusal::Closed) => (status::CLOSED, Bytes::new()),
        Err(Refusal::TooLarge { bytes, max }) => (status::TOO_LARGE, numbers(&[bytes, max])),
    };
    let large = payload.len() > FLUSHED_MIN;
    let copied = payload.len() <= COPIED_MAX;
    let mut head = BytesMut::with_capacity(ANSWER_HEAD + if copied { payload.len() } else { 0 });
    head.put_u8(status);
    head.put_u64(payload.len() as u64);
    if copied {
        head.put_slice(&payload);
        send.send(head.freeze()).await?;
    } else {
        send.send_vectored(&mut [head.freeze(), payload]).await?;
    }
    if large { send.close().await } else { send.finish() }
}

/// Takes a peer's message whose kind byte has been read.
pub(super) async fn receive_message(node: &Arc<Node>, link: &Arc<Link>, mut reader: Reader) {
    let stop = |mut reader: Reader, code: u8| {
        let _ = reader.stream.stop_sending(code.into()); // an error means that it ended
    };
    let mut serving = match Serving::admit(node, link) {
        Ok(serving) => serving,
        Err(Refusal::Closed) => return stop(reader, gave_up::CLOSED),
        Err(_) => return stop(reader, gave_up::BUSY),
    };
    let until = Instant::now() + HEAD_TIMEOUT;
    let Some(head) = head_in_time(node, &mut reader, until, None).await else { return };
    if head.bytes > node.payload_max {
        return stop(reader, gave_up::TOO_LARGE);
    }
    let (payload, _room) = match payload_in_time(node, link, &mut reader, &head).await {
        Some(Ok(arrived)) => arrived,
        Some(Err(_)) => return stop(reader, gave_up::BUSY),
        None => return,
    };
    let peer = link.peer.clone();
    let work = caught_here(|| node.inbound.message(peer, head.topic, payload)).map(caught_box);
    // The sender does not wait for the handler, so only the end of the node cuts it off.
    let outcome = tokio::select! {
        biased;
        outcome = async { work?.await } => outcome,
        () = node.stop.cancelled() => return,
    };
    if let Err(panic) = outcome
        && let Some(kept_back) = PANICKED.now()
    {
        let peer = &link.peer;
        tracing::error!(target: "peerage::request", ?peer, panic, kept_back, "the handler of a message panicked");
    }
    serving.settled = true;
}
