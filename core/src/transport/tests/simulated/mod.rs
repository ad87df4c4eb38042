//! The transport on turmoil's network, in virtual time: partitions, loss, processes that vanish and
//! dials that cross, by the hundred and within seconds.
//!
//! All of it is the transport that runs in production, with its QUIC stack, TLS and pool; only the
//! socket is another (`socket::simulated`). A seed fixes what the network does, when the scenario acts, and
//! what pool and stack draw by chance (`chance`), so two runs of one seed are alike packet for packet.
//! The keys of TLS are others each time, and their contents decide nothing.

mod bounce;
mod loss;
mod partition;
mod rivals;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;

use super::*;
use crate::error::Code;

const PORT: u16 = 7000;
/// What there is of virtual time to wait for anything: less than an unused link is kept.
const LONG: Duration = Duration::from_secs(40);
/// Until a link is gone on which nothing is heard any more: the idle time-out counts from what is
/// sent first after that, the next keep-alive if nothing else is.
const DEAD: Duration = Duration::from_millis(3000 + 1500 + 100);

/// On how many networks each scenario is played.
const SEEDS: u64 = 200;

/// Plays a scenario on all of them, as many at once as there are processors.
fn each_seed<T: Send>(play: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let play = &play;
    let some = |first| move || (first..SEEDS).step_by(threads as usize).map(play).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|first| scope.spawn(some(first))).collect();
        let ended = all.into_iter().map(|thread| thread.join());
        let ended: Vec<Vec<T>> =
            ended.map(|run| run.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect();
        ended.into_iter().flatten().collect()
    })
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Hosts on a simulated network.
struct World {
    seed: u64,
    sim: turmoil::Sim<'static>,
    hosts: Vec<Host>,
    /// What the scenario itself draws.
    rng: SmallRng,
}

struct Host {
    name: String,
    addr: SocketAddr,
    slot: Arc<Mutex<Option<Process>>>,
}

/// A process on a host: it runs until the host crashes.
#[derive(Clone)]
struct Process {
    transport: Transport,
    peer: Peer,
    addr: SocketAddr,
    handler: Arc<Handler>,
    events: Arc<Mutex<Vec<TransportEvent>>>,
    jobs: mpsc::Sender<Job>,
}

/// See [`World::footprint`].
#[derive(Debug, PartialEq)]
struct Footprint {
    ended: Duration,
    packets: Vec<[u64; 2]>,
}

/// Packet for packet: what goes wrong for a seed once goes wrong for it again.
#[test]
fn a_seed_repeats_itself_in_every_scenario() {
    type Play = fn(u64) -> Footprint;
    let scenarios: [(&str, Play); 5] = [
        ("cut", partition::cut),
        ("cut one way", partition::cut_one_way),
        ("comes back", bounce::come_back),
        ("stays away", bounce::stay_away),
        ("lossy", |seed| loss::lossy(seed, 0.2).1),
    ];
    for (name, play) in scenarios {
        for seed in 0..SEEDS / 20 {
            assert_eq!(play(seed), play(seed), "{name}, seed {seed}");
        }
    }
}

/// How the network is.
struct Net {
    latency: (Duration, Duration),
    loss: f64,
}

impl Default for Net {
    fn default() -> Self {
        Self { latency: (Duration::from_millis(1), Duration::from_millis(5)), loss: 0.0 }
    }
}

impl World {
    fn new(seed: u64, hosts: usize, net: &Net) -> Self {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .min_message_latency(net.latency.0)
            .max_message_latency(net.latency.1)
            .fail_rate(net.loss)
            .udp_capacity(4096)
            .enable_random_order();
        let mut sim = builder.build();
        let hosts = (0..hosts).map(|n| Host::start(&mut sim, seed, n)).collect();
        let mut world = Self { seed, sim, hosts, rng: SmallRng::seed_from_u64(seed) };
        world.until("all hosts run", |world| world.hosts.iter().all(|host| host.runs()));
        world
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            panic!("seed {}: {error}", self.seed);
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    /// Lets time pass until a condition holds; how much.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let began = self.sim.elapsed();
        while !holds(self) {
            assert!(self.sim.elapsed() < began + LONG, "seed {}: never: {what}", self.seed);
            self.step();
        }
        self.sim.elapsed() - began
    }

    fn process(&self, host: usize) -> Process {
        self.hosts[host].slot.lock().clone().expect("it runs")
    }

    /// Begins something on a host, in its time.
    fn begin<T, F>(&self, host: usize, work: impl FnOnce(Process) -> F) -> Begun<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let process = self.process(host);
        let (done, begun) = oneshot::channel();
        let work = work(process.clone());
        let job = Box::pin(async move {
            let _ = done.send(work.await); // the test may not care
        });
        process.jobs.try_send(job).expect("it takes jobs");
        Begun(begun)
    }

    /// Begins a request from one to another.
    fn ask(&self, from: usize, to: usize, topic: &'static str) -> Begun<Result<Bytes>> {
        self.ask_within(from, to, topic, LONG)
    }

    fn ask_within(
        &self,
        from: usize,
        to: usize,
        topic: &'static str,
        deadline: Duration,
    ) -> Begun<Result<Bytes>> {
        let to = self.process(to);
        self.begin(from, move |from| async move {
            from.transport.request(&to.peer, to.addr, topic, Bytes::from(topic), deadline).await
        })
    }

    /// Begins a request that is never answered, and waits until it is there.
    fn hang(&mut self, from: usize, to: usize) -> Begun<Result<Bytes>> {
        let handler = self.process(to).handler;
        let asked = self.ask(from, to, "hang");
        self.until("the request is there", |_| handler.arrived.try_acquire().is_ok_and(forgotten));
        asked
    }

    fn has_link(&self, from: usize, to: &Peer) -> bool {
        self.process(from).transport.has_link(to)
    }

    /// What something begun came to, and how long that took.
    fn end<T>(&mut self, begun: Begun<T>) -> (T, Duration) {
        self.end_within(begun, LONG)
    }

    fn end_within<T>(&mut self, mut begun: Begun<T>, limit: Duration) -> (T, Duration) {
        let began = self.sim.elapsed();
        loop {
            if let Ok(ended) = begun.0.try_recv() {
                return (ended, self.sim.elapsed() - began);
            }
            assert!(self.sim.elapsed() < began + limit, "seed {}: it does not end", self.seed);
            self.step();
        }
    }

    /// Makes a link between each two.
    fn mesh(&mut self) {
        for to in 0..self.hosts.len() {
            for from in 0..to {
                let asked = self.ask(from, to, "echo");
                self.end(asked).0.unwrap();
            }
        }
        self.comes_to_rest();
    }

    /// Ends the process on a host without a word, and starts the next.
    fn bounce(&mut self, host: usize) {
        self.crash(host);
        self.sim.bounce(self.hosts[host].name.as_str());
        self.until("it runs again", |world| world.hosts[host].runs());
    }

    fn crash(&mut self, host: usize) {
        self.sim.crash(self.hosts[host].name.as_str());
        // Only now: the last handle of a process that runs would say goodbye.
        drop(self.hosts[host].slot.lock().take());
    }

    /// Waits until there is one link between each two that run and nothing else is left, and looks
    /// whether it stays so.
    fn comes_to_rest(&mut self) {
        self.is_so(Self::is_at_rest);
        // A health check may have begun just now, which waits two seconds for answers.
        self.is_so(Self::has_no_task_left);
        let links = self.links();
        for _ in 0..100 {
            self.pass(Duration::from_millis(10));
            if let Err(why) = self.is_at_rest() {
                panic!("seed {}: the rest does not last: {why}", self.seed);
            }
        }
        assert_eq!(links, self.links(), "seed {}: links come and go", self.seed);
        self.is_so(Self::has_no_task_left);
    }

    /// Waits until something is as it should be.
    fn is_so(&mut self, holds: fn(&Self) -> Result<(), String>) {
        let began = self.sim.elapsed();
        while let Err(why) = holds(self) {
            let waits = self.sim.elapsed() < began + LONG;
            assert!(waits, "seed {}: no rest: {why}", self.seed);
            self.step();
        }
    }

    fn has_no_task_left(&self) -> Result<(), String> {
        self.running().iter().try_for_each(|process| no_task_is_left(&process.transport))
    }

    /// What tells one run from another: when it ended, and what each process that runs sent and got.
    fn footprint(&self) -> Footprint {
        let stats = self.running().into_iter().map(|process| process.transport.stats());
        let packets = stats.map(|stats| [stats.packets_sent, stats.packets_received]).collect();
        Footprint { ended: self.sim.elapsed(), packets }
    }

    fn running(&self) -> Vec<Process> {
        self.hosts.iter().filter_map(|host| host.slot.lock().clone()).collect()
    }

    fn links(&self) -> Links {
        links(self.running().iter().map(|process| &process.transport))
    }

    /// Whether there is one link between each two, and nothing else.
    fn is_at_rest(&self) -> Result<(), String> {
        let running = self.running();
        for process in &running {
            process.is_at_rest(running.len() - 1)?;
        }
        let links = one_a_pair(running.iter().map(|process| &process.transport))?;
        let pairs = running.len() * (running.len() - 1) / 2;
        if links.len() == pairs { Ok(()) } else { Err(format!("{pairs} pairs with {links:?}")) }
    }
}

/// The connections between processes: which of two dialed which, and its serial number; with how
/// many ends of it are in a pool.
type Links = BTreeMap<(Peer, Peer, u64), usize>;

fn links<'a>(transports: impl Iterator<Item = &'a Transport>) -> Links {
    let mut ends = BTreeMap::new();
    for node in transports.map(Transport::node) {
        for link in node.pool.links() {
            let (us, them) = (node.me.clone(), link.peer.clone());
            let pair = if link.dialed { (us, them) } else { (them, us) };
            *ends.entry((pair.0, pair.1, link.rank.2)).or_default() += 1;
        }
    }
    ends
}

/// The links, if all have two ends and no pair has two.
fn one_a_pair<'a>(transports: impl Iterator<Item = &'a Transport>) -> Result<Links, String> {
    let links = links(transports);
    let pairs: BTreeSet<_> = links.keys().map(|(a, b, _)| (a.min(b), a.max(b))).collect();
    if links.values().all(|ends| *ends == 2) && pairs.len() == links.len() {
        Ok(links)
    } else {
        Err(format!("links of one end, or two of a pair: {links:?}"))
    }
}

/// Whether these have at most one link a pair, the same at both ends, and nothing under way.
pub(crate) fn are_at_rest(transports: &[Transport]) -> Result<(), String> {
    transports.iter().try_for_each(no_task_is_left)?;
    are_at_rest_but_for_tasks(transports)
}

/// The same, but links may have tasks that look after streams.
pub(crate) fn are_at_rest_but_for_tasks(transports: &[Transport]) -> Result<(), String> {
    transports.iter().try_for_each(nothing_is_left)?;
    one_a_pair(transports.iter()).map(drop)
}

/// Whether each link has a task that serves it, and nothing else has one.
fn no_task_is_left(transport: &Transport) -> Result<(), String> {
    let node = transport.node();
    let (is, should) = (node.tasks.len(), TASKS_IDLE + node.pool.links().len());
    if is == should { Ok(()) } else { Err(format!("{} has {is} tasks, not {should}", node.me.id)) }
}

/// Whether all of a transport is links in its pool, with nothing under way.
fn nothing_is_left(transport: &Transport) -> Result<(), String> {
    let (node, stats) = (transport.node(), transport.stats());
    let held = node.pool.links();
    let under_way: usize = held
        .iter()
        .map(|link| {
            let share = &link.share;
            [&link.leases, &link.serving, &link.streaming, &share.serving, &share.streaming]
        })
        .flat_map(|counts| counts.map(|count| count.load(Relaxed)))
        .sum();
    let dialed = held.iter().filter(|link| link.dialed).count();
    let connections = [0, 1].map(|at| node.admissions[at].connections());
    let counted = [
        ("replaced links", node.pool.links_and_retired().len() - held.len(), 0),
        ("dials", node.pool.dials(), 0),
        ("who waits for room", usize::from(node.pool.is_waited_for()), 0),
        ("leases and the like", under_way, 0),
        ("places of replaced links", node.retired.len(), 0),
        ("requests", (stats.requests_out + stats.requests_in) as usize, 0),
        ("streams", (stats.streams_out + stats.streams_in) as usize, 0),
        ("handshakes", stats.handshakes_unfinished as usize, 0),
        ("connections accepted", connections[0], held.len() - dialed),
        ("connections dialed", connections[1], dialed),
    ];
    match counted.iter().find(|(_, is, should)| is != should) {
        Some((what, is, should)) => Err(format!("{} has {is} {what}, not {should}", node.me.id)),
        None => Ok(()),
    }
}

fn forgotten(permit: tokio::sync::SemaphorePermit<'_>) -> bool {
    permit.forget();
    true
}

/// Something that was begun on a host.
struct Begun<T>(oneshot::Receiver<T>);

impl Host {
    fn start(sim: &mut turmoil::Sim<'static>, seed: u64, n: usize) -> Self {
        let name = format!("n{n}");
        let addr = SocketAddr::new(sim.lookup(name.as_str()), PORT);
        let slot = Arc::<Mutex<Option<Process>>>::default();
        let processes = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed << 8 | n as u64)));
        let (id, runs) = (name.clone(), slot.clone());
        sim.host(name.as_str(), move || {
            let options = Options {
                instance: Instance(processes.lock().random()),
                listen: SocketAddr::from(([0, 0, 0, 0], PORT)),
                advertise: Some(addr),
                ..options(&id)
            };
            live(options, runs.clone())
        });
        Self { name, addr, slot }
    }

    fn runs(&self) -> bool {
        self.slot.lock().is_some()
    }
}

/// A process: a transport, and what it is told to do.
async fn live(options: Options, slot: Arc<Mutex<Option<Process>>>) -> turmoil::Result {
    let addr = options.advertise.ok_or("it has an address")?;
    let node = TestNode::with(options).await;
    let (jobs, mut work) = mpsc::channel::<Job>(1024);
    let events = Arc::<Mutex<Vec<_>>>::default();
    let TestNode { transport, events: mut inbox, peer, handler } = node;
    let heard = events.clone();
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            heard.lock().push(event);
        }
    });
    *slot.lock() = Some(Process { transport, peer, addr, handler, events, jobs });
    while let Some(job) = work.recv().await {
        tokio::spawn(job);
    }
    Ok(())
}

impl Process {
    /// Whether it has so many links, all in its pool, and nothing under way.
    fn is_at_rest(&self, links: usize) -> Result<(), String> {
        let panicked = |event: &&TransportEvent| matches!(event, TransportEvent::Panic { .. });
        if let Some(panic) = self.events.lock().iter().find(panicked) {
            return Err(format!("{}: {panic:?}", self.peer.id));
        }
        let held = self.transport.links().len();
        if held != links {
            return Err(format!("{} has {held} links, not {links}", self.peer.id));
        }
        nothing_is_left(&self.transport)
    }

    /// What it heard of its links to another.
    fn heard_of(&self, peer: &Peer) -> Vec<String> {
        let events = self.events.lock();
        let said = events.iter().filter_map(|event| match event {
            TransportEvent::LinkUp { peer: of, .. } if of == peer => Some("up".into()),
            TransportEvent::LinkTrouble { peer: of } if of == peer => Some("trouble".into()),
            TransportEvent::LinkDown { peer: of, end } if of == peer => {
                Some(format!("down: {end}"))
            }
            _ => None,
        });
        said.collect()
    }
}
