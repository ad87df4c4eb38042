//! What one peer may take of that which all peers share: the driver's time and its queue, and
//! memory for what arrives.
//!
//! The limits lie far above what an honest peer needs and are kept for each node id, however many links
//! and processes there are under it, so that whoever goes beyond them loses what is its own, and nobody
//! else anything.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::member::NodeId;

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

/// The share of one node id. Its links have it in common, those included that others have taken the
/// place of, and so has whatever outlives them: the handler of a message goes on without its link.
pub(super) struct PeerShare {
    /// The requests and messages under way.
    pub(super) serving: AtomicUsize,
    /// The streams that it opened.
    pub(super) streaming: AtomicUsize,
    pub(super) payloads: PayloadShare,
    frames: FrameShare,
}

impl PeerShare {
    fn new(payload_max: u64, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            serving: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            payloads: PayloadShare::new(payload_max),
            frames: FrameShare::new(now),
        })
    }

    /// Takes a membership frame in that came on a link of which so many bytes wait; `None` when its
    /// sender has had its share.
    pub(super) fn take(
        self: &Arc<Self>,
        now: Instant,
        of_link: &Arc<AtomicUsize>,
        bytes: usize,
    ) -> Option<Waiting> {
        let frames = &self.frames;
        // From here on it counts, whichever way out.
        of_link.fetch_add(bytes, Relaxed);
        let waiting = Waiting { share: self.clone(), of_link: of_link.clone(), bytes };
        let before = frames.waiting.fetch_add(1, Relaxed);
        let bytes_before = frames.bytes_waiting.fetch_add(bytes, Relaxed);
        let fits = before < FRAMES_WAITING_MAX && bytes_before + bytes <= BYTES_WAITING_MAX;
        (fits && frames.rates.lock().take(now, bytes)).then_some(waiting)
    }
}

/// The shares that anything is left of.
#[derive(Default)]
pub(super) struct Shares(BTreeMap<NodeId, Weak<PeerShare>>);

impl Shares {
    /// That of a node id. A new one only where nothing is left of the one before.
    pub(super) fn of(&mut self, id: &NodeId, payload_max: u64) -> Arc<PeerShare> {
        if let Some(share) = self.0.get(id).and_then(Weak::upgrade) {
            return share;
        }
        self.0.retain(|_, share| share.strong_count() > 0);
        let share = PeerShare::new(payload_max, Instant::now());
        self.0.insert(id.clone(), Arc::downgrade(&share));
        share
    }
}

/// Membership frames of one peer: how fast, and how many wait.
struct FrameShare {
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
    share: Arc<PeerShare>,
    /// How many bytes of the same link wait.
    of_link: Arc<AtomicUsize>,
    bytes: usize,
}

impl FrameShare {
    fn new(now: Instant) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            bytes_waiting: AtomicUsize::new(0),
            rates: Mutex::new(Rates { at: now, frames: FRAMES_AT_ONCE, bytes: BYTES_AT_ONCE }),
        }
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
        self.share.frames.waiting.fetch_sub(1, Relaxed);
        self.share.frames.bytes_waiting.fetch_sub(self.bytes, Relaxed);
        self.of_link.fetch_sub(self.bytes, Relaxed);
    }
}

impl std::fmt::Debug for PeerShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerShare({} frames wait)", self.frames.waiting.load(Relaxed))
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

/// Room for the payloads of one peer: the large ones are bounded.
pub(super) struct PayloadShare {
    large: Semaphore,
    /// The largest payload.
    max: u64,
}

/// The room that one payload takes.
pub(super) struct Room<'a> {
    _large: Option<SemaphorePermit<'a>>,
    _of_link: Held<'a>,
}

impl PayloadShare {
    pub(super) fn new(max: u64) -> Self {
        Self { large: Semaphore::new(units(2 * max) as usize), max }
    }

    /// Waits for room for a payload, whose size has been checked; a small one does not wait. It counts
    /// as its link's as well.
    pub(super) async fn room<'a>(&'a self, of_link: &'a Tally, bytes: u64) -> Room<'a> {
        let large = match bytes {
            0..=SMALL => None,
            _ => self.large.acquire_many(units(bytes)).await.ok(), // it is never closed
        };
        Room { _large: large, _of_link: of_link.hold(bytes) }
    }

    /// How many payloads of this size have room at once.
    pub(super) fn at_once(&self, bytes: u64) -> usize {
        usize::try_from(2 * self.max / bytes.max(1)).unwrap_or(usize::MAX)
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
        let share = PeerShare::new(1, start);
        let link = Arc::default();
        let waiting: Vec<_> =
            (0..FRAMES_WAITING_MAX).map(|_| share.take(start, &link, 100)).collect();
        assert!(waiting.iter().all(Option::is_some));
        // On whichever link of the peer's it comes.
        let other = Arc::default();
        assert!(share.take(start, &other, 100).is_none(), "too many wait");
        assert_eq!(other.load(Relaxed), 0);
        assert_eq!(link.load(Relaxed), 100 * FRAMES_WAITING_MAX);
        drop(waiting);
        assert_eq!((link.load(Relaxed), share.frames.bytes_waiting.load(Relaxed)), (0, 0));
        let taken = (0..5000).filter(|_| share.take(start, &link, 100).is_some()).count();
        assert_eq!(taken, FRAMES_AT_ONCE as usize - FRAMES_WAITING_MAX);
        let later = start + Duration::from_millis(100);
        let taken = (0..5000).filter(|_| share.take(later, &link, 100).is_some()).count();
        assert_eq!(taken, FRAMES_PER_S as usize / 10);
    }

    #[test]
    fn large_frames_are_bounded_by_their_bytes() {
        const MIB: usize = 1 << 20;
        let start = Instant::now();
        let share = PeerShare::new(1, start);
        let link = Arc::default();
        let waiting: Vec<_> = (0..4).map(|_| share.take(start, &link, MIB)).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(share.take(start, &link, 1).is_none());
        drop(waiting);
        let taken = (0..100).filter(|_| share.take(start, &link, MIB).is_some()).count();
        assert_eq!(taken, BYTES_AT_ONCE as usize / MIB - 4);
    }

    #[tokio::test]
    async fn two_of_the_largest_payloads_fit_and_small_ones_always() {
        let share = PayloadShare::new(1 << 20);
        let links = [Tally::default(), Tally::default()];
        let held = || [links[0].held(), links[1].held()];
        let at_once = |link: usize, bytes| {
            tokio::time::timeout(Duration::ZERO, share.room(&links[link], bytes))
        };
        let (first, second) =
            (at_once(0, 1 << 20).await.unwrap(), at_once(1, 1 << 20).await.unwrap());
        for link in [0, 1] {
            assert!(at_once(link, SMALL + 1).await.is_err(), "whichever link it comes on");
        }
        assert_eq!(held(), [1 << 20; 2]);
        let small = at_once(0, SMALL).await.unwrap();
        assert_eq!(held(), [(1 << 20) + SMALL, 1 << 20]);
        drop((first, small));
        let third = at_once(0, SMALL + 1).await.unwrap();
        assert_eq!(held(), [SMALL + 1, 1 << 20]);
        drop((second, third));
        assert_eq!(held(), [0; 2]);
        assert_eq!([1 << 20, 1 << 19, (1 << 19) + 1].map(|bytes| share.at_once(bytes)), [2, 4, 3]);
    }

    #[test]
    fn a_share_lasts_as_long_as_anything_of_its_node() {
        let id = |n: usize| NodeId::new(format!("n{n}")).unwrap();
        let mut shares = Shares::default();
        let first = shares.of(&id(1), 1);
        let outlives = shares.of(&id(1), 1);
        assert!(Arc::ptr_eq(&first, &outlives));
        assert!(!Arc::ptr_eq(&first, &shares.of(&id(2), 1)));
        drop(first);
        assert!(Arc::ptr_eq(&outlives, &shares.of(&id(1), 1)));
        drop(outlives);
        shares.of(&id(3), 1);
        assert_eq!(shares.0.len(), 1, "nothing is kept of those who left");
    }

    #[test]
    fn a_quarter_of_the_requests_is_left_to_others() {
        assert_eq!([1, 2, 3, 4, 1024].map(requests_per_peer), [1, 2, 3, 3, 768]);
    }
}
