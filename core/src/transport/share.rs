//! What one peer may take of that which all peers share: the driver's time and its queue, and
//! memory for what arrives.
//!
//! The limits lie far above what an honest peer needs and are kept link by link, so that whoever
//! goes beyond them loses what is its own, and nobody else anything.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// How many membership frames a second the driver takes of one peer, and how many at once after a
/// quiet time. A node of a thousand hears some tens a second of each of its neighbours.
const FRAMES_PER_S: f64 = 1000.0;
const FRAMES_AT_ONCE: f64 = 2000.0;
/// How many bytes of them. A table of 10,000 members has some 3 MB.
const BYTES_PER_S: f64 = 8e6;
const BYTES_AT_ONCE: f64 = 16e6;
/// How much of one peer's waits for the driver: one frame in sixteen of its queue, ...
pub(super) const FRAMES_WAITING_MAX: usize = 256;
/// ... and four of the largest.
pub(super) const BYTES_WAITING_MAX: usize = 4 << 20;
/// Payloads up to this size may be as many as there may be requests; of larger ones a peer may have
/// two of the largest under way, or as much in smaller ones, and the next waits.
const SMALL: u64 = 64 << 10;
const UNIT: u64 = 1 << 10;

/// Membership frames of one peer: how fast, and how many wait.
pub(super) struct FrameShare {
    waiting: AtomicUsize,
    bytes_waiting: AtomicUsize,
    rates: Mutex<Rates>,
}

struct Rates {
    at: Instant,
    frames: f64,
    bytes: f64,
}

/// A frame that waits for the driver, or is in its hands.
#[derive(Debug)]
pub struct Waiting {
    share: Arc<FrameShare>,
    bytes: usize,
}

impl FrameShare {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            bytes_waiting: AtomicUsize::new(0),
            rates: Mutex::new(Rates { at: now, frames: FRAMES_AT_ONCE, bytes: BYTES_AT_ONCE }),
        })
    }

    /// Takes a frame in; `None` when its sender has had its share.
    pub(super) fn take(self: &Arc<Self>, now: Instant, bytes: usize) -> Option<Waiting> {
        // From here on it counts, whichever way out.
        let waiting = Waiting { share: self.clone(), bytes };
        let before = self.waiting.fetch_add(1, Relaxed);
        let bytes_before = self.bytes_waiting.fetch_add(bytes, Relaxed);
        let fits = before < FRAMES_WAITING_MAX && bytes_before + bytes <= BYTES_WAITING_MAX;
        (fits && self.rates.lock().take(now, bytes)).then_some(waiting)
    }

    pub(super) fn bytes_waiting(&self) -> usize {
        self.bytes_waiting.load(Relaxed)
    }
}

impl Rates {
    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.frames = (self.frames + passed * FRAMES_PER_S).min(FRAMES_AT_ONCE);
        self.bytes = (self.bytes + passed * BYTES_PER_S).min(BYTES_AT_ONCE);
        let bytes = bytes as f64;
        if self.frames < 1.0 || self.bytes < bytes {
            return false;
        }
        self.frames -= 1.0;
        self.bytes -= bytes;
        true
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.share.waiting.fetch_sub(1, Relaxed);
        self.share.bytes_waiting.fetch_sub(self.bytes, Relaxed);
    }
}

impl std::fmt::Debug for FrameShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameShare({} wait)", self.waiting.load(Relaxed))
    }
}

/// How many bytes of something a link holds now.
#[derive(Default)]
pub(super) struct Tally(AtomicU64);

/// So many of them, until this is dropped.
pub(super) struct Held<'a>(&'a Tally, u64);

impl Tally {
    pub(super) fn hold(&self, bytes: u64) -> Held<'_> {
        self.0.fetch_add(bytes, Relaxed);
        Held(self, bytes)
    }

    pub(super) fn held(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Relaxed);
    }
}

/// Room for the payloads of one peer: all are counted, and the large ones bounded.
pub(super) struct PayloadShare {
    large: Semaphore,
    all: Tally,
}

/// The room that one payload takes.
pub(super) struct Room<'a> {
    _large: Option<SemaphorePermit<'a>>,
    _all: Held<'a>,
}

impl PayloadShare {
    pub(super) fn new(payload_max: u64) -> Self {
        let units = units(2 * payload_max) as usize;
        Self { large: Semaphore::new(units), all: Tally::default() }
    }

    /// Waits for room for a payload, whose size has been checked; a small one does not wait.
    pub(super) async fn room(&self, bytes: u64) -> Room<'_> {
        let large = match bytes {
            0..=SMALL => None,
            _ => self.large.acquire_many(units(bytes)).await.ok(), // it is never closed
        };
        Room { _large: large, _all: self.all.hold(bytes) }
    }

    /// How many bytes of room are taken.
    pub(super) fn held(&self) -> u64 {
        self.all.held()
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// How many of so many requests at once one peer may have: a quarter is left to others.
pub(super) fn requests_per_peer(requests_max: usize) -> usize {
    requests_max - requests_max / 4
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_are_taken_at_a_rate_and_no_more_than_so_many_wait() {
        let start = Instant::now();
        let share = FrameShare::new(start);
        let waiting: Vec<_> = (0..FRAMES_WAITING_MAX).map(|_| share.take(start, 100)).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(share.take(start, 100).is_none(), "too many wait");
        drop(waiting);
        assert_eq!(share.bytes_waiting(), 0);
        let taken = (0..5000).filter(|_| share.take(start, 100).is_some()).count();
        assert_eq!(taken, FRAMES_AT_ONCE as usize - FRAMES_WAITING_MAX);
        let later = start + Duration::from_millis(100);
        let taken = (0..5000).filter(|_| share.take(later, 100).is_some()).count();
        assert_eq!(taken, FRAMES_PER_S as usize / 10);
    }

    #[test]
    fn large_frames_are_bounded_by_their_bytes() {
        const MIB: usize = 1 << 20;
        let start = Instant::now();
        let share = FrameShare::new(start);
        let waiting: Vec<_> = (0..4).map(|_| share.take(start, MIB)).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(share.take(start, 1).is_none());
        drop(waiting);
        let taken = (0..100).filter(|_| share.take(start, MIB).is_some()).count();
        assert_eq!(taken, BYTES_AT_ONCE as usize / MIB - 4);
    }

    #[tokio::test]
    async fn two_of_the_largest_payloads_fit_and_small_ones_always() {
        let share = PayloadShare::new(1 << 20);
        let at_once = |bytes| tokio::time::timeout(Duration::ZERO, share.room(bytes));
        let (first, second) = (at_once(1 << 20).await.unwrap(), at_once(1 << 20).await.unwrap());
        assert!(at_once(SMALL + 1).await.is_err());
        assert_eq!(share.held(), 2 << 20);
        let small = at_once(SMALL).await.unwrap();
        assert_eq!(share.held(), (2 << 20) + SMALL);
        drop((first, small));
        let third = at_once(SMALL + 1).await.unwrap();
        assert_eq!(share.held(), (1 << 20) + SMALL + 1);
        drop((second, third));
        assert_eq!(share.held(), 0);
    }

    #[test]
    fn a_quarter_of_the_requests_is_left_to_others() {
        assert_eq!([1, 2, 3, 4, 1024].map(requests_per_peer), [1, 2, 3, 3, 768]);
    }
}
