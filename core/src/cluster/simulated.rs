//! Whole nodes on turmoil's network: what the simulator of tests/sim does with the membership machine
//! alone, on few seeds with all that is around it, down to QUIC. What is deterministic is said in
//! `transport::tests::simulated`.

use std::collections::HashMap;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::transport::tests::simulated::are_at_rest;

const PORT: u16 = 7000;
const SEEDS: u64 = 5;
/// How much virtual time there is for anything.
const LONG: Duration = Duration::from_secs(120);

struct World {
    seed: u64,
    sim: turmoil::Sim<'static>,
    hosts: Vec<Host>,
}

struct Host {
    name: String,
    slot: Arc<Mutex<Option<Cluster>>>,
    /// How often requests of this host's ended how.
    answers: Arc<Mutex<HashMap<Option<Code>, usize>>>,
}

impl World {
    fn new(seed: u64, hosts: usize, loss: f64) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .fail_rate(loss)
            .udp_capacity(4096)
            .enable_random_order()
            .build();
        let secret = Secret::generate();
        let hosts = (0..hosts).map(|n| Host::start(&mut sim, seed, n, &secret)).collect();
        let mut world = Self { seed, sim, hosts };
        world.until_all_see(&State::Alive, |_, _| true);
        world
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> Result<(), String>) {
        let began = self.sim.elapsed();
        while let Err(why) = holds(self) {
            let waits = self.sim.elapsed() < began + LONG;
            assert!(waits, "seed {}: never: {what}: {why}", self.seed);
            self.pass(Duration::from_millis(20));
        }
    }

    /// Waits until the members that a condition names, by the numbers of who looks and who is seen,
    /// are in this state.
    fn until_all_see(&mut self, state: &State, of: impl Fn(usize, usize) -> bool) {
        let hosts = self.hosts.len();
        self.until(&format!("{state:?}"), |world| {
            for (from, to) in (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to))) {
                let seen = world.cluster(from).and_then(|node| node.get(&world.hosts[to].name));
                let seen = seen.map(|member| (member.state, member.instance));
                let is = world.cluster(to).map(|node| node.local().instance);
                let right = seen.is_some_and(|(is_state, instance)| {
                    is_state == *state && is.is_none_or(|is| is == instance)
                });
                if of(from, to) && !right {
                    return Err(format!("n{from} sees n{to} as {seen:?}"));
                }
            }
            Ok(())
        });
    }

    fn cluster(&self, host: usize) -> Option<Cluster> {
        self.hosts[host].slot.lock().clone()
    }

    /// What became of the requests since the last look.
    fn answers(&self) -> HashMap<Option<Code>, usize> {
        let mut all = HashMap::new();
        for host in &self.hosts {
            for (code, count) in std::mem::take(&mut *host.answers.lock()) {
                *all.entry(code).or_default() += count;
            }
        }
        all
    }

    /// Waits until no pair has more than one link and nothing is under way.
    fn comes_to_rest(&mut self) {
        let transports = |world: &Self| -> Vec<_> {
            let clusters = (0..world.hosts.len()).filter_map(|host| world.cluster(host));
            clusters.map(|cluster| cluster.0.transport.clone()).collect()
        };
        self.until("rest", |world| are_at_rest(&transports(world)));
    }
}

impl Host {
    fn start(sim: &mut turmoil::Sim<'static>, seed: u64, n: usize, secret: &Secret) -> Self {
        let name = format!("n{n}");
        let addr = SocketAddr::new(sim.lookup(name.as_str()), PORT);
        let mut builder = Cluster::builder("simulated", &name)
            .secret(secret.clone())
            .listen(SocketAddr::from(([0, 0, 0, 0], PORT)))
            .advertise(addr);
        // The first two know one another, the others the first two.
        for known in ["n0", "n1"].iter().filter(|known| **known != name) {
            builder = builder.seed(SocketAddr::new(sim.lookup(*known), PORT));
        }
        let config = builder.config().clone();
        let chance = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed << 8 | n as u64)));
        let host = Self { name, slot: Arc::default(), answers: Arc::default() };
        let (slot, answers) = (host.slot.clone(), host.answers.clone());
        sim.host(host.name.as_str(), move || {
            let rng = SmallRng::from_rng(&mut *chance.lock());
            live(config.clone(), rng, slot.clone(), answers.clone())
        });
        host
    }
}

/// A process: a node that asks one of the others every now and then.
async fn live(
    config: Config,
    mut rng: SmallRng,
    slot: Arc<Mutex<Option<Cluster>>>,
    answers: Arc<Mutex<HashMap<Option<Code>, usize>>>,
) -> turmoil::Result {
    let (gate, opened) = oneshot::channel();
    drop(gate);
    let chance = (rng.random(), rng.random());
    let runtime = Runtime::of_the_test();
    let system = clock::System {
        suspended: || Duration::ZERO,
        // Half of the nodes do not know what time it is.
        wall: if rng.random() { turmoil::sim_elapsed } else { || None },
    };
    let node = Cluster::start_here(config, runtime, opened, chance, system).await?;
    node.handle("echo", |request| async move { Ok(request.payload) })?;
    *slot.lock() = Some(node.clone());
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..400))).await;
        if let Some(error) = node.closed() {
            return Err(error.into());
        }
        let me = node.local().instance;
        let others: Vec<_> = node.members().into_iter().filter(|m| m.instance != me).collect();
        if others.is_empty() {
            continue;
        }
        let to = &others[rng.random_range(0..others.len())].id;
        let answer = node.request(to.as_str(), "echo", "here", Duration::from_secs(5)).await;
        *answers.lock().entry(answer.err().map(|error| error.code())).or_default() += 1;
    }
}

fn split(seed: u64) {
    let mut world = World::new(seed, 5, 0.0);
    world.pass(Duration::from_secs(10));
    let answers = world.answers();
    assert!(answers.keys().all(Option::is_none), "seed {seed}: {answers:?}");

    let (few, many) = (["n0", "n1"], ["n2", "n3", "n4"]);
    let apart = |from: usize, to: usize| (from < 2) != (to < 2);
    for (a, b) in few.iter().flat_map(|a| many.map(|b| (*a, b))) {
        world.sim.partition(a, b);
    }
    world.until_all_see(&State::Failed, apart);
    world.until_all_see(&State::Alive, |from, to| !apart(from, to));
    let answers = world.answers();
    let known = [Code::LinkLost, Code::Timeout, Code::Unreachable, Code::UnknownMember];
    let typed = answers.keys().flatten().all(|code| known.contains(code));
    assert!(typed && answers.contains_key(&None), "seed {seed}: {answers:?}");

    for (a, b) in few.iter().flat_map(|a| many.map(|b| (*a, b))) {
        world.sim.repair(a, b);
    }
    world.until_all_see(&State::Alive, |_, _| true);
    world.comes_to_rest();
    world.answers();
    world.pass(Duration::from_secs(10));
    let answers = world.answers();
    assert!(answers.keys().all(Option::is_none), "seed {seed}: {answers:?}");
}

#[test]
fn a_cluster_that_was_split_is_one_again_with_one_link_a_pair() {
    (0..SEEDS).for_each(split);
}

#[test]
fn a_member_whose_process_was_replaced_is_known_as_the_next() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 4, 0.0);
        let before = world.cluster(2).unwrap().local().instance;
        world.sim.crash("n2");
        drop(world.hosts[2].slot.lock().take());
        if seed % 2 == 0 {
            world.until_all_see(&State::Failed, |from, to| from != 2 && to == 2);
        }
        world.sim.bounce("n2");
        world.until("it runs", |world| world.cluster(2).map(drop).ok_or_else(String::new));
        assert_ne!(world.cluster(2).unwrap().local().instance, before);
        world.until_all_see(&State::Alive, |_, _| true);
        world.comes_to_rest();
    }
}

#[test]
fn at_5_percent_loss_nobody_is_given_up() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, 4, 0.05);
        let heard: Vec<_> = (0..4).map(|host| world.cluster(host).unwrap().events()).collect();
        world.pass(Duration::from_secs(60));
        for (host, mut heard) in heard.into_iter().enumerate() {
            while let Some(event) = heard.try_next() {
                let failed = matches!(event.kind, EventKind::MemberFailed { .. });
                assert!(!failed, "seed {seed}: n{host}: {event:?}");
            }
        }
        let answers = world.answers();
        let lost: usize = answers.iter().filter(|(code, _)| code.is_some()).map(|(_, n)| n).sum();
        assert_eq!(lost, 0, "seed {seed}: {answers:?}");
        world.sim.set_fail_rate(0.0);
        world.comes_to_rest();
    }
}
