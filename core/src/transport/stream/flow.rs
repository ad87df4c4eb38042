//! What one end of a stream knows that more than one task looks at: what has arrived and was not
//! read, and how much may be sent.
//!
//! Credit is counted in bytes from the stream's beginning. Whoever receives says up to where may be
//! sent; what has arrived up to there is kept here and not in the QUIC stack, so that bytes that
//! nobody reads never take the link's own window.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{Error, Result};

/// How much may be under way at first, and where nothing is ever read ...
pub(super) const WINDOW_MIN: u64 = 64 << 10;
/// ... and where the reader keeps up. No more than a stream's window in the QUIC stack.
pub(super) const WINDOW_MAX: u64 = 1 << 20;
/// Smaller chunks are copied together: they would cost more than what is in them.
const CHUNK_MIN: usize = 4 << 10;
/// Up to so many bytes.
const TAIL: usize = 16 << 10;

/// One end's state. The other half of what a stream needs, the QUIC stream, belongs to whoever
/// writes or pumps.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) inlet: Inlet,
    pub(super) outlet: Outlet,
    /// The peer's handler failed, and this is the error that says so.
    failure: Mutex<Option<Error>>,
    failed: Notify,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            inlet: Inlet::new(),
            outlet: Outlet::default(),
            failure: Mutex::new(None),
            failed: Notify::new(),
        }
    }

    /// Nothing comes any more and nothing can be sent.
    pub(super) fn lose(&self, error: &Error) {
        self.inlet.end(Err(error.clone()));
        self.outlet.fail(error.clone());
    }

    /// The peer says that its handler failed.
    pub(super) fn fail(&self, error: Error) {
        self.lose(&error);
        *self.failure.lock() = Some(error);
        self.failed.notify_waiters();
    }

    /// Waits for [`Flow::fail`].
    pub(super) async fn failure(&self) -> Error {
        loop {
            let mut failed = std::pin::pin!(self.failed.notified());
            failed.as_mut().enable(); // before the look, so that no wake is missed
            if let Some(error) = self.failure.lock().clone() {
                return error;
            }
            failed.await;
        }
    }
}

/// What has arrived.
#[derive(Debug)]
pub(super) struct Inlet {
    state: Mutex<Arrived>,
    readable: Notify,
    stopped: Notify,
}

#[derive(Debug)]
struct Arrived {
    chunks: VecDeque<Bytes>,
    /// Small chunks, copied together; they come after `chunks`.
    tail: BytesMut,
    waiting: u64,
    received: u64,
    granted: u64,
    window: u64,
    end: Option<Result<()>>,
    /// We want nothing more, and said so with this code.
    stop: Option<u32>,
}

/// What a look for something to read has found.
pub(super) enum Found {
    /// A chunk, and up to where the peer may send from now on if that is to be told.
    Chunk(Bytes, Option<u64>),
    End(Result<()>),
    Nothing,
}

/// More has arrived than was granted.
#[derive(Debug)]
pub(super) struct Overrun;

impl Inlet {
    fn new() -> Self {
        let state = Arrived {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            waiting: 0,
            received: 0,
            granted: WINDOW_MIN,
            window: WINDOW_MIN,
            end: None,
            stop: None,
        };
        Self { state: Mutex::new(state), readable: Notify::new(), stopped: Notify::new() }
    }

    /// Takes in what has arrived.
    pub(super) fn push(&self, chunk: Bytes) -> Result<(), Overrun> {
        let mut state = self.state.lock();
        state.received += chunk.len() as u64;
        if state.received > state.granted {
            return Err(Overrun);
        }
        if state.stop.is_some() || state.end.is_some() {
            return Ok(()); // nobody will read it
        }
        state.waiting += chunk.len() as u64;
        state.keep(chunk);
        drop(state);
        self.readable.notify_one();
        Ok(())
    }

    /// Nothing comes after this. A failure is known at once: what was not read is lost.
    pub(super) fn end(&self, end: Result<()>) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            if end.is_err() {
                state.clear();
            }
            state.end = Some(end);
        }
        drop(state);
        self.readable.notify_one();
    }

    /// Takes what there is to read; the one who reads.
    pub(super) fn take(&self) -> Found {
        let mut state = self.state.lock();
        if let Some(chunk) = state.next() {
            let grant = state.grant();
            return Found::Chunk(chunk, grant);
        }
        state.end.clone().map_or(Found::Nothing, Found::End)
    }

    /// Waits until there may be something to take; for the one who reads.
    pub(super) async fn readable(&self) {
        self.readable.notified().await;
    }

    /// Nobody reads any more. Whether anything could still have come.
    pub(super) fn stop(&self, code: u32) -> bool {
        let mut state = self.state.lock();
        let open = state.end.is_none() && state.stop.is_none();
        state.stop.get_or_insert(code);
        state.clear();
        drop(state);
        self.stopped.notify_one();
        open
    }

    /// Waits for [`Inlet::stop`]; for the one who pumps.
    pub(super) async fn stopped(&self) -> u32 {
        loop {
            if let Some(code) = self.state.lock().stop {
                return code;
            }
            self.stopped.notified().await;
        }
    }

    /// How many bytes nobody has read.
    pub(in crate::transport) fn waiting(&self) -> u64 {
        self.state.lock().waiting
    }

    /// Whether the end has come, or nobody wants it.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.end.is_some() || state.stop.is_some()
    }
}

impl Arrived {
    fn keep(&mut self, chunk: Bytes) {
        if chunk.len() >= CHUNK_MIN {
            self.cut_tail();
            self.chunks.push_back(chunk);
            return;
        }
        if self.tail.capacity() - self.tail.len() < chunk.len() {
            self.cut_tail();
            self.tail = BytesMut::with_capacity(TAIL);
        }
        self.tail.extend_from_slice(&chunk);
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.cut_tail();
        }
        let chunk = self.chunks.pop_front()?;
        self.waiting -= chunk.len() as u64;
        Some(chunk)
    }

    /// Lets the peer send more once it may have used half of its window. The window grows where
    /// the reader keeps up, and stays small where bytes only pile up.
    fn grant(&mut self) -> Option<u64> {
        let read = self.received - self.waiting;
        if self.end.is_some() || self.granted - read > self.window / 2 {
            return None;
        }
        if self.waiting == 0 {
            self.window = (self.window * 2).min(WINDOW_MAX);
        }
        self.granted = read + self.window;
        Some(self.granted)
    }

    fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        self.waiting = 0;
    }
}

/// How much may be sent.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    state: Mutex<Allowed>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Allowed {
    limit: u64,
    sent: u64,
    over: Option<Error>,
}

impl Outlet {
    /// The peer takes bytes up to here.
    pub(super) fn grant(&self, limit: u64) {
        let mut state = self.state.lock();
        state.limit = state.limit.max(limit);
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing can be sent any more; the first reason stays.
    pub(super) fn fail(&self, error: Error) {
        self.state.lock().over.get_or_insert(error);
        self.changed.notify_one();
    }

    /// Why nothing can be sent any more.
    pub(super) fn over(&self) -> Option<Error> {
        self.state.lock().over.clone()
    }

    /// Waits until some of so many bytes may be sent; for the one who writes.
    pub(super) async fn room(&self, wanted: usize) -> Result<usize> {
        loop {
            {
                let state = self.state.lock();
                if let Some(error) = &state.over {
                    return Err(error.clone());
                }
                let room = state.limit.saturating_sub(state.sent);
                if room > 0 {
                    return Ok(usize::try_from(room).map_or(wanted, |room| room.min(wanted)));
                }
            }
            self.changed.notified().await;
        }
    }

    /// So many bytes are on their way.
    pub(super) fn sent(&self, bytes: usize) {
        self.state.lock().sent += bytes as u64;
    }

    /// How many bytes were ever sent.
    pub(super) fn total(&self) -> u64 {
        self.state.lock().sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(found: Found) -> (usize, Option<u64>) {
        match found {
            Found::Chunk(chunk, grant) => (chunk.len(), grant),
            Found::End(end) => panic!("the end: {end:?}"),
            Found::Nothing => panic!("nothing"),
        }
    }

    #[test]
    fn nobody_sends_more_than_was_granted() {
        let inlet = Inlet::new();
        inlet.push(vec![0; WINDOW_MIN as usize].into()).unwrap();
        assert!(inlet.push(vec![0; 1].into()).is_err());
    }

    #[test]
    fn the_window_grows_where_the_reader_keeps_up_and_only_there() {
        let (quick, slow) = (Inlet::new(), Inlet::new());
        let (mut granted, mut most) = (WINDOW_MIN, 0);
        let mut sent = 0;
        for _ in 0..64 {
            quick.push(vec![0; (granted - sent) as usize].into()).unwrap();
            most = most.max(granted - sent);
            sent = granted;
            granted = chunk(quick.take()).1.unwrap();
        }
        assert_eq!(most, WINDOW_MAX);

        let mut granted = 0;
        slow.push(vec![0; 32 << 10].into()).unwrap();
        for _ in 0..64 {
            slow.push(vec![0; 32 << 10].into()).unwrap(); // there is always one that waits
            granted = chunk(slow.take()).1.unwrap_or(granted);
        }
        assert_eq!(granted, 64 * (32 << 10) + WINDOW_MIN);
    }

    #[test]
    fn small_chunks_are_kept_together_and_in_order() {
        let inlet = Inlet::new();
        let bytes: Vec<u8> = (0..40_000).map(|i: u32| (i / 7) as u8).collect();
        let mut rest = Bytes::from(bytes.clone());
        for size in [1, 10, 5000, 3, 4095, 4096, 1].iter().cycle() {
            if rest.is_empty() {
                break;
            }
            inlet.push(rest.split_to((*size).min(rest.len()))).unwrap();
        }
        inlet.end(Ok(()));
        let mut read = Vec::new();
        let mut chunks = 0;
        loop {
            match inlet.take() {
                Found::Chunk(chunk, grant) => {
                    assert_eq!(grant, None, "nobody needs more after the end");
                    read.extend_from_slice(&chunk);
                    chunks += 1;
                }
                Found::End(end) => break end.unwrap(),
                Found::Nothing => panic!("nothing"),
            }
        }
        assert_eq!(read, bytes);
        assert!(chunks < 20, "{chunks} chunks");
    }

    #[test]
    fn what_fails_is_known_before_what_was_not_read() {
        let inlet = Inlet::new();
        inlet.push("lost".into()).unwrap();
        inlet.end(Err(Error::Cancelled));
        inlet.end(Ok(())); // the first end stays
        assert!(matches!(inlet.take(), Found::End(Err(Error::Cancelled))));
    }
}
