//! Reading streams in the chunks in which they arrive.

use bytes::{Bytes, BytesMut};
use s2n_quic::stream::{self, ReceiveStream};

/// A buffer never starts larger than this, whatever length a peer announces.
const BUFFER_START: usize = 64 << 10;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum ReadError {
    Stream(stream::Error),
    Ended,
    TooLong,
}

/// Reads a stream in the chunks in which it arrives; copies only what spans several.
pub(super) struct Reader {
    pub(super) stream: ReceiveStream,
    chunk: Bytes,
    /// Whether its end has not been seen.
    pub(super) open: bool,
}

impl Reader {
    pub(super) fn new(stream: ReceiveStream) -> Self {
        Self { stream, chunk: Bytes::new(), open: true }
    }

    /// Gets the next chunk; `false` at the end of the stream.
    async fn more(&mut self) -> Result<bool, ReadError> {
        while self.open {
            let mut chunks = [Bytes::new()];
            let (_, open) =
                self.stream.receive_vectored(&mut chunks).await.map_err(ReadError::Stream)?;
            self.open = open;
            let [chunk] = chunks;
            if !chunk.is_empty() {
                self.chunk = chunk;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What has arrived next; nothing at the end of the stream. What it had when it is dropped early
    /// stays here.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.chunk.is_empty() && !self.more().await? {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.chunk)))
    }

    /// Exactly so many bytes, whose number has been checked.
    pub(super) async fn exact(&mut self, bytes: usize) -> Result<Bytes, ReadError> {
        if self.chunk.is_empty() && bytes > 0 && !self.more().await? {
            return Err(ReadError::Ended);
        }
        if self.chunk.len() >= bytes {
            return Ok(self.chunk.split_to(bytes));
        }
        let mut whole = Vec::with_capacity(bytes.min(BUFFER_START));
        loop {
            let part = self.chunk.split_to((bytes - whole.len()).min(self.chunk.len()));
            if whole.len() + part.len() > whole.capacity() {
                // Twice as much each time, but never more than was announced.
                let room = (whole.len() + part.len()).max(2 * whole.capacity()).min(bytes);
                whole.reserve_exact(room - whole.len());
            }
            whole.extend_from_slice(&part);
            if whole.len() == bytes {
                return Ok(whole.into());
            }
            if !self.more().await? {
                return Err(ReadError::Ended);
            }
        }
    }

    /// All up to the end of the stream.
    pub(super) async fn rest(&mut self, max: usize) -> Result<Bytes, ReadError> {
        let mut whole = BytesMut::from(std::mem::take(&mut self.chunk));
        while self.more().await? {
            if whole.len() + self.chunk.len() > max {
                return Err(ReadError::TooLong);
            }
            whole.unsplit(BytesMut::from(std::mem::take(&mut self.chunk)));
        }
        Ok(whole.freeze())
    }

    /// Sees the end of the stream where it is due, so that dropping it gives no alarm.
    pub(super) async fn end(&mut self) {
        if self.open && self.chunk.is_empty() {
            let _ = self.more().await; // an error here has the same consequence as the end
        }
    }
}
