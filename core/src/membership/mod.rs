//! Membership: the protocol as a pure state machine.
//!
//! [`Membership`] takes `(now, input)` and yields effects: frames to send, links to open or
//! close, events, and when it wants to be called next. It has no clock, socket, task or
//! randomness of its own; the tokio driver and the simulator are its only two callers.
//!
//! The protocol is SWIM (Das et al. 2002) with Lifeguard's three parts (Dadgar et al. 2017).
//! Rules it never breaks, asserted by the simulator after every step:
//!
//! 1. Only a member raises its own incarnation. A suspicion never does.
//! 2. Records of one id are ordered by (incarnation, state); see [`State`](crate::State).
//! 3. A node never believes that it is itself suspect or failed: it refutes.
//! 4. Every member that is up is eventually alive everywhere; every one that is gone eventually
//!    failed or left everywhere, and later forgotten.
//! 5. Every queue, table and message has a limit.
//! 6. `left` is not `failed`: no alarm, no suspicion, no resurrection.

mod account;
mod apply;
mod counters;
mod due;
mod gossip;
mod heal;
mod health;
mod identity;
mod isolation;
mod join;
mod leaps;
mod outbound;
mod phi;
mod planted;
mod probe;
mod rings;
mod settings;
mod shared;
mod suspicion;
mod sync;
mod table;
mod time;
#[cfg(feature = "simulator")]
mod warm;
mod watch;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    event::EventKind,
    member::{Instance, Member, NodeId, Peer, State, Tags},
    wire::{self, DecodeError, Frame, Record},
};

pub use counters::Counters;
pub use gossip::{DATAGRAM_BYTES_MAX, STREAM_BYTES_MAX, UPDATES_MAX};
#[cfg(feature = "simulator")]
pub use planted::Bug;
pub(crate) use rings::hash;
#[cfg(feature = "simulator")]
pub use rings::{place_seed, watchers_of};
pub use settings::Settings;
#[cfg(feature = "simulator")]
pub use shared::Shared;
pub use suspicion::Suspicion;
pub use table::Entry;
pub use time::Time;
#[cfg(feature = "simulator")]
pub use warm::Ask;
pub use watch::WatchEdge;

/// How a frame is to travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// As a datagram: fast, may be lost.
    Datagram,
    /// On a stream: arrives unless the link dies.
    Stream,
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// The first input of all.
    Start,
    /// The deadline that [`Membership::deadline`] named has come, or any later time.
    Tick,
    /// A frame arrived on a link that leads to `from`.
    Frame {
        /// Who the link says it is.
        from: Peer,
        /// The frame.
        bytes: Bytes,
    },
    /// A link is up.
    LinkUp {
        /// Where it leads.
        peer: Peer,
        /// Where the peer listens.
        addr: SocketAddr,
        /// The address that was dialed, if we did.
        dialed: Option<SocketAddr>,
    },
    /// The last link to a peer is gone.
    LinkDown {
        /// Where it led.
        peer: Peer,
        /// It broke, as opposed to being closed for good reason by either side.
        broken: bool,
    },
    /// A link looks as if the peer did not answer.
    LinkTrouble {
        /// Where it leads.
        peer: Peer,
    },
    /// Who was dialed has no room for another link, and says who might have.
    Full {
        /// Where they listen.
        others: Vec<SocketAddr>,
    },
    /// For so long what others said could not reach us, though our ticks came in time: the
    /// machine is overloaded.
    Starved(Duration),
    /// Announce these tags.
    SetTags(Tags),
    /// Announce that our program does not respond, or does again.
    Unresponsive(bool),
    /// Announce that we go.
    Leave,
}

/// What is to be done outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame; dial the address if there is no link. Best effort.
    Send {
        /// Exactly this process.
        to: Peer,
        /// Where it listens.
        addr: SocketAddr,
        /// How.
        class: Class,
        /// The frame.
        bytes: Bytes,
    },
    /// Make a link; answered by [`Input::LinkUp`] if it succeeds.
    Dial {
        /// Where to.
        addr: SocketAddr,
        /// Who is to answer there; anybody of the cluster if `None`.
        expect: Option<NodeId>,
    },
    /// Close the link to a process.
    Close {
        /// Where it leads.
        peer: Peer,
        /// Why, for its log and ours.
        reason: &'static str,
    },
    /// Keep the link to a process although it is unused, or keep it no longer. Lasts as long as
    /// the link; of no effect if there is none.
    Pin {
        /// Where it leads.
        peer: Peer,
        /// Keep it.
        pinned: bool,
    },
    /// Tell the subscribers.
    Event(EventKind),
    /// A seed admitted us, or there is none to ask.
    Joined,
    /// The announcement that we go has spread as far as it will.
    LeaveSpread,
    /// Another living process has our id and is to stay: this node must stop.
    Stop,
}

/// What this node says about itself.
#[derive(Clone, Debug)]
struct Own {
    peer: Peer,
    addr: SocketAddr,
    incarnation: u64,
    state: State,
    tags: Tags,
    unresponsive: bool,
}

/// One call of [`Membership::handle`]: the time, and where effects go.
struct Step<'a> {
    now: Time,
    out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    fn event(&mut self, kind: EventKind) {
        self.out.push(Effect::Event(kind));
    }
}

/// The machine. What nearly every call looks at comes first and lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Membership {
    /// What the caller was told last; a call much later than that means that we were paused.
    deadline_told: Option<Time>,
    /// When anybody was heard last.
    heard_last: Option<Time>,
    /// When our tasks were late last.
    starved_at: Option<Time>,
    /// When the gossip tick is due, while the queue is not empty.
    gossip_at: Option<Time>,
    /// When the running suspicions are looked at together.
    review_at: Option<Time>,
    watch: watch::Watch,
    own: Own,
    health: health::LocalHealth,
    stopped: bool,
    leave_announced: bool,
    #[cfg(feature = "simulator")]
    bug: Option<planted::Bug>,
    conflict: Option<identity::Conflict>,
    /// Whose links are older than our table, see `isolation`.
    outdated: BTreeSet<Peer>,
    sync: sync::Sync,
    heal: heal::Heal,
    join: join::Join,
    probes: probe::Probes,
    gossip: gossip::Gossip,
    table: table::Table,
    rng: StdRng,
    started: Time,
    gossip_last: Time,
    version: u64,
    counters: Counters,
    settings: Settings,
    #[cfg(feature = "simulator")]
    shared: Option<Shared>,
}

impl Membership {
    /// A node with an empty table. The same seed and the same inputs give the same effects.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let own = Own {
            peer: settings.me.clone(),
            addr: settings.addr,
            incarnation: settings.incarnation.clamp(1, wire::INCARNATION_MAX),
            state: State::Alive,
            tags: settings.tags.clone(),
            unresponsive: false,
        };
        let mut rng = StdRng::seed_from_u64(seed);
        let table = table::Table::new(&settings.me.id, settings.watch_rings, rng.random());
        let watch = watch::Watch::new(&settings, &mut rng);
        Self {
            rng,
            own,
            table,
            gossip: gossip::Gossip::default(),
            health: health::LocalHealth::default(),
            probes: probe::Probes::default(),
            join: join::Join::new(!settings.seeds.is_empty()),
            conflict: None,
            outdated: BTreeSet::new(),
            sync: sync::Sync::default(),
            heal: heal::Heal::default(),
            watch,
            review_at: None,
            started: Time::default(),
            stopped: false,
            leave_announced: false,
            gossip_at: None,
            gossip_last: Time::default(),
            deadline_told: None,
            heard_last: None,
            starved_at: None,
            version: 0,
            counters: Counters::default(),
            #[cfg(feature = "simulator")]
            bug: None,
            #[cfg(feature = "simulator")]
            shared: None,
            settings,
        }
    }

    /// The one entry: what happened, when. Effects are appended in the order in which they are
    /// to be done. `now` must not go backwards.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        if self.stopped {
            return;
        }
        let step = &mut Step { now, out };
        self.notice_own_pause(step);
        let lone_beat = matches!(&input, Input::Frame { bytes, .. } if wire::is_lone_beat(bytes))
            && self.is_settled(now);
        match input {
            Input::Start => self.start(step),
            Input::Tick => {}
            Input::Frame { from, bytes } => self.frame(step, from, &bytes),
            Input::LinkUp { peer, addr, dialed } => self.link_up(step, peer, addr, dialed),
            Input::LinkDown { peer, broken } => self.link_down(step, &peer, broken),
            Input::LinkTrouble { peer } => self.probe_at_once(step, &peer),
            Input::Full { others } => self.turn_to_others(step, &others),
            Input::Starved(late) => self.starved(step.now, late),
            Input::SetTags(tags) => self.set_tags(step, tags),
            Input::Unresponsive(is) => self.set_unresponsive(step, is),
            Input::Leave => self.leave(step),
        }
        // After most calls, those that brought a heartbeat and no news, only a watch edge can want
        // to be seen to, and that hardly ever at once.
        if lone_beat {
            let first = self.deadline_told.into_iter().chain(self.watch.deadline()).min();
            self.deadline_told = first;
            if first.is_none_or(|at| at > now) {
                debug_assert_eq!(first, self.first_deadline());
                return;
            }
        }
        self.tick(step);
        self.deadline_told = self.first_deadline();
    }

    /// When [`Input::Tick`] is due next; `None` if never.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline_told
    }

    /// Rises whenever [`Membership::members`] would differ.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All members in order of their ids, ourselves included.
    pub fn members(&self) -> Vec<Arc<Member>> {
        let mut all: Vec<_> = self.table.iter().map(|e| e.member.clone()).collect();
        let at = all.partition_point(|m| m.id < self.own.peer.id);
        all.insert(at, Arc::new(self.own_member()));
        all
    }

    /// What is believed about another node.
    pub fn entry(&self, id: &NodeId) -> Option<&Entry> {
        self.table.get(id)
    }

    /// All others that are known, in order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// What this node says about itself.
    pub fn own_record(&self) -> Record {
        Record {
            id: self.own.peer.id.clone(),
            instance: self.own.peer.instance,
            incarnation: self.own.incarnation,
            state: self.own.state,
            addr: self.own.addr,
            tags: self.own.tags.clone(),
            observers: Vec::new(),
            dead_for_ms: 0,
            unresponsive: self.own.unresponsive,
        }
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many updates wait to be spread.
    pub fn gossip_len(&self) -> usize {
        self.gossip.len()
    }

    /// How many probes, on our own behalf and others', are under way.
    pub fn probes_len(&self) -> usize {
        self.probes.len()
    }

    /// Our own probes: their numbers, and whom they are for.
    #[cfg(feature = "simulator")]
    pub fn own_probes(&self) -> impl Iterator<Item = (u64, &Peer)> {
        self.probes.own()
    }

    /// The score of our own health, 0 to 8.
    pub fn health_score(&self) -> u32 {
        self.health.score()
    }

    /// Whether a seed has admitted us, or there was none to ask.
    pub fn is_joined(&self) -> bool {
        !self.join.pending()
    }

    fn own_member(&self) -> Member {
        Member {
            id: self.own.peer.id.clone(),
            instance: self.own.peer.instance,
            incarnation: self.own.incarnation,
            state: self.own.state,
            addr: self.own.addr,
            tags: self.own.tags.clone(),
            rtt: None,
            unresponsive: self.own.unresponsive,
        }
    }

    fn start(&mut self, step: &mut Step<'_>) {
        self.started = step.now;
        self.gossip_last = step.now;
        self.start_probing(step);
        self.start_syncing(step);
        self.start_healing(step);
        self.start_joining(step);
    }

    /// Everything that is due.
    fn tick(&mut self, step: &mut Step<'_>) {
        if self.own.state != State::Left {
            self.tick_join(step);
            self.tick_conflict(step);
            self.tick_watch(step);
            self.tick_probes(step);
            self.tick_suspicions(step);
            self.tick_sync(step);
            self.tick_heal(step);
        }
        self.tick_gossip(step);
    }

    fn frame(&mut self, step: &mut Step<'_>, from: Peer, bytes: &[u8]) {
        if self.is_outdated(&from) {
            return;
        }
        let (frame, updates) = match wire::skim(bytes) {
            Ok(message) => message,
            Err(DecodeError::UnknownKind(_)) => return self.counters.frames_unknown += 1,
            Err(error) => return self.bad_frame(step, &from, error.reason()),
        };
        self.heard_somebody(step);
        self.probes.on_frame(&from);
        let whole = || updates.iter().filter_map(|u| u.record().ok()).collect();
        match frame {
            Frame::Gossip => self.hear_all(step, &from, &updates),
            Frame::Ping { seq, target, reliable } => {
                self.hear_all(step, &from, &updates);
                self.on_ping(step, &from, seq, &target, reliable);
            }
            Frame::Ack { seq } => {
                self.hear_all(step, &from, &updates);
                self.on_ack(step, &from, seq);
            }
            Frame::PingReq { seq, target, addr } => {
                self.hear_all(step, &from, &updates);
                self.on_ping_req(step, from, seq, target, addr);
            }
            Frame::Nack { seq } => {
                self.hear_all(step, &from, &updates);
                self.probes.on_nack(&from, seq);
            }
            Frame::Join { fresh } => self.on_join(step, from, fresh, whole()),
            Frame::Welcome => self.on_welcome(step, &from, whole()),
            Frame::Refused => self.on_refused(step, &from, whole()),
            Frame::Digest { hash } => self.on_digest(step, &from, hash),
            Frame::Summaries { after, upto, list } => {
                self.on_summaries(step, &from, after, upto, list)
            }
            Frame::Records { want } => self.on_records(step, &from, want, whole()),
            Frame::Conflict { uptime_ms } => self.on_conflict(step, &from, uptime_ms),
            Frame::Heartbeat { seq, seen, every_ms, want } => {
                self.hear_all(step, &from, &updates);
                self.on_heartbeat(step, &from, (seq, seen, every_ms, want));
            }
        }
    }

    /// What no honest peer sends: counted, and it has to make a new link at least.
    fn bad_frame(&mut self, step: &mut Step<'_>, from: &Peer, reason: &'static str) {
        self.counters.frames_bad += 1;
        step.out.push(Effect::Close { peer: from.clone(), reason });
    }

    fn link_up(
        &mut self,
        step: &mut Step<'_>,
        peer: Peer,
        addr: SocketAddr,
        dialed: Option<SocketAddr>,
    ) {
        if peer == self.own.peer {
            return; // a seed that was ourselves under another address
        }
        self.outdated.remove(&peer);
        let live = match self.table.get(&peer.id) {
            Some(e) if e.member.instance == peer.instance => {
                let live = e.member.state.is_live();
                self.table.set_linked(&peer.id, true);
                self.edge_linked(step, &peer);
                live
            }
            _ => false,
        };
        let seed = dialed.is_some_and(|a| self.settings.seeds.contains(&a));
        if dialed.is_some()
            && (!live || (self.join.pending() && seed))
            && self.own.state != State::Left
        {
            self.ask_to_join(step, &peer, addr);
        }
    }

    fn link_down(&mut self, step: &mut Step<'_>, peer: &Peer, broken: bool) {
        self.outdated.remove(peer);
        if self.table.get(&peer.id).is_some_and(|e| e.member.instance == peer.instance) {
            self.table.set_linked(&peer.id, false);
            self.edge_unlinked(step, peer);
            if broken {
                self.probe_at_once(step, peer);
            }
        }
    }

    fn set_tags(&mut self, step: &mut Step<'_>, tags: Tags) {
        if self.own.state == State::Left || *self.own.tags == *tags {
            return;
        }
        self.own.tags = tags;
        self.raise_incarnation(step, self.own.incarnation, gossip::Priority::Low);
    }

    fn set_unresponsive(&mut self, step: &Step<'_>, is: bool) {
        if self.own.state != State::Left && self.own.unresponsive != is {
            self.own.unresponsive = is;
            self.raise_incarnation(step, self.own.incarnation, gossip::Priority::Medium);
        }
    }

    fn leave(&mut self, step: &mut Step<'_>) {
        if self.own.state == State::Left {
            return;
        }
        self.own.state = State::Left;
        self.version += 1;
        self.leave_announced = true;
        self.announce(step, gossip::Priority::Critical);
        // The nearest are told over a stream besides, so that a lossy path does not turn the
        // leave into a death.
        let record = self.own_record();
        for member in self.table.pick_linked(&mut self.rng, UPDATES_MAX) {
            self.send_records(
                step,
                &member.peer(),
                member.addr,
                Frame::Gossip,
                std::slice::from_ref(&record),
            );
        }
    }

    fn is_me(&self, peer: &Peer) -> bool {
        *peer == self.own.peer
    }
}

/// A process start's random number, from the driver's own randomness.
pub fn instance_from(random: u64) -> Instance {
    Instance(random)
}

#[cfg(test)]
mod tests;
