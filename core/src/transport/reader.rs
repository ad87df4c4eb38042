//! Reading streams in the chunks in which they arrive.

use std::{future::Future, sync::Arc};

use bytes::{Bytes, BytesMut};
use s2n_quic::stream::{self, ReceiveStream};

use super::shelf::{self, Shelf};

/// A new buffer never starts larger than this, whatever length a peer announces, ...
const BUFFER_START: usize = 64 << 10;
/// ... and grows by this factor. What is reserved takes no memory before it is written to, where systems
/// give it by the page.
const BUFFER_GROWTH: usize = 16;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum ReadError {
    Stream(stream::Error),
    Ended,
    TooLong,
}

/// Where chunks come from: a stream, or what a fuzzer has made up.
pub(super) trait Source {
    /// The next chunk, empty perhaps, and whether more may come. What it had when it is dropped early
    /// comes next time.
    fn chunk(&mut self) -> impl Future<Output = stream::Result<(Bytes, bool)>> + Send;
}

impl Source for ReceiveStream {
    async fn chunk(&mut self) -> stream::Result<(Bytes, bool)> {
        let mut chunks = [Bytes::new()];
        let (_, open) = self.receive_vectored(&mut chunks).await?;
        let [chunk] = chunks;
        Ok((chunk, open))
    }
}

/// Reads a stream in the chunks in which it arrives; copies only what spans several.
pub(super) struct Reader<S = ReceiveStream> {
    pub(super) stream: S,
    chunk: Bytes,
    /// Whether its end has not been seen.
    pub(super) open: bool,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, chunk: Bytes::new(), open: true }
    }

    /// Gets the next chunk; `false` at the end of the stream.
    async fn more(&mut self) -> Result<bool, ReadError> {
        while self.open {
            let (chunk, open) = self.stream.chunk().await.map_err(ReadError::Stream)?;
            self.open = open;
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
        if let Some(bytes) = self.in_one(bytes).await? {
            return Ok(bytes);
        }
        let mut whole = Vec::new();
        self.fill(&mut whole, bytes, bytes).await?;
        Ok(whole.into())
    }

    /// The same of a payload: a large one gets a buffer that was used before, if there is one.
    pub(super) async fn payload(
        &mut self,
        bytes: usize,
        shelf: &Arc<Shelf>,
    ) -> Result<Bytes, ReadError> {
        if bytes < shelf::LARGE {
            return self.exact(bytes).await;
        }
        // Nothing is taken for what was only announced.
        if self.chunk.is_empty() && !self.more().await? {
            return Err(ReadError::Ended);
        }
        let mut whole = shelf.buffer(bytes);
        let size = whole.size;
        self.fill(&mut whole.bytes, bytes, size).await?;
        Ok(whole.freeze())
    }

    /// So many bytes, if they came in one chunk.
    async fn in_one(&mut self, bytes: usize) -> Result<Option<Bytes>, ReadError> {
        if self.chunk.is_empty() && bytes > 0 && !self.more().await? {
            return Err(ReadError::Ended);
        }
        Ok((self.chunk.len() >= bytes).then(|| self.chunk.split_to(bytes)))
    }

    /// Fills a buffer with so many bytes. It grows as they come, up to a size, by steps of which each
    /// copies what has come.
    async fn fill(
        &mut self,
        whole: &mut Vec<u8>,
        bytes: usize,
        size: usize,
    ) -> Result<(), ReadError> {
        loop {
            let part = self.chunk.split_to((bytes - whole.len()).min(self.chunk.len()));
            let needed = whole.len() + part.len();
            if needed > whole.capacity() {
                let room =
                    needed.max(BUFFER_START).max(BUFFER_GROWTH.saturating_mul(whole.capacity()));
                whole.reserve_exact(room.min(size) - whole.len());
            }
            whole.extend_from_slice(&part);
            if whole.len() == bytes {
                return Ok(());
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
