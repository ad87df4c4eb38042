//! The world: processes, the links between them, and one heap of things to come.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
    net::SocketAddr,
};

use bytes::Bytes;
use peerage::{
    Config, EventKind, NodeId,
    member::Peer,
    membership::{Bug, Class, Effect, Input, Membership, Shared},
};
use rand::{SeedableRng, rngs::StdRng};

mod checks;
mod edges;
mod links;
mod pauses;
mod pool;
mod processes;
mod queue;
mod troubles;
mod warm;

use crate::{
    S,
    faults::Fault,
    network::{Network, TroubleId},
    rules::Rules,
    world::{
        pauses::Pace,
        pool::{AsItIs, Held, LinkId, Links},
        queue::{Queue, What},
    },
};

/// How long making a link may take, as in the default configuration.
const CONNECT_TIMEOUT: u64 = 5 * S;
/// A link without an answer dies after this (QUIC's idle time-out).
const IDLE_TIMEOUT: u64 = 3 * S;
/// A link that nobody uses passes a packet so often.
const KEEP_ALIVE: u64 = S;
/// A link with something unanswered looks troubled after this.
const TROUBLE: u64 = S * 6 / 10;
/// So many links more than `links_max` there may be, where none may go: peers and membership need them.
const RESERVE: usize = 16;
/// How many others a full process names.
const OTHERS_MAX: usize = 8;
/// How many frames wait for one link.
const WAITING_MAX: usize = 32;
/// How many frames wait for a process that stands still.
const BACKLOG_MAX: usize = 256;
/// How long a leaving process waits for its announcement to spread.
const LEAVE_TIMEOUT: u64 = 5 * S;
/// The longest chain of violations that is kept.
const VIOLATIONS_MAX: usize = 20;

/// One process start.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where it runs: cuts are between hosts.
    pub host: usize,
    /// Its id and process start.
    pub peer: Peer,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The machine.
    pub machine: Membership,
    /// It has not crashed, left or stopped.
    pub running: bool,
    /// It has announced that it goes.
    pub leaving: bool,
    /// It was told to stop, since another process has its id.
    pub refused: bool,
    /// A seed admitted it, or there was none to ask.
    pub joined: bool,
    /// Where it joins.
    pub seeds: Vec<SocketAddr>,
    /// When it started.
    pub started: u64,
    /// When it ended, if it has.
    pub ended: Option<u64>,
    /// What its subscribers saw, if the world keeps events.
    pub events: Vec<(u64, EventKind)>,
    links: Held,
    dials: BTreeMap<(SocketAddr, Option<NodeId>), u64>,
    tick_at: Option<u64>,
    pace: Pace,
}

#[derive(Clone, Debug)]
struct Dial {
    by: usize,
    addr: SocketAddr,
    expect: Option<NodeId>,
    begun: u64,
    /// The machine asked for the link itself.
    explicit: bool,
    frames: Vec<(Peer, Class, Bytes)>,
}

#[derive(Clone, Debug)]
enum Happening {
    Frame {
        link: LinkId,
        from: usize,
        class: Class,
        bytes: Bytes,
    },
    Dialed(u64, u64),
    /// The handshake took longer than anybody waits.
    DialFails(u64),
    LinkDies(LinkId, u32),
    /// Whether anything passed on a lossy link for as long as it lives without.
    Doubt(LinkId),
    Trouble(LinkId, u32, usize),
    /// The other end closed the link.
    Closed(LinkId, usize),
    LeaveOver(usize),
    Resume(usize),
    Starve(usize),
    /// A slow process is done with one input.
    Handled(usize),
    Flip(TroubleId),
    Fault(Box<Fault>),
}

/// All of it.
#[derive(Clone, Debug)]
pub struct World {
    /// The network between the hosts.
    pub net: Network,
    /// Every process that ever ran.
    pub processes: Vec<Process>,
    /// What went wrong, with the time.
    pub violations: Vec<String>,
    /// Prints every input and effect that concerns membership.
    pub verbose: bool,
    /// Keeps the events of every process.
    pub keep_events: bool,
    /// Planted in every machine that starts from now on.
    pub bug: Option<Bug>,
    /// Machines are told what time it is: so with every other seed.
    clocks: bool,
    now: u64,
    queue: Queue,
    /// What the queue speaks of, and the places that are free.
    happenings: Vec<Option<Happening>>,
    free: Vec<u32>,
    /// What one step gave; empty between steps.
    effects: Vec<Effect>,
    rng: StdRng,
    config: Config,
    links_max: usize,
    at: BTreeMap<SocketAddr, usize>,
    by_instance: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    on_host: Vec<Option<usize>>,
    links: Links,
    dials: BTreeMap<u64, Dial>,
    serial: u64,
    /// How many cuts without a name of their own there were.
    cuts: TroubleId,
    /// When a process's clock last jumped.
    jumped: u64,
    rules: Option<Rules>,
    /// What all machines hold alike.
    shared: Shared,
    /// Whose processes may be declared failed although they run.
    may_fail: Vec<bool>,
    /// Whose declarations do not count.
    unheeded: Vec<bool>,
    trace: u64,
    steps: u64,
    suspicions: u64,
    let_go: u64,
    dialed: u64,
}

impl World {
    /// An empty world for so many hosts; `checked` switches the rules on.
    pub fn new(seed: u64, hosts: usize, config: Config, checked: bool) -> Self {
        Self {
            net: Network::default(),
            processes: Vec::new(),
            violations: Vec::new(),
            verbose: false,
            keep_events: false,
            bug: None,
            clocks: seed.is_multiple_of(2),
            now: 0,
            queue: Queue::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            effects: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            links_max: config.links_max as usize,
            config,
            at: BTreeMap::new(),
            on_host: vec![None; hosts],
            by_instance: HashMap::default(),
            links: Links::default(),
            dials: BTreeMap::new(),
            serial: 0,
            cuts: 0,
            jumped: 0,
            rules: checked.then(Rules::default),
            shared: Shared::default(),
            may_fail: vec![false; hosts],
            unheeded: vec![false; hosts],
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            suspicions: 0,
            let_go: 0,
            dialed: 0,
        }
    }

    /// Virtual time.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.on_host.len()
    }

    /// How many times a machine was called.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A fingerprint of all that happened: equal for equal runs.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// From now on a `MemberFailed` about a running process is a violation.
    pub fn forbid_wrong_failures(&mut self, forbid: bool) {
        if let Some(rules) = &mut self.rules {
            rules.no_wrong_failures = forbid;
        }
    }

    /// But not about the processes of these hosts.
    pub fn let_fail(&mut self, hosts: impl IntoIterator<Item = usize>) {
        for host in hosts {
            self.may_fail[host] = true;
        }
    }

    /// The process that runs on a host.
    pub fn on(&self, host: usize) -> Option<&Process> {
        self.on_host[host].map(|p| &self.processes[p])
    }

    /// The processes that run and mean to stay.
    pub fn members(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|p| p.running && !p.leaving)
    }

    /// And what the processes of these hosts declare does not count.
    pub fn ignore(&mut self, hosts: impl IntoIterator<Item = usize>) {
        for host in hosts {
            self.unheeded[host] = true;
        }
    }

    /// So many hosts from now on, if there are fewer.
    pub fn grow(&mut self, hosts: usize) {
        self.on_host.resize(hosts.max(self.on_host.len()), None);
        self.may_fail.resize(self.on_host.len(), false);
        self.unheeded.resize(self.on_host.len(), false);
    }

    /// How many times anybody was told of a suspicion.
    pub fn suspicions(&self) -> u64 {
        self.suspicions
    }

    /// How often anybody let go of a link that it had kept, and dialed where somebody listens; what is
    /// dialed for a frame is not among them.
    pub fn moves(&self) -> (u64, u64) {
        (self.let_go, self.dialed)
    }

    /// Whether anybody has something to tell.
    pub fn gossip_waits(&self) -> bool {
        self.members().any(|p| p.machine.gossip_len() > 0)
    }

    /// The id of what runs on a host.
    pub fn id(host: usize) -> NodeId {
        NodeId::new(format!("n{host:04}")).expect("a short name without controls")
    }

    /// Where a host's first process listens.
    pub fn home(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (host / 250) as u8, (host % 250) as u8], 7000))
    }

    fn host_at(addr: SocketAddr) -> usize {
        match addr.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[2] as usize * 250 + ip.octets()[3] as usize,
            std::net::IpAddr::V6(_) => 0, // no host has one
        }
    }

    /// Plans something to happen.
    pub fn plan(&mut self, at: u64, fault: Fault) {
        self.push(at.max(self.now), Happening::Fault(Box::new(fault)));
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: u64) {
        while let Some(due) = self.queue.pop(until) {
            self.now = due.at;
            self.foresee();
            match due.what {
                What::Tick(p) => self.tick(p as usize),
                What::Other(place) => {
                    let what = self.happenings[place as usize].take();
                    self.free.push(place);
                    if let Some(what) = what {
                        self.happen(what);
                    }
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn push(&mut self, at: u64, what: Happening) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() as u32 - 1
        });
        self.happenings[place as usize] = Some(what);
        self.queue.push(at, What::Other(place));
    }

    fn tick(&mut self, p: usize) {
        let process = &mut self.processes[p];
        if process.tick_at == Some(self.now) {
            process.tick_at = None;
            self.input(p, Input::Tick);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Frame { link, from, class, bytes } => self.arrive(link, from, class, bytes),
            Happening::Dialed(dial, pause) => self.dialed(dial, pause),
            Happening::DialFails(dial) => {
                self.end_dial(dial);
            }
            Happening::Doubt(link) => self.doubt(link),
            Happening::LinkDies(link, epoch) => {
                if self.links.get(link).is_some_and(|l| l.epoch == epoch) {
                    self.drop_link(link, [true, true]);
                }
            }
            Happening::Trouble(link, epoch, end) => {
                let link = self.links.get_mut(link);
                if let Some(l) = link.filter(|l| l.epoch == epoch && l.up[end]) {
                    // Where much is lost there may be trouble again; a broken path has said so.
                    l.troubled[end] = l.broken;
                    let (me, peer) = (l.at(end), self.processes[l.at(1 - end)].peer.clone());
                    self.input(me, Input::LinkTrouble { peer });
                }
            }
            Happening::Closed(link, end) => {
                let up = self.links.get(link).is_some_and(|l| l.up[end]);
                if up {
                    self.end_down(link, end, false);
                }
            }
            Happening::LeaveOver(p) => self.exit(p),
            Happening::Resume(p) => self.resume(p),
            Happening::Starve(p) => self.starve_on(p),
            Happening::Handled(p) => self.handled(p),
            Happening::Flip(id) => self.flip_trouble(id),
            Happening::Fault(fault) => {
                if self.verbose {
                    println!("{:>12.6} {fault:?}", self.now as f64 / S as f64);
                }
                fault.apply(self);
            }
        }
    }

    /// Calls a process's machine and does what it wants done.
    fn handle(&mut self, p: usize, input: Input) {
        self.steps += 1;
        if self.verbose && !matches!(input, Input::Tick) {
            let shown = match &input {
                Input::Frame { from, bytes } => {
                    format!("frame from {from:?}: {:?}", peerage::wire::decode(bytes))
                }
                other => format!("{other:?}"),
            };
            self.say(p, "<-", &shown);
        }
        let mut effects = std::mem::take(&mut self.effects);
        let now = self.processes[p].pace.time(self.now);
        let frame = match &input {
            Input::Frame { from, bytes } if self.rules.is_some() => {
                Some((from.clone(), bytes.clone()))
            }
            _ => None,
        };
        self.processes[p].machine.handle(now, input, &mut effects);
        self.note(p, &effects);
        self.check(p, frame, &effects);
        for effect in effects.drain(..) {
            self.perform(p, effect);
        }
        self.effects = effects;
        self.schedule(p);
    }

    /// A line of the verbose account: time, step, who, what.
    fn say(&self, p: usize, how: &str, what: &str) {
        let (seconds, id) = (self.now as f64 / S as f64, &self.processes[p].peer.id);
        println!("{seconds:>12.6} #{} {id} {how} {what}", self.steps);
    }

    fn schedule(&mut self, p: usize) {
        let process = &mut self.processes[p];
        if !process.running {
            return;
        }
        let wanted = process.machine.deadline().map(|t| process.pace.when(t).max(self.now));
        // A tick that comes too early does no harm; one that would be too late is replaced.
        if let Some(at) = wanted
            && process.tick_at.is_none_or(|planned| planned > at)
        {
            process.tick_at = Some(at);
            self.queue.push(at, What::Tick(p as u32));
        }
    }

    fn perform(&mut self, p: usize, effect: Effect) {
        match effect {
            Effect::Send { to, addr, class, bytes } => self.send(p, to, addr, class, bytes),
            Effect::Dial { addr, expect } => {
                self.dialed += u64::from(self.at.contains_key(&addr));
                let dial = self.dial(p, addr, expect);
                if let Some(d) = self.dials.get_mut(&dial) {
                    d.explicit = true;
                }
            }
            Effect::Close { peer, .. } => {
                if let Some(link) = self.link_to(p, &peer) {
                    self.close(link, p);
                }
            }
            Effect::Pin { peer, pinned } => {
                self.let_go += u64::from(!pinned);
                self.pin(p, &peer, pinned);
            }
            Effect::Event(kind) => {
                if self.verbose {
                    self.say(p, "!!", &format!("{kind:?}"));
                }
                self.suspicions += u64::from(matches!(kind, EventKind::MemberSuspected { .. }));
                if self.keep_events {
                    self.processes[p].events.push((self.now, kind));
                }
            }
            Effect::Joined => self.processes[p].joined = true,
            Effect::LeaveSpread => self.exit(p),
            Effect::Stop => {
                self.processes[p].refused = true;
                self.exit(p);
            }
        }
    }
}
