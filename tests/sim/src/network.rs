//! What the network does to packets: latency, loss, and cuts between hosts.

use std::collections::BTreeSet;

use rand::{Rng, rngs::StdRng};

use crate::MS;

/// A first retransmission comes after about this long; each further one doubles it.
const RETRANSMIT: u64 = 60 * MS;
/// No retransmission waits longer than this.
const RETRANSMIT_MAX: u64 = 500 * MS;

/// The state of the network.
#[derive(Debug)]
pub struct Network {
    /// The share of packets lost anywhere.
    pub loss: f64,
    /// One way, least and most, in microseconds.
    pub latency: (u64, u64),
    /// Directed cuts between hosts.
    cuts: BTreeSet<(usize, usize)>,
}

impl Default for Network {
    fn default() -> Self {
        Self { loss: 0.0, latency: (200, 2 * MS), cuts: BTreeSet::new() }
    }
}

impl Network {
    /// Lets nothing pass from one host to another any more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether packets pass in this direction.
    pub fn open(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(from, to))
    }

    /// Whether packets pass in both directions, as a connection needs.
    pub fn open_both(&self, a: usize, b: usize) -> bool {
        self.open(a, b) && self.open(b, a)
    }

    /// The delay of one packet.
    pub fn latency(&self, rng: &mut StdRng) -> u64 {
        rng.random_range(self.latency.0..=self.latency.1)
    }

    /// Whether one packet is lost.
    pub fn loses(&self, rng: &mut StdRng) -> bool {
        self.loss > 0.0 && rng.random_bool(self.loss)
    }

    /// The delay of something that is sent again until it arrives.
    pub fn reliable(&self, rng: &mut StdRng) -> u64 {
        let mut delay = self.latency(rng);
        let mut pause = RETRANSMIT;
        while self.loses(rng) {
            delay += pause;
            pause = (pause * 2).min(RETRANSMIT_MAX);
        }
        delay
    }

    /// The time for the handshake and the hello: five flights.
    pub fn handshake(&self, rng: &mut StdRng) -> u64 {
        (0..5).map(|_| self.reliable(rng)).sum()
    }
}
