//! Things to come, in order of their time, and among equals in the order in which they were
//! planned.
//!
//! Nearly all of them come within a fraction of a second, some tens of thousands a second where
//! there are a thousand nodes. So the next quarter of a second is a wheel of short spans, and only
//! the span under way is sorted; what comes later waits in a heap.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

/// A span is so many microseconds long, as a power of two: shorter than most packets travel, so
/// that little is planned for the span under way.
const SPAN: u32 = 8;
/// How many spans the wheel has; a multiple of 64.
const SPANS: usize = 1024;

/// So many of those that come next are known in order.
pub(super) const AHEAD: usize = 10;
/// But no later ones than in so many spans: what is planned meanwhile for before those is put in
/// its place among them one by one.
const NEAR: u64 = 4;

/// One thing to come: what it is lies elsewhere, so that little is moved about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    order: u64,
    pub(super) what: What,
}

/// What is to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum What {
    /// The tick of a process: of those there are the most.
    Tick(u32),
    /// What lies in this place of the slab.
    Other(u32),
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// The span under way, the first to come last.
    near: Vec<Due>,
    /// Its number since time began.
    span: u64,
    /// The spans after it, in no order.
    wheel: Vec<Vec<Due>>,
    /// In which of them there is something.
    used: [u64; SPANS / 64],
    far: BinaryHeap<Reverse<Due>>,
    order: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            near: Vec::new(),
            span: 0,
            wheel: vec![Vec::new(); SPANS],
            used: [0; SPANS / 64],
            far: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Plans something; not for a time before what was taken out last.
    pub(super) fn push(&mut self, at: u64, what: What) {
        self.order += 1;
        let due = Due { at, order: self.order, what };
        let span = at >> SPAN;
        if span <= self.span {
            let place = self.near.partition_point(|d| *d > due);
            self.near.insert(place, due);
        } else if span - self.span < SPANS as u64 {
            let place = span as usize % SPANS;
            self.wheel[place].push(due);
            self.used[place / 64] |= 1 << (place % 64);
        } else {
            self.far.push(Reverse(due));
        }
    }

    /// The next, if it comes by then.
    pub(super) fn pop(&mut self, until: u64) -> Option<Due> {
        if self.near.len() <= AHEAD {
            while self.near.len() <= AHEAD && self.advance() {}
        }
        self.near.pop_if(|due| due.at <= until)
    }

    /// What comes after so many others, fewer than [`AHEAD`], as far as that is known already.
    pub(super) fn ahead(&self, others: usize) -> Option<Due> {
        let at = self.near.len().checked_sub(others + 1)?;
        Some(self.near[at])
    }

    /// Goes on to the next span in which there is something, if there is one and it is near, or
    /// nothing else is.
    fn advance(&mut self) -> bool {
        let far = self.far.peek().map(|d| d.0.at >> SPAN);
        let Some(span) = [self.next_used(), far].into_iter().flatten().min() else { return false };
        if !self.near.is_empty() && span - self.span > NEAR {
            return false;
        }
        self.span = span;
        let place = span as usize % SPANS;
        self.used[place / 64] &= !(1 << (place % 64));
        let next = &mut self.wheel[place];
        while let Some(due) = self.far.peek_mut()
            && due.0.at >> SPAN == span
        {
            next.push(PeekMut::pop(due).0);
        }
        next.sort_unstable_by(|a, b| b.cmp(a));
        // What was there comes before all that is new, so it is last.
        next.append(&mut self.near);
        std::mem::swap(&mut self.near, next);
        true
    }

    /// The first span of the wheel in which there is something.
    fn next_used(&self) -> Option<u64> {
        let from = (self.span + 1) as usize % SPANS;
        let words = self.used.len();
        // Once round, and the first word again for what lies before the beginning.
        for n in 0..=words {
            let at = (from / 64 + n) % words;
            let mut word = self.used[at];
            if n == 0 {
                word &= u64::MAX << (from % 64);
            }
            if word != 0 {
                let place = at * 64 + word.trailing_zeros() as usize;
                let ahead = (place + SPANS - from) % SPANS;
                return Some(self.span + 1 + ahead as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn they_come_in_order_of_time_and_then_of_planning() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut queue = Queue::new();
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        let (mut now, mut planned) = (0, 0);
        for _ in 0..200_000 {
            if rng.random_bool(0.5) {
                let later: u64 = match rng.random_range(0..10) {
                    0 => 0,
                    1..6 => rng.random_range(0..2_000),
                    6..9 => rng.random_range(0..400_000),
                    _ => rng.random_range(0..100_000_000),
                };
                queue.push(now + later, What::Other(planned));
                waiting.push((now + later, planned));
                planned += 1;
            } else {
                let until = now + rng.random_range(0..50_000);
                let first = waiting.iter().copied().min().filter(|(at, _)| *at <= until);
                let found = queue.pop(until);
                let found = found.map(|due| match due.what {
                    What::Other(n) => (due.at, n),
                    What::Tick(_) => panic!("nobody planned one"),
                });
                assert_eq!(found, first);
                if let Some(first) = first {
                    now = first.0;
                    waiting.retain(|w| *w != first);
                }
            }
            if waiting.len() > 500 {
                waiting.truncate(0);
                while queue.pop(u64::MAX).is_some_and(|due| {
                    now = due.at;
                    true
                }) {}
            }
        }
        assert!(planned > 50_000);
    }
}
