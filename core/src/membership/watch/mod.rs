//! Watch edges: between the neighbours on the rings, heartbeats both ways, and what their silence
//! means.
//!
//! Who is watched is heard in every interval. Where both are, the one with the lesser id leads and
//! the other answers at once: its heartbeat carries the acknowledgement that the transport owes,
//! and one packet and a wake on each side are saved. Who only watches says now and then what it has
//! seen, likewise on an acknowledgement, and in every interval once it hears nothing.
//!
//! An edge pins its link. It is laid some time after the rings call for it and goes some time
//! after they no longer do, a few at a time, and only when those in its place stand: a mass join
//! or a mass death moves edges, but not all at once. A peer that still wants an edge keeps ours
//! up as well; only those that the rings make us watch are judged.

mod beats;
mod edges;
mod rounds;
mod sight;
#[cfg(feature = "simulator")]
mod warm;

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, time::Duration};

use rand::{Rng, rngs::StdRng};

use super::{
    Effect, Membership, Settings, Step, Time, account::Check, phi, phi::Phi, planted::Bug,
    time::First,
};
use crate::{
    config::LINKS_BESIDES_RINGS,
    member::{Member, NodeId, Peer, State},
    wire::Want,
};
use edges::Edges;
use rounds::Rounds;
pub use sight::WatchEdge;

/// How long after the last member came or went edges are planned anew: more may come or go, ...
const SETTLE: Duration = Duration::from_millis(300);
/// ... and how long after the first of them at the latest. In a mass join an edge that is laid
/// between two who see half of the cluster is a handshake for nothing.
const SETTLE_MAX: Duration = Duration::from_millis(1500);
/// Where one plan after the other finds more than so many changed, and more than one in so many, ...
const STORM: (u64, u64) = (16, 8);
/// ... both double, so often at most.
const STORMS_MAX: u32 = 3;
/// How often edges are laid and taken up, ...
const LAY_EVERY: Duration = Duration::from_millis(100);
/// ... and how many of each at once.
const LAY_AT_ONCE: usize = 2;
/// How many dials for edges may wait for their outcome: more than that means that the machines
/// cannot keep up.
const DIALS_AT_ONCE: usize = 6;
/// How long the end with the greater id leaves the dialing to the other: anything between, since
/// what lost the link of one edge has lost those of others.
const DIAL_SECOND: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3);
/// How long a dial has at least before the member is probed and dialed again, ...
const DIAL_AGAIN_MIN: Duration = Duration::from_secs(1);
/// ... and at most, after the first one: each further one has up to twice as long, ...
const DIAL_AGAIN: Duration = Duration::from_secs(2);
/// ... so many times; how long, is left to chance (full jitter, Brooker 2015).
const DIAL_DOUBLES_MAX: u32 = 4;
/// How long a dial counts as one that waits for its outcome.
const DIAL_TAKES: Duration = Duration::from_secs(2);
/// How long an edge that is no longer called for waits for those in its place.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// How many intervals after its last word a peer is believed to want an edge that we do not, ...
const WANTED_FOR: u32 = 5;
/// ... or how many of its own, if they are longer.
const WANTED_FOR_ITS: u32 = 3;
/// Whose silence nobody judges says so many times more rarely what it has seen, ...
const SPARSE: u32 = 5;
/// ... unless it has heard nothing itself for this share of the peer's interval.
const LATE: f64 = 1.5;
/// Who answers heartbeats waits for the next one for this share of the interval, and then speaks
/// unasked, ...
const UNASKED: f64 = 1.2;
/// ... and answers no more often than after this share of it.
const ANSWER_MIN: f64 = 0.5;
/// From so many heartbeats that the peer has not seen on they go by stream: a path that is hostile
/// to datagrams must not look like a death.
const UNSEEN_MAX: u64 = 3;
/// The bounds that the configuration sets for the interval; a peer that claims another lies.
const EVERY_MS: RangeInclusive<u32> = 100..=60_000;

/// An edge to one peer.
#[derive(Clone, Debug)]
struct Edge {
    peer: Peer,
    /// What is believed of it, and where it listens.
    state: State,
    addr: SocketAddr,
    /// There is a link to the peer.
    linked: bool,
    /// The rings call for it.
    wanted: bool,
    /// The rings make us the one who watches.
    watched: bool,
    /// They make the peer one who watches us, ...
    watches: bool,
    /// ... or it said so itself.
    asked: bool,
    /// Since when they do not call for it.
    unwanted_since: Time,
    /// Until when the peer's word holds that it wants it, unless it said since that it does not.
    wanted_there: Option<Time>,
    phi: Phi,
    heard: Option<Time>,
    /// The number of the last heartbeat from there, of the last one there, and of the last of
    /// ours that was seen there.
    seen: u64,
    sent: u64,
    echoed: u64,
    /// How many of ours it had not seen when we last heard it, ...
    unseen_when_heard: u64,
    /// ... and how many may go out before it speaks again.
    unsaid: u64,
    /// Its silence was noticed.
    unreached: bool,
    /// It said that it takes the edge up: until it is heard again its silence means nothing. Who
    /// else watches it, and the probes, would notice its death.
    rests: bool,
    /// When the next heartbeat is due, and when it would be without jitter.
    next: Time,
    slot: Time,
    /// When the last one went out.
    spoke: Time,
    /// When the next dial is due while there is no link, when the last one was, and how many
    /// there were since the peer was heard.
    dial_at: Time,
    dialed: Option<Time>,
    dials: u32,
}

impl Edge {
    /// Whether the peer is to hear us in every interval.
    fn is_judged_there(&self) -> bool {
        self.watches || self.asked
    }

    /// Whether a dial waits for its outcome.
    fn is_dialed(&self, now: Time) -> bool {
        self.dialed.is_some_and(|at| now.since(at) < DIAL_TAKES)
    }

    /// How many of our last heartbeats the peer has not seen, as far as its word can be expected.
    fn unseen(&self) -> u64 {
        let since = self.sent.saturating_sub(self.echoed);
        since.saturating_sub(self.unsaid).max(self.unseen_when_heard)
    }
}

/// What the rings make of a member.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    /// We watch it.
    watched: bool,
    /// It watches us.
    watches: bool,
}

/// All edges of this node.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    edges: Edges,
    /// Heartbeats that nobody asked for go out in one round an interval.
    rounds: Rounds,
    /// The last set of live processes that was seen, and the one that edges were planned for.
    seen: u64,
    planned_for: u64,
    /// How many plans in a row found much changed.
    storms: u32,
    plan_at: Option<Time>,
    plan_latest: Option<Time>,
    lay_at: Option<Time>,
    /// When edges were last laid or taken up.
    laid: Option<Time>,
    /// The threshold, in standard deviations.
    deviations: f64,
    /// The earliest of all heartbeats and judgements, or earlier.
    due: Option<Time>,
}

impl Watch {
    pub(super) fn new(settings: &Settings, rng: &mut StdRng) -> Self {
        Self {
            edges: Edges::default(),
            rounds: Rounds::new(settings, rng),
            seen: 0,
            planned_for: 0,
            storms: 0,
            plan_at: None,
            plan_latest: None,
            lay_at: None,
            laid: None,
            deviations: phi::deviations(f64::from(settings.phi_threshold)),
            due: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let mut first = First::default();
        first.or(self.plan_at);
        first.or(self.lay_at);
        first.or(self.due);
        first.time()
    }

    /// Whether edges were planned, or are going to be, for this set of live processes.
    pub(super) fn is_planned_for(&self, live_version: u64) -> bool {
        self.seen == live_version
    }

    fn lay_by(&mut self, at: Time) {
        self.lay_at = Some(self.lay_at.map_or(at, |old| old.min(at)));
    }

    fn due_by(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |old| old.min(at)));
    }
}

impl Membership {
    /// The most edges that there can be.
    pub fn watch_edges_max(&self) -> usize {
        2 * self.settings.watch_rings as usize + LINKS_BESIDES_RINGS as usize
    }

    /// Whether the rings make us watch a member.
    pub(super) fn is_watched(&self, id: &NodeId) -> bool {
        self.watch.edges.find_id(id).is_some_and(|at| self.watch.edges[at].watched)
    }

    pub(super) fn tick_watch(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if self.watch.seen != self.table.live_version() {
            self.watch.seen = self.table.live_version();
            let longer = 1 << self.watch.storms;
            let latest = *self.watch.plan_latest.get_or_insert(step.now + SETTLE_MAX * longer);
            self.watch.plan_at = Some(latest.min(step.now + SETTLE * longer));
        }
        if due(self.watch.plan_at) {
            (self.watch.plan_at, self.watch.plan_latest) = (None, None);
            let changes = self.watch.seen - self.watch.planned_for;
            let storm = changes > STORM.0 && changes * STORM.1 > self.table.live_len() as u64;
            self.watch.storms = if storm { (self.watch.storms + 1).min(STORMS_MAX) } else { 0 };
            self.watch.planned_for = self.watch.seen;
            self.plan_edges(step);
        }
        if due(self.watch.lay_at) {
            self.lay_edges(step);
        }
        if due(self.watch.due) {
            self.tick_beats(step);
        }
    }

    /// Whom the rings call for.
    fn neighbours(&self) -> BTreeMap<NodeId, Neighbour> {
        if self.table.all_watch_all() {
            let both = Neighbour { watched: true, watches: true };
            return self.table.live().map(|id| (id.clone(), both)).collect();
        }
        let mut all: BTreeMap<NodeId, Neighbour> = BTreeMap::new();
        let rings = self.table.rings();
        for id in rings.watched() {
            all.entry(id.clone()).or_default().watched = true;
        }
        for id in rings.watchers() {
            all.entry(id.clone()).or_default().watches = true;
        }
        all
    }

    fn plan_edges(&mut self, step: &mut Step<'_>) {
        let wanted = self.neighbours();
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let gone = self.watch.edges.iter().filter(|e| !e.state.is_live());
        for id in gone.map(|e| e.peer.id.clone()).collect::<Vec<_>>() {
            self.take_up(step, &id);
        }
        for at in 0..self.watch.edges.len() {
            let edge = &mut self.watch.edges[at];
            let called = wanted.get(&edge.peer.id).copied();
            if edge.wanted && called.is_none() {
                edge.unwanted_since = step.now;
            }
            edge.wanted = called.is_some();
            edge.watches = called.is_some_and(|c| c.watches);
            // One that waits for others in its place is judged like before.
            let newly = called.is_some_and(|c| c.watched) && !edge.watched;
            edge.watched = called.map_or(edge.watched, |c| c.watched);
            if newly {
                // It speaks up once it knows.
                self.beat_by(at, step.now);
            }
            let edge = &mut self.watch.edges[at];
            if newly && edge.heard.is_some() && !edge.rests {
                edge.phi.restart(step.now);
                let crossing = edge.phi.crossing(deviations, pause);
                self.watch.edges.judge_at(at, Some(crossing));
                self.watch.due_by(crossing);
            }
        }
        let new: Vec<(NodeId, Neighbour)> =
            wanted.into_iter().filter(|(id, _)| !self.watch.edges.contains(id)).collect();
        for (id, called) in new {
            if let Some(peer) = self.table.get(&id).map(|e| e.member.peer()) {
                self.lay(step, peer, Some(called));
            }
        }
        self.watch.lay_by(step.now);
    }

    /// Begins an edge that the rings call for, or else the peer. Its link is made by and by.
    fn lay(&mut self, step: &mut Step<'_>, peer: Peer, called: Option<Neighbour>) {
        let wanted = called.is_some();
        let Neighbour { watched, watches } = called.unwrap_or_default();
        if self.watch.edges.len() >= self.watch_edges_max() && !self.make_edge_room(step, wanted) {
            return;
        }
        let interval = self.settings.heartbeat_interval;
        let first = self.watch.rounds.first(step.now);
        let Some((state, addr, linked)) = self.of_peer(&peer) else { return };
        let dial_at = match self.own.peer.id < peer.id {
            true => step.now,
            false => step.now + self.rng.random_range(DIAL_SECOND),
        };
        // Higher than whatever an earlier edge to the same process had reached.
        let sent = step.now.0 / 1000;
        let edge = Edge {
            state,
            addr,
            linked,
            wanted,
            watched,
            watches,
            asked: false,
            unwanted_since: step.now,
            wanted_there: None,
            phi: Phi::new(step.now, interval),
            heard: None,
            seen: 0,
            sent,
            echoed: sent,
            unseen_when_heard: 0,
            unsaid: 0,
            unreached: false,
            rests: false,
            next: self.watch.rounds.begins(first),
            slot: first,
            spoke: Time::default(),
            dial_at,
            dialed: None,
            dials: 0,
            peer: peer.clone(),
        };
        self.watch.edges.insert(edge);
        if linked {
            self.edge_linked(step, &peer);
        } else {
            self.watch.lay_by(dial_at);
        }
        if !wanted {
            // The peer's last word that it wants it no more may be lost.
            self.watch.lay_by(first + interval * WANTED_FOR);
        }
    }

    /// Whether one more edge fits, after one that the rings do not call for has gone if need be:
    /// where it can be, one that the peer does not watch us by.
    fn make_edge_room(&mut self, step: &mut Step<'_>, wanted: bool) -> bool {
        let unwanted = self.watch.edges.iter().filter(|e| !e.wanted);
        let first = unwanted.min_by_key(|e| (e.asked, e.unwanted_since));
        match first.map(|e| e.peer.id.clone()).filter(|_| wanted) {
            Some(id) => {
                self.say_and_take_up(step, &id);
                true
            }
            None => false,
        }
    }

    pub(super) fn take_up(&mut self, step: &mut Step<'_>, id: &NodeId) {
        if self.planted(Bug::EdgesStay) {
            return;
        }
        if let Some(edge) = self.watch.edges.remove(id) {
            self.reached(id, Check::Heartbeats); // there are none to miss any more
            step.out.push(Effect::Pin { peer: edge.peer, pinned: false });
        }
    }

    /// Dials where a link is missing, lets go of what nobody wants any more.
    fn lay_edges(&mut self, step: &mut Step<'_>) {
        // Whatever else calls for it: a hundred links that end in the same moment, say.
        let next = self.watch.laid.map(|at| at + LAY_EVERY).filter(|next| step.now < *next);
        self.watch.lay_at = next;
        if next.is_some() {
            return;
        }
        let (mut dial, mut drop) = (Vec::new(), Vec::new());
        let mut later: Option<Time> = None;
        let mut again = |at: Time| later = Some(later.map_or(at, |old: Time| old.min(at)));
        for (at, edge) in self.watch.edges.iter().enumerate() {
            let id = &edge.peer.id;
            let holds = self.holds(at, step.now);
            let wanted_there = edge.wanted_there.is_some_and(|until| step.now < until);
            if !holds && !wanted_there {
                drop.push(id.clone());
                continue;
            }
            if !edge.wanted {
                again(step.now + Duration::from_secs(1));
            }
            if holds && !edge.linked {
                if edge.dial_at <= step.now {
                    dial.push(id.clone());
                } else {
                    again(edge.dial_at);
                }
            }
        }
        let edges = self.watch.edges.iter();
        let begun = edges.filter(|e| !e.linked && e.is_dialed(step.now)).count();
        let room = LAY_AT_ONCE.min(DIALS_AT_ONCE.saturating_sub(begun));
        if dial.len() > room || drop.len() > LAY_AT_ONCE {
            again(step.now + LAY_EVERY);
        }
        if room.min(dial.len()) > 0 || !drop.is_empty() {
            self.watch.laid = Some(step.now);
        }
        for id in drop.iter().take(LAY_AT_ONCE) {
            self.say_and_take_up(step, id);
        }
        for id in dial.iter().take(room) {
            again(step.now + LAY_EVERY);
            self.dial_edge(step, id);
        }
        self.watch.lay_at = later;
    }

    fn dial_edge(&mut self, step: &mut Step<'_>, id: &NodeId) {
        let Some(at) = self.watch.edges.find_id(id) else { return };
        let edge = &mut self.watch.edges[at];
        let before = edge.dials;
        edge.dials += 1;
        edge.dialed = Some(step.now);
        let longest = DIAL_AGAIN * (1 << before.min(DIAL_DOUBLES_MAX));
        edge.dial_at = step.now + self.rng.random_range(DIAL_AGAIN_MIN..=longest);
        let (peer, addr) = (edge.peer.clone(), edge.addr);
        step.out.push(Effect::Dial { addr, expect: Some(peer.id.clone()) });
        if before > 0 && !self.is_starving(step.now) {
            // The link does not come up: is the member still there?
            self.probe_at_once(step, &peer);
        }
    }

    /// The last heartbeat of an edge says that it was the last.
    fn say_and_take_up(&mut self, step: &mut Step<'_>, id: &NodeId) {
        if let Some(at) = self.watch.edges.find_id(id).filter(|at| self.watch.edges[*at].linked) {
            self.send_heartbeat(step, at, Want::Nothing);
        }
        self.take_up(step, id);
    }

    /// Whether we want an edge: the rings call for it, or those in its place do not stand yet.
    fn holds(&self, at: usize, now: Time) -> bool {
        let edge = &self.watch.edges[at];
        let waits = || now.since(edge.unwanted_since) < HOLD_MAX && !self.all_stand();
        edge.wanted || (edge.watched && waits())
    }

    /// Whether all edges that the rings call for are in use.
    fn all_stand(&self) -> bool {
        self.watch.edges.iter().filter(|e| e.wanted).all(|e| e.heard.is_some() && e.linked)
    }

    /// Another record of a member is believed.
    pub(super) fn edge_believes(&mut self, member: &Member) {
        let at = self.watch.edges.find_id(&member.id);
        if let Some(at) = at.filter(|at| self.watch.edges[*at].peer.instance == member.instance) {
            let edge = &mut self.watch.edges[at];
            (edge.state, edge.addr) = (member.state, member.addr);
        }
    }

    /// What is believed of exactly this process, where it listens, and whether there is a link.
    fn of_peer(&self, peer: &Peer) -> Option<(State, SocketAddr, bool)> {
        let entry = self.table.get(&peer.id).filter(|e| e.member.instance == peer.instance)?;
        Some((entry.member.state, entry.member.addr, entry.linked))
    }

    fn is_live(&self, peer: &Peer) -> bool {
        self.of_peer(peer).is_some_and(|(state, ..)| state.is_live())
    }

    /// Under bad health of our own more is forgiven.
    fn heartbeat_pause(&self) -> Duration {
        self.health.scale(self.settings.heartbeat_pause)
    }

    /// A link to a member is there, perhaps that of an edge.
    pub(super) fn edge_linked(&mut self, step: &mut Step<'_>, peer: &Peer) {
        let Some(at) = self.watch.edges.find(peer) else { return };
        let edge = &mut self.watch.edges[at];
        edge.linked = true;
        let next = edge.next.max(step.now);
        self.beat_by(at, next);
        if !self.planted(Bug::EdgesUnpinned) {
            step.out.push(Effect::Pin { peer: peer.clone(), pinned: true });
        }
    }

    /// The link of an edge is gone.
    pub(super) fn edge_unlinked(&mut self, step: &Step<'_>, peer: &Peer) {
        let Some(at) = self.watch.edges.find(peer) else { return };
        let first = self.own.peer.id < peer.id;
        let edge = &mut self.watch.edges[at];
        edge.linked = false;
        let soonest = match (first, edge.dialed) {
            (true, None) => step.now,
            (true, Some(at)) => step.now.max(at + DIAL_AGAIN_MIN),
            (false, _) => step.now + self.rng.random_range(DIAL_SECOND),
        };
        // A link that brought nothing ends no back-off.
        edge.dial_at = if edge.dials == 0 { soonest } else { soonest.max(edge.dial_at) };
        let dial_at = edge.dial_at;
        self.watch.edges.beat_at(at, None);
        self.watch.lay_by(dial_at);
    }
}
