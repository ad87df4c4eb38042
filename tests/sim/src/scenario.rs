//! Random scenarios: what happens to a cluster in half a minute, then a quiet time in which it
//! has to become one again.

use std::time::Duration;

use peerage::Config;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};

use crate::{MS, S, faults::Fault, world::World};

/// When the first fault may come.
const CALM: u64 = 10 * S;
/// How long faults come.
const TROUBLED: u64 = 40 * S;
/// How long after all was well every watch edge stands, even if its dial waits at its longest.
const EDGES_STAND: u64 = 35 * S;
/// What a scenario with forgetting uses; longer than any fault lasts.
const RETENTION: Duration = Duration::from_secs(150);

/// What is to happen, and what is to be true.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything follows from it.
    pub seed: u64,
    /// How many hosts run a node from the start.
    pub nodes: usize,
    /// How many hosts there are, namesakes included.
    pub hosts: usize,
    /// When what happens.
    pub plan: Vec<(u64, Fault)>,
    /// When the quiet time begins.
    pub quiet: u64,
    /// Only packets are lost, and few: nobody may be declared failed.
    pub gentle: bool,
    /// The dead are forgotten after `RETENTION`, and that is waited for.
    pub forgets: bool,
}

/// How a scenario went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What went wrong.
    pub violations: Vec<String>,
    /// How long after the last fault all was well, in microseconds.
    pub converged: Option<u64>,
    /// The fingerprint of the run.
    pub trace: u64,
    /// How many times a machine was called.
    pub steps: u64,
}

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

impl Scenario {
    /// A random one.
    pub fn random(seed: u64, nodes: usize) -> Self {
        // Not the world's own stream of numbers.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5ce_a210);
        let gentle = rng.random_bool(0.2);
        let forgets = !gentle && nodes <= 10 && rng.random_bool(0.2);
        let mut plan = start_all(nodes, rng.random_range(0..3 * S), &mut rng);
        let mut hosts = nodes;
        let loss_max = if gentle { 0.1 } else { 0.3 };
        if gentle || rng.random_bool(0.5) {
            plan.push((rng.random_range(0..CALM), Fault::Loss(rng.random_range(0.0..loss_max))));
        }
        let count = rng.random_range(1..=8);
        for _ in 0..count {
            let at = CALM + rng.random_range(0..TROUBLED);
            if gentle {
                plan.push((at, Fault::Tags(rng.random_range(0..nodes))));
            } else {
                hosts += random_fault(at, nodes, hosts, &mut rng, &mut plan);
            }
        }
        let quiet = CALM + TROUBLED + 5 * S;
        plan.push((quiet, Fault::Heal));
        plan.push((quiet, Fault::Loss(0.0)));
        // Whoever is still asking to be let in must find somebody to ask.
        for host in seeds(nodes) {
            let others: Vec<usize> = seeds(nodes).into_iter().filter(|s| *s != host).collect();
            let died = plan
                .iter()
                .any(|(_, f)| matches!(f, Fault::Crash(h) | Fault::Leave(h) if *h == host));
            if died {
                let moved = false;
                plan.push((quiet, Fault::Restart { host, moved, seeds: others }));
            }
        }
        plan.sort_by_key(|(at, _)| *at);
        Self { seed, nodes, hosts, plan, quiet, gentle, forgets }
    }

    /// Runs it.
    pub fn run(&self, verbose: bool) -> Outcome {
        let mut config = config();
        if self.forgets {
            config.dead_retention = RETENTION;
        }
        let bound = bound(&config, self.nodes);
        let mut world = World::new(self.seed, self.hosts, config, true);
        world.verbose = verbose;
        world.forbid_wrong_failures(self.gentle);
        for (at, fault) in &self.plan {
            world.plan(*at, fault.clone());
        }
        world.run_until(self.quiet);
        let converged = converge(&mut world, bound);
        if converged.is_some() {
            self.stays_well(&mut world);
        }
        Outcome {
            converged,
            trace: world.trace(),
            steps: world.steps(),
            violations: world.violations,
        }
    }

    fn stays_well(&self, world: &mut World) {
        world.forbid_wrong_failures(true);
        world.run_until(world.now() + 10 * S);
        let mut wrong = world.differences();
        world.run_until(world.now() + EDGES_STAND);
        wrong.extend(world.edges_amiss());
        if self.forgets {
            // The last try comes within eight times the healing interval and a quarter more.
            world.run_until(world.now() + RETENTION.as_micros() as u64 + 30 * S);
            wrong.extend(dead_remembered(world));
            world.run_until(world.now() + 60 * S);
            wrong.extend(dead_remembered(world));
            wrong.extend(world.differences());
        }
        for what in wrong.into_iter().take(3) {
            world.violation(format!("after all was well: {what}"));
        }
    }
}

fn dead_remembered(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for p in world.members() {
        for e in p.machine.entries().filter(|e| !e.member.state.is_live()) {
            found.push(format!("{} still remembers {}", p.peer.id, e.member.id));
        }
    }
    found
}

/// Adds one kind of trouble; returns how many hosts it adds.
fn random_fault(
    at: u64,
    nodes: usize,
    hosts: usize,
    rng: &mut StdRng,
    plan: &mut Vec<(u64, Fault)>,
) -> usize {
    let host = rng.random_range(0..nodes);
    let other = (host + rng.random_range(1..nodes)) % nodes;
    let ends = at + rng.random_range(S..20 * S);
    let through: Vec<usize> = seeds(nodes).into_iter().filter(|s| *s != host).collect();
    match rng.random_range(0..12) {
        0 | 1 => plan.push((at, Fault::Crash(host))),
        2 | 3 => {
            let moved = host >= 3 && rng.random_bool(0.5);
            let down = *[10 * MS, S, 4 * S, 12 * S].choose(rng).unwrap_or(&S);
            plan.push((at, Fault::Crash(host)));
            plan.push((at + down, Fault::Restart { host, moved, seeds: through }));
        }
        4 => plan.push((at, Fault::Leave(host))),
        5 => plan.push((at, Fault::Tags(host))),
        6 => {
            plan.push((at, Fault::CutOneWay(host, other)));
            plan.push((ends, Fault::Heal));
        }
        7 => {
            plan.push((at, Fault::CutPair(host, other)));
            plan.push((ends, Fault::Heal));
        }
        8 => {
            let mut all: Vec<usize> = (0..nodes).collect();
            all.shuffle(rng);
            all.truncate(rng.random_range(1..nodes));
            plan.push((at, Fault::Split(all)));
            plan.push((ends, Fault::Heal));
        }
        10 => {
            let most = CALM + TROUBLED + 4 * S - at;
            plan.push((at, Fault::Pause(host, rng.random_range(S / 2..most.min(15 * S)))));
        }
        9 => plan.push((at, Fault::Loss(rng.random_range(0.0..0.3)))),
        _ => {
            plan.push((at, Fault::Namesake { host: hosts, of: host, seeds: through }));
            return 1;
        }
    }
    0
}

/// How long after the last fault a cluster may take: a few tries of the healing at its slowest,
/// a suspicion that nobody confirms, and two comparisons of tables.
pub fn bound(config: &Config, nodes: usize) -> u64 {
    let heal = config.heal_interval * 8 * 5 / 4;
    let grow = (nodes as f64).log10().max(1.0);
    let suspicion = (config.suspicion_min * config.suspicion_max_factor).mul_f64(grow);
    (heal * 3 + suspicion + config.sync_interval * 2 + Duration::from_secs(10)).as_micros() as u64
}

/// Lets time pass until everybody sees exactly those who are there; how long it took.
pub fn converge(world: &mut World, bound: u64) -> Option<u64> {
    let begun = world.now();
    loop {
        let wrong = world.differences();
        if wrong.is_empty() {
            return Some(world.now() - begun);
        }
        if world.now() - begun >= bound {
            for what in wrong.into_iter().take(5) {
                world.violation(format!("rule 4: {what}"));
            }
            return None;
        }
        world.run_until(world.now() + S / 2);
    }
}
