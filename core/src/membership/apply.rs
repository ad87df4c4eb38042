//! Applying what others say about third members: rule 2 decides, events follow.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Class, DATAGRAM_BYTES_MAX, Effect, Membership, Step, Suspicion, Time, UPDATES_MAX,
    account::Check,
    gossip::Priority,
    planted::Bug,
    suspicion::{JURY_MIN, Jury, REFUTE_MIN},
    table::Slot,
    time::Before,
};
use crate::{
    event::EventKind,
    evidence::Observation,
    member::{Member, NodeId, Peer, State},
    wire::{self, Frame, Record, Skimmed},
};

/// How often running suspicions are looked at together.
const REVIEW_EVERY: Duration = Duration::from_millis(200);

impl Membership {
    /// What rides on a frame. Most of it is known already, and seen to be before it is taken
    /// apart.
    pub(super) fn hear_all(&mut self, step: &mut Step<'_>, from: &Peer, heard: &[Skimmed<'_>]) {
        for record in heard {
            if (!self.is_known(record) || self.is_taken_back(record, from))
                && let Ok(record) = record.record()
            {
                self.apply(step, record, Some(from));
            }
        }
        // Whoever says so has not heard of it, and may never by chance. One answer to a frame,
        // however often it says it.
        if heard.iter().any(|record| self.is_missed_refutation(record)) {
            let (own, addr) = (self.own_record(), self.back_to(from));
            self.send_records(step, from, addr, Frame::Gossip, &[own]);
        }
        self.pass_on_refutations(step, from, heard);
    }

    /// Tells whoever still holds a member for suspect what that has refuted, as we know: it would
    /// declare it failed. Where much is lost gossip misses somebody, and only the suspect itself
    /// would tell again. One packet for a frame.
    fn pass_on_refutations(&self, step: &mut Step<'_>, from: &Peer, heard: &[Skimmed<'_>]) {
        let missed: BTreeSet<Slot> = heard.iter().filter_map(|r| self.refuted_since(r)).collect();
        let mut room = DATAGRAM_BYTES_MAX;
        let mut updates = Vec::new();
        for slot in missed.into_iter().take(UPDATES_MAX) {
            let update = wire::update(&self.table.at(slot).record(step.now));
            if update.len() <= room {
                room -= update.len();
                updates.push(update);
            }
        }
        if !updates.is_empty() {
            let (to, addr, class) = (from.clone(), self.back_to(from), Class::Datagram);
            let bytes = wire::encode(&Frame::Gossip, &updates);
            step.out.push(Effect::Send { to, addr, class, bytes });
        }
    }

    /// A member that a record calls suspect by what it has refuted since.
    fn refuted_since(&self, heard: &Skimmed<'_>) -> Option<Slot> {
        if heard.state != State::Suspect {
            return None;
        }
        let slot = self.table.find(heard.id)?;
        let entry = self.table.at(slot);
        let refuted = entry.member.state == State::Alive
            && entry.member.instance == heard.instance
            && entry.rank() > heard.rank();
        refuted.then_some(slot)
    }

    /// Whether a record holds us for dead or nearly so by what we have long refuted, or is far from all
    /// that we ever announced.
    fn is_missed_refutation(&self, heard: &Skimmed<'_>) -> bool {
        let own = &self.own;
        heard.instance == own.peer.instance
            && heard.id == own.peer.id.as_str()
            && (matches!(heard.state, State::Suspect | State::Failed)
                && heard.rank() < (own.incarnation, own.state)
                || self.is_far_from_us(heard.incarnation))
    }

    /// Whether a record says nothing new.
    fn is_known(&mut self, heard: &Skimmed<'_>) -> bool {
        let own = heard.id == self.own.peer.id.as_str();
        let (slot, instance, rank) = if own {
            (Slot::OWN, self.own.peer.instance, (self.own.incarnation, self.own.state))
        } else {
            let Some(slot) = self.table.find(heard.id) else { return false };
            let entry = self.table.at(slot);
            (slot, entry.member.instance, entry.rank())
        };
        if heard.instance != instance || heard.rank() > rank || self.bug_in_order() {
            return false;
        }
        let same = heard.rank() == rank;
        if same && heard.state == State::Suspect {
            return false; // perhaps with another observer
        }
        if same {
            let sends_max = self.sends_max();
            self.gossip.heard(slot, sends_max);
        }
        true
    }

    /// A planted bug takes what is older for news.
    fn bug_in_order(&self) -> bool {
        self.planted(Bug::Resurrection)
    }

    /// Believes a record, which came over the link of this peer, if it supersedes what is known, and passes it
    /// on.
    pub(super) fn apply(&mut self, step: &mut Step<'_>, record: Record, from: Option<&Peer>) {
        if record.id == self.own.peer.id {
            return self.about_us(step, record);
        }
        if !self.is_within_reach(step, &record, from) {
            return;
        }
        match self.table.get(&record.id) {
            None if record.state.is_live() => self.meet(step, record),
            None => self.remember_dead(step, &record),
            Some(known) if is_about_a_namesake(known, &record) => {
                let (peer, addr) = (known.member.peer(), known.member.addr);
                if known.linked {
                    self.send_records(step, &peer, addr, Frame::Gossip, &[record]);
                }
            }
            Some(known) if Self::takes_back(known, &record, from) => {
                self.supersede(step, record, false);
            }
            Some(known) if record.rank() > known.rank() => {
                if may_be_mistaken(known, &record, self.table.live_len(), step.now)
                    && !self.planted(Bug::DeathsBelieved)
                {
                    let suspect = Record { state: State::Suspect, dead_for_ms: 0, ..record };
                    return self.apply(step, suspect, from);
                }
                self.supersede(step, record, false);
            }
            Some(known)
                if self.planted(Bug::Resurrection)
                    && known.member.state == State::Failed
                    && record.state == State::Alive =>
            {
                self.supersede(step, record, false);
            }
            Some(known) => {
                let same =
                    record.rank() == known.rank() && record.instance == known.member.instance;
                if same && record.state == State::Suspect {
                    self.confirm(step, &record);
                }
            }
        }
    }

    /// A member we did not know.
    fn meet(&mut self, step: &mut Step<'_>, record: Record) {
        if !self.make_room() {
            self.counters.members_refused += 1;
            return;
        }
        let from = step.out.len();
        let member = self.believe(step, &record);
        step.event(EventKind::MemberJoined { member: alive(&member) });
        if record.state == State::Suspect {
            step.event(EventKind::MemberSuspected {
                member,
                observers: record.observers.clone().into(),
            });
        }
        self.note_events(step, from);
        self.spread(step, &record, Priority::Medium);
        self.corroborate(step, &record);
    }

    /// Somebody dead we did not know: no event, but old gossip must not bring it back.
    fn remember_dead(&mut self, step: &mut Step<'_>, record: &Record) {
        let expired = Duration::from_millis(record.dead_for_ms) >= self.settings.dead_retention;
        if !expired && self.make_room() {
            self.believe(step, record);
        }
    }

    /// A newcomer under a member's id has taken its place.
    pub(super) fn fail_as_replaced(&mut self, step: &mut Step<'_>, record: Record) {
        self.supersede(step, record, true);
    }

    /// What is known gives way.
    fn supersede(&mut self, step: &mut Step<'_>, record: Record, by_newcomer: bool) {
        let known = &self.table.get(&record.id).expect("the caller looked it up").member;
        let (old, was) = (known.clone(), known.state);
        let from = step.out.len();
        let observers: Arc<[Observation]> = record.observers.clone().into();
        let replaced = by_newcomer || old.instance != record.instance;
        let member = self.believe(step, &record);
        if record.state == State::Alive && old.instance == record.instance {
            self.sign_of_life(step.now, &member.peer());
        }
        let changed = old.tags != member.tags
            || old.addr != member.addr
            || old.unresponsive != member.unresponsive;
        if replaced {
            self.take_up(step, &old.id);
            step.out.push(Effect::Close { peer: old.peer(), reason: "no member any more" });
        }
        let priority = match (was.is_live(), record.state) {
            (true, State::Alive | State::Suspect) if replaced => {
                step.event(EventKind::MemberFailed {
                    member: old,
                    observers: Arc::from([]),
                    replaced,
                });
                step.event(EventKind::MemberJoined { member: alive(&member) });
                Priority::Medium
            }
            (true, State::Alive) => {
                if was == State::Suspect {
                    step.event(EventKind::MemberRecovered { member: member.clone() });
                }
                if changed {
                    step.event(EventKind::MemberUpdated { member: member.clone() });
                }
                // Higher without a change: it refuted what we had not heard of, but others have.
                let refuted = was == State::Suspect || !changed;
                if refuted { Priority::Critical } else { Priority::Low }
            }
            (true, State::Suspect) => {
                // From suspect to suspect it must have refuted meanwhile; we missed it.
                if was == State::Suspect {
                    step.event(EventKind::MemberRecovered { member: alive(&member) });
                }
                if changed {
                    step.event(EventKind::MemberUpdated { member: alive(&member) });
                }
                Priority::Critical
            }
            (true, State::Failed) => {
                self.heal_soon(step);
                step.event(EventKind::MemberFailed {
                    member: member.clone(),
                    observers: observers.clone(),
                    replaced,
                });
                Priority::High
            }
            (true, State::Left) => {
                step.event(EventKind::MemberLeft { member: member.clone() });
                if self.planted(Bug::AlarmAboutLeave) {
                    let (member, observers) = (member.clone(), Arc::from([]));
                    step.event(EventKind::MemberSuspected { member, observers });
                }
                Priority::High
            }
            (false, State::Alive | State::Suspect) => {
                if was == State::Failed && !replaced && !self.planted(Bug::DeathsBelieved) {
                    self.doubt_deaths();
                }
                step.event(EventKind::MemberJoined { member: alive(&member) });
                Priority::Medium
            }
            (false, State::Failed | State::Left) => Priority::High,
        };
        if record.state == State::Suspect {
            step.event(EventKind::MemberSuspected { member, observers });
        }
        self.note_events(step, from);
        self.spread(step, &record, priority);
        self.corroborate(step, &record);
    }

    /// A process that we held dead is there: perhaps it was we who were cut off. Whom else we hold
    /// dead is not spread any more; a sync tells of it, and who hears of it there asks first.
    fn doubt_deaths(&mut self) {
        for slot in self.gossip.about_the_gone() {
            if self.table.at(slot).member.state == State::Failed {
                self.gossip.remove(slot);
            }
        }
    }

    /// Writes a record into the table.
    pub(super) fn believe(&mut self, step: &Step<'_>, record: &Record) -> Arc<Member> {
        let known = self.table.get(&record.id);
        let rtt = known.filter(|e| e.member.instance == record.instance);
        let member = self.shared(Member {
            // The name that is there already, so that each is kept once.
            id: known.map_or(&record.id, |e| &e.member.id).clone(),
            instance: record.instance,
            incarnation: record.incarnation,
            state: record.state,
            addr: record.addr,
            tags: record.tags.clone(),
            rtt: rtt.and_then(|e| e.member.rtt),
            unresponsive: record.unresponsive,
        });
        let suspicion = (record.state == State::Suspect).then(|| {
            let watchers = self.table.watchers_of(&record.id, &self.own.peer.id);
            let mut suspicion = Suspicion::new(step.now, record.observers.clone(), watchers);
            self.review(&mut suspicion);
            Box::new(suspicion)
        });
        let dead = !record.state.is_live();
        let dead_since =
            dead.then(|| Before::new(step.now, Duration::from_millis(record.dead_for_ms)));
        let observers = match record.observers.as_slice() {
            [] => Arc::default(), // of which there is only one in the process
            some => some.into(),
        };
        self.table.put(member.clone(), suspicion, observers, dead_since);
        self.edge_believes(&member);
        self.version += 1;
        member
    }

    /// Another observer of a suspicion that we know.
    fn confirm(&mut self, step: &mut Step<'_>, record: &Record) {
        let twice = self.planted(Bug::EventTwice);
        let Some(entry) = self.table.get_mut(&record.id) else { return };
        let Some(suspicion) = &mut entry.suspicion else { return };
        if suspicion.confirm(&record.observers) {
            let merged = entry.record(step.now);
            if twice {
                let member = entry.member.clone();
                let observers = merged.observers.clone().into();
                step.event(EventKind::MemberSuspected { member, observers });
            }
            self.spread(step, &merged, Priority::Critical);
            self.review_suspicion(&record.id);
        }
    }

    fn review_suspicion(&mut self, id: &NodeId) {
        let Some(mut suspicion) = self.table.get_mut(id).and_then(|e| e.suspicion.take()) else {
            return;
        };
        self.review(&mut suspicion);
        if let Some(entry) = self.table.get_mut(id) {
            entry.suspicion = Some(suspicion);
        }
    }

    fn review(&self, suspicion: &mut Suspicion) {
        let jury = Jury {
            live: self.table.live_len() + 1,
            min: self.settings.suspicion_min,
            factor: self.settings.suspicion_max_factor,
            // Others must not have forgotten a death before we declare it: our own word that it
            // lives would bring it back.
            longest: self.settings.dead_retention / 2,
        };
        let alive = |e: &super::Entry| e.member.state == State::Alive;
        suspicion
            .review(&jury, |id| *id == self.own.peer.id || self.table.get(id).is_some_and(alive));
        if self.planted(Bug::NoTimeToRefute) {
            suspicion.deadline = suspicion.since;
        }
    }

    /// We ourselves could not reach a member.
    pub(super) fn suspect(&mut self, step: &mut Step<'_>, id: &NodeId, check: Check) {
        if self.cut_off(step.now).is_some() {
            return;
        }
        self.health_check_failed(step, id, check);
        let Some(entry) = self.table.get(id).filter(|e| e.member.state.is_live()) else { return };
        let (peer, addr) = (entry.member.peer(), entry.member.addr);
        let mut record = entry.record(step.now);
        record.state = State::Suspect;
        record.incarnation += u64::from(self.planted(Bug::SuspicionRaises));
        record.observers = vec![self.observation(step.now, id)];
        self.apply(step, record.clone(), None);
        // The suspect hears of it first, and where loss is no excuse.
        self.send_records(step, &peer, addr, Frame::Gossip, std::slice::from_ref(&record));
    }

    pub(super) fn tick_suspicions(&mut self, step: &mut Step<'_>) {
        // Who is suspect can confirm nothing, and who is gone neither; that changes what is
        // unanimous about the others.
        if self.review_at.is_some_and(|at| at <= step.now) {
            let running: Vec<_> = self.table.suspicions().map(|(id, _)| id.clone()).collect();
            for id in running {
                self.review_suspicion(&id);
            }
            self.review_at = None;
        }
        if self.review_at.is_none() && self.table.suspicions().next().is_some() {
            self.review_at = Some(step.now + REVIEW_EVERY);
        }
        if let Some(until) = self.cut_off(step.now) {
            self.table.suspicions_mut(|suspicion| suspicion.wait_until(until));
        }
        while let Some(id) = self.due_suspicion(step.now) {
            let entry = self.table.get(&id).expect("it was found in the table");
            let mut record = entry.record(step.now);
            record.state = State::Failed;
            record.dead_for_ms = 0;
            let alone = record.observers.iter().all(|o| o.observer == self.own.peer.id);
            self.supersede(step, record, false);
            // Whoever heard of the suspicion comes to a verdict of its own. That nobody did, or
            // nobody agreed, may be our own fault: a path that is healed this very moment must
            // not carry what we concluded without it.
            let spread = !alone || self.planted(Bug::DeathsBelieved);
            if !spread && let Some(slot) = self.table.find(id.as_str()) {
                self.gossip.remove(slot);
            }
        }
    }

    fn due_suspicion(&self, now: Time) -> Option<NodeId> {
        self.table.suspicions().find(|(_, s)| s.deadline <= now).map(|(id, _)| id.clone())
    }

    pub(super) fn first_suspicion(&self) -> Option<Time> {
        self.table.suspicions().map(|(_, s)| s.deadline).chain(self.review_at).min()
    }

    /// Keeps the table within its limit by forgetting the longest dead; whether one more fits.
    fn make_room(&mut self) -> bool {
        if self.table.len() + 1 < self.settings.members_max {
            return true;
        }
        let oldest =
            self.table.iter().filter_map(|e| Some((e.dead_since()?, e.member.id.clone()))).min();
        match oldest {
            Some((_, id)) => {
                self.forget(&id);
                true
            }
            None => false,
        }
    }
}

/// Whether a record says something against another process than the living one that we know, at the
/// same incarnation: both began under the id without hearing of one another, as seeds do that start
/// anew. It says nothing of this one, which announces itself above the other once it hears of it.
fn is_about_a_namesake(known: &super::Entry, record: &Record) -> bool {
    known.member.state.is_live()
        && known.member.instance != record.instance
        && known.member.incarnation == record.incarnation
        && record.state != State::Alive
}

/// Whether a death that others declared is taken for a suspicion first: whoever was cut off has
/// declared many that are well, and they must be heard before that is believed. So our own
/// suspicion must have run for the second that every suspect has, and those who could have
/// confirmed it must have done so; else its own timer decides.
fn may_be_mistaken(known: &super::Entry, record: &Record, others: usize, now: Time) -> bool {
    if record.state != State::Failed
        || !known.member.state.is_live()
        || known.member.instance != record.instance
    {
        return false;
    }
    let alone = others >= JURY_MIN && record.observers.len() < JURY_MIN;
    let suspicion = known.suspicion.as_ref().filter(|_| known.rank().0 == record.incarnation);
    alone || suspicion.is_none_or(|s| now.since(s.since) < REFUTE_MIN)
}

/// The same member as alive: what `MemberJoined` announces even if a suspicion came with it.
fn alive(member: &Arc<Member>) -> Arc<Member> {
    if member.state == State::Alive {
        return member.clone();
    }
    Arc::new(Member { state: State::Alive, ..Member::clone(member) })
}
