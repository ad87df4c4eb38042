//! How much cluster time one second of CPU simulates, checkers off.

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    S,
    scenario::{config, start_all},
    world::World,
};

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How long after the last had started all saw all, to the second, and the processor time until
    /// then; nothing if they did not within two minutes.
    pub joined: Option<(u64, f64)>,
    /// Cluster time, in seconds.
    pub virtual_s: f64,
    /// Processor time of this process, in seconds.
    pub cpu_s: f64,
    /// Calls of a machine.
    pub steps: u64,
    /// The fingerprint of the run: what makes it faster leaves it as it was.
    pub trace: u64,
}

/// Starts a cluster, waits until all see all, and measures from there: so many stretches of so many
/// seconds, of which the median in CPU is returned. All start within so many seconds: what is told
/// of a mass join waits in as many queues as there are nodes, and of ten thousand at once it would
/// fill the memory.
pub fn steady(
    nodes: usize,
    start_within_s: u64,
    stretches: usize,
    measured_s: u64,
    progress: &mut dyn FnMut(&str),
) -> Measured {
    let mut rng = StdRng::seed_from_u64(1);
    let mut world = World::new(1, nodes, config(), false);
    for (at, fault) in start_all(nodes, start_within_s * S, &mut rng) {
        world.plan(at, fault);
    }
    let complete = |world: &World| {
        world.members().count() == nodes
            && world.members().all(|p| p.machine.entries().count() == nodes - 1)
    };
    let waiting = |world: &World| world.members().map(|p| p.machine.gossip_len()).sum::<usize>();
    let (cpu, started) = (cpu_s(), start_within_s * S);
    while world.now() < started || (!complete(&world) && world.now() < started + 120 * S) {
        world.run_until(world.now() + S);
        let (now, used, all) = (world.now() / S, cpu_s() - cpu, waiting(&world));
        progress(&format!("joining, {now} s, {used:.0} s of CPU, {all} updates wait"));
    }
    let joined = complete(&world).then(|| ((world.now() - started) / S, cpu_s() - cpu));
    if joined.is_none() {
        progress("not everybody sees everybody");
    }
    // What the join left in the queues is not the steady state.
    while waiting(&world) > 0 && world.now() < started + 300 * S {
        world.run_until(world.now() + S);
        progress(&format!("draining {} updates, {} s", waiting(&world), world.now() / S));
    }
    progress(&format!("measuring from {} s", world.now() / S));
    let mut all: Vec<Measured> = Vec::new();
    for _ in 0..stretches {
        let (cpu, steps) = (cpu_s(), world.steps());
        world.run_until(world.now() + measured_s * S);
        let (cpu_s, steps) = (cpu_s() - cpu, world.steps() - steps);
        progress(&format!("{measured_s} s in {cpu_s:.2} s of CPU"));
        let (virtual_s, trace) = (measured_s as f64, world.trace());
        all.push(Measured { joined, virtual_s, cpu_s, steps, trace });
    }
    let trace = world.trace();
    all.sort_by(|a, b| a.cpu_s.total_cmp(&b.cpu_s));
    Measured { trace, ..all[all.len() / 2] }
}

/// The processor time that this process has used.
#[cfg(unix)]
pub fn cpu_s() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, zeroed, which is a valid value of it (it holds
    // only integers), so it may be read even if the call failed.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    s(usage.ru_utime) + s(usage.ru_stime)
}

/// One thread that never waits: wall-clock time comes close.
#[cfg(not(unix))]
pub fn cpu_s() -> f64 {
    static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGUN.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}
