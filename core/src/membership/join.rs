//! Joining through seeds, and admitting those who join through us.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use rand::{Rng, seq::IndexedRandom};

use super::{Effect, Membership, Step, Time, gossip::Priority};
use crate::{
    event::EventKind,
    member::{Member, Peer, State},
    wire::{Frame, Record},
};

/// How soon seeds are tried again while nobody has admitted us, ...
const RETRY: Duration = Duration::from_millis(500);
/// ... by chance up to so much later: many who began together must not come back together. Doubles
/// with each time, ...
const RETRY_LATER: Duration = Duration::from_millis(250);
/// ... that none of them so much as says it is full, up to this: a seed that refuses us for good is asked
/// seldom, and one that comes up late has us within some seven seconds, of which the last dial may take five.
const RETRY_LATER_MAX: Duration = Duration::from_secs(4);
/// To how many of those whom a full seed names a newcomer turns.
const OTHERS_AT_ONCE: usize = 2;
/// To how many of them until it tries the seeds again: those may be full as well, and name more.
const OTHERS_MAX: usize = 6;
/// How many of those that this node knew when it ran last are dialed at once, and how often.
const KNOWN_AT_ONCE: usize = 3;
const KNOWN_TRIES: u32 = 60;
/// How long an old process under a newcomer's id has to show that it lives.
const OLD_INSTANCE_WITHIN: Duration = Duration::from_secs(1);
/// The most newcomers waiting for that; further ones are not answered and try again.
const WAITING_MAX: usize = 64;
/// How many of those that we asked to let us in are remembered: as many as there may be seeds, and those
/// whom full seeds name. Past that the one asked first is forgotten.
const ASKED_MAX: usize = 128;

/// A newcomer under an id that is still alive here.
#[derive(Clone, Debug)]
struct Newcomer {
    peer: Peer,
    fresh: bool,
    record: Record,
    old: Peer,
    /// What the old process had announced when the wait began.
    old_incarnation: u64,
    ping: u64,
    deadline: Time,
}

/// Our own join, and the newcomers that wait.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pending: bool,
    /// Somebody has joined through us.
    admitted: bool,
    retry: Option<Time>,
    /// How often the seeds were tried.
    tries: u32,
    /// How many others were turned to since.
    turned: usize,
    /// When those that this node knew last time are tried again, and how often still.
    known_at: Option<Time>,
    known_tries: u32,
    /// Who was asked to let us in and has not answered: of anybody else nothing is an answer.
    asked: VecDeque<Peer>,
    waiting: Vec<Newcomer>,
}

impl Join {
    pub(super) fn new(pending: bool) -> Self {
        Self {
            pending,
            admitted: false,
            retry: None,
            tries: 0,
            turned: 0,
            known_at: None,
            known_tries: 0,
            asked: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    /// Nobody has admitted us yet.
    pub(super) fn pending(&self) -> bool {
        self.pending
    }

    /// Nor have we anybody: whatever else we know is hearsay.
    fn is_newcomer(&self) -> bool {
        self.pending && !self.admitted
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let waiting = self.waiting.iter().map(|n| n.deadline);
        waiting.chain(self.retry).chain(self.known_at).min()
    }

    fn ask(&mut self, peer: &Peer) {
        if !self.asked.contains(peer) {
            if self.asked.len() == ASKED_MAX {
                self.asked.pop_front();
            }
            self.asked.push_back(peer.clone());
        }
    }

    /// Whether a peer was asked to let us in, which it answers now.
    fn is_answer(&mut self, from: &Peer) -> bool {
        let asked = self.asked.iter().position(|peer| peer == from);
        asked.and_then(|at| self.asked.remove(at)).is_some()
    }

    pub(super) fn grant(&mut self, late: Duration) {
        for newcomer in &mut self.waiting {
            newcomer.deadline = newcomer.deadline + late;
        }
    }
}

impl Membership {
    pub(super) fn start_joining(&mut self, step: &mut Step<'_>) {
        self.join.pending = !self.settings.seeds.is_empty();
        self.join.known_tries = KNOWN_TRIES;
        self.join.known_at = (!self.settings.known.is_empty()).then_some(step.now);
        if self.join.pending {
            self.join.retry = Some(step.now);
        } else {
            step.out.push(Effect::Joined);
        }
    }

    pub(super) fn tick_join(&mut self, step: &mut Step<'_>) {
        if self.join.retry.is_some_and(|at| at <= step.now) {
            self.join.turned = 0;
            let most = RETRY_LATER.saturating_mul(1 << self.join.tries.min(16));
            let later = self.rng.random_range(Duration::ZERO..most.min(RETRY_LATER_MAX));
            self.join.retry = self.join.pending.then(|| step.now + RETRY + later);
            self.join.tries += 1;
            if self.join.pending {
                for seed in &self.settings.seeds {
                    step.out.push(Effect::Dial { addr: *seed, expect: None });
                }
            }
        }
        if self.join.known_at.is_some_and(|at| at <= step.now) {
            self.try_known(step);
        }
        while let Some(at) = self.join.waiting.iter().position(|n| n.deadline <= step.now) {
            let newcomer = self.join.waiting.swap_remove(at);
            self.replace(step, &newcomer);
        }
    }

    /// A seed has no room: others, who were admitted before us, may have.
    pub(super) fn turn_to_others(&mut self, step: &mut Step<'_>, others: &[SocketAddr]) {
        if self.join.pending {
            // It answers, and will have room soon.
            self.join.tries = 0;
            let soon = step.now + RETRY + self.rng.random_range(Duration::ZERO..RETRY_LATER);
            self.join.retry = self.join.retry.map(|at| at.min(soon));
            let room = OTHERS_AT_ONCE.min(OTHERS_MAX - self.join.turned);
            self.join.turned += room;
            for addr in others.choose_multiple(&mut self.rng, room) {
                if *addr != self.own.addr {
                    step.out.push(Effect::Dial { addr: *addr, expect: None });
                }
            }
        }
    }

    /// Dials a few of those that this node knew when it ran last, while it knows nobody. After
    /// that the healing goes on, more slowly.
    fn try_known(&mut self, step: &mut Step<'_>) {
        self.join.known_tries -= 1;
        let go_on = self.table.live_len() == 0 && self.join.known_tries > 0;
        // A cluster that lost its power begins all at once, but not again and again.
        let later = self.rng.random_range(RETRY / 2..=RETRY + RETRY_LATER);
        self.join.known_at = go_on.then(|| step.now + later);
        if self.table.live_len() == 0 {
            let some = self.settings.known.choose_multiple(&mut self.rng, KNOWN_AT_ONCE);
            for addr in some.filter(|addr| **addr != self.own.addr) {
                step.out.push(Effect::Dial { addr: *addr, expect: None });
            }
        }
    }

    /// A link to a seed, or to somebody who was gone, is up.
    pub(super) fn ask_to_join(&mut self, step: &mut Step<'_>, peer: &Peer, addr: SocketAddr) {
        let own = self.own_record();
        let fresh = self.table.len() == 0 || self.join.is_newcomer();
        self.join.ask(peer);
        self.send_records(step, peer, addr, Frame::Join { fresh }, &[own]);
    }

    pub(super) fn on_join(
        &mut self,
        step: &mut Step<'_>,
        from: Peer,
        fresh: bool,
        updates: Vec<Record>,
    ) {
        // The link says who it is; a frame that says otherwise is no honest mistake.
        let Some(record) =
            updates.into_iter().find(|r| r.peer() == from && r.state == State::Alive)
        else {
            return self.bad_frame(step, &from, "a join without a record of its sender");
        };
        if self.own.state == State::Left {
            return;
        }
        if from.id == self.own.peer.id {
            // Its admission would be our own replacement.
            let own = self.own_record();
            return self.send_records(step, &from, record.addr, Frame::Refused, &[own]);
        }
        let known = self.table.get(&from.id);
        let old = known.filter(|e| e.member.instance != from.instance && e.member.state.is_live());
        match old.map(|e| e.member.clone()) {
            None => self.admit(step, &from, fresh, record),
            Some(old) => self.check_old_instance(step, &old, from, fresh, record),
        }
    }

    fn check_old_instance(
        &mut self,
        step: &mut Step<'_>,
        old: &Member,
        peer: Peer,
        fresh: bool,
        record: Record,
    ) {
        if self.join.waiting.iter().any(|n| n.peer == peer)
            || self.join.waiting.len() >= WAITING_MAX
        {
            return;
        }
        let same_socket = old.addr == record.addr;
        let ping =
            if same_socket { 0 } else { self.ping_old_instance(step, &old.peer(), old.addr) };
        let newcomer = Newcomer {
            peer,
            fresh,
            record,
            old: old.peer(),
            old_incarnation: old.incarnation,
            ping,
            deadline: step.now + OLD_INSTANCE_WITHIN,
        };
        if same_socket {
            // Two processes cannot listen on one address: the old one is gone.
            self.replace(step, &newcomer);
        } else {
            self.join.waiting.push(newcomer);
        }
    }

    /// An answer that belongs to no probe: perhaps of a process that a newcomer would replace.
    pub(super) fn old_instance_answered(&mut self, step: &mut Step<'_>, from: &Peer, seq: u64) {
        while let Some(at) = self.join.waiting.iter().position(|n| n.old == *from && n.ping == seq)
        {
            let newcomer = self.join.waiting.swap_remove(at);
            self.refuse(step, &newcomer);
        }
    }

    fn refuse(&mut self, step: &mut Step<'_>, newcomer: &Newcomer) {
        step.event(EventKind::NameConflict { id: newcomer.old.id.clone() });
        let old = self.table.get(&newcomer.old.id).filter(|e| e.member.peer() == newcomer.old);
        let old: Vec<Record> = old.map(|e| e.record(step.now)).into_iter().collect();
        self.send_records(step, &newcomer.peer, newcomer.record.addr, Frame::Refused, &old);
    }

    /// The old process under a newcomer's id is gone.
    fn replace(&mut self, step: &mut Step<'_>, newcomer: &Newcomer) {
        let same = self.table.get(&newcomer.old.id).filter(|e| e.member.peer() == newcomer.old);
        if let Some(entry) = same.filter(|e| e.member.state.is_live()) {
            // It did not reach us in time, but has refuted a suspicion meanwhile: it lives.
            if entry.member.incarnation > newcomer.old_incarnation {
                return self.refuse(step, newcomer);
            }
            let mut record = entry.record(step.now);
            record.state = State::Failed;
            record.observers = vec![self.observation(step.now, &newcomer.old.id)];
            record.dead_for_ms = 0;
            self.fail_as_replaced(step, record);
        }
        self.admit(step, &newcomer.peer, newcomer.fresh, newcomer.record.clone());
    }

    fn admit(&mut self, step: &mut Step<'_>, peer: &Peer, fresh: bool, record: Record) {
        let addr = record.addr;
        let known = self.table.get(&peer.id).is_some_and(|e| e.member.instance == peer.instance);
        self.apply(step, record, Some(peer));
        if self.table.get(&peer.id).is_none() {
            // The table is full of the living. Told that it is in, it would wait for what never comes;
            // so it goes on asking, and finds room here or elsewhere.
            return;
        }
        self.join.admitted = true;
        if !fresh {
            let own = self.own_record();
            self.send_records(step, peer, addr, Frame::Welcome, &[own]);
            self.send_summaries(step, peer, addr);
        } else if !known || self.may_answer(step.now) {
            let own = self.own_record();
            let others =
                self.table.iter().filter(|e| e.member.peer() != *peer).map(|e| e.record(step.now));
            let all: Vec<_> = std::iter::once(own).chain(others).collect();
            self.send_records(step, peer, addr, Frame::Welcome, &all);
        }
        // Else it was told all of it, or somebody else has just let it in. If that was lost it asks
        // again; a welcome with less would end its join before it knows anybody.
        self.table.set_linked(&peer.id, true);
        self.edge_linked(step, peer);
    }

    pub(super) fn on_welcome(&mut self, step: &mut Step<'_>, from: &Peer, updates: Vec<Record>) {
        if !self.join.is_answer(from) {
            return;
        }
        self.apply_from_sync(step, from, updates);
        if self.join.is_newcomer() {
            // Whom a cluster consists of is news to its newcomer only. Who joined through it is
            // news to all.
            self.gossip.keep_critical();
        }
        self.table.set_linked(&from.id, true);
        self.edge_linked(step, from);
        if self.join.pending {
            self.join.pending = false;
            self.join.retry = None;
            step.out.push(Effect::Joined);
            self.sync_soon(step);
        }
        // Whoever admitted us may have known us dead, and we now stand above that.
        let own = self.own_record();
        self.announce(step, Priority::Medium);
        let addr = self.back_to(from);
        self.send_records(step, from, addr, Frame::Gossip, &[own]);
    }

    /// Another living process has our id; its record comes along, unless it has gone just now.
    pub(super) fn on_refused(&mut self, step: &mut Step<'_>, from: &Peer, updates: Vec<Record>) {
        if !self.join.is_answer(from) {
            return;
        }
        let (id, instance) = (&self.own.peer.id, self.own.peer.instance);
        let nobody = updates.is_empty();
        let other = updates.into_iter().find(|r| r.id == *id && r.instance != instance);
        if self.join.pending {
            if nobody || other.is_some() {
                self.yield_id(step);
            }
        } else if let Some(record) = other {
            // Not a newcomer but a member of another part of the cluster: the two settle it by age.
            self.about_us(step, record);
        }
    }
}
