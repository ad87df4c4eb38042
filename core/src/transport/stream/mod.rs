//! Streams that programs open to one another: both directions, each ended on its own.
//!
//! A stream is a bidirectional QUIC stream. Whoever opens it sends a head: `mark u16`, which is
//! above what a request's topic may be long, so that a node of before streams gives it up at once;
//! `topic length u16, deadline in ms u32, credit u64`, and the topic. The answer is that of a
//! request: a refusal ends the stream; `done` has the other side's credit for a payload (64 KiB at least,
//! which is assumed where a reset overtakes the answer), and from there on each direction is the program's bytes, as they are. `finish`, `reset` and `stop` are
//! QUIC's own FIN, RESET_STREAM and STOP_SENDING; their codes are the program's and
//! [`WIRE_CODES`]. Until its head is read, a stream counts as a request.
//!
//! **Nobody is slowed by a stream that is not read.** QUIC's window of a link is shared by
//! everything on it: a few streams that nobody reads would fill it, and no request could get
//! through. So each end takes in what arrives at once ([`flow`]) and keeps it itself, and the
//! sender sends no more than it was given credit for, which comes as records on a stream that a
//! link has for this alone ([`control`]). Unread bytes cost 64 KiB a stream, or up to 1 MiB where
//! the reader had kept up before, and nothing of the link.
//!
//! * `flow`: what arrived, and how much may be sent; `control`: what the ends tell each other;
//! * `half`: the two halves that a program holds; `open`: how a stream comes to be;
//! * `seat`: what one end holds as long as a half is there, and how it is given up.

mod control;
mod flow;
mod half;
mod open;
mod seat;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

#[cfg(test)]
pub(super) use self::control::Teller;
pub(crate) use self::half::check_code;
pub use self::half::{ReceiveHalf, SendHalf};
pub(super) use self::{
    control::{KIND, Streams, hear},
    open::{MARK, open, open_here, serve},
};
#[cfg(any(test, feature = "simulator"))]
pub(super) use self::{
    control::{Told, read_record},
    open::read_head,
};
use crate::{error::Result, member::NodeId};

/// On the wire, a program's code stands above these, which are the transport's own.
const WIRE_CODES: u64 = 256;
/// The code with which a stream is given up whose handler failed; the message comes apart.
const HANDLER_FAILED: u32 = u32::MAX - 1;

/// A stream to another member, or from one: both directions at once, each ended on its own.
///
/// What one side writes, the other reads in order and whole, in chunks of any size. A direction
/// ends cleanly with [`Stream::finish`]; a stream that is dropped before is given up, and the other
/// side gets [`Error::StreamReset`](crate::Error::StreamReset) with [`Stream::DROPPED`] instead of
/// an end. Whoever reads slowly slows the other side's writing, and nothing else.
pub struct Stream {
    send: SendHalf,
    receive: ReceiveHalf,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("peer", self.peer())
            .field("topic", &self.topic())
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// The greatest code that a program may give to [`Stream::reset`] and [`Stream::stop`].
    pub const CODE_MAX: u32 = i32::MAX as u32;
    /// Stands for a code where the other side dropped the stream unfinished.
    pub const DROPPED: u32 = u32::MAX;

    /// Who is at the other end.
    pub fn peer(&self) -> &NodeId {
        self.send.seat.peer()
    }

    /// What it is about.
    pub fn topic(&self) -> &str {
        self.send.seat.topic()
    }

    /// Sends all these bytes, see [`SendHalf::write`].
    pub async fn write(
        &mut self,
        bytes: impl Into<Bytes>,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<()> {
        self.send.write(bytes, deadline).await
    }

    /// Ends our direction, see [`SendHalf::finish`].
    pub async fn finish(&mut self, deadline: impl Into<Option<Duration>>) -> Result<()> {
        self.send.finish(deadline).await
    }

    /// Gives our direction up, see [`SendHalf::reset`].
    pub fn reset(&mut self, code: u32) -> Result<()> {
        self.send.reset(code)
    }

    /// The next bytes, see [`ReceiveHalf::read`].
    pub async fn read(&mut self, deadline: impl Into<Option<Duration>>) -> Result<Option<Bytes>> {
        self.receive.read(deadline).await
    }

    /// Tells the other side to stop sending, see [`ReceiveHalf::stop`].
    pub fn stop(&mut self, code: u32) -> Result<()> {
        self.receive.stop(code)
    }

    /// How many bytes were sent, see [`SendHalf::sent`].
    pub fn sent(&self) -> u64 {
        self.send.sent()
    }

    /// Tells how many bytes were sent, without a hold on the stream.
    pub(crate) fn sent_counter(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let flow = self.send.seat.flow.clone();
        move || flow.outlet.total()
    }

    /// The two directions apart, to use them in different tasks.
    pub fn split(self) -> (SendHalf, ReceiveHalf) {
        (self.send, self.receive)
    }
}

/// What a handler's work comes to: nothing, or the message that the other side is to get.
pub type Handled = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Takes the streams that peers open.
pub type StreamHandler = Arc<dyn Fn(Stream) -> Handled + Send + Sync>;

#[cfg(test)]
impl Stream {
    /// How many bytes have arrived that nobody has read.
    pub(super) fn receive_waiting(&self) -> usize {
        self.receive.seat.flow.inlet.waiting() as usize
    }

    /// From here on as much is sent as the QUIC stack takes.
    pub(super) fn forget_credit(&self) {
        self.send.seat.flow.outlet.grant(u64::MAX);
    }
}
