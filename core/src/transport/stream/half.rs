//! The two directions of a stream, as a program holds them.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use s2n_quic::{application, stream};
use tokio::time::timeout;

use super::{
    HANDLER_FAILED, Stream,
    flow::{Flow, Found},
    seat::{Line, Seat, Sender, given_up, told_code},
};
use crate::{
    deadline::within,
    error::{Error, Result},
    transport::end::describe,
};

/// What is written is handed on in slices of this size.
const SLICE: usize = 64 << 10;
/// How long after the stream the message may come that says why the handler failed.
const MESSAGE_LATE: Duration = Duration::from_secs(1);

/// The direction in which we send.
pub struct SendHalf {
    pub(super) seat: Arc<Seat>,
    sender: Option<Sender>,
    state: Sending,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    Open,
    Finished,
    GivenUp,
}

impl std::fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendHalf").field("state", &self.state).finish_non_exhaustive()
    }
}

impl SendHalf {
    pub(super) fn new(seat: Arc<Seat>, sender: Option<Sender>) -> Self {
        Self { seat, sender, state: Sending::Open }
    }

    /// Sends all these bytes: waits until the last are on their way, which they are not while the
    /// peer does not read (it takes 64 KiB ahead of its reader, up to 1 MiB where that keeps up),
    /// but for the deadline (1 ms to 1 h; `None`: for as long as the link lives). A call that fails
    /// or is dropped may have sent a part: [`SendHalf::sent`] says up to where; the stream stays
    /// open after [`Error::Timeout`].
    pub async fn write(
        &mut self,
        bytes: impl Into<Bytes>,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let bytes = bytes.into();
        self.check_open()?;
        let seat = self.seat.clone();
        within(deadline.into(), seat.peer().as_str(), self.write_all(bytes)).await
    }

    async fn write_all(&mut self, mut bytes: Bytes) -> Result<()> {
        if let Some(error) = self.seat.flow.outlet.over() {
            return Err(error);
        }
        while !bytes.is_empty() {
            let room = self.seat.flow.outlet.room(bytes.len().min(SLICE)).await?;
            let sent = match (&mut self.sender, &self.seat.line) {
                (Some(Sender::Link(stream)), _) => {
                    let ready = poll_fn(|cx| stream.poll_send_ready(cx)).await;
                    ready.and_then(|_| stream.send_data(bytes.split_to(room)))
                }
                (Some(Sender::Here), Line::Here(other, _)) => {
                    if other.inlet.push(bytes.split_to(room)).is_err() {
                        return Err(Error::Internal("a stream outran its credit".into()));
                    }
                    Ok(())
                }
                _ => return Err(self.closed()),
            };
            match sent {
                Ok(()) => self.seat.flow.outlet.sent(room),
                Err(error) => return Err(self.seat.failed(error).await),
            }
        }
        Ok(())
    }

    /// Ends our direction: the peer reads what was sent and then the end. Waits until its stack has
    /// all of it, not until its program has read it; the deadline is as for a write. What was
    /// finished stays so when the call fails or is dropped.
    pub async fn finish(&mut self, deadline: impl Into<Option<Duration>>) -> Result<()> {
        if self.state == Sending::GivenUp {
            return Err(self.closed());
        }
        let seat = self.seat.clone();
        within(deadline.into(), seat.peer().as_str(), self.close()).await
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(error) = self.seat.flow.outlet.over() {
            return Err(error);
        }
        let first = self.state == Sending::Open;
        self.state = Sending::Finished;
        let closed = match (&mut self.sender, &self.seat.line) {
            (Some(Sender::Link(stream)), _) => stream.close().await,
            (Some(Sender::Here), Line::Here(other, _)) => {
                if first {
                    other.inlet.end(Ok(()));
                }
                Ok(())
            }
            _ => Ok(()),
        };
        match closed {
            Ok(()) => Ok(()),
            Err(error) => Err(self.seat.failed(error).await),
        }
    }

    /// Gives our direction up: the peer gets [`Error::StreamReset`] with this code, 0 to
    /// [`Stream::CODE_MAX`], and what it has not read is lost. Nothing happens if it ended before.
    pub fn reset(&mut self, code: u32) -> Result<()> {
        check_code(code)?;
        if self.state != Sending::GivenUp
            && let Some(sender) = &mut self.sender
        {
            self.state = Sending::GivenUp;
            self.seat.give_up(sender, code);
        }
        Ok(())
    }

    /// How many bytes were sent in all.
    pub fn sent(&self) -> u64 {
        self.seat.flow.outlet.total()
    }

    fn check_open(&self) -> Result<()> {
        if self.state == Sending::Open { Ok(()) } else { Err(self.closed()) }
    }

    fn closed(&self) -> Error {
        let value = if self.state == Sending::Finished { "finished" } else { "given up" };
        wrong("stream", value, "must be open to be written to")
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.state == Sending::Open
            && let Some(sender) = self.sender.take()
        {
            self.seat.leave_sending(sender);
        }
    }
}

/// The direction in which we receive.
pub struct ReceiveHalf {
    pub(super) seat: Arc<Seat>,
    stopped: bool,
}

impl std::fmt::Debug for ReceiveHalf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveHalf").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl ReceiveHalf {
    pub(super) fn new(seat: Arc<Seat>) -> Self {
        Self { seat, stopped: false }
    }

    /// The next bytes, in chunks of any size, none of them empty; nothing once the peer has
    /// finished and all was read. Waits for them, at most until the deadline (1 ms to 1 h; `None`:
    /// for as long as the link lives). A call that fails or is dropped has lost nothing.
    pub async fn read(&mut self, deadline: impl Into<Option<Duration>>) -> Result<Option<Bytes>> {
        if self.stopped {
            return Err(wrong("stream", "stopped", "must not be stopped to be read"));
        }
        within(deadline.into(), self.seat.peer().as_str(), self.next()).await
    }

    async fn next(&self) -> Result<Option<Bytes>> {
        loop {
            match self.seat.flow.inlet.take() {
                Found::Chunk(chunk, grant) => {
                    if let Some(limit) = grant {
                        self.seat.grant(limit);
                    }
                    return Ok(Some(chunk));
                }
                Found::End(end) => return end.map(|()| None),
                Found::Nothing => self.seat.flow.inlet.readable().await,
            }
        }
    }

    /// Tells the peer to stop sending: its writing fails with [`Error::StreamReset`] and this code,
    /// 0 to [`Stream::CODE_MAX`]. What was not read is lost. Nothing happens if its direction has
    /// ended.
    pub fn stop(&mut self, code: u32) -> Result<()> {
        check_code(code)?;
        self.stopped = true;
        self.seat.stop(code);
        Ok(())
    }
}

impl Drop for ReceiveHalf {
    fn drop(&mut self) {
        if !self.seat.flow.inlet.is_over() {
            self.seat.leave_receiving();
        }
    }
}

impl Seat {
    /// What an error of the QUIC stream says to a program.
    async fn failed(&self, error: stream::Error) -> Error {
        let target = self.peer().as_str();
        match error {
            stream::Error::StreamReset { error, .. } => {
                self.flow.given_up(error, target, self.topic()).await
            }
            other => lost(target, &other),
        }
    }
}

impl Flow {
    /// What a code says with which the peer gave the stream up. A handler's message may come a
    /// little later.
    pub(super) async fn given_up(
        &self,
        code: application::Error,
        target: &str,
        topic: &str,
    ) -> Error {
        let code = told_code(code);
        if code != HANDLER_FAILED {
            return given_up(target, code);
        }
        let (target, topic) = (target.to_owned(), topic.to_owned());
        let silent = Error::Handler { target, topic, message: "it failed".into() };
        timeout(MESSAGE_LATE, self.failure()).await.unwrap_or(silent)
    }
}

pub(super) fn lost(target: &str, error: &stream::Error) -> Error {
    let reason = match error {
        stream::Error::ConnectionError { error, .. } => describe(error),
        other => other.to_string(),
    };
    Error::LinkLost { target: target.into(), reason }
}

/// Refuses a code that is the transport's own.
pub(crate) fn check_code(code: u32) -> Result<()> {
    if code > Stream::CODE_MAX {
        return Err(wrong("code", code, &format!("must be 0 to {}", Stream::CODE_MAX)));
    }
    Ok(())
}

fn wrong(field: &'static str, value: impl ToString, expected: &str) -> Error {
    Error::Argument { field, value: value.to_string(), expected: expected.into() }
}
