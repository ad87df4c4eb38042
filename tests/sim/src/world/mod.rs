//! The world: processes, the links between them, and one heap of things to come.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;
use peerage::{
    Config, EventKind, NodeId,
    member::{Instance, Peer},
    membership::{Bug, Class, Effect, Input, Membership, Settings, Shared, Time},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

mod edges;
mod links;
mod pauses;

use crate::{
    S,
    faults::Fault,
    network::Network,
    rules::{Observed, Rules},
};

/// How long making a link may take, as in the default configuration.
const CONNECT_TIMEOUT: u64 = 5 * S;
/// A link without an answer dies after this (QUIC's idle time-out).
const IDLE_TIMEOUT: u64 = 3 * S;
/// A link with something unanswered looks troubled after this.
const TROUBLE: u64 = S * 6 / 10;
/// How many frames wait for one link.
const WAITING_MAX: usize = 32;
/// How many frames wait for a process that stands still.
const BACKLOG_MAX: usize = 256;
/// How long a leaving process waits for its announcement to spread.
const LEAVE_TIMEOUT: u64 = 5 * S;
/// The longest chain of violations that is kept.
const VIOLATIONS_MAX: usize = 20;

/// One process start.
#[derive(Debug)]
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
    /// What its subscribers saw, if the world keeps events.
    pub events: Vec<(u64, EventKind)>,
    links: BTreeMap<usize, u64>,
    dials: BTreeMap<(SocketAddr, Option<NodeId>), u64>,
    tick_at: Option<u64>,
    /// While it stands still: what waits for it.
    backlog: Option<Vec<Input>>,
}

#[derive(Debug)]
struct Link {
    /// The dialer and the acceptor.
    ends: [usize; 2],
    up: [bool; 2],
    /// Rises whenever the path breaks or heals.
    epoch: u64,
    broken: bool,
    troubled: [bool; 2],
    /// Which end does not evict it.
    pinned: [bool; 2],
    /// Stream frames that wait for the path to heal: by which end, and what.
    held: Vec<(usize, Bytes)>,
    used: u64,
}

#[derive(Debug)]
struct Dial {
    by: usize,
    addr: SocketAddr,
    expect: Option<NodeId>,
    begun: u64,
    /// The machine asked for the link itself.
    explicit: bool,
    frames: Vec<(Peer, Class, Bytes)>,
}

#[derive(Debug)]
enum Happening {
    Tick(usize),
    Frame {
        link: u64,
        from: usize,
        class: Class,
        bytes: Bytes,
    },
    Dialed(u64, u64),
    LinkDies(u64, u64),
    Trouble(u64, u64, usize),
    /// The other end closed the link.
    Closed(u64, usize),
    LeaveOver(usize),
    Resume(usize),
    Fault(Fault),
}

#[derive(Debug)]
struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// All of it.
#[derive(Debug)]
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
    now: u64,
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
    rng: StdRng,
    config: Config,
    links_max: usize,
    at: BTreeMap<SocketAddr, usize>,
    on_host: Vec<Option<usize>>,
    links: BTreeMap<u64, Link>,
    dials: BTreeMap<u64, Dial>,
    serial: u64,
    rules: Option<Rules>,
    /// What all machines hold alike.
    shared: Shared,
    trace: u64,
    steps: u64,
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
            now: 0,
            heap: BinaryHeap::new(),
            order: 0,
            rng: StdRng::seed_from_u64(seed),
            links_max: config.links_max as usize,
            config,
            at: BTreeMap::new(),
            on_host: vec![None; hosts],
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            serial: 0,
            rules: checked.then(Rules::default),
            shared: Shared::default(),
            trace: 0xcbf2_9ce4_8422_2325,
            steps: 0,
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

    /// The process that runs on a host.
    pub fn on(&self, host: usize) -> Option<&Process> {
        self.on_host[host].map(|p| &self.processes[p])
    }

    /// The processes that run and mean to stay.
    pub fn members(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|p| p.running && !p.leaving)
    }

    /// Where a host's first process listens.
    pub fn home(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (host / 250) as u8, (host % 250) as u8], 7000))
    }

    /// Plans something to happen.
    pub fn plan(&mut self, at: u64, fault: Fault) {
        self.push(at.max(self.now), Happening::Fault(fault));
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: u64) {
        while let Some(Reverse(due)) = self.heap.peek()
            && due.0 <= until
        {
            let Some(Reverse(Due(at, _, what))) = self.heap.pop() else { break };
            self.now = at;
            self.happen(what);
        }
        self.now = self.now.max(until);
    }

    fn push(&mut self, at: u64, what: Happening) {
        self.order += 1;
        self.heap.push(Reverse(Due(at, self.order, what)));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Tick(p) => {
                if self.processes[p].tick_at == Some(self.now) {
                    self.processes[p].tick_at = None;
                    if self.processes[p].backlog.is_none() {
                        self.input(p, Input::Tick);
                    }
                }
            }
            Happening::Frame { link, from, class, bytes } => self.arrive(link, from, class, bytes),
            Happening::Dialed(dial, pause) => self.dialed(dial, pause),
            Happening::LinkDies(link, epoch) => {
                if self.links.get(&link).is_some_and(|l| l.epoch == epoch) {
                    self.drop_link(link, [true, true]);
                }
            }
            Happening::Trouble(link, epoch, end) => {
                if let Some(l) = self.links.get(&link).filter(|l| l.epoch == epoch && l.up[end]) {
                    let (me, peer) = (l.ends[end], self.processes[l.ends[1 - end]].peer.clone());
                    self.input(me, Input::LinkTrouble { peer });
                }
            }
            Happening::Closed(link, end) => {
                let up = self.links.get(&link).is_some_and(|l| l.up[end]);
                if up {
                    self.end_down(link, end, false);
                }
            }
            Happening::LeaveOver(p) => self.exit(p),
            Happening::Resume(p) => self.resume(p),
            Happening::Fault(fault) => {
                if self.verbose {
                    println!("{:>12} {fault:?}", self.now);
                }
                fault.apply(self);
            }
        }
    }

    /// Starts a process on a host, under the id that belongs to the host `named`.
    pub fn start(&mut self, host: usize, named: usize, moved: bool, seeds: &[usize]) -> usize {
        let id = NodeId::new(format!("n{named:04}")).expect("a short name without controls");
        let peer = Peer { id, instance: Instance(self.rng.random()) };
        let mut addr = Self::home(host);
        if moved {
            let moves = self.processes.iter().filter(|p| p.host == host).count();
            addr.set_port(7000 + moves as u16);
        } else if let Some(last) = self.processes.iter().rev().find(|p| p.host == host) {
            addr = last.addr;
        }
        let mut config = self.config.clone();
        config.seeds = seeds
            .iter()
            .map(|s| self.on(*s).map_or(Self::home(*s), |p| p.addr))
            .filter(|a| *a != addr)
            .collect();
        let mut machine =
            Membership::new(Settings::new(peer.clone(), addr, &config), self.rng.random());
        machine.share(&self.shared);
        if let Some(bug) = self.bug {
            machine.plant(bug);
        }
        let p = self.processes.len();
        self.processes.push(Process {
            host,
            peer,
            addr,
            machine,
            running: true,
            leaving: false,
            refused: false,
            joined: false,
            seeds: config.seeds,
            started: self.now,
            events: Vec::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            tick_at: None,
            backlog: None,
        });
        self.on_host[host] = Some(p);
        self.at.insert(addr, p);
        self.input(p, Input::Start);
        p
    }

    /// The process on a host dies; its links die at the peers later.
    pub fn crash(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        self.gone(p);
        let links: Vec<u64> = self.processes[p].links.values().copied().collect();
        for link in links {
            let end = self.end_of(link, p);
            if let Some(l) = self.links.get_mut(&link) {
                l.up[end] = false;
            }
            self.break_link(link);
        }
        self.processes[p].links.clear();
    }

    /// The process on a host leaves.
    pub fn leave(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        if !self.processes[p].leaving {
            self.processes[p].leaving = true;
            self.push(self.now + LEAVE_TIMEOUT, Happening::LeaveOver(p));
            self.input(p, Input::Leave);
        }
    }

    /// The process on a host announces new tags.
    pub fn change_tags(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        let tags = [("at".to_owned(), self.now.to_string())].into();
        self.input(p, Input::SetTags(Arc::new(tags)));
    }

    fn gone(&mut self, p: usize) {
        let process = &mut self.processes[p];
        process.running = false;
        process.dials.clear();
        let (host, addr) = (process.host, process.addr);
        if self.at.get(&addr) == Some(&p) {
            self.at.remove(&addr);
        }
        if self.on_host[host] == Some(p) {
            self.on_host[host] = None;
        }
    }

    /// A process ends in good order and closes its links.
    fn exit(&mut self, p: usize) {
        if !self.processes[p].running {
            return;
        }
        self.gone(p);
        let links: Vec<u64> = std::mem::take(&mut self.processes[p].links).into_values().collect();
        for link in links {
            self.close(link, p);
        }
    }

    fn input(&mut self, p: usize, input: Input) {
        if !self.processes[p].running {
            return;
        }
        if let Some(backlog) = &mut self.processes[p].backlog {
            // The socket's buffer is bounded; what the stack itself finds out is not in it.
            if backlog.len() < BACKLOG_MAX || !matches!(input, Input::Frame { .. }) {
                backlog.push(input);
            }
            return;
        }
        self.steps += 1;
        if self.verbose && !matches!(input, Input::Tick) {
            let shown = match &input {
                Input::Frame { from, bytes } => {
                    format!("frame from {from:?}: {:?}", peerage::wire::decode(bytes))
                }
                other => format!("{other:?}"),
            };
            println!("{:>12} {:?} <- {shown}", self.now, self.processes[p].peer);
        }
        let mut effects = Vec::new();
        self.processes[p].machine.handle(Time(self.now), input, &mut effects);
        self.note(p, &effects);
        self.check(p, &effects);
        for effect in effects {
            self.perform(p, effect);
        }
        self.schedule(p);
    }

    fn schedule(&mut self, p: usize) {
        let process = &mut self.processes[p];
        if !process.running {
            return;
        }
        let wanted = process.machine.deadline().map(|t| t.0.max(self.now));
        // A tick that comes too early does no harm; one that would be too late is replaced.
        if let Some(at) = wanted
            && process.tick_at.is_none_or(|planned| planned > at)
        {
            process.tick_at = Some(at);
            self.push(at, Happening::Tick(p));
        }
    }

    fn note(&mut self, p: usize, effects: &[Effect]) {
        let mut mix = |n: u64| {
            self.trace = (self.trace ^ n).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        };
        mix(self.now);
        mix(p as u64);
        for effect in effects {
            match effect {
                Effect::Send { bytes, .. } => {
                    for chunk in bytes.chunks(8) {
                        let mut word = [0; 8];
                        word[..chunk.len()].copy_from_slice(chunk);
                        mix(u64::from_le_bytes(word));
                    }
                }
                Effect::Dial { addr, .. } => mix(u64::from(addr.port()) << 8 | 1),
                Effect::Event(kind) => kind.name().bytes().for_each(|b| mix(b.into())),
                Effect::Close { .. } => mix(2),
                Effect::Pin { pinned, .. } => mix(6 + u64::from(*pinned)),
                Effect::Joined => mix(3),
                Effect::LeaveSpread => mix(4),
                Effect::Stop => mix(5),
            }
        }
    }

    fn check(&mut self, p: usize, effects: &[Effect]) {
        let Some(mut rules) = self.rules.take() else { return };
        let process = &self.processes[p];
        let running =
            |peer: &Peer| self.processes.iter().any(|q| q.peer == *peer && q.running && !q.leaving);
        let (machine, peer, now) = (&process.machine, &process.peer, self.now);
        let observed = Observed { machine, peer, effects, now };
        let mut found = Vec::new();
        rules.after_step(p, &observed, &running, &mut found);
        let name = process.peer.id.clone();
        for what in found {
            self.violation(format!("{name}: {what}"));
        }
        self.rules = Some(rules);
    }

    /// Notes that something is wrong.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("at {:.3} s: {what}", self.now as f64 / S as f64));
        }
    }

    fn perform(&mut self, p: usize, effect: Effect) {
        match effect {
            Effect::Send { to, addr, class, bytes } => self.send(p, to, addr, class, bytes),
            Effect::Dial { addr, expect } => {
                let dial = self.dial(p, addr, expect);
                if let Some(d) = self.dials.get_mut(&dial) {
                    d.explicit = true;
                }
            }
            Effect::Close { peer } => {
                let links = &self.processes[p].links;
                let link = links.iter().find(|(q, _)| self.processes[**q].peer == peer);
                if let Some((_, link)) = link {
                    let link = *link;
                    self.close(link, p);
                }
            }
            Effect::Pin { peer, pinned } => self.pin(p, &peer, pinned),
            Effect::Event(kind) => {
                if self.verbose {
                    println!("{:>12} {:?} !! {kind:?}", self.now, self.processes[p].peer);
                }
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

    /// It still asks to be let in, where nobody listens any more: all its seeds were replaced by
    /// processes elsewhere. No protocol can help it.
    fn forlorn(&self, p: &Process) -> bool {
        !p.joined && !p.seeds.iter().any(|s| self.at.contains_key(s))
    }

    /// Why not everybody sees exactly those who are there; empty if so (rule 4).
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut there: BTreeMap<&NodeId, &Process> = BTreeMap::new();
        for p in self.members().filter(|p| !self.forlorn(p)) {
            if there.insert(&p.peer.id, p).is_some() {
                found.push(format!("two processes named {} run", p.peer.id));
            }
            if !p.joined {
                found.push(format!("{} has not joined", p.peer.id));
            }
        }
        for p in self.members().filter(|p| !self.forlorn(p)) {
            for (id, q) in there.iter().filter(|(id, _)| ***id != p.peer.id) {
                let seen = p.machine.entry(id);
                let well = seen.is_some_and(|e| {
                    e.member.state == peerage::State::Alive
                        && e.member.instance == q.peer.instance
                        && e.member.tags == q.machine.own_record().tags
                });
                if !well {
                    let seen = seen.map(|e| (e.member.state, e.rank()));
                    found.push(format!("{} sees {id} as {seen:?}", p.peer.id));
                }
            }
            for e in p.machine.entries() {
                if e.member.state.is_live() && !there.contains_key(&e.member.id) {
                    found.push(format!("{} sees {} who is gone", p.peer.id, e.member.id));
                }
            }
        }
        found
    }
}
