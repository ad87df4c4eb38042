//! When a node begins its rounds of heartbeats. What it sends at once it wakes for once, and once
//! more for the answers.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use super::Time;
use crate::{
    member::Instance,
    membership::{Settings, rings::mix},
};

/// At so many moments of each interval rounds begin where all know what time it is, each node's at
/// one of them by chance. A node then wakes so often for all whom it answers, where it would for
/// each of them; and those who watch one member still do not hear it all at once, so that the first
/// of them notices its end no later.
const MOMENTS: u32 = 2;
/// Where a node does not know, each round is late by up to this share of the interval, as chance
/// has it, so that no two nodes stay in step.
const WOBBLE: f64 = 0.1;

/// The rounds of one node.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    every: Duration,
    /// They begin so much off the full interval, ...
    offset: Duration,
    /// ... and later by chance, which differs from process to process.
    wobble: Option<Instance>,
}

impl Rounds {
    pub(super) fn new(settings: &Settings, rng: &mut StdRng) -> Self {
        let every = settings.heartbeat_interval;
        match settings.clock {
            Some(clock) => {
                let moment = every * rng.random_range(0..MOMENTS) / MOMENTS;
                let into = clock.as_micros() % every.as_micros().max(1);
                let offset = every + moment - Duration::from_micros(into as u64);
                Self { every, offset, wobble: None }
            }
            None => {
                let offset = Duration::from_micros(rng.random_range(0..1_000_000));
                Self { every, offset, wobble: Some(settings.me.instance) }
            }
        }
    }

    /// The first round not before a time.
    pub(super) fn first(&self, time: Time) -> Time {
        let every = (self.every.as_micros() as u64).max(1);
        let offset = self.offset.as_micros() as u64 % every;
        Time(time.0.saturating_sub(offset).div_ceil(every) * every + offset)
    }

    /// When a round begins: the same for all heartbeats of it.
    pub(super) fn begins(&self, round: Time) -> Time {
        let Some(own) = self.wobble else { return round };
        let most = self.every.mul_f64(WOBBLE).as_micros() as u64;
        round + Duration::from_micros(mix(round.0 ^ own.0) % most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;
    use crate::{
        Config,
        member::{NodeId, Peer},
    };

    /// Rounds of processes that started at these times of a shared clock, or of their own, in
    /// milliseconds; each in an interval of so many.
    fn rounds(every: u64, started: impl IntoIterator<Item = Option<u64>>) -> Vec<Rounds> {
        let of = |(n, started): (usize, Option<u64>)| {
            let config = Config {
                heartbeat_interval: Duration::from_millis(every),
                ..Config::new("c", "n")
            };
            let me = Peer { id: NodeId::new("n").unwrap(), instance: Instance(n as u64) };
            let mut settings = Settings::new(me, ([127, 0, 0, 1], 7000).into(), &config);
            settings.clock = started.map(Duration::from_millis);
            Rounds::new(&settings, &mut StdRng::seed_from_u64(n as u64))
        };
        started.into_iter().enumerate().map(of).collect()
    }

    /// When some round after an hour begins.
    fn begins(rounds: &Rounds) -> u64 {
        let hour = Time::default() + Duration::from_secs(3600);
        rounds.begins(rounds.first(hour)).0
    }

    #[test]
    fn who_knows_the_time_begins_at_one_of_few_moments_whenever_it_started() {
        for every in [100, 250, 1000, 1700, 60_000] {
            let started: Vec<u64> = (0..200).map(|n| 1_764_000_000_000 + n * 7_919).collect();
            let all = rounds(every, started.iter().copied().map(Some));
            let moments =
                all.iter().zip(&started).map(|(r, s)| (begins(r) + s * 1000) % (every * 1000));
            let moments: Vec<u64> = moments.collect();
            let different: BTreeSet<u64> = moments.iter().copied().collect();
            assert_eq!(Vec::from_iter(different), [0, every * 500], "every {every} ms");
            let first = moments.iter().filter(|m| **m == 0).count();
            assert!((70..=130).contains(&first), "{first} of 200 at the first");
        }
    }

    #[test]
    fn who_does_not_know_it_begins_at_a_time_of_its_own_that_changes() {
        let all = rounds(1000, std::iter::repeat_n(None, 200));
        let different: BTreeSet<u64> = all.iter().map(|r| begins(r) % 1_000_000 / 1000).collect();
        assert!(different.len() > 150, "{different:?}");
        let mut at = Time::default();
        let late = (0..100).map(|_| {
            let round = all[0].first(at + Duration::from_micros(1));
            at = round;
            all[0].begins(round).since(round)
        });
        let late: BTreeSet<Duration> = late.collect();
        assert!(
            late.len() > 90 && late.iter().all(|l| *l <= Duration::from_millis(100)),
            "{late:?}"
        );
    }
}
