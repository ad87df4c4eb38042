//! What happens in a random scenario, one thing at a time.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};

use super::{CALM, QUIET, TROUBLED, others};
use crate::{
    MS, S,
    faults::Fault,
    network::{Between, Hosts, Latency, Trouble, TroubleId},
};

/// A round in the making.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// How many hosts there are by now.
    pub(super) hosts: usize,
    pub(super) steps: Vec<(u64, Fault)>,
    /// Hosts that starve or are slow.
    pub(super) unfit: Vec<usize>,
    troubles: TroubleId,
}

impl Plan {
    pub(super) fn new(nodes: usize, hosts: usize, round: u32) -> Self {
        // No two rounds name a trouble the same.
        Self { nodes, hosts, steps: Vec::new(), unfit: Vec::new(), troubles: round * 1000 }
    }

    /// Something that fails nobody.
    pub(super) fn nuisance(&mut self, at: u64, rng: &mut StdRng) {
        let host = rng.random_range(0..self.nodes);
        match rng.random_range(0..6) {
            0..=2 => self.steps.push((at, Fault::Tags(host))),
            3 => self.disorder(at, rng),
            4 => {
                let (median, sigma) = (rng.random_range(MS..5 * MS), rng.random_range(0.2..1.0));
                let latency = Latency::LogNormal { median, sigma, most: 100 * MS };
                self.steps.push((at, Fault::Latency(latency)));
            }
            _ => {
                let by = rng.random_range(10 * MS..100 * S);
                self.steps.push((at, Fault::ClockJump(host, by)));
            }
        }
    }

    /// One kind of trouble.
    pub(super) fn fault(&mut self, at: u64, rng: &mut StdRng) {
        let host = rng.random_range(0..self.nodes);
        match rng.random_range(0..24) {
            0 | 1 => self.steps.push((at, Fault::Crash(host))),
            2 | 3 => self.restart(at, host, rng),
            4 => self.steps.push((at, Fault::Leave(host))),
            5 => self.steps.push((at, Fault::Tags(host))),
            6 | 7 => self.cut_pair(at, host, rng),
            8 => self.split(at, rng),
            9 => {
                let reach = rng.random_range(1..=(self.hosts / 4).max(1));
                let far = Between::FurtherThan(reach, self.hosts);
                self.trouble(at, Trouble::cut(far), rng);
            }
            10 => self.steps.push((at, Fault::Loss(rng.random_range(0.0..0.3)))),
            11 | 12 => self.lossy_host(at, host, rng),
            13 => self.flip_flop(at, host, rng),
            14 => self.disorder(at, rng),
            15 => self.latency(at, rng),
            16 => {
                let time = rng.random_range(S / 2..stand_still_max(at));
                self.steps.push((at, Fault::Pause(host, time)));
            }
            17 => {
                let time = rng.random_range(S / 2..stand_still_max(at));
                self.steps.push((at, Fault::Suspend(host, time)));
            }
            18 => {
                let by = rng.random_range(10 * MS..100 * S);
                self.steps.push((at, Fault::ClockJump(host, by)));
            }
            19 => {
                let (run, stop) = (rng.random_range(S / 5..S), rng.random_range(S / 2..4 * S));
                self.steps.push((at, Fault::Starve(host, run, stop)));
                self.unfit.push(host);
            }
            20 => {
                self.steps.push((at, Fault::Slow(host, rng.random_range(MS..100 * MS))));
                self.unfit.push(host);
            }
            21 => self.many(at, rng),
            22 => self.latecomers(at, rng),
            _ => {
                let seeds = others(self.nodes, host);
                self.steps.push((at, Fault::Namesake { host: self.hosts, of: host, seeds }));
                self.hosts += 1;
            }
        }
    }

    /// It begins then and ends some time later.
    fn trouble(&mut self, at: u64, trouble: Trouble, rng: &mut StdRng) {
        self.troubles += 1;
        self.steps.push((at, Fault::Begin(self.troubles, trouble)));
        self.steps.push((at + rng.random_range(S..20 * S), Fault::End(self.troubles)));
    }

    fn restart(&mut self, at: u64, host: usize, rng: &mut StdRng) {
        let moved = host >= 3 && rng.random_bool(0.5);
        let down = *[10 * MS, S, 4 * S, 12 * S].choose(rng).unwrap_or(&S);
        self.steps.push((at, Fault::Crash(host)));
        let seeds = others(self.nodes, host);
        self.steps.push((at + down, Fault::Restart { host, moved, seeds }));
    }

    fn cut_pair(&mut self, at: u64, host: usize, rng: &mut StdRng) {
        let other = (host + rng.random_range(1..self.nodes)) % self.nodes;
        let [a, b] = [host, other].map(|h| Hosts::these(&[h], self.hosts));
        let between =
            if rng.random_bool(0.5) { Between::OneWay(a, b) } else { Between::BothWays(a, b) };
        self.trouble(at, Trouble::cut(between), rng);
    }

    fn split(&mut self, at: u64, rng: &mut StdRng) {
        let mut part: Vec<usize> = (0..self.hosts).collect();
        part.shuffle(rng);
        part.truncate(rng.random_range(1..self.hosts));
        let (part, rest) = (Hosts::these(&part, self.hosts), Hosts::but(&part, self.hosts));
        self.trouble(at, Trouble::cut(Between::BothWays(part, rest)), rng);
    }

    /// Packets to a host, from it, or both.
    fn of_host(&self, host: usize, rng: &mut StdRng) -> Between {
        let host = Hosts::these(&[host], self.hosts);
        match rng.random_range(0..3) {
            0 => Between::OneWay(host, Hosts::All),
            1 => Between::OneWay(Hosts::All, host),
            _ => Between::BothWays(host, Hosts::All),
        }
    }

    fn lossy_host(&mut self, at: u64, host: usize, rng: &mut StdRng) {
        let trouble = Trouble::new(self.of_host(host, rng));
        self.trouble(at, Trouble { loss: rng.random_range(0.2..0.95), ..trouble }, rng);
    }

    fn flip_flop(&mut self, at: u64, host: usize, rng: &mut StdRng) {
        let trouble = Trouble::cut(self.of_host(host, rng));
        let flips = (rng.random_range(S / 10..10 * S), rng.random_range(S / 10..10 * S));
        self.trouble(at, Trouble { flips: Some(flips), ..trouble }, rng);
    }

    fn disorder(&mut self, at: u64, rng: &mut StdRng) {
        let everywhere = Trouble::new(Between::BothWays(Hosts::All, Hosts::All));
        let duplicate = rng.random_range(0.0..0.3);
        let reorder = (rng.random_range(0.0..0.2), rng.random_range(MS..300 * MS));
        self.trouble(at, Trouble { duplicate, reorder, ..everywhere }, rng);
    }

    fn latency(&mut self, at: u64, rng: &mut StdRng) {
        let some = rng.random_range(MS..50 * MS);
        let latency = if rng.random_bool(0.5) {
            Latency::LogNormal { median: some, sigma: rng.random_range(0.2..1.5), most: S }
        } else {
            Latency::Exponential { least: MS, mean: some, most: S }
        };
        self.steps.push((at, Fault::Latency(latency)));
    }

    /// The same happens to up to a third of all within a moment.
    fn many(&mut self, at: u64, rng: &mut StdRng) {
        let mut some: Vec<usize> = (0..self.nodes).collect();
        some.shuffle(rng);
        some.truncate(rng.random_range(1..=(self.nodes / 3).max(1)));
        let what = rng.random_range(0..4);
        let within = *[1, 100 * MS, 3 * S].choose(rng).unwrap_or(&1);
        for host in some {
            let at = at + rng.random_range(0..within);
            match what {
                0 => self.steps.push((at, Fault::Crash(host))),
                1 => self.restart(at, host, rng),
                2 => self.steps.push((at, Fault::Leave(host))),
                _ => {
                    let time = rng.random_range(S / 2..stand_still_max(at));
                    self.steps.push((at, Fault::Pause(host, time)));
                }
            }
        }
    }

    /// Up to half as many as there are come within a moment.
    fn latecomers(&mut self, at: u64, rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..=self.nodes / 2) {
            let (host, seeds) = (self.hosts, others(self.nodes, self.hosts));
            let at = at + rng.random_range(0..S);
            self.steps.push((at, Fault::Start { host, seeds }));
            self.hosts += 1;
        }
    }
}

/// Who stands still does so no longer than the trouble lasts.
fn stand_still_max(at: u64) -> u64 {
    debug_assert!(at < QUIET, "{at}");
    (CALM + TROUBLED + 4 * S).saturating_sub(at).clamp(S, 15 * S)
}
