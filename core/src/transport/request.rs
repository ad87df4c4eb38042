//! Requests and messages on streams.
//!
//! A request is a bidirectional stream: a head of `topic length u16, deadline in ms u32, payload
//! length u64`, the topic, the payload; the answer is `status u8, payload length u64` and the
//! payload. A message is a unidirectional stream: the kind byte, then the same head, topic and
//! payload. All numbers are big-endian. Lengths are checked before anything is allocated, and
//! buffers grow as bytes arrive.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use s2n_quic::stream::{self, BidirectionalStream, SendStream};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Refusal,
    end::{Code, LinkEnd, describe, remote_code},
    link::Link,
    node::Node,
    panics::caught,
    pool::Lease,
    reader::{ReadError, Reader},
};
use crate::{
    error::{Error, Result},
    member::Peer,
};

pub(super) const KIND_FRAME: u8 = 0;
pub(super) const KIND_MESSAGE: u8 = 1;

/// The longest topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 256;
const HEAD: usize = 2 + 4 + 8;
const ANSWER_HEAD: usize = 1 + 8;
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

/// Answers, on the wire.
mod status {
    pub(super) const DONE: u8 = 0;
    pub(super) const UNKNOWN_TOPIC: u8 = 1;
    pub(super) const HANDLER: u8 = 2;
    pub(super) const BUSY: u8 = 3;
    pub(super) const CLOSED: u8 = 4;
    pub(super) const TOO_LARGE: u8 = 5;
}

/// Codes with which a stream is given up.
mod gave_up {
    pub(super) const CANCELLED: u8 = 16;
    pub(super) const BUSY: u8 = 17;
    pub(super) const TOO_LARGE: u8 = 18;
    pub(super) const CLOSED: u8 = 19;
    pub(super) const ABANDONED: u8 = 20;
    pub(super) const ANSWERED: u8 = 21;
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
enum Failed {
    /// The link was closed as unused before the peer heard of it: another link may be tried.
    Unheard(stream::Error),
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

    fn target(&self) -> String {
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

    fn timeout(&self) -> Error {
        Error::Timeout { target: self.target(), after: self.deadline }
    }

    fn failed(&self, error: stream::Error) -> Failed {
        let reason = match &error {
            stream::Error::ConnectionError { error: connection, .. } => {
                match remote_code(connection) {
                    Some(code) if code == Code::Unused as u64 => return Failed::Unheard(error),
                    _ => describe(connection),
                }
            }
            stream::Error::StreamReset { .. } => "the peer gave the request up".into(),
            other => other.to_string(),
        };
        Failed::Error(Error::LinkLost { target: self.target(), reason })
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
        match timeout_at(call.until, exchange(&lease, &call, node.payload_max)).await {
            Err(_) => return Err(call.timeout()),
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failed::Error(error))) => return Err(error),
            Ok(Err(Failed::Unheard(error))) => again(node, lease, &call, attempt, error)?,
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
        match timeout_at(call.until, hand_over(&lease, &call, node.payload_max)).await {
            Err(_) => return Err(call.timeout()),
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failed::Error(error))) => return Err(error),
            Ok(Err(Failed::Unheard(error))) => again(node, lease, &call, attempt, error)?,
        }
    }
    Err(call.timeout())
}

/// Lets go of a link that turned out to be closed, so that another one is made.
fn again(
    node: &Arc<Node>,
    lease: Lease,
    call: &Call<'_>,
    attempt: usize,
    error: stream::Error,
) -> Result<()> {
    node.drop_link(&lease.link, LinkEnd::UnusedByPeer);
    if attempt < TRIES {
        return Ok(());
    }
    Err(Error::LinkLost { target: call.target(), reason: error.to_string() })
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
            let _ = self.send.reset(gave_up::CANCELLED.into());
            let _ = self.reader.stream.stop_sending(gave_up::CANCELLED.into());
        }
    }
}

async fn exchange(lease: &Lease, call: &Call<'_>, payload_max: u64) -> Result<Bytes, Failed> {
    let mut handle = lease.link.handle.clone();
    let stream =
        handle.open_bidirectional_stream().await.map_err(|error| call.failed(error.into()))?;
    let (receive, send) = stream.split();
    let mut exchange = Exchange { send, reader: Reader::new(receive), done: false };
    let mut parts = call.encode(None);
    let parts = if parts[1].is_empty() { &mut parts[..1] } else { &mut parts[..] };
    match exchange.send.send_vectored(parts).await.and_then(|()| exchange.send.finish()) {
        // A peer that refuses does not read on, and says why in its answer.
        Ok(()) | Err(stream::Error::StreamReset { .. }) => {}
        Err(error) => return Err(call.failed(error)),
    }
    let answer = read_answer(&mut exchange.reader, call, payload_max).await?;
    exchange.done = true;
    answer.map_err(Failed::Error)
}

/// Reads an answer: the payload, or the refusal that it stands for.
async fn read_answer(
    reader: &mut Reader,
    call: &Call<'_>,
    payload_max: u64,
) -> Result<Result<Bytes>, Failed> {
    let lost = |error| match error {
        ReadError::Stream(error) => call.failed(error),
        ReadError::Ended | ReadError::TooLong => Failed::Error(Error::LinkLost {
            target: call.target(),
            reason: "the answer ends early".into(),
        }),
    };
    let mut head = reader.exact(ANSWER_HEAD).await.map_err(lost)?;
    let (status, length) = (head.get_u8(), head.get_u64());
    if length > payload_max {
        return Err(Failed::Error(Error::TooLarge { bytes: length, max: payload_max }));
    }
    let mut payload = reader.exact(length as usize).await.map_err(lost)?;
    reader.end().await;
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
        _ => Error::LinkLost {
            target: call.target(),
            reason: "its answer has an unknown status".into(),
        },
    }))
}

fn shutting_down(call: &Call<'_>) -> Error {
    Error::Unreachable { target: call.target(), reason: "it is shutting down".into() }
}

async fn hand_over(lease: &Lease, call: &Call<'_>, payload_max: u64) -> Result<(), Failed> {
    let refused = |error| match error {
        stream::Error::StreamReset { error: code, .. } => {
            Failed::Error(match u64::from(code) as u8 {
                gave_up::BUSY => Error::Busy { what: "messages at the peer", max: 0 },
                gave_up::TOO_LARGE => {
                    Error::TooLarge { bytes: call.payload.len() as u64, max: payload_max }
                }
                gave_up::CLOSED => shutting_down(call),
                _ => Error::LinkLost {
                    target: call.target(),
                    reason: "the peer gave the message up".into(),
                },
            })
        }
        other => call.failed(other),
    };
    let mut handle = lease.link.handle.clone();
    let stream = handle.open_send_stream().await.map_err(|error| call.failed(error.into()))?;
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
            let _ = self.0.reset(gave_up::CANCELLED.into()); // an error means that it ended
        }
    }
}

/// One request of a peer's being dealt with.
struct Serving {
    node: Arc<Node>,
    link: Arc<Link>,
    settled: bool,
}

impl Serving {
    fn admit(node: &Arc<Node>, link: &Arc<Link>) -> Result<Self, Refusal> {
        link.serving.fetch_add(1, Relaxed);
        node.stats.requests_in.up();
        let mut serving = Self { node: node.clone(), link: link.clone(), settled: true };
        if node.is_draining() {
            Err(Refusal::Closed)
        } else if node.stats.requests_in.get() > node.requests_max as u64 {
            node.stats.requests_refused.up();
            Err(Refusal::Busy(node.requests_max))
        } else {
            serving.settled = false; // until its answer is on its way
            Ok(serving)
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let stats = &self.node.stats;
        if self.settled {
            stats.requests_handled.up()
        } else {
            stats.requests_abandoned.up()
        }
        stats.requests_in.down();
        self.link.served();
        self.link.serving.fetch_sub(1, Relaxed);
        self.node.settled();
    }
}

/// Takes a peer's request, in a task of its own.
pub(super) fn serve(node: &Arc<Node>, link: &Arc<Link>, stream: BidirectionalStream) {
    let admitted = Serving::admit(node, link);
    let (inner, link) = (node.clone(), link.clone());
    node.spawn("request", async move {
        let (receive, mut send) = stream.split();
        let mut reader = Reader::new(receive);
        let (serving, answer) = match admitted {
            Err(refusal) => (None, Some(Err(refusal))),
            Ok(serving) => (Some(serving), handle(&inner, &link, &mut reader, &mut send).await),
        };
        let Some(answer) = answer else {
            let _ = send.reset(gave_up::ABANDONED.into()); // an error means that nobody waits
            return;
        };
        if reader.open {
            let _ = reader.stream.stop_sending(gave_up::ANSWERED.into()); // likewise
        }
        let sent = respond(&mut send, answer, inner.payload_max).await;
        if let Some(mut serving) = serving {
            serving.settled = sent.is_ok();
        }
    });
}

/// What stands before a payload.
struct Head {
    topic: String,
    until: Instant,
    deadline: Duration,
    bytes: u64,
}

async fn read_head(reader: &mut Reader) -> Option<Head> {
    let mut head = reader.exact(HEAD).await.ok()?;
    let (topic, millis, bytes) = (head.get_u16() as usize, head.get_u32(), head.get_u64());
    if topic > TOPIC_BYTES_MAX {
        return None;
    }
    let topic = String::from_utf8(reader.exact(topic).await.ok()?.into()).ok()?;
    let deadline = Duration::from_millis(millis.into());
    Some(Head { topic, until: Instant::now() + deadline, deadline, bytes })
}

/// Reads a request and has it handled; `None` when nobody waits for an answer any more.
async fn handle(
    node: &Arc<Node>,
    link: &Arc<Link>,
    reader: &mut Reader,
    send: &mut SendStream,
) -> Option<Result<Bytes, Refusal>> {
    let head = timeout_at(Instant::now() + HEAD_TIMEOUT, read_head(reader)).await.ok()??;
    if head.bytes > node.payload_max {
        return Some(Err(Refusal::TooLarge { bytes: head.bytes, max: node.payload_max }));
    }
    let payload = timeout_at(head.until, reader.exact(head.bytes as usize)).await.ok()?.ok()?;
    reader.end().await;
    let work = caught(async {
        node.inbound.request(link.peer.clone(), head.topic, payload, head.deadline).await
    });
    let outcome = attended(node, work, head.until, |cx| {
        matches!(send.poll_send_ready(cx), Poll::Ready(Err(_)))
    });
    Some(match outcome.await? {
        Ok(result) => result,
        Err(panic) => Err(Refusal::Handler(format!("panicked: {panic}"))),
    })
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

async fn respond(
    send: &mut SendStream,
    answer: Result<Bytes, Refusal>,
    payload_max: u64,
) -> stream::Result<()> {
    let numbers =
        |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>().into();
    let (status, payload): (u8, Bytes) = match answer {
        Ok(payload) if payload.len() as u64 > payload_max => {
            (status::TOO_LARGE, numbers(&[payload.len() as u64, payload_max]))
        }
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
    let mut serving = match Serving::admit(node, link) {
        Ok(serving) => serving,
        Err(refusal) => {
            let code =
                if matches!(refusal, Refusal::Closed) { gave_up::CLOSED } else { gave_up::BUSY };
            let _ = reader.stream.stop_sending(code.into()); // an error means that it ended
            return;
        }
    };
    let Ok(Some(head)) = timeout_at(Instant::now() + HEAD_TIMEOUT, read_head(&mut reader)).await
    else {
        return;
    };
    if head.bytes > node.payload_max {
        let _ = reader.stream.stop_sending(gave_up::TOO_LARGE.into()); // likewise
        return;
    }
    let Ok(Ok(payload)) = timeout_at(head.until, reader.exact(head.bytes as usize)).await else {
        return;
    };
    reader.end().await;
    let work = caught(async { node.inbound.message(link.peer.clone(), head.topic, payload).await });
    // The sender does not wait for the handler, so only the end of the node cuts it off.
    let outcome = tokio::select! {
        biased;
        outcome = work => outcome,
        () = node.stop.cancelled() => return,
    };
    if let Err(panic) = outcome {
        tracing::error!(peer = ?link.peer, panic, "the handler of a message panicked");
    }
    serving.settled = true;
}
