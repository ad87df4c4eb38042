//! What the network does to packets: latency, loss, copies, and who reaches whom.
//!
//! What is usual holds between all hosts; troubles between some of them add to it. While there is
//! no trouble a packet costs one random number and no look-up.

mod latency;
mod trouble;

use std::collections::BTreeMap;

use rand::{Rng, rngs::StdRng};

pub use self::{
    latency::Latency,
    trouble::{Between, Hosts, Trouble},
};
use crate::MS;

/// A first retransmission comes after about this long; each further one doubles it.
const RETRANSMIT: u64 = 60 * MS;
/// No retransmission waits longer than this.
const RETRANSMIT_MAX: u64 = 500 * MS;
/// Nobody waits longer than this for anything: the link has died long before.
const NEVER: u64 = 60 * crate::S;

/// The name of a trouble, chosen by whoever makes it.
pub type TroubleId = u32;

/// The state of the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The share of packets lost anywhere.
    pub loss: f64,
    /// Of any packet.
    pub latency: Latency,
    /// The troubles that there are, and whether each is on now.
    troubles: BTreeMap<TroubleId, (Trouble, bool)>,
    /// Those that are on.
    on: Vec<Trouble>,
}

impl Network {
    /// Something is wrong from now on; whether paths were cut, or opened by what it replaces.
    pub fn begin(&mut self, id: TroubleId, trouble: Trouble) -> bool {
        let cuts = trouble.cuts();
        let before = self.troubles.insert(id, (trouble, true));
        self.refresh();
        cuts || before.is_some_and(|(t, on)| on && t.cuts())
    }

    /// Something is wrong no more; whether paths were opened.
    pub fn end(&mut self, id: TroubleId) -> bool {
        let before = self.troubles.remove(&id);
        self.refresh();
        before.is_some_and(|(t, on)| on && t.cuts())
    }

    /// Something goes on if it is off, and off if it is on; for how long, and whether that cuts
    /// or opens paths. Nothing if it is over.
    pub fn flip(&mut self, id: TroubleId) -> Option<(u64, bool)> {
        let (trouble, on) = self.troubles.get_mut(&id)?;
        let (lasts_on, lasts_off) = trouble.flips?;
        *on = !*on;
        let found = (if *on { lasts_on } else { lasts_off }, trouble.cuts());
        self.refresh();
        Some(found)
    }

    /// Ends all troubles between hosts.
    pub fn heal(&mut self) {
        self.troubles.clear();
        self.on.clear();
    }

    /// Whether something is wrong between some hosts.
    pub fn is_troubled(&self) -> bool {
        !self.troubles.is_empty()
    }

    fn refresh(&mut self) {
        self.on.clear();
        self.on.extend(self.troubles.values().filter(|(_, on)| *on).map(|(t, _)| t.clone()));
    }

    fn between(&self, from: usize, to: usize) -> impl Iterator<Item = &Trouble> {
        self.on.iter().filter(move |t| t.between.has(from, to))
    }

    /// Whether packets pass in this direction.
    pub fn open(&self, from: usize, to: usize) -> bool {
        self.between(from, to).all(|t| !t.cuts())
    }

    /// Whether packets pass in both directions, as a connection needs.
    pub fn open_both(&self, a: usize, b: usize) -> bool {
        self.open(a, b) && self.open(b, a)
    }

    /// Whether nothing is lost anywhere.
    pub fn is_clean(&self) -> bool {
        self.loss == 0.0 && self.on.is_empty()
    }

    /// The share of packets lost in this direction.
    pub fn loss(&self, from: usize, to: usize) -> f64 {
        1.0 - self.between(from, to).fold(1.0 - self.loss, |passes, t| passes * (1.0 - t.loss))
    }

    /// Whether one packet is lost.
    pub fn loses(&self, from: usize, to: usize, rng: &mut StdRng) -> bool {
        let loss = self.loss(from, to);
        loss > 0.0 && rng.random_bool(loss.min(1.0))
    }

    /// The delay of one packet.
    pub fn latency(&self, from: usize, to: usize, rng: &mut StdRng) -> u64 {
        let usual = self.latency.sample(rng);
        let delays = self.between(from, to).filter_map(|t| t.delay);
        delays.fold(usual, |sum, delay| sum + delay.sample(rng))
    }

    /// How much later than it should a datagram comes, besides its latency; and how much later
    /// than that a copy of it, if there is one.
    pub fn disorder(&self, from: usize, to: usize, rng: &mut StdRng) -> (u64, Option<u64>) {
        let (mut late, mut copy) = (0, None);
        for trouble in self.between(from, to) {
            let (share, most) = trouble.reorder;
            if share > 0.0 && rng.random_bool(share) {
                late += rng.random_range(0..=most);
            }
            if trouble.duplicate > 0.0 && rng.random_bool(trouble.duplicate) {
                copy = Some(self.latency.sample(rng));
            }
        }
        (late, copy)
    }

    /// The delay of something that is sent again until it arrives. Where nothing passes it is
    /// that of one packet: what the cut does to it is decided on arrival.
    pub fn reliable(&self, from: usize, to: usize, rng: &mut StdRng) -> u64 {
        let mut delay = self.latency(from, to, rng);
        let loss = self.loss(from, to);
        if loss > 0.0 && loss < 1.0 {
            let mut pause = RETRANSMIT;
            while delay < NEVER && rng.random_bool(loss) {
                delay += pause;
                pause = (pause * 2).min(RETRANSMIT_MAX);
            }
        }
        delay
    }

    /// The time for the handshake and the hello: five flights.
    pub fn handshake(&self, by: usize, with: usize, rng: &mut StdRng) -> u64 {
        let flights = [(by, with), (with, by), (by, with), (with, by), (by, with)];
        flights.into_iter().map(|(from, to)| self.reliable(from, to, rng)).sum()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn lossy(from: &[usize], share: f64) -> Trouble {
        let between = Between::OneWay(Hosts::these(from, 4), Hosts::All);
        Trouble { loss: share, ..Trouble::new(between) }
    }

    #[test]
    fn losses_add_up_as_shares_of_what_is_left() {
        let mut net = Network { loss: 0.5, ..Network::default() };
        assert_eq!(net.loss(0, 1), 0.5);
        assert!(!net.begin(1, lossy(&[0], 0.5)));
        assert_eq!((net.loss(0, 1), net.loss(1, 0)), (0.75, 0.5));
        assert!(net.begin(2, lossy(&[0], 1.0)));
        assert_eq!(net.loss(0, 1), 1.0);
        assert!(!net.open(0, 1) && net.open(1, 0) && !net.open_both(0, 1));
        assert!(net.end(2) && net.open(0, 1) && !net.end(2));
        net.heal();
        assert_eq!(net.loss(0, 1), 0.5);
    }

    #[test]
    fn as_much_is_lost_as_is_said() {
        let mut rng = StdRng::seed_from_u64(1);
        let net = Network { loss: 0.2, ..Network::default() };
        let lost = (0..10_000).filter(|_| net.loses(0, 1, &mut rng)).count();
        assert!((1_850..2_150).contains(&lost), "{lost} of 10000");
    }

    #[test]
    fn a_flipping_trouble_goes_on_and_off_until_it_ends() {
        let mut net = Network::default();
        net.begin(1, Trouble { flips: Some((20, 30)), ..lossy(&[0], 1.0) });
        assert!(!net.open(0, 1));
        assert_eq!(net.flip(1), Some((30, true)));
        assert!(net.open(0, 1) && net.is_clean() && net.is_troubled());
        assert_eq!(net.flip(1), Some((20, true)));
        assert!(!net.open(0, 1));
        net.end(1);
        assert_eq!(net.flip(1), None);
        assert!(net.is_clean());
    }

    #[test]
    fn copies_and_late_ones_are_as_many_as_asked_for() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut net = Network::default();
        let all = Between::BothWays(Hosts::All, Hosts::All);
        let trouble = Trouble { duplicate: 0.3, reorder: (0.1, 1_000), ..Trouble::new(all) };
        net.begin(1, trouble);
        let found: Vec<_> = (0..10_000).map(|_| net.disorder(0, 1, &mut rng)).collect();
        let copies = found.iter().filter(|(_, copy)| copy.is_some()).count();
        let late = found.iter().filter(|(late, _)| *late > 0).count();
        assert!((2_800..3_200).contains(&copies), "{copies} copies");
        assert!((850..1_150).contains(&late), "{late} late");
        assert!(found.iter().all(|(late, _)| *late <= 1_000));
    }
}
