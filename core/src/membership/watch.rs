//! Watch edges: between the neighbours on the rings, heartbeats both ways, and what their silence
//! means.
//!
//! An edge pins its link. It is laid some time after the rings call for it and goes some time
//! after they no longer do, a few at a time, and only when those in its place stand: a mass join
//! or a mass death moves edges, but not all at once. A peer that still wants an edge keeps ours
//! up as well; only those that the rings make us watch are judged.

use std::{collections::BTreeMap, time::Duration};

use rand::Rng;

use super::{Class, Effect, Membership, Step, Time, phi, phi::Phi, planted::Bug};
use crate::{
    config::LINKS_BESIDES_RINGS,
    member::{NodeId, Peer},
    wire::Frame,
};

/// How long after members came or went edges are planned anew: more may come or go.
const SETTLE: Duration = Duration::from_millis(300);
/// How often edges are laid and taken up, ...
const LAY_EVERY: Duration = Duration::from_millis(100);
/// ... and how many of each at once.
const LAY_AT_ONCE: usize = 2;
/// How long the end with the greater id leaves the dialing to the other.
const DIAL_SECOND: Duration = Duration::from_secs(1);
/// How long a dial has before the member is probed and dialed again; doubles up to 16 times it.
const DIAL_AGAIN: Duration = Duration::from_secs(2);
/// How long an edge that is no longer called for waits for those in its place.
const HOLD_MAX: Duration = Duration::from_secs(30);
/// How many intervals after its last word a peer is believed to want an edge that we do not.
const WANTED_FOR: u32 = 5;
/// From so many heartbeats that the peer has not seen on they go by stream: a path that is hostile
/// to datagrams must not look like a death.
const UNSEEN_MAX: u64 = 3;
/// The step from phase to phase, as a share of the interval: multiples of the golden ratio spread
/// evenly, however many there are.
const PHASE: f64 = 0.618_033_988_749_895;
/// Each heartbeat is sent so much off its regular time, as a share of the interval, so that two in
/// a row are within 10 %.
const JITTER: f64 = 0.05;
/// The bounds that the configuration sets for the interval; a peer that claims another lies.
const EVERY_MS: std::ops::RangeInclusive<u32> = 100..=60_000;

/// An edge to one peer.
#[derive(Clone, Debug)]
struct Edge {
    peer: Peer,
    /// The rings call for it.
    wanted: bool,
    /// The rings make us the one who watches.
    watched: bool,
    /// Since when they do not call for it.
    unwanted_since: Time,
    /// When the peer last said that it wants it, unless it said since that it does not.
    wanted_there: Option<Time>,
    phi: Phi,
    heard: Option<Time>,
    /// The number of the last heartbeat from there, of the last one there, and of the last of
    /// ours that was seen there.
    seen: u64,
    sent: u64,
    echoed: u64,
    /// When the next heartbeat is due, and when it would be without jitter.
    next: Time,
    slot: Time,
    /// When the silence so far will mean something. Set by a heartbeat, taken by an accusation:
    /// who was refuted accuses again only after it has heard the member.
    judge_at: Option<Time>,
    dial_at: Time,
    dials: u32,
}

/// All edges of this node.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    edges: BTreeMap<NodeId, Edge>,
    /// The set of live processes that the edges were planned for.
    planned_for: u64,
    plan_at: Option<Time>,
    lay_at: Option<Time>,
    phases: u32,
    /// The threshold, in standard deviations.
    deviations: f64,
    /// The earliest of all heartbeats and judgements, or earlier.
    due: Option<Time>,
}

/// What one end of a watch edge knows, for whoever looks.
#[derive(Clone, Debug)]
pub struct WatchEdge {
    /// The other end.
    pub peer: Peer,
    /// Whether we judge its silence.
    pub watched: bool,
    /// Whether the rings call for the edge, as opposed to one that is about to go.
    pub wanted: bool,
    /// When we last heard a heartbeat.
    pub heard: Option<Time>,
    /// How many of our last heartbeats the other end has not seen.
    pub unseen: u64,
    /// How surprising the silence is; nothing before the first heartbeat.
    pub phi: Option<f64>,
}

impl Watch {
    pub(super) fn new(threshold: u32) -> Self {
        Self {
            edges: BTreeMap::new(),
            planned_for: 0,
            plan_at: None,
            lay_at: None,
            phases: 0,
            deviations: phi::deviations(f64::from(threshold)),
            due: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        [self.plan_at, self.lay_at, self.due].into_iter().flatten().min()
    }

    /// Nobody could be heard for a while: all silences begin anew.
    fn restart(&mut self, now: Time, pause: Duration) {
        for edge in self.edges.values_mut() {
            edge.phi.restart(now);
            if edge.judge_at.is_some() {
                edge.judge_at = Some(edge.phi.crossing(self.deviations, pause));
            }
        }
    }

    fn lay_by(&mut self, at: Time) {
        self.lay_at = Some(self.lay_at.map_or(at, |old| old.min(at)));
    }

    fn due_by(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |old| old.min(at)));
    }
}

impl Membership {
    /// The watch edges, in order of the peers' ids.
    pub fn watch_edges(&self, now: Time) -> impl Iterator<Item = WatchEdge> {
        let pause = self.heartbeat_pause();
        self.watch.edges.values().map(move |e| WatchEdge {
            peer: e.peer.clone(),
            watched: e.watched,
            wanted: e.wanted,
            heard: e.heard,
            unseen: e.sent.saturating_sub(e.echoed),
            phi: e.heard.map(|_| e.phi.value(now, pause)),
        })
    }

    /// The most edges that there can be.
    pub fn watch_edges_max(&self) -> usize {
        2 * self.settings.watch_rings as usize + LINKS_BESIDES_RINGS as usize
    }

    /// Whether the rings make us watch a member.
    pub(super) fn is_watched(&self, id: &NodeId) -> bool {
        self.watch.edges.get(id).is_some_and(|e| e.watched)
    }

    pub(super) fn tick_watch(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if self.watch.planned_for != self.table.live_version() {
            self.watch.planned_for = self.table.live_version();
            self.watch.plan_at.get_or_insert(step.now + SETTLE);
        }
        if due(self.watch.plan_at) {
            self.watch.plan_at = None;
            self.plan_edges(step);
        }
        if due(self.watch.lay_at) {
            self.lay_edges(step);
        }
        if due(self.watch.due) {
            self.send_heartbeats(step);
            self.judge_silence(step);
            let all =
                self.watch.edges.iter().flat_map(|(id, e)| {
                    [self.is_linked(id, &e.peer).then_some(e.next), e.judge_at]
                });
            self.watch.due = all.flatten().min();
        }
    }

    /// Whom the rings call for; whether we are to watch them.
    fn neighbours(&self) -> BTreeMap<NodeId, bool> {
        if self.table.all_watch_all() {
            return self.table.live().iter().map(|id| (id.clone(), true)).collect();
        }
        let rings = self.table.rings();
        let watchers = rings.watchers().map(|id| (id.clone(), false));
        // The later of two entries stays.
        watchers.chain(rings.watched().map(|id| (id.clone(), true))).collect()
    }

    fn plan_edges(&mut self, step: &mut Step<'_>) {
        let wanted = self.neighbours();
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let gone: Vec<NodeId> = self
            .watch
            .edges
            .values()
            .filter(|e| !self.is_live(&e.peer))
            .map(|e| e.peer.id.clone())
            .collect();
        for id in gone {
            self.take_up(step, &id);
        }
        let mut due = Vec::new();
        for (id, edge) in &mut self.watch.edges {
            let watched = wanted.get(id).copied();
            if edge.wanted && watched.is_none() {
                edge.unwanted_since = step.now;
            }
            edge.wanted = watched.is_some();
            // One that waits for others in its place is judged like before.
            let newly = watched == Some(true) && !edge.watched;
            edge.watched = watched.unwrap_or(edge.watched);
            if newly && edge.heard.is_some() {
                edge.phi.restart(step.now);
                edge.judge_at = Some(edge.phi.crossing(deviations, pause));
                due.extend(edge.judge_at);
            }
        }
        due.into_iter().for_each(|at| self.watch.due_by(at));
        let new: Vec<(NodeId, bool)> =
            wanted.into_iter().filter(|(id, _)| !self.watch.edges.contains_key(id)).collect();
        for (id, watched) in new {
            if let Some(peer) = self.table.get(&id).map(|e| e.member.peer()) {
                self.lay(step, peer, true, watched);
            }
        }
        self.watch.lay_by(step.now);
    }

    /// Begins an edge. Its link is made by and by.
    fn lay(&mut self, step: &mut Step<'_>, peer: Peer, wanted: bool, watched: bool) {
        if self.watch.edges.len() >= self.watch_edges_max() && !self.make_edge_room(step, wanted) {
            return;
        }
        self.watch.phases += 1;
        let interval = self.settings.heartbeat_interval;
        let phase = (f64::from(self.watch.phases) * PHASE).fract();
        let first = step.now + interval.mul_f64(phase);
        let id = peer.id.clone();
        let dial_at = if self.own.peer.id < id { step.now } else { step.now + DIAL_SECOND };
        // Higher than whatever an earlier edge to the same process had reached.
        let sent = step.now.0 / 1000;
        let edge = Edge {
            wanted,
            watched,
            unwanted_since: step.now,
            wanted_there: None,
            phi: Phi::new(step.now, interval),
            heard: None,
            seen: 0,
            sent,
            echoed: sent,
            next: first,
            slot: first,
            judge_at: None,
            dial_at,
            dials: 0,
            peer,
        };
        let linked = self.is_linked(&id, &edge.peer);
        if linked {
            let pin = Effect::Pin { peer: edge.peer.clone(), pinned: true };
            if !self.planted(Bug::EdgesUnpinned) {
                step.out.push(pin);
            }
            self.watch.due_by(first);
        } else {
            self.watch.lay_by(dial_at);
        }
        if !wanted {
            // The peer's last word that it wants it no more may be lost.
            self.watch.lay_by(first + interval * WANTED_FOR);
        }
        self.watch.edges.insert(id, edge);
    }

    /// Whether one more edge fits, after one that nobody called for has gone if need be.
    fn make_edge_room(&mut self, step: &mut Step<'_>, wanted: bool) -> bool {
        let unwanted = self.watch.edges.values().filter(|e| !e.wanted);
        let oldest = unwanted.min_by_key(|e| e.unwanted_since).map(|e| e.peer.id.clone());
        match oldest.filter(|_| wanted) {
            Some(id) => {
                self.take_up(step, &id);
                true
            }
            None => false,
        }
    }

    fn take_up(&mut self, step: &mut Step<'_>, id: &NodeId) {
        if self.planted(Bug::EdgesStay) {
            return;
        }
        if let Some(edge) = self.watch.edges.remove(id) {
            step.out.push(Effect::Pin { peer: edge.peer, pinned: false });
        }
    }

    /// Dials where a link is missing, lets go of what nobody wants any more.
    fn lay_edges(&mut self, step: &mut Step<'_>) {
        self.watch.lay_at = None;
        let stand = self.all_stand();
        let (mut dial, mut drop) = (Vec::new(), Vec::new());
        let mut later: Option<Time> = None;
        let mut again = |at: Time| later = Some(later.map_or(at, |old: Time| old.min(at)));
        for (id, edge) in &self.watch.edges {
            let holds = self.holds(edge, step.now, stand);
            let wanted_there = edge.wanted_there.is_some_and(|at| {
                step.now.since(at) < self.settings.heartbeat_interval * WANTED_FOR
            });
            if !holds && !wanted_there {
                drop.push(id.clone());
                continue;
            }
            if !edge.wanted {
                again(step.now + Duration::from_secs(1));
            }
            if holds && !self.is_linked(id, &edge.peer) {
                if edge.dial_at <= step.now {
                    dial.push(id.clone());
                } else {
                    again(edge.dial_at);
                }
            }
        }
        if dial.len() > LAY_AT_ONCE || drop.len() > LAY_AT_ONCE {
            again(step.now + LAY_EVERY);
        }
        for id in drop.iter().take(LAY_AT_ONCE) {
            self.say_and_take_up(step, id);
        }
        for id in dial.iter().take(LAY_AT_ONCE) {
            again(step.now + LAY_EVERY);
            self.dial_edge(step, id);
        }
        self.watch.lay_at = later;
    }

    fn dial_edge(&mut self, step: &mut Step<'_>, id: &NodeId) {
        let Some(edge) = self.watch.edges.get_mut(id) else { return };
        let before = edge.dials;
        edge.dials += 1;
        edge.dial_at = step.now + DIAL_AGAIN * (1 << before.min(4));
        let peer = edge.peer.clone();
        if let Some(addr) = self.addr_of(&peer) {
            step.out.push(Effect::Dial { addr, expect: Some(peer.id.clone()) });
        }
        if before > 0 {
            // The link does not come up: is the member still there?
            self.probe_at_once(step, &peer);
        }
    }

    /// The last heartbeat of an edge says that it was the last.
    fn say_and_take_up(&mut self, step: &mut Step<'_>, id: &NodeId) {
        if self.watch.edges.get(id).is_some_and(|e| self.is_linked(id, &e.peer)) {
            self.send_heartbeat(step, id, false);
        }
        self.take_up(step, id);
    }

    /// Whether we want an edge: the rings call for it, or those in its place do not stand yet.
    fn holds(&self, edge: &Edge, now: Time, all_stand: bool) -> bool {
        edge.wanted || (edge.watched && !all_stand && now.since(edge.unwanted_since) < HOLD_MAX)
    }

    /// Whether all edges that the rings call for are in use.
    fn all_stand(&self) -> bool {
        let mut wanted = self.watch.edges.iter().filter(|(_, e)| e.wanted);
        wanted.all(|(id, e)| e.heard.is_some() && self.is_linked(id, &e.peer))
    }

    fn is_linked(&self, id: &NodeId, peer: &Peer) -> bool {
        self.table.get(id).is_some_and(|e| e.linked && e.member.instance == peer.instance)
    }

    fn is_live(&self, peer: &Peer) -> bool {
        let live = |e: &super::Entry| e.member.state.is_live();
        self.table.get(&peer.id).is_some_and(|e| live(e) && e.member.instance == peer.instance)
    }

    /// Under bad health of our own more is forgiven.
    fn heartbeat_pause(&self) -> Duration {
        self.health.scale(self.settings.heartbeat_pause)
    }

    /// A link to a member is there, perhaps that of an edge.
    pub(super) fn edge_linked(&mut self, step: &mut Step<'_>, id: &NodeId) {
        let Some(edge) = self.watch.edges.get_mut(id) else { return };
        edge.dials = 0;
        let next = edge.next.max(step.now);
        let pin = Effect::Pin { peer: edge.peer.clone(), pinned: true };
        if !self.planted(Bug::EdgesUnpinned) {
            step.out.push(pin);
        }
        self.watch.due_by(next);
    }

    /// The link of an edge is gone.
    pub(super) fn edge_unlinked(&mut self, step: &Step<'_>, id: &NodeId) {
        let first = self.own.peer.id < *id;
        let Some(edge) = self.watch.edges.get_mut(id) else { return };
        edge.dial_at = if first { step.now } else { step.now + DIAL_SECOND };
        let at = edge.dial_at;
        self.watch.lay_by(at);
    }

    fn send_heartbeats(&mut self, step: &mut Step<'_>) {
        let edges = self.watch.edges.iter();
        let due: Vec<NodeId> = edges
            .filter(|(id, e)| e.next <= step.now && self.is_linked(id, &e.peer))
            .map(|(id, _)| id.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        let stand = self.all_stand();
        for id in due {
            let holds = self.holds(&self.watch.edges[&id], step.now, stand);
            self.send_heartbeat(step, &id, holds);
        }
    }

    fn send_heartbeat(&mut self, step: &mut Step<'_>, id: &NodeId, wanted: bool) {
        let interval = self.settings.heartbeat_interval;
        let jitter = self.rng.random_range(0.0..2.0 * JITTER);
        let Some(edge) = self.watch.edges.get_mut(id) else { return };
        let unseen = edge.sent.saturating_sub(edge.echoed);
        let class = if unseen >= UNSEEN_MAX { Class::Stream } else { Class::Datagram };
        edge.sent += 1;
        // After a pause of ours the missed ones are not made up for.
        edge.slot = edge.slot + interval;
        if edge.slot <= step.now + interval / 2 {
            edge.slot = step.now + interval;
        }
        edge.next = edge.slot - interval.mul_f64(JITTER) + interval.mul_f64(jitter);
        let every_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        let frame = Frame::Heartbeat { seq: edge.sent, seen: edge.seen, every_ms, wanted };
        let peer = edge.peer.clone();
        self.counters.heartbeats += 1;
        let addr = self.back_to(&peer);
        self.send(step, &peer, addr, class, &frame);
    }

    pub(super) fn on_heartbeat(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        (seq, seen, every_ms, wanted): (u64, u64, u32, bool),
    ) {
        if !EVERY_MS.contains(&every_ms) {
            return self.counters.frames_bad += 1;
        }
        if !self.is_live(from) {
            // Whom we hold dead is told so, and refutes; a stranger has been told of us.
            if self.table.get(&from.id).is_some() {
                let addr = self.back_to(from);
                self.send(step, from, addr, Class::Datagram, &Frame::Gossip);
            }
            return;
        }
        if !self.is_linked(&from.id, from) {
            self.table.set_linked(&from.id, true);
            self.edge_linked(step, &from.id);
        }
        if self.watch.edges.get(&from.id).is_some_and(|e| e.peer != *from) {
            self.take_up(step, &from.id);
        }
        if wanted && !self.watch.edges.contains_key(&from.id) {
            self.lay(step, from.clone(), false, false);
        }
        let pause = self.heartbeat_pause();
        let deviations = self.watch.deviations;
        let Some(edge) = self.watch.edges.get_mut(&from.id) else { return };
        if seq <= edge.seen {
            return; // overtaken on its way
        }
        let every = Duration::from_millis(every_ms.into());
        edge.seen = seq;
        edge.echoed = edge.echoed.max(seen.min(edge.sent));
        edge.wanted_there = wanted.then_some(step.now);
        if edge.heard.is_some() {
            let longest = edge.phi.silence(deviations, pause);
            edge.phi.heard(step.now, every, longest);
        } else {
            edge.phi = Phi::new(step.now, every);
        }
        edge.heard = Some(step.now);
        edge.judge_at = edge.watched.then(|| edge.phi.crossing(deviations, pause));
        let (judge_at, idle) = (edge.judge_at, !wanted && !edge.wanted);
        if let Some(at) = judge_at {
            self.watch.due_by(at);
        }
        if idle {
            self.watch.lay_by(step.now + LAY_EVERY);
        }
    }

    /// Accuses those whose silence has become too surprising.
    fn judge_silence(&mut self, step: &mut Step<'_>) {
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let mut accused = Vec::new();
        for edge in self.watch.edges.values_mut() {
            if edge.judge_at.is_none_or(|at| at > step.now) {
                continue;
            }
            // Our own health may have changed since.
            let crossing = edge.phi.crossing(deviations, pause);
            if crossing > step.now {
                edge.judge_at = Some(crossing);
                continue;
            }
            edge.judge_at = None;
            accused.push(edge.peer.clone());
        }
        let stand = accused.is_empty() || self.all_stand();
        for peer in accused {
            // A peer that wants the edge no more than we do may fall silent.
            let edge = self.watch.edges.get(&peer.id);
            let judged = edge.is_some_and(|e| e.watched && self.holds(e, step.now, stand));
            if judged && self.is_live(&peer) {
                self.counters.silences += 1;
                self.suspect(step, &peer.id);
            }
        }
    }

    pub(super) fn restart_watch(&mut self, now: Time) {
        let pause = self.heartbeat_pause();
        self.watch.restart(now, pause);
    }
}
