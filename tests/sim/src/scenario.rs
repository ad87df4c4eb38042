//! What every scenario begins and ends with.

use std::time::Duration;

use peerage::Config;
use rand::{Rng, rngs::StdRng};

use crate::{S, faults::Fault, world::World};

/// The configuration of every simulated node: the defaults.
pub fn config() -> Config {
    Config::new("simulated", "named-later")
}

/// The nodes that the others join through; they keep their addresses.
pub fn seeds(nodes: usize) -> Vec<usize> {
    (0..nodes.min(3)).collect()
}

/// All nodes start within a moment; the first of them founds the cluster.
pub fn start_all(nodes: usize, within: u64, rng: &mut StdRng) -> Vec<(u64, Fault)> {
    (0..nodes)
        .map(|host| {
            let at = if host == 0 { 0 } else { rng.random_range(0..=within) };
            let seeds = if host == 0 { Vec::new() } else { seeds(nodes) };
            (at, Fault::Start { host, seeds })
        })
        .collect()
}

/// How long judgement waits at a node that hears nobody (`core/src/membership/isolation.rs`).
const CUT_OFF_WAIT: Duration = Duration::from_secs(30);
/// The most that a node of bad health multiplies its time-outs with (Lifeguard).
const HEALTH_MAX: u32 = 9;
/// The greatest multiple of the healing interval that its back-off and jitter reach.
const HEAL_MAX: f64 = 8.0 * 1.25;

/// How long a cluster may take from when nothing is wrong any more until everybody sees exactly
/// those who are there. Three things must happen, the first two side by side:
///
/// 1. Who died last is declared failed. At worst its last watchers are in bad health, so that
///    they forgive it nine times the usual pause before they are surprised (an interval and a
///    half), or the only survivor hears nobody and waits for that; then its suspicion is
///    confirmed by nobody and runs in full, longer with the logarithm of the members.
/// 2. Parts that hold each other dead try each other again: the longest pause between two
///    attempts, and a dial that began when the path was still cut and ends with its time-out.
/// 3. What a node missed of the news reaches it by the next comparison of tables, whose interval
///    varies by a tenth; news travel in as many rounds of gossip as updates are sent.
pub fn bound(config: &Config, nodes: usize) -> u64 {
    let grow = (nodes as f64).log10().max(1.0);
    let suspicion = (config.suspicion_min * config.suspicion_max_factor).mul_f64(grow);
    let surprised = config.heartbeat_pause * HEALTH_MAX + config.heartbeat_interval * 3 / 2;
    let probed = (config.probe_timeout + config.indirect_timeout) * HEALTH_MAX;
    let noticed = surprised.max(probed).max(CUT_OFF_WAIT);
    let healed = config.heal_interval.mul_f64(HEAL_MAX) + config.connect_timeout;
    let rounds = 3 * ((nodes + 1) as f64).log2().ceil() as u32;
    let told = config.gossip_interval * rounds + config.sync_interval.mul_f64(1.1);
    ((noticed + suspicion).max(healed) + told).as_micros() as u64
}

/// How often it is looked at whether all is well.
const LOOK_EVERY: u64 = S / 10;

/// Lets time pass until everybody sees exactly those who are there; how long it took.
pub fn converge(world: &mut World, bound: u64) -> Option<u64> {
    let begun = world.now();
    while !world.is_one() {
        if world.now() - begun >= bound {
            for what in world.differences().into_iter().take(5) {
                world.violation(format!("rule 4: {what}"));
            }
            return None;
        }
        world.run_until(world.now() + LOOK_EVERY);
    }
    Some(world.now() - begun)
}
