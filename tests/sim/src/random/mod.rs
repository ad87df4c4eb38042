//! Random scenarios: trouble for the better part of a minute, then a quiet time in which the
//! cluster has to become one again; sometimes twice.

mod faults;

use std::time::Duration;

use peerage::membership::Bug;
use rand::{Rng, SeedableRng, rngs::StdRng};

use self::faults::Plan;
use crate::{
    S,
    faults::Fault,
    network::Latency,
    scenario::{bound, config, converge, seeds, start_all},
    world::World,
};

/// When the first fault may come.
const CALM: u64 = 10 * S;
/// How long faults come.
const TROUBLED: u64 = 40 * S;
/// When all trouble ends.
const QUIET: u64 = CALM + TROUBLED + 5 * S;
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
    /// How many hosts there are, latecomers and namesakes included.
    pub hosts: usize,
    /// What happens when after each quiet time, the first beginning with nothing.
    pub rounds: Vec<Vec<(u64, Fault)>>,
    /// Little is wrong: nobody may be declared failed.
    pub gentle: bool,
    /// The dead are forgotten after `RETENTION`, and that is waited for.
    pub forgets: bool,
    /// A bug that all nodes have, to see what its checker says.
    pub bug: Option<Bug>,
}

/// How a scenario went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What went wrong.
    pub violations: Vec<String>,
    /// How long after the trouble ended all was well, in microseconds, the slowest time.
    pub converged: Option<u64>,
    /// How long that may take.
    pub bound: u64,
    /// The fingerprint of the run.
    pub trace: u64,
    /// How many times a machine was called.
    pub steps: u64,
}

impl Scenario {
    /// A random one.
    pub fn random(seed: u64, nodes: usize) -> Self {
        // Not the world's own stream of numbers.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5ce_a210);
        let gentle = rng.random_bool(0.2);
        let forgets = !gentle && nodes <= 10 && rng.random_bool(0.2);
        let rounds = if rng.random_bool(0.3) { 2 } else { 1 };
        let mut hosts = nodes;
        let mut all = Vec::new();
        for round in 0..rounds {
            let mut plan = Plan::new(nodes, hosts, round);
            if round == 0 {
                plan.steps = start_all(nodes, rng.random_range(0..3 * S), &mut rng);
            }
            let loss_max = if gentle { 0.1 } else { 0.3 };
            if gentle || rng.random_bool(0.5) {
                let share = rng.random_range(0.0..loss_max);
                plan.steps.push((rng.random_range(0..CALM), Fault::Loss(share)));
            }
            for _ in 0..rng.random_range(1..=8) {
                let at = CALM + rng.random_range(0..TROUBLED);
                if gentle { plan.nuisance(at, &mut rng) } else { plan.fault(at, &mut rng) }
            }
            hosts = plan.hosts;
            all.push(quieten(plan));
        }
        Self { seed, nodes, hosts, rounds: all, gentle, forgets, bug: None }
    }

    /// Runs it.
    pub fn run(&self, verbose: bool) -> Outcome {
        let mut config = config();
        if self.forgets {
            config.dead_retention = RETENTION;
        }
        let bound = bound(&config, self.hosts);
        let mut world = World::new(self.seed, self.hosts, config, true);
        world.verbose = verbose;
        world.bug = self.bug;
        let mut slowest = Some(0);
        for (n, round) in self.rounds.iter().enumerate() {
            world.forbid_wrong_failures(self.gentle);
            let begun = world.now();
            for (at, fault) in round {
                world.plan(begun + at, fault.clone());
            }
            world.run_until(begun + QUIET);
            let took = converge(&mut world, bound);
            slowest = took.and_then(|took| slowest.map(|s| took.max(s)));
            if took.is_none() {
                break;
            }
            self.stays_well(&mut world, n + 1 == self.rounds.len());
        }
        Outcome {
            converged: slowest,
            bound,
            trace: world.trace(),
            steps: world.steps(),
            violations: world.violations,
        }
    }

    /// Everything that happens besides the first starts, for people.
    pub fn account(&self) -> impl Iterator<Item = String> {
        let rounds = self.rounds.iter().enumerate();
        rounds.flat_map(|(n, round)| {
            let told = round.iter().filter(|(_, f)| !matches!(f, Fault::Start { .. }));
            told.map(move |(at, f)| format!("round {n}, {:>9.3} s {f:?}", *at as f64 / S as f64))
        })
    }

    fn stays_well(&self, world: &mut World, at_last: bool) {
        world.forbid_wrong_failures(true);
        world.run_until(world.now() + 10 * S);
        let mut wrong = world.differences();
        if at_last {
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
        }
        for what in wrong.into_iter().take(3) {
            world.violation(format!("after all was well: {what}"));
        }
    }
}

/// All trouble ends.
fn quieten(plan: Plan) -> Vec<(u64, Fault)> {
    let Plan { nodes, mut steps, unfit, .. } = plan;
    steps.push((QUIET, Fault::Heal));
    steps.push((QUIET, Fault::Loss(0.0)));
    steps.push((QUIET, Fault::Latency(Latency::default())));
    steps.extend(unfit.into_iter().map(|host| (QUIET, Fault::Fit(host))));
    // Whoever is still asking to be let in must find somebody to ask.
    for host in seeds(nodes) {
        let died =
            |(_, f): &(u64, Fault)| matches!(f, Fault::Crash(h) | Fault::Leave(h) if *h == host);
        if steps.iter().any(died) {
            let seeds = others(nodes, host);
            steps.push((QUIET, Fault::Restart { host, moved: false, seeds }));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// Through whom a host joins.
fn others(nodes: usize, host: usize) -> Vec<usize> {
    seeds(nodes).into_iter().filter(|s| *s != host).collect()
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
