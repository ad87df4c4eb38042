//! Running a file: the start, what happens, and whether what is expected became true in time.

use peerage::membership::Bug;
use rand::{SeedableRng, rngs::StdRng};

use super::{File, expect, expect::Check, plan::Plan};
use crate::{
    MS, S,
    network::Latency,
    scenario::{bound, config, converge, start_all},
    world::World,
};

/// Every cluster stands within this, however many nodes start.
const START_MAX: u64 = 600 * S;
/// How long a cluster then lives before anything happens: edges know their intervals.
const SETTLE: u64 = 15 * S;
/// How often it is looked at whether something has become true.
const LOOK_EVERY: u64 = 50 * MS;
/// How long it is still looked at when it is too late, to say when it did become true.
const LATE_MAX: u64 = 60 * S;
/// How long a run goes on after its last step, at least.
const AFTERWARDS: u64 = 30 * S;

/// Clusters that stand, each made once: starting a thousand nodes costs more than most of what
/// happens to them.
#[derive(Debug, Default)]
pub struct Starts {
    made: Vec<(Start, World)>,
    bug: Option<Bug>,
}

/// What a start depends on.
#[derive(Clone, Debug, PartialEq)]
struct Start {
    nodes: usize,
    seed: u64,
    within: u64,
    latency: Latency,
}

/// When something became true.
#[derive(Clone, Debug)]
pub struct Took {
    /// As the file calls it.
    pub what: &'static str,
    /// How long it took, in microseconds, perhaps too long; nothing if it did not become true.
    pub took: Option<u64>,
    /// How long it might take.
    pub within: u64,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The file's name.
    pub name: String,
    /// With how many nodes.
    pub nodes: usize,
    /// Of this seed.
    pub seed: u64,
    /// What became true when.
    pub took: Vec<Took>,
    /// What went wrong.
    pub violations: Vec<String>,
    /// How many times anybody was told of a suspicion after the cluster stood.
    pub suspicions: u64,
    /// How long the cluster lived after it stood, in microseconds.
    pub lived: u64,
    /// How many times a machine was called, the start included.
    pub steps: u64,
    /// The fingerprint of the run.
    pub trace: u64,
}

impl Starts {
    /// Of machines that all have a bug, for tests of the checkers.
    pub fn with_bug(bug: Option<Bug>) -> Self {
        Self { made: Vec::new(), bug }
    }

    /// Forgets all but the starts with so many nodes: a large cluster takes much memory.
    pub fn keep(&mut self, nodes: usize) {
        self.made.retain(|(start, _)| start.nodes == nodes);
    }

    fn cluster(&mut self, start: &Start) -> Result<World, String> {
        if let Some((_, world)) = self.made.iter().find(|(s, _)| s == start) {
            return Ok(world.clone());
        }
        let mut world = World::new(start.seed, start.nodes, config(), true);
        world.net.latency = start.latency;
        world.bug = self.bug;
        world.forbid_wrong_failures(true);
        let mut rng = StdRng::seed_from_u64(start.seed);
        for (at, fault) in start_all(start.nodes, start.within, &mut rng) {
            world.plan(at, fault);
        }
        world.run_until(start.within + 1);
        while !world.is_one() || world.gossip_waits() {
            if world.now() > START_MAX || !world.violations.is_empty() {
                return Err(world.violations.into_iter().next().unwrap_or_else(|| {
                    format!("the cluster does not stand after {} s", START_MAX / S)
                }));
            }
            world.run_until(world.now() + S);
        }
        world.run_until(world.now() + SETTLE);
        self.made.push((start.clone(), world.clone()));
        Ok(world)
    }
}

impl File {
    /// Runs it with so many nodes and one seed; what happens is printed if that is asked for.
    pub fn run(
        &self,
        starts: &mut Starts,
        nodes: usize,
        seed: u64,
        verbose: bool,
    ) -> Result<Report, String> {
        let plan = self.plan(nodes, seed)?;
        let checks = expect::checks(&self.expect, &plan)?;
        let start =
            Start { nodes, seed, within: self.start_within.0, latency: self.latency.checked()? };
        let mut world = starts.cluster(&start).map_err(|e| format!("at the start: {e}"))?;
        world.grow(plan.hosts);
        world.let_fail(plan.may_fail.iter().copied());
        world.ignore(plan.unheeded.iter().copied());
        world.verbose = verbose;
        let (begun, suspicions) = (world.now(), world.suspicions());
        for (at, fault) in &plan.steps {
            world.plan(begun + at, fault.clone());
        }
        let took = watch(&mut world, begun, &plan, checks);
        if !plan.stays && world.violations.is_empty() {
            let most = bound(&config(), plan.hosts);
            converge(&mut world, most);
        }
        Ok(Report {
            name: self.name.clone(),
            nodes,
            seed,
            took,
            suspicions: world.suspicions() - suspicions,
            lived: world.now() - begun,
            steps: world.steps(),
            trace: world.trace(),
            violations: world.violations,
        })
    }

    /// The shortest command that runs it again.
    pub fn replay(&self, nodes: usize, seed: u64) -> String {
        let mut command = format!("cargo xtask sim scenario {}", self.name);
        if nodes != self.nodes {
            command += &format!(" --nodes {nodes}");
        }
        if self.seeds != [seed] {
            command += &format!(" --seed {seed}");
        }
        command
    }
}

/// Lets it happen, and looks whether each check comes true in time.
fn watch(world: &mut World, begun: u64, plan: &Plan, checks: Vec<Check>) -> Vec<Took> {
    let (mut took, mut late) = (Vec::new(), Vec::new());
    let mut waiting = checks;
    waiting.sort_by_key(|check| check.from);
    while !waiting.is_empty() {
        let next = begun + waiting[0].from;
        world.run_until(next.max(world.now() + LOOK_EVERY));
        let now = world.now();
        waiting.retain(|check| {
            let since = (begun + check.from..).contains(&now).then(|| now - begun - check.from);
            let Some(since) = since else { return true };
            // What is looked at late counts from when it was looked at; `from` is looked at too.
            let holds = check.holds(world);
            let over = since > check.within || (!holds && since == check.within);
            if over && !late.contains(&(check.name, check.from)) {
                late.push((check.name, check.from));
                let failure = check.failure(world);
                world.violation(failure);
            }
            if !holds && since < check.within + LATE_MAX {
                return true;
            }
            took.push(Took {
                what: check.name,
                took: holds.then_some(since),
                within: check.within,
            });
            false
        });
    }
    world.run_until(begun + plan.ends + AFTERWARDS);
    took
}
