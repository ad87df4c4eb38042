//! Buffers for large payloads, which are used again.
//!
//! The allocator gives large blocks back to the system, and then each page of the next one is a fault on
//! its first byte: of 10 MiB that cost more than copying them (measured with four requesters: 256 faults
//! and a quarter of the time of each MiB). So what was let go lies here for a moment, bounded, until a
//! payload of about the same size comes.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Smaller payloads get a block of their own: the allocator keeps those itself.
pub(super) const LARGE: usize = 256 << 10;
/// How much lies on a node's shelf at most, in bytes, ...
const BYTES_MAX: usize = 32 << 20;
/// ... and for how long.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The buffers of one node that nobody uses.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    buffers: Vec<(Instant, Vec<u8>)>,
    closed: bool,
    #[cfg(test)]
    reused: usize,
}

impl Shelf {
    /// A buffer for so many bytes, empty: one that was used, or a new one without memory.
    pub(super) fn buffer(self: &Arc<Self>, bytes: usize) -> Buffer {
        let size = rounded(bytes);
        let mut kept = self.0.lock();
        // The last one let go is the most likely to be in the processor's caches.
        let found = kept.buffers.iter().rposition(|(_, buffer)| buffer.capacity() == size);
        #[cfg(test)]
        {
            kept.reused += usize::from(found.is_some());
        }
        let bytes = found.map(|at| kept.buffers.remove(at).1).unwrap_or_default();
        Buffer { bytes, size, shelf: self.clone() }
    }

    /// Lets go of what nobody wanted for a while.
    pub(super) fn tidy(&self) {
        let mut kept = self.0.lock();
        let stale =
            kept.buffers.iter().take_while(|(since, _)| since.elapsed() >= KEPT_FOR).count();
        let stale: Vec<_> = kept.buffers.drain(..stale).collect();
        drop(kept); // giving memory back takes a while
        drop(stale);
    }

    /// Lets go of all, now and whatever comes back later.
    pub(super) fn close(&self) {
        let mut kept = self.0.lock();
        kept.closed = true;
        let all = mem::take(&mut kept.buffers);
        drop(kept);
        drop(all);
    }

    #[cfg(test)]
    pub(super) fn reused(&self) -> usize {
        self.0.lock().reused
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.lock().bytes()
    }

    /// Takes one back, in the place of the oldest if need be.
    fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock();
        if kept.closed || buffer.capacity() > BYTES_MAX {
            drop(kept); // before the buffer
            return;
        }
        kept.buffers.push((Instant::now(), buffer));
        let mut over = kept.bytes().saturating_sub(BYTES_MAX);
        let mut out = 0;
        while over > 0 {
            over = over.saturating_sub(kept.buffers[out].1.capacity());
            out += 1;
        }
        let out: Vec<_> = kept.buffers.drain(..out).collect();
        drop(kept);
        drop(out);
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.buffers.iter().map(|(_, buffer)| buffer.capacity()).sum()
    }
}

/// In steps of an eighth, so that payloads of about the same size can take one another's place.
fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(1 << (bytes / 8).max(1).ilog2())
}

/// A buffer that goes back to its shelf when it is not used any more, as [`Bytes`] too.
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// Never grows beyond this.
    pub(super) size: usize,
    shelf: Arc<Shelf>,
}

impl Buffer {
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // One that has not grown to its size would make the next one grow.
        if self.bytes.capacity() == self.size {
            self.shelf.put(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn full(shelf: &Arc<Shelf>, bytes: usize) -> Bytes {
        let mut buffer = shelf.buffer(bytes);
        buffer.bytes.reserve_exact(buffer.size);
        buffer.bytes.resize(bytes, 1);
        buffer.freeze()
    }

    #[test]
    fn sizes_go_in_steps_of_an_eighth_at_most() {
        for bytes in [LARGE, LARGE + 1, 999_999, 10 * MIB, 10 * MIB + 1, 64 * MIB] {
            let size = rounded(bytes);
            assert!(size >= bytes && size - bytes <= bytes / 8, "{bytes}: {size}");
            assert_eq!(rounded(size), size, "{bytes}");
        }
        assert_eq!(rounded(10 * MIB), 10 * MIB);
        assert_eq!(rounded(10 * MIB - 5), 10 * MIB);
    }

    #[tokio::test]
    async fn what_the_last_holder_lets_go_is_used_again_and_empty() {
        let shelf = Arc::<Shelf>::default();
        let payload = full(&shelf, 10 * MIB);
        let (at, part) = (payload.as_ptr(), payload.slice(5..7));
        drop(payload);
        assert_eq!(shelf.kept(), 0, "a part is still held");
        drop(part);
        assert_eq!(shelf.kept(), 10 * MIB);
        assert_eq!(shelf.buffer(2 * MIB).bytes.capacity(), 0, "a smaller one would waste it");
        let again = shelf.buffer(10 * MIB - 100);
        assert_eq!((again.bytes.as_ptr(), again.bytes.len()), (at, 0));
        assert_eq!(shelf.kept(), 0);
        drop(again);
        assert_eq!(shelf.kept(), 10 * MIB, "also unused");
        drop(shelf.buffer(MIB));
        assert_eq!(shelf.kept(), 10 * MIB, "but nothing that never grew");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_much_is_kept_and_for_no_longer() {
        let shelf = Arc::<Shelf>::default();
        let payloads: Vec<_> = (0..5).map(|_| full(&shelf, 10 * MIB)).collect();
        drop(payloads);
        assert_eq!(shelf.kept(), 30 * MIB);
        shelf.tidy();
        assert_eq!(shelf.kept(), 30 * MIB);
        tokio::time::advance(KEPT_FOR / 2).await;
        drop(full(&shelf, 10 * MIB)); // used again
        drop(full(&shelf, 4 * MIB));
        assert_eq!(shelf.kept(), 24 * MIB, "the oldest makes room");
        tokio::time::advance(KEPT_FOR / 2).await;
        shelf.tidy();
        assert_eq!(shelf.kept(), 14 * MIB);
        drop(full(&shelf, 40 * MIB));
        assert_eq!(shelf.kept(), 14 * MIB, "what is larger than all is not kept");
        let late = full(&shelf, MIB);
        shelf.close();
        drop(late);
        assert_eq!(shelf.kept(), 0);
    }
}
