//! How a stream comes to be: asked for, answered, and served.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use bytes::{Buf, BufMut, BytesMut};
use s2n_quic::stream::{self, SendStream};
use tokio::time::{Instant, timeout_at};

use super::{
    Handled, ReceiveHalf, SendHalf, Stream, StreamHandler, WIRE_CODES,
    control::{Known, Teller},
    flow::{Flow, WINDOW_MIN},
    half::lost,
    seat::{Held, Line, Seat, Sender, wire_code},
};
use crate::{
    error::{Error, Result},
    transport::{
        Refusal,
        give_up::give_up,
        link::Link,
        node::Node,
        panics::caught,
        pool::Lease,
        reader::{ReadError, Reader, Source},
        request::{self, Call, Failed, TOPIC_BYTES_MAX, gave_up, status},
    },
};

/// What a head begins with, where a request has the length of its topic.
pub(in crate::transport) const MARK: u16 = 0x5354;
/// What comes after it, before the topic. With the mark it is longer than a request's head, or an
/// old node would wait for the rest of that.
const HEAD: usize = 2 + 4 + 8;
/// The payload of an answer that takes a stream.
const CREDIT: usize = 8;

/// Opens a stream, and waits for the peer to take it.
pub(in crate::transport) async fn open(
    node: &Arc<Node>,
    call: Call<'_>,
    addr: SocketAddr,
) -> Result<Stream> {
    call.check(0)?;
    for attempt in 1.. {
        let lease = node.lease(call.peer, addr, call.until).await?.for_stream();
        Held::check_out(node)?;
        match timeout_at(call.until, ask(node, &lease, &call)).await {
            Err(_) => return Err(call.timeout()),
            Ok(Ok(opened)) => return Ok(opened.taken(node, lease, &call)),
            Ok(Err(Failed::Error(error))) => return Err(error),
            Ok(Err(Failed::GivenUp(_))) => return Err(call.lost("the peer gave the stream up")),
            Ok(Err(Failed::Unheard(error))) => {
                request::again(node, &lease.link, &call, attempt, error)?;
            }
        }
    }
    Err(call.timeout())
}

/// A stream that is asked for. Dropped before it is taken, it tells the peer so.
struct Opening {
    link: Arc<Link>,
    id: u64,
    flow: Arc<Flow>,
    send: Option<SendStream>,
    reader: Option<Reader>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let (Some(send), Some(reader)) = (&mut self.send, &mut self.reader) {
            self.link.streams.remove(self.id);
            // Errors mean that there is nothing left to stop.
            give_up(send, gave_up::CANCELLED);
            let _ = reader.stream.stop_sending(gave_up::CANCELLED.into());
        }
    }
}

async fn ask(node: &Node, lease: &Lease, call: &Call<'_>) -> Result<Opening, Failed> {
    let link = lease.link.clone();
    let mut handle = link.handle.clone();
    let stream = handle
        .open_bidirectional_stream()
        .await
        .map_err(|error| call.failed(error.into(), None))?;
    let id = stream.id();
    let (receive, send) = stream.split();
    let flow = Arc::new(Flow::new());
    let known = Known { flow: flow.clone(), target: call.target(), topic: call.topic.into() };
    link.streams.add(id, known).map_err(Failed::Error)?;
    let mut opening = Opening { link, id, flow, send: None, reader: None };
    let send = opening.send.insert(send);
    let reader = opening.reader.insert(Reader::new(receive));
    let mut head = BytesMut::with_capacity(2 + HEAD + call.topic.len());
    head.put_u16(MARK);
    head.put_u16(call.topic.len() as u16); // checked to fit
    head.put_u32(u32::try_from(call.deadline.as_millis()).unwrap_or(u32::MAX));
    head.put_u64(WINDOW_MIN);
    head.put_slice(call.topic.as_bytes());
    match send.send(head.freeze()).await {
        // A peer that refuses says why in its answer.
        Ok(()) | Err(stream::Error::StreamReset { .. }) => {}
        Err(error) => return Err(call.failed(error, Some(id))),
    }
    match request::read_answer(&node.shelf, reader, id, call, request::REFUSAL_MAX).await {
        Ok(Ok(credit)) if credit.len() == CREDIT => {
            opening.flow.outlet.grant((&credit[..]).get_u64());
        }
        Ok(Ok(_)) => return Err(Failed::Error(call.lost("its answer makes no sense"))),
        Ok(Err(refusal)) => return Err(Failed::Error(refusal)),
        // It was taken, and this direction given up before the answer was here: QUIC drops what a
        // stream holds when it is reset.
        Err(Failed::GivenUp(code)) if u64::from(code) >= WIRE_CODES => {
            let error = opening.flow.given_up(code, call.peer.id.as_str(), call.topic).await;
            opening.flow.inlet.end(Err(error));
            opening.flow.outlet.grant(WINDOW_MIN);
        }
        Err(Failed::GivenUp(code)) if u64::from(code) == u64::from(gave_up::ABANDONED) => {
            let reason = "its version knows no streams".into();
            return Err(Failed::Error(Error::Unreachable { target: call.target(), reason }));
        }
        Err(failed) => return Err(failed),
    }
    Ok(opening)
}

impl Opening {
    /// The peer has taken it.
    fn taken(mut self, node: &Arc<Node>, lease: Lease, call: &Call<'_>) -> Stream {
        let line = Line::Link(Teller { node: node.clone(), link: self.link.clone(), id: self.id });
        let held = Held::Leased(lease);
        let (peer, topic) = (call.peer.id.clone(), call.topic.to_owned());
        let seat = Seat::new(self.flow.clone(), line, peer, topic, held, false);
        let sender = self.send.take().map(Sender::Link);
        stream_on(node, seat, sender, self.reader.take())
    }
}

/// The two halves at an end; what arrives there is pumped from now on.
fn stream_on(
    node: &Arc<Node>,
    seat: Arc<Seat>,
    sender: Option<Sender>,
    reader: Option<Reader>,
) -> Stream {
    if let Some(reader) = reader {
        let pump = Pump { flow: seat.flow.clone(), target: seat.peer().to_string() };
        let topic = seat.topic().to_owned();
        node.spawn("stream pump", async move { pump.run(reader, topic).await });
    }
    Stream { send: SendHalf::new(seat.clone(), sender), receive: ReceiveHalf::new(seat) }
}

/// Takes in what arrives on a stream, as soon as it does.
struct Pump {
    flow: Arc<Flow>,
    target: String,
}

impl Pump {
    async fn run(self, mut reader: Reader, topic: String) {
        loop {
            let next = tokio::select! {
                biased;
                code = self.flow.inlet.stopped() => {
                    let _ = reader.stream.stop_sending(wire_code(code)); // it may have ended
                    return;
                }
                next = reader.next() => next,
            };
            match next {
                Ok(Some(chunk)) => {
                    if self.flow.inlet.push(chunk).is_err() {
                        self.lose("it sent more than it may");
                        let _ = reader.stream.stop_sending(gave_up::TOO_LARGE.into());
                        return;
                    }
                }
                Ok(None) => return self.flow.inlet.end(Ok(())),
                Err(ReadError::Stream(stream::Error::StreamReset { error, .. })) => {
                    let error = self.flow.given_up(error, &self.target, &topic).await;
                    return self.flow.inlet.end(Err(error));
                }
                Err(ReadError::Stream(error)) => {
                    return self.flow.lose(&lost(&self.target, &error));
                }
                Err(_) => return self.lose("it ends early"),
            }
        }
    }

    fn lose(&self, reason: &str) {
        self.flow.lose(&Error::LinkLost { target: self.target.clone(), reason: reason.into() });
    }
}

impl Drop for Pump {
    /// Where it could not run to its end, nobody must wait for more; else that came first.
    fn drop(&mut self) {
        self.flow.inlet.end(Err(Error::LinkLost {
            target: self.target.clone(),
            reason: "this node shuts down".into(),
        }));
    }
}

/// Takes a stream whose mark has been read, and has it handled.
pub(in crate::transport) async fn serve(
    node: &Arc<Node>,
    link: &Arc<Link>,
    mut reader: Reader,
    mut send: SendStream,
    head_until: Instant,
) {
    let Ok(Some(head)) = timeout_at(head_until, read_head(&mut reader)).await else {
        return give_up(&mut send, gave_up::CANCELLED);
    };
    let admitted = Held::served(node, link).and_then(|held| {
        let handler = node.inbound.stream(&head.topic).ok_or(Refusal::UnknownTopic)?;
        Ok((held, handler))
    });
    let (held, handler) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let _ = reader.stream.stop_sending(gave_up::ANSWERED.into()); // likewise
            // Whoever makes no room for an answer gets none.
            let answer = request::respond(&mut send, Err(refusal));
            if timeout_at(head_until, answer).await.is_err() {
                give_up(&mut send, gave_up::CANCELLED);
            }
            return;
        }
    };
    let id = send.id();
    let (flow, target) = (Arc::new(Flow::new()), link.peer.id.to_string());
    flow.outlet.grant(head.credit);
    let known = Known { flow: flow.clone(), target, topic: head.topic.clone() };
    if link.streams.add(id, known).is_err() {
        return; // the link has ended
    }
    let line = Line::Link(Teller { node: node.clone(), link: link.clone(), id });
    let seat = Seat::new(flow, line, link.peer.id.clone(), head.topic, held, true);
    let mut answer = BytesMut::with_capacity(request::ANSWER_HEAD + CREDIT);
    answer.put_u8(status::DONE);
    answer.put_u64(CREDIT as u64);
    answer.put_u64(WINDOW_MIN);
    match timeout_at(head_until, send.send(answer.freeze())).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return, // the opener has gone
        Err(_) => return give_up(&mut send, gave_up::CANCELLED),
    }
    let stream = stream_on(node, seat.clone(), Some(Sender::Link(send)), Some(reader));
    attend(node, &seat, handler, stream).await;
}

/// What stands behind the mark.
pub(in crate::transport) struct Head {
    pub(in crate::transport) topic: String,
    credit: u64,
}

pub(in crate::transport) async fn read_head(reader: &mut Reader<impl Source>) -> Option<Head> {
    let mut head = reader.exact(HEAD).await.ok()?;
    // The opener's deadline is for whoever may want to know it; nothing here does yet.
    let (topic, _deadline, credit) = (head.get_u16() as usize, head.get_u32(), head.get_u64());
    if topic > TOPIC_BYTES_MAX {
        return None;
    }
    let topic = String::from_utf8(reader.exact(topic).await.ok()?.into()).ok()?;
    Some(Head { topic, credit })
}

/// Has a stream handled, and gives up what its handler leaves unfinished.
async fn attend(node: &Node, seat: &Seat, handler: StreamHandler, stream: Stream) {
    let mut work = pin!(caught(async move {
        let handled: Handled = handler(stream);
        handled.await
    }));
    let outcome = loop {
        tokio::select! {
            biased; // a handler that fails drops its stream in the same turn
            outcome = &mut work => break outcome,
            () = seat.leaving() => {
                // It may have failed as well meanwhile, which says more.
                if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
                    break outcome;
                }
                seat.release();
            }
            () = node.stop.cancelled() => break Ok(Ok(())),
        }
    };
    match outcome {
        Ok(Ok(())) => seat.settle(None),
        Ok(Err(message)) => seat.settle(Some(&message)),
        Err(panic) => seat.settle(Some(&format!("panicked: {panic}"))),
    }
}

/// Opens a stream to ourselves, with the same outcomes as over a link.
pub(in crate::transport) fn open_here(node: &Arc<Node>, topic: &str) -> Result<Stream> {
    let us = node.me.id.to_string();
    let refused = |refusal| match refusal {
        Refusal::Busy(max) => Error::Busy { what: "streams", max },
        _ => node.closed(),
    };
    let [opener, taker] = Held::here(node).map_err(refused)?;
    Held::check_out(node)?;
    let Some(handler) = node.inbound.stream(topic) else {
        return Err(Error::UnknownTopic { target: us, topic: topic.into() });
    };
    let flows = [Arc::new(Flow::new()), Arc::new(Flow::new())];
    let seat = |own: usize, held, attended| {
        let (flow, other) = (flows[own].clone(), flows[1 - own].clone());
        flow.outlet.grant(WINDOW_MIN);
        let line = Line::Here(other, us.clone());
        Seat::new(flow, line, node.me.id.clone(), topic.into(), held, attended)
    };
    let (ours, theirs) = (seat(0, opener, false), seat(1, taker, true));
    let stream = stream_on(node, theirs.clone(), Some(Sender::Here), None);
    let inner = node.clone();
    node.spawn("stream", async move { attend(&inner, &theirs, handler, stream).await });
    Ok(stream_on(node, ours, Some(Sender::Here), None))
}
