//! Who watches whom: K rings on which every node has a place that follows from its id alone.
//!
//! Your successor on each ring is a node that you watch, your predecessors watch you. Every other
//! ring is the one before it, run the other way: so whom you watch watches you, one link and
//! one exchange a heartbeat interval serve both, and with an even K a node has K neighbours, not 2K.
//!
//! All nodes with the same members compute the same rings, in whatever order they heard of them.
//! Only the own neighbours are kept: a newcomer is compared with them, and a neighbour that goes is
//! replaced by a look at all members, which at K neighbours of N happens rarely.

use crate::member::NodeId;

/// A number that follows from the id alone: what its places are made from.
pub fn place_seed(id: &NodeId) -> u64 {
    hash(id.as_str())
}

/// A number that follows from the text alone, wherever it is computed (FNV-1a, 64 bit).
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The place on one circle (the finalizer of SplitMix64, Steele et al. 2014).
fn place(seed: u64, circle: usize) -> u64 {
    mix(seed ^ (circle as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The finalizer of SplitMix64: every bit of the number has its say in every bit of the result.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A member next to us, and how far round the circle.
type Neighbour = Option<(u64, NodeId)>;

/// One circle as one node sees it: a ring, or two that run opposite ways.
#[derive(Clone, Debug, Default)]
struct Circle {
    ours: u64,
    next: Neighbour,
    previous: Neighbour,
}

impl Circle {
    fn closer(place: &Neighbour, distance: u64, id: &NodeId) -> bool {
        place.as_ref().is_none_or(|(d, i)| (distance, id) < (*d, i))
    }

    /// Takes a member in, if it is a neighbour.
    fn add(&mut self, place: u64, id: &NodeId) {
        let (ahead, behind) = (place.wrapping_sub(self.ours), self.ours.wrapping_sub(place));
        if Self::closer(&self.next, ahead, id) {
            self.next = Some((ahead, id.clone()));
        }
        if Self::closer(&self.previous, behind, id) {
            self.previous = Some((behind, id.clone()));
        }
    }

    fn has(&self, id: &NodeId) -> bool {
        [&self.next, &self.previous].into_iter().flatten().any(|(_, i)| i == id)
    }
}

/// All rings, as one node sees them.
#[derive(Clone, Debug)]
pub struct Rings {
    count: usize,
    circles: Vec<Circle>,
}

impl Rings {
    /// Without members besides the node with this id.
    pub fn new(count: usize, own: &NodeId) -> Self {
        let seed = place_seed(own);
        let circle = |k| Circle { ours: place(seed, k), ..Circle::default() };
        Self { count, circles: (0..count.div_ceil(2)).map(circle).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A member is there.
    pub fn add(&mut self, seed: u64, id: &NodeId) {
        for (k, circle) in self.circles.iter_mut().enumerate() {
            circle.add(place(seed, k), id);
        }
    }

    /// A member is gone; `rest` are all that remain, with what their places are made from.
    pub fn remove<'a>(&mut self, id: &NodeId, rest: impl Iterator<Item = (u64, &'a NodeId)>) {
        let lost: Vec<usize> =
            (0..self.circles.len()).filter(|k| self.circles[*k].has(id)).collect();
        if lost.is_empty() {
            return;
        }
        for k in &lost {
            (self.circles[*k].next, self.circles[*k].previous) = (None, None);
        }
        for (seed, other) in rest {
            for k in &lost {
                self.circles[*k].add(place(seed, *k), other);
            }
        }
    }

    /// Whom we watch: our successors, one a ring; the same one may come more than once.
    pub fn watched(&self) -> impl Iterator<Item = &NodeId> {
        self.along(|circle| [&circle.next, &circle.previous])
    }

    /// Who watches us: our predecessors.
    pub fn watchers(&self) -> impl Iterator<Item = &NodeId> {
        self.along(|circle| [&circle.previous, &circle.next])
    }

    /// One neighbour a ring: of each circle the one, and the other for the ring that runs back.
    fn along(&self, pick: fn(&Circle) -> [&Neighbour; 2]) -> impl Iterator<Item = &NodeId> {
        let both = self.circles.iter().flat_map(pick);
        both.take(self.count).filter_map(|neighbour| Some(&neighbour.as_ref()?.1))
    }
}

/// Who watches a node, among these others, each named once.
pub fn watchers_of<'a>(
    count: usize,
    id: &NodeId,
    others: impl Iterator<Item = (u64, &'a NodeId)>,
) -> Vec<NodeId> {
    let mut rings = Rings::new(count, id);
    for (seed, other) in others.filter(|(_, other)| *other != id) {
        rings.add(seed, other);
    }
    let mut watchers: Vec<NodeId> = rings.watchers().cloned().collect();
    watchers.sort();
    watchers.dedup();
    watchers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

    use super::*;

    const K: usize = 10;

    fn id(n: usize) -> NodeId {
        NodeId::new(format!("node-{n}")).unwrap()
    }

    fn seeded(ids: &[NodeId]) -> impl Iterator<Item = (u64, &NodeId)> {
        ids.iter().map(|i| (place_seed(i), i))
    }

    fn with(own: &NodeId, others: &[NodeId]) -> Rings {
        let mut rings = Rings::new(K, own);
        for (seed, other) in seeded(others).filter(|(_, o)| *o != own) {
            rings.add(seed, other);
        }
        rings
    }

    fn watched(rings: &Rings) -> Vec<NodeId> {
        rings.watched().cloned().collect()
    }

    fn neighbours(own: &NodeId, all: &[NodeId]) -> BTreeSet<NodeId> {
        let rings = with(own, all);
        rings.watched().chain(rings.watchers()).cloned().collect()
    }

    #[test]
    fn whom_a_node_watches_is_watched_by_it_as_all_see_it() {
        let all: Vec<_> = (0..60).map(id).collect();
        for own in &all {
            for other in watched(&with(own, &all)) {
                assert!(with(&other, &all).watchers().any(|w| w == own));
                assert!(watchers_of(K, &other, seeded(&all)).contains(own));
            }
        }
    }

    #[test]
    fn those_whom_a_node_watches_watch_it_but_on_an_odd_ring() {
        let all: Vec<_> = (0..500).map(id).collect();
        for (count, apart) in [(10, 0), (9, 2), (1, 2)] {
            let mut rings = Rings::new(count, &all[0]);
            seeded(&all[1..]).for_each(|(seed, other)| rings.add(seed, other));
            let watched: BTreeSet<_> = rings.watched().collect();
            let watchers: BTreeSet<_> = rings.watchers().collect();
            assert_eq!(rings.watched().count(), count);
            assert_eq!(watched.symmetric_difference(&watchers).count(), apart, "{count} rings");
        }
    }

    #[test]
    fn each_ring_is_one_round_through_all() {
        let all: Vec<_> = (0..50).map(id).collect();
        for k in 0..K {
            let (mut at, mut seen) = (all[0].clone(), BTreeSet::new());
            while seen.insert(at.clone()) {
                at = watched(&with(&at, &all))[k].clone();
            }
            assert_eq!(seen.len(), all.len(), "ring {k}");
        }
    }

    #[test]
    fn nobody_is_watched_by_many_more_than_others() {
        let all: Vec<_> = (0..1000).map(id).collect();
        for own in all.iter().take(100) {
            let count = neighbours(own, &all).len();
            assert!((8..=10).contains(&count), "{own} has {count} neighbours");
        }
    }

    #[test]
    fn one_who_joins_or_leaves_moves_two_edges_a_ring() {
        let all: Vec<_> = (0..200).map(id).collect();
        let before: Vec<_> = all[1..].iter().map(|i| watched(&with(i, &all[1..]))).collect();
        let moved: usize = all[1..]
            .iter()
            .zip(before)
            .map(|(i, old)| {
                watched(&with(i, &all)).iter().zip(&old).filter(|(a, b)| a != b).count()
            })
            .sum();
        // On each ring one predecessor turns to the newcomer; its own edge is the second.
        assert_eq!(moved, K);
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_and_those_who_went_leave_no_trace(
            seed in 0u64..1000, stay in 1usize..40, go in 0usize..20,
        ) {
            let (own, mut all) = (id(0), (1..=stay + go).map(id).collect::<Vec<_>>());
            let staying: Vec<_> = all[..stay].to_vec();
            let expected = watched(&with(&own, &staying));
            all.shuffle(&mut StdRng::seed_from_u64(seed));
            let mut rings = with(&own, &all);
            let mut left = all.clone();
            for gone in all.iter().filter(|i| !staying.contains(i)) {
                left.retain(|i| i != gone);
                rings.remove(gone, seeded(&left));
            }
            prop_assert_eq!(watched(&rings), expected);
            let behind: BTreeSet<_> = rings.watchers().cloned().collect();
            let all_see = watchers_of(K, &own, seeded(&staying));
            prop_assert_eq!(behind, all_see.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
