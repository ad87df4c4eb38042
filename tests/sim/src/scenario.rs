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

/// How long after the last fault a cluster may take: a few tries of the healing at its slowest,
/// a suspicion that nobody confirms, and two comparisons of tables.
pub fn bound(config: &Config, nodes: usize) -> u64 {
    let heal = config.heal_interval * 8 * 5 / 4;
    let grow = (nodes as f64).log10().max(1.0);
    let suspicion = (config.suspicion_min * config.suspicion_max_factor).mul_f64(grow);
    (heal * 3 + suspicion + config.sync_interval * 2 + Duration::from_secs(10)).as_micros() as u64
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
