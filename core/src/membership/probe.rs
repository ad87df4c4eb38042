//! Probing (SWIM): each protocol period one member is pinged; if it does not answer in time, a
//! few others are asked to ping it, and it gets a ping over a stream besides, so that a path
//! hostile to datagrams is not taken for a death. Whoever answers nobody becomes a suspect.
//!
//! A heartbeat that says that ours was seen is as good as an answer, so while all is well nothing is
//! sent to one who has its turn and is heard in each interval anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use rand::{Rng, seq::SliceRandom};

use super::{Class, Membership, Step, Time, account::Check, planted::Bug};
use crate::{
    event::EventKind,
    member::{Member, NodeId, Peer, State},
    wire::{Frame, Record},
};

/// The most probes of our own under way; one a period, the rest are prompted by lost links and
/// by suspicions that others raised.
const PROBES_MAX: usize = 64;
/// The most probes under way on behalf of others; further requests are dropped, as are those that
/// cost a handshake while we starve, and the asking side takes the missing `Nack` for bad health,
/// which it is.
const RELAYS_MAX: usize = 256;
/// About how many members without a link to a suspect probe it at once when they hear of it,
/// besides those with one: each pays a handshake, in a moment when the machine may be busy.
const CORROBORATORS: f64 = 1.0;
/// How often a member is probed that we hold no link to: each costs a handshake. Who watches it
/// does hold one, and when those are gone the rings give it new ones, who dial it at once.
const STRANGER_EVERY: Duration = Duration::from_secs(30);
/// Where tables are to be compared within so long before or after that, both are done with the one
/// link.
const STRANGER_ABOUT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
struct Probe {
    target: Peer,
    /// What the target had announced when the probe began.
    incarnation: u64,
    addr: SocketAddr,
    sent: Time,
    deadline: Time,
    /// Whom we asked; empty while the probe is direct.
    helpers: Vec<Peer>,
    indirect: bool,
    /// When it is pinged again, once others were asked.
    again: Time,
    /// Who of them is well but had no answer either.
    nacks: BTreeSet<Peer>,
    /// Something else came from the target when an answer should have come long since.
    heard: bool,
}

impl Probe {
    fn due(&self) -> Time {
        if self.indirect { self.deadline.min(self.again) } else { self.deadline }
    }
}

#[derive(Clone, Debug)]
struct Relay {
    origin: Peer,
    origin_seq: u64,
    target: Peer,
    nack_at: Time,
}

/// The rotation, and what is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    /// Round robin over the members that we hold a link to, shuffled anew for each round, so that
    /// the time to a member's next probe has a bound.
    rotation: Vec<NodeId>,
    /// When a member without a link gets its turn again, and whose it was last.
    stranger_at: Time,
    stranger: Option<NodeId>,
    next: Option<Time>,
    seq: u64,
    own: BTreeMap<u64, Probe>,
    relayed: BTreeMap<u64, Relay>,
}

impl Probes {
    pub(super) fn len(&self) -> usize {
        self.own.len() + self.relayed.len()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let own = self.own.values().map(Probe::due);
        own.chain(self.relayed.values().map(|r| r.nack_at)).chain(self.next).min()
    }

    /// Our own: their numbers, and whom they are for.
    #[cfg(feature = "simulator")]
    pub(super) fn own(&self) -> impl Iterator<Item = (u64, &Peer)> {
        self.own.iter().map(|(seq, probe)| (*seq, &probe.target))
    }

    /// Gives everything under way more time.
    pub(super) fn grant(&mut self, late: Duration) {
        for probe in self.own.values_mut() {
            probe.deadline = probe.deadline + late;
        }
    }

    /// A helper is well but had no answer either.
    pub(super) fn on_nack(&mut self, from: &Peer, seq: u64) {
        if let Some(probe) = self.own.get_mut(&seq)
            && probe.helpers.contains(from)
        {
            probe.nacks.insert(from.clone());
        }
    }

    /// A frame came from somebody.
    pub(super) fn on_frame(&mut self, from: &Peer) {
        for probe in self.own.values_mut().filter(|p| p.indirect && p.target == *from) {
            probe.heard = true;
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

impl Membership {
    pub(super) fn start_probing(&mut self, step: &Step<'_>) {
        // Nodes that start together must not probe in step.
        let phase = self.rng.random_range(0.0..1.0);
        self.probes.next = Some(step.now + self.settings.probe_interval.mul_f64(phase));
        self.probes.stranger_at = step.now + STRANGER_EVERY.mul_f64(0.5 + phase);
    }

    pub(super) fn tick_probes(&mut self, step: &mut Step<'_>) {
        self.send_nacks(step);
        self.judge_probes(step);
        if self.probes.next.is_some_and(|at| at <= step.now) {
            self.probes.next = Some(step.now + self.health.scale(self.settings.probe_interval));
            let stranger = self.next_stranger(step.now, step.now);
            if let Some(id) = &stranger {
                self.compare_besides(step, id, STRANGER_ABOUT);
            }
            let next = stranger.or_else(|| self.next_in_rotation());
            if let Some(id) = next.filter(|id| !self.is_answer_enough(step.now, id)) {
                self.probe(step, &id);
            }
        }
    }

    /// Whether a member's heartbeats have just said what its answer to a ping would, and a ping
    /// would do nothing else: carry news, measure the first round trip, or show that our own health
    /// is good again.
    pub(super) fn is_answer_enough(&self, now: Time, id: &NodeId) -> bool {
        let measured = self.table.get(id).is_some_and(|known| known.member.rtt.is_some());
        measured
            && self.gossip.is_empty()
            && self.health.score() == 0
            && self.is_heard_both_ways(now, id)
    }

    /// A lost or troubled link: is its member still there?
    pub(super) fn probe_at_once(&mut self, step: &mut Step<'_>, peer: &Peer) {
        let known = self.table.get(&peer.id);
        if known
            .is_some_and(|e| e.member.instance == peer.instance && e.member.state == State::Alive)
        {
            self.probe(step, &peer.id);
        }
    }

    /// A suspicion that somebody else raised: a few see for themselves, so that it is confirmed
    /// soon, or not at all.
    pub(super) fn corroborate(&mut self, step: &mut Step<'_>, record: &Record) {
        let by_us = record.observers.iter().any(|o| o.observer == self.own.peer.id);
        if record.state != State::Suspect || by_us || self.own.state == State::Left {
            return;
        }
        let linked = self.table.is_linked(&record.id);
        let chance = (CORROBORATORS / (self.table.live_len().max(1) as f64)).min(1.0);
        let may_dial = !self.is_starving(step.now);
        if linked || (may_dial && (self.is_watched(&record.id) || self.rng.random_bool(chance))) {
            self.probe(step, &record.id);
        }
    }

    fn probe(&mut self, step: &mut Step<'_>, id: &NodeId) {
        let Some(entry) = self.table.get(id).filter(|e| e.member.state.is_live()) else { return };
        let (target, addr) = (entry.member.peer(), entry.member.addr);
        let incarnation = entry.member.incarnation;
        let under_way = self.probes.own.values().any(|p| p.target == target);
        if under_way || self.probes.own.len() >= PROBES_MAX || self.own.state == State::Left {
            return;
        }
        let seq = self.probes.next_seq();
        let deadline = step.now + self.health.scale(self.settings.probe_timeout);
        let probe = Probe {
            target: target.clone(),
            incarnation,
            addr,
            sent: step.now,
            deadline,
            helpers: Vec::new(),
            indirect: false,
            again: deadline,
            nacks: BTreeSet::new(),
            heard: false,
        };
        self.probes.own.insert(seq, probe);
        self.counters.probes += 1;
        let ping = Frame::Ping { seq, target: target.clone(), reliable: false };
        self.send(step, &target, addr, Class::Datagram, &ping);
    }

    fn next_in_rotation(&mut self) -> Option<NodeId> {
        if self.probes.rotation.is_empty() {
            self.probes.rotation = self.table.linked().cloned().collect();
            self.probes.rotation.shuffle(&mut self.rng);
        }
        // Each turn takes one out, those among them that are gone meanwhile.
        while let Some(id) = self.probes.rotation.pop() {
            if self.table.get(&id).is_some_and(|e| e.member.state.is_live() && e.linked) {
                return Some(id);
            }
        }
        None
    }

    /// Probes a member without a link whose turn comes soon, for one who needs a link to anybody.
    pub(super) fn probe_stranger(&mut self, step: &mut Step<'_>) -> Option<NodeId> {
        let id = self.next_stranger(step.now, step.now + STRANGER_ABOUT)?;
        self.probe(step, &id);
        Some(id)
    }

    /// The next in order of the ids that we hold no link to, if it has its turn by then.
    fn next_stranger(&mut self, now: Time, by: Time) -> Option<NodeId> {
        if self.probes.stranger_at > by || self.join.pending() {
            return None;
        }
        self.probes.stranger_at = now + STRANGER_EVERY;
        let stranger = |e: &&super::Entry| e.member.state.is_live() && !e.linked;
        // Each begins at its own place in that order: they do not all call upon the same one.
        let last = self.probes.stranger.as_ref().unwrap_or(&self.own.peer.id);
        let after = self.table.range(Some(last), None).find(stranger);
        let found = after.or_else(|| self.table.iter().find(stranger));
        self.probes.stranger = found.map(|e| e.member.id.clone());
        self.probes.stranger.clone()
    }

    fn judge_probes(&mut self, step: &mut Step<'_>) {
        for seq in due(&self.probes.own, step.now, Probe::due) {
            match &self.probes.own[&seq] {
                probe if !probe.indirect => self.probe_through_others(step, seq),
                probe if probe.deadline > step.now => self.ping_again(step, seq),
                _ => self.probe_failed(step, seq),
            }
        }
    }

    fn probe_through_others(&mut self, step: &mut Step<'_>, seq: u64) {
        let (target, addr) = {
            let probe = &self.probes.own[&seq];
            (probe.target.clone(), probe.addr)
        };
        let helpers = self.helpers(&target.id);
        for helper in &helpers {
            let ask = Frame::PingReq { seq, target: target.clone(), addr };
            self.send(step, &helper.peer(), helper.addr, Class::Datagram, &ask);
        }
        let ping = Frame::Ping { seq, target: target.clone(), reliable: true };
        self.send(step, &target, addr, Class::Stream, &ping);
        self.counters.probes_indirect += 1;
        let deadline = step.now + self.health.scale(self.settings.indirect_timeout);
        if let Some(probe) = self.probes.own.get_mut(&seq) {
            probe.indirect = true;
            probe.helpers = helpers.iter().map(|m| m.peer()).collect();
            probe.deadline = deadline;
            probe.again = step.now + self.settings.indirect_timeout;
        }
    }

    /// In poor health we wait several times as long, and longer still after we were cut off or
    /// stood still. What was asked before may have been lost for the same reason.
    fn ping_again(&mut self, step: &mut Step<'_>, seq: u64) {
        let Some(probe) = self.probes.own.get_mut(&seq) else { return };
        probe.again = step.now + self.settings.indirect_timeout;
        let (target, addr) = (probe.target.clone(), probe.addr);
        let ping = Frame::Ping { seq, target: target.clone(), reliable: false };
        self.send(step, &target, addr, Class::Datagram, &ping);
    }

    /// Those who watch the target hold a link to it, and some of them one to us.
    fn helpers(&mut self, target: &NodeId) -> Vec<std::sync::Arc<Member>> {
        let count = self.settings.indirect_probes;
        let watchers = self.table.watchers_of(target, &self.own.peer.id);
        let fit = |e: &super::Entry| e.member.id != *target && e.member.state == State::Alive;
        let mut helpers = self.table.pick(&mut self.rng, count, |e| {
            fit(e) && e.linked && watchers.binary_search(&e.member.id).is_ok()
        });
        let mut more = self.table.pick(&mut self.rng, 2 * count, |e| fit(e) && e.linked);
        if helpers.is_empty() && more.is_empty() {
            more = self.table.pick(&mut self.rng, 1, fit); // at the price of a handshake
        }
        for member in more {
            if helpers.len() < count && !helpers.iter().any(|h| h.id == member.id) {
                helpers.push(member);
            }
        }
        helpers
    }

    fn probe_failed(&mut self, step: &mut Step<'_>, seq: u64) {
        let Some(probe) = self.probes.own.remove(&seq) else { return };
        self.counters.probes_failed += 1;
        // Helpers that said nothing at all make us doubt ourselves rather than the target; with
        // nobody to ask there is no such doubt to take from others, so a little is our own.
        let silent = probe.helpers.len().saturating_sub(probe.nacks.len()) as u32;
        let doubt = if probe.helpers.is_empty() { 1 } else { silent };
        self.change_health(step, |h| h.worse(doubt));
        // Who refuted something meanwhile has answered: its probes that others' suspicion prompted
        // must not raise the next one.
        let unanswered = self.table.get(&probe.target.id).is_some_and(|e| {
            e.member.instance == probe.target.instance && e.member.incarnation == probe.incarnation
        });
        if unanswered {
            if let Some(entry) = self.table.get_mut(&probe.target.id) {
                entry.missed_probes = entry.missed_probes.saturating_add(1);
                entry.heard_meanwhile = probe.heard;
            }
            self.suspect(step, &probe.target.id, Check::Probe);
        }
    }

    pub(super) fn change_health(
        &mut self,
        step: &mut Step<'_>,
        change: impl FnOnce(&mut super::health::LocalHealth),
    ) {
        let before = self.health.score();
        change(&mut self.health);
        if self.health.score() != before {
            step.event(EventKind::LocalHealthChanged { score: self.health.score() });
        }
    }

    pub(super) fn on_ping(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        seq: u64,
        target: &Peer,
        reliable: bool,
    ) {
        if !self.is_me(target) {
            return; // meant for a process that was here before us
        }
        let class = if reliable { Class::Stream } else { Class::Datagram };
        let addr = self.back_to(from);
        self.send(step, from, addr, class, &Frame::Ack { seq });
    }

    /// Counts only from the target itself, or from a helper that was asked.
    pub(super) fn on_ack(&mut self, step: &mut Step<'_>, from: &Peer, seq: u64) {
        let any = self.planted(Bug::AckUnmatched);
        let seq = self.probes.own.keys().next().copied().filter(|_| any).unwrap_or(seq);
        if let Some(probe) = self.probes.own.get(&seq) {
            let direct = probe.target == *from;
            if !direct && !any && !probe.helpers.contains(from) {
                return;
            }
            if direct && !probe.indirect {
                let rtt = step.now.since(probe.sent);
                let id = probe.target.id.clone();
                self.table.set_rtt(&id, rtt);
                self.version += 1;
            }
            if let Some(probe) = self.probes.own.remove(&seq) {
                self.reached(&probe.target.id, Check::Probe);
            }
            self.change_health(step, |h| h.better());
        } else if self.probes.relayed.get(&seq).is_some_and(|r| r.target == *from) {
            let Some(Relay { origin, origin_seq, .. }) = self.probes.relayed.remove(&seq) else {
                return;
            };
            self.send_back(step, &origin, &Frame::Ack { seq: origin_seq });
        } else {
            self.old_instance_answered(step, from, seq);
        }
    }

    pub(super) fn on_ping_req(
        &mut self,
        step: &mut Step<'_>,
        from: Peer,
        seq: u64,
        target: Peer,
        addr: SocketAddr,
    ) {
        if self.is_me(&target) {
            return self.send_back(step, &from, &Frame::Ack { seq });
        }
        let too_dear = self.is_starving(step.now) && !self.table.is_linked(&target.id);
        if self.probes.relayed.len() >= RELAYS_MAX || too_dear {
            return;
        }
        let own_seq = self.probes.next_seq();
        // The Nack must arrive before the asking side gives up.
        let nack_at = step.now + self.settings.indirect_timeout.mul_f64(0.8);
        let relay = Relay { origin: from, origin_seq: seq, target: target.clone(), nack_at };
        self.probes.relayed.insert(own_seq, relay);
        self.counters.probes_relayed += 1;
        let ping = Frame::Ping { seq: own_seq, target: target.clone(), reliable: false };
        self.send(step, &target, addr, Class::Datagram, &ping);
    }

    fn send_nacks(&mut self, step: &mut Step<'_>) {
        for seq in due(&self.probes.relayed, step.now, |r| r.nack_at) {
            let Some(Relay { origin, origin_seq, .. }) = self.probes.relayed.remove(&seq) else {
                continue;
            };
            self.send_back(step, &origin, &Frame::Nack { seq: origin_seq });
        }
    }

    /// Answers a member in the way that probes take.
    fn send_back(&mut self, step: &mut Step<'_>, to: &Peer, frame: &Frame) {
        let addr = self.back_to(to);
        self.send(step, to, addr, Class::Datagram, frame);
    }

    /// A ping outside the rotation, for the join: over both ways, since time is short.
    pub(super) fn ping_old_instance(
        &mut self,
        step: &mut Step<'_>,
        old: &Peer,
        addr: SocketAddr,
    ) -> u64 {
        let seq = self.probes.next_seq();
        for (class, reliable) in [(Class::Datagram, false), (Class::Stream, true)] {
            let ping = Frame::Ping { seq, target: old.clone(), reliable };
            self.send(step, old, addr, class, &ping);
        }
        seq
    }
}

/// The numbers of those that are due.
fn due<T>(waiting: &BTreeMap<u64, T>, now: Time, at: impl Fn(&T) -> Time) -> Vec<u64> {
    waiting.iter().filter(|(_, entry)| at(entry) <= now).map(|(seq, _)| *seq).collect()
}
