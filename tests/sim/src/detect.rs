//! How fast a death without a goodbye is noticed, by whom, and whether anybody else is accused.

use peerage::EventKind;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    S,
    faults::Fault,
    scenario::{config, start_all},
    world::World,
};

/// How long a cluster lives before somebody dies: long enough for edges and their intervals.
const CALM: u64 = 30 * S;
/// No death takes longer to notice.
const PATIENCE: u64 = 60 * S;

/// One death. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// Until the first member suspected it.
    pub first_suspect: u64,
    /// Until the last member held it failed.
    pub failed_everywhere: u64,
    /// Declarations about members that live.
    pub wrong: usize,
}

/// Starts a cluster, kills one of it without a word, and watches. `None` if it is not noticed.
pub fn death(nodes: usize, seed: u64) -> Option<Death> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, nodes, config(), false);
    world.keep_events = true;
    for (at, fault) in start_all(nodes, S, &mut rng) {
        world.plan(at, fault);
    }
    let at = CALM + rng.random_range(0..S);
    world.run_until(at);
    let host = rng.random_range(0..nodes);
    let victim = world.on(host)?.peer.id.clone();
    Fault::Crash(host).apply(&mut world);
    world.run_until(at + PATIENCE);
    let since = world.processes.iter().filter(|p| p.running).map(|p| {
        let mine = p.events.iter().filter(|(_, e)| e.member().is_some_and(|m| m.id == victim));
        let first = |name: &str| mine.clone().find(|(_, e)| e.name() == name).map(|(t, _)| t - at);
        (first("MemberSuspected"), first("MemberFailed"))
    });
    let (suspected, failed): (Vec<_>, Vec<_>) = since.unzip();
    let wrong =
        |e: &EventKind| e.name() == "MemberFailed" && e.member().is_some_and(|m| m.id != victim);
    Some(Death {
        first_suspect: suspected.into_iter().flatten().min()?,
        failed_everywhere: failed.into_iter().max().flatten()?,
        wrong: world.processes.iter().flat_map(|p| &p.events).filter(|(_, e)| wrong(e)).count(),
    })
}

/// The medians over several deaths, and all wrong declarations.
pub fn deaths(nodes: usize, seeds: std::ops::Range<u64>) -> Option<Death> {
    let all: Vec<Death> = seeds.map(|seed| death(nodes, seed)).collect::<Option<_>>()?;
    let median = |of: fn(&Death) -> u64| {
        let mut times: Vec<u64> = all.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    };
    Some(Death {
        first_suspect: median(|d| d.first_suspect)?,
        failed_everywhere: median(|d| d.failed_everywhere)?,
        wrong: all.iter().map(|d| d.wrong).sum(),
    })
}
