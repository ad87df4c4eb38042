//! One end of a stream: what it holds as long as one of its halves is there.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use parking_lot::Mutex;
use s2n_quic::{application, stream::SendStream};
use tokio::sync::Notify;

use super::{HANDLER_FAILED, Stream, WIRE_CODES, control::Teller, flow::Flow};
use crate::{
    error::Error,
    member::NodeId,
    transport::{Refusal, give_up, link::Link, node::Node, pool::Lease},
};

/// One end of a stream. Its halves share it, and so does the task of a handler.
pub(super) struct Seat {
    pub(super) flow: Arc<Flow>,
    pub(super) line: Line,
    peer: NodeId,
    topic: String,
    left: Mutex<Left>,
    /// A half was dropped while its handler is at work.
    leaving: Notify,
    /// Last, so that it outlives the rest: with it goes the hold on the link.
    _held: Held,
}

/// How the other end is reached.
pub(super) enum Line {
    Link(Teller),
    /// It is in this process: its state, and our own name for its errors.
    Here(Arc<Flow>, String),
}

/// What bytes are given to.
pub(super) enum Sender {
    Link(SendStream),
    Here,
}

/// Halves that were dropped before their end.
struct Left {
    /// A handler is at work whose outcome says how they are given up.
    attended: bool,
    code: u32,
    send: Option<Sender>,
    receive: bool,
}

impl Seat {
    pub(super) fn new(
        flow: Arc<Flow>,
        line: Line,
        peer: NodeId,
        topic: String,
        held: Held,
        attended: bool,
    ) -> Arc<Self> {
        let left = Left { attended, code: Stream::DROPPED, send: None, receive: false };
        Arc::new(Self {
            flow,
            line,
            peer,
            topic,
            left: Mutex::new(left),
            leaving: Notify::new(),
            _held: held,
        })
    }

    pub(super) fn peer(&self) -> &NodeId {
        &self.peer
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The peer may send up to here.
    pub(super) fn grant(&self, limit: u64) {
        match &self.line {
            Line::Link(teller) => teller.grant(limit),
            Line::Here(other, _) => other.outlet.grant(limit),
        }
    }

    /// Gives our direction up.
    pub(super) fn give_up(&self, sender: &mut Sender, code: u32) {
        match (sender, &self.line) {
            (Sender::Link(stream), _) => {
                give_up::give_up(stream, wire_code(code));
            }
            (Sender::Here, Line::Here(other, us)) => other.inlet.end(Err(given_up(us, code))),
            (Sender::Here, Line::Link(_)) => {}
        }
    }

    /// Tells the peer that nobody reads any more; the pump, which holds the QUIC stream, sees it
    /// and stops it.
    pub(super) fn stop(&self, code: u32) {
        if !self.flow.inlet.stop(code) {
            return;
        }
        match &self.line {
            // Whoever waits for credit is not woken by the stack.
            Line::Link(teller) if code != HANDLER_FAILED => teller.stop(code),
            Line::Link(_) => {}
            Line::Here(other, us) => other.outlet.fail(given_up(us, code)),
        }
    }

    /// Our sending half was dropped before its end.
    pub(super) fn leave_sending(&self, mut sender: Sender) {
        let mut left = self.left.lock();
        if left.attended {
            left.send = Some(sender);
            drop(left);
            return self.leaving.notify_one();
        }
        let code = left.code;
        drop(left);
        self.give_up(&mut sender, code);
    }

    /// Our receiving half was dropped before its end.
    pub(super) fn leave_receiving(&self) {
        let mut left = self.left.lock();
        if left.attended {
            left.receive = true;
            drop(left);
            return self.leaving.notify_one();
        }
        let code = left.code;
        drop(left);
        self.stop(code);
    }

    /// Waits until a half was dropped while its handler is at work.
    pub(super) async fn leaving(&self) {
        self.leaving.notified().await;
    }

    /// Gives up what was dropped.
    pub(super) fn release(&self) {
        let mut left = self.left.lock();
        let (send, receive, code) =
            (left.send.take(), std::mem::take(&mut left.receive), left.code);
        drop(left);
        if let Some(mut sender) = send {
            self.give_up(&mut sender, code);
        }
        if receive {
            self.stop(code);
        }
    }

    /// The handler has done its work, or failed with this message.
    pub(super) fn settle(&self, failure: Option<&str>) {
        {
            let mut left = self.left.lock();
            left.attended = false;
            if failure.is_some() {
                left.code = HANDLER_FAILED;
            }
        }
        if let Some(message) = failure {
            match &self.line {
                Line::Link(teller) => teller.failed(message),
                Line::Here(other, us) => other.fail(Error::Handler {
                    target: us.clone(),
                    topic: self.topic.clone(),
                    message: message.into(),
                }),
            }
        }
        self.release();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Line::Link(teller) = &self.line {
            teller.link.streams.remove(teller.id);
        }
    }
}

pub(super) fn wire_code(code: u32) -> application::Error {
    // 62 bits are allowed, so these fit.
    application::Error::new(WIRE_CODES + u64::from(code)).unwrap_or(application::Error::UNKNOWN)
}

/// What the other side's code says; those that are no program's say that it gave up.
pub(super) fn told_code(code: application::Error) -> u32 {
    let code = u64::from(code).checked_sub(WIRE_CODES);
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(Stream::DROPPED)
}

pub(super) fn given_up(target: &str, code: u32) -> Error {
    Error::StreamReset { target: target.into(), code }
}

/// What a stream holds while it is open: a place among those that may be, and the link.
pub(super) enum Held {
    /// We opened it.
    Leased(#[expect(dead_code, reason = "it is there to be held")] Lease),
    /// A peer did.
    Served(Arc<Node>, Arc<Link>),
    /// It goes to ourselves: whether this is the end that was opened to us.
    Here(Arc<Node>, bool),
}

impl Held {
    /// Whether there is room for one more that we opened, which is counted already.
    pub(super) fn check_out(node: &Node) -> Result<(), Error> {
        if node.stats.streams_out.get() > node.streams_max as u64 {
            return Err(Error::Busy { what: "streams", max: node.streams_max });
        }
        Ok(())
    }

    /// Lets a peer's stream in, or refuses it.
    pub(super) fn served(node: &Arc<Node>, link: &Arc<Link>) -> Result<Self, Refusal> {
        link.streaming.fetch_add(1, Relaxed);
        let of_peer = link.share.streaming.fetch_add(1, Relaxed) + 1;
        node.stats.streams_in.up_in_order();
        node.ask_from_now_on();
        let held = Held::Served(node.clone(), link.clone());
        admit(node)?;
        // One peer leaves a quarter to others.
        let of_peer_max = node.streams_max - node.streams_max / 4;
        if of_peer > of_peer_max {
            node.stats.streams_refused.up();
            return Err(Refusal::Busy(of_peer_max));
        }
        Ok(held)
    }

    /// Both ends of a stream to ourselves.
    pub(super) fn here(node: &Arc<Node>) -> Result<[Self; 2], Refusal> {
        node.stats.streams_out.up();
        node.stats.streams_in.up();
        let held = [false, true].map(|incoming| Held::Here(node.clone(), incoming));
        admit(node)?;
        Ok(held)
    }
}

/// Whether one more that was opened to us, which is counted already, has room.
fn admit(node: &Node) -> Result<(), Refusal> {
    if node.is_draining() {
        return Err(Refusal::Closed);
    }
    if node.stats.streams_in.get() > node.streams_max as u64 {
        node.stats.streams_refused.up();
        return Err(Refusal::Busy(node.streams_max));
    }
    Ok(())
}

impl Drop for Held {
    fn drop(&mut self) {
        let node = match self {
            Held::Leased(_) => return, // a lease sees to itself
            Held::Served(node, link) => {
                node.stats.streams_in.down();
                link.served();
                link.streaming.fetch_sub(1, Relaxed);
                link.share.streaming.fetch_sub(1, Relaxed);
                node
            }
            Held::Here(node, true) => {
                node.stats.streams_in.down();
                node
            }
            Held::Here(node, false) => {
                node.stats.streams_out.down();
                node
            }
        };
        node.settled();
    }
}
