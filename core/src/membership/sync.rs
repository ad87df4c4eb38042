//! Comparing whole tables: a fingerprint first, then summaries, then only what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rand::Rng;

use super::{Class, Membership, Step, Time, table};
use crate::{
    member::{Member, NodeId, Peer, State},
    wire::{Frame, Record, Summary},
};

/// How many summaries one frame holds; at the longest names some 40 KiB.
const SUMMARIES_MAX: usize = 256;
/// Whole-table answers in any one second; more are refused, and the asking side comes again.
const SYNCS_PER_S_MAX: u32 = 16;
/// Tables are compared after this part of the time that the dead are remembered at the latest.
const SYNC_OF_RETENTION: u32 = 4;
/// After a join the table is compared soon, since gossip that went round meanwhile was missed, ...
const AFTER_JOIN: Duration = Duration::from_millis(600);
/// ... and again as long as it differs, within this time: many may be joining. Where it does not
/// differ from one other's, both may lack the same, so it is compared again after twice as long.
const JOINING: Duration = Duration::from_secs(60);
/// Where so much was gossiped that it was not repeated in full, some missed some of it: tables are
/// compared so long after it has ended here, when it has elsewhere as well, and then as after a join.
const AFTER_STORM: Duration = Duration::from_secs(2);

/// When to compare next, and how many comparisons were answered lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Sync {
    next: Option<Time>,
    /// The next is one of those after a join, with somebody we hold a link to, so long after the
    /// last.
    soon: Option<Duration>,
    second: u64,
    answered: u32,
    /// Who was told in the current second that others hold it dead.
    told: BTreeSet<NodeId>,
}

impl Sync {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// Whether a member is told now what others say of it: once a second, however many say so how often,
    /// since each time costs a frame, and perhaps a probe.
    pub(super) fn may_tell(&mut self, now: Time, id: &NodeId) -> bool {
        self.begin_second(now);
        self.told.insert(id.clone())
    }

    /// What is limited a second begins anew with each.
    fn begin_second(&mut self, now: Time) {
        let second = now.0 / 1_000_000;
        if second != self.second {
            self.second = second;
            self.answered = 0;
            self.told.clear();
        }
    }
}

impl Membership {
    pub(super) fn start_syncing(&mut self, step: &Step<'_>) {
        let jitter = self.rng.random_range(0.5..1.0);
        self.sync.next = Some(step.now + self.sync_interval().mul_f64(jitter));
    }

    pub(super) fn sync_soon(&mut self, step: &Step<'_>) {
        let jitter = self.rng.random_range(0.5..1.0);
        self.sync.next = Some(step.now + AFTER_JOIN.mul_f64(jitter));
        self.sync.soon = Some(AFTER_JOIN);
    }

    /// What came in a mass of news may have missed us, also where the last one is being made up for.
    pub(super) fn sync_after_storm(&mut self, step: &Step<'_>) {
        let jitter = self.rng.random_range(0.5..1.0);
        let at = step.now + AFTER_STORM.mul_f64(jitter);
        self.sync.next = Some(self.sync.next.map_or(at, |next| next.min(at)));
        self.sync.soon = Some(self.sync.soon.map_or(AFTER_STORM, |gap| gap.min(AFTER_STORM)));
    }

    pub(super) fn tick_sync(&mut self, step: &mut Step<'_>) {
        if self.sync.next.is_some_and(|at| at <= step.now) {
            let alive = |e: &super::Entry| e.member.state == State::Alive;
            let partner = match self.sync.soon {
                Some(_) => self.table.pick_linked(&mut self.rng, 1).pop(),
                None => self
                    .probe_stranger(step)
                    .and_then(|id| self.table.get(&id).filter(|e| alive(e)))
                    .map(|e| e.member.clone())
                    .or_else(|| self.table.pick(&mut self.rng, 1, alive).pop()),
            };
            self.compare(step, partner);
        }
    }

    /// Compares tables with one that a link is needed to for something else, where that is to be done
    /// within a time anyhow.
    pub(super) fn compare_besides(&mut self, step: &mut Step<'_>, id: &NodeId, within: Duration) {
        let within = within.min(self.sync_interval() / 2);
        let due = self.sync.next.is_some_and(|at| at <= step.now + within);
        let alive = self.table.get(id).filter(|e| e.member.state == State::Alive);
        if let Some(member) = alive.map(|e| e.member.clone())
            && due
            && self.sync.soon.is_none()
        {
            self.compare(step, Some(member));
        }
    }

    fn compare(&mut self, step: &mut Step<'_>, partner: Option<Arc<Member>>) {
        let jitter = self.rng.random_range(0.9..1.1);
        let interval = self.sync_interval();
        self.sync.soon = self.sync.soon.map(|gap| gap * 2).filter(|gap| *gap < interval);
        let gap = self.sync.soon.unwrap_or(interval);
        self.sync.next = Some(step.now + gap.mul_f64(jitter));
        if let Some(member) = partner {
            let hash = self.table.hash(&self.own_summary());
            let digest = Frame::Digest { hash };
            self.send(step, &member.peer(), member.addr, Class::Stream, &digest);
        }
    }

    pub(super) fn on_digest(&mut self, step: &mut Step<'_>, from: &Peer, hash: u64) {
        if hash == self.table.hash(&self.own_summary()) || self.own.state == State::Left {
            return;
        }
        // A process that we do not know, or hold dead, most needs to hear what we believe.
        let addr = self.back_to(from);
        self.send_summaries(step, from, addr);
    }

    pub(super) fn send_summaries(&mut self, step: &mut Step<'_>, to: &Peer, addr: SocketAddr) {
        if !self.may_answer(step.now) {
            return;
        }
        self.counters.syncs += 1;
        let mut all: Vec<Summary> = self.table.iter().map(|e| table::summary(&e.member)).collect();
        let own = self.own_summary();
        let at = all.partition_point(|s| s.id < own.id);
        all.insert(at, own);
        let mut after = None;
        let mut chunks = all.chunks(SUMMARIES_MAX).peekable();
        while let Some(chunk) = chunks.next() {
            let last = chunk.last().map(|s| s.id.clone());
            let upto = if chunks.peek().is_some() { last } else { None };
            let frame = Frame::Summaries { after, upto: upto.clone(), list: chunk.to_vec() };
            self.send_records(step, to, addr, frame, &[]);
            after = upto;
        }
    }

    /// Whether there is room in this second to tell one more peer about the whole table.
    pub(super) fn may_answer(&mut self, now: Time) -> bool {
        self.sync.begin_second(now);
        self.sync.answered += 1;
        let may = self.sync.answered <= SYNCS_PER_S_MAX;
        self.counters.syncs_refused += u64::from(!may);
        may
    }

    /// How often tables are compared. Whoever was away for as long as it may without beginning anew must
    /// hear who died before the others forget that.
    fn sync_interval(&self) -> Duration {
        self.settings.sync_interval.min(self.settings.dead_retention / SYNC_OF_RETENTION)
    }

    /// Their table in short: ask for what is newer there, send what is newer here.
    pub(super) fn on_summaries(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        after: Option<NodeId>,
        upto: Option<NodeId>,
        list: Vec<Summary>,
    ) {
        if step.now.since(self.started) < JOINING {
            self.sync_soon(step);
        }
        let addr = self.back_to(from);
        let theirs: BTreeMap<&NodeId, &Summary> = list.iter().map(|s| (&s.id, s)).collect();
        let mut want = Vec::new();
        let mut send = Vec::new();
        // Each once, however often it is named.
        for s in theirs.values() {
            let rank = (s.incarnation, s.state);
            if s.id == self.own.peer.id {
                if s.instance == self.own.peer.instance
                    && rank < (self.own.incarnation, self.own.state)
                {
                    send.push(self.own_record());
                } else if rank != (self.own.incarnation, self.own.state)
                    || s.instance != self.own.peer.instance
                {
                    want.push(s.id.clone());
                }
                continue;
            }
            match self.table.get(&s.id) {
                None if s.state.is_live() => want.push(s.id.clone()),
                None => {}
                Some(e) if e.rank() < rank => want.push(s.id.clone()),
                Some(e) if e.rank() > rank => send.push(e.record(step.now)),
                Some(_) => {}
            }
        }
        let missing = self.table.range(after.as_ref(), upto.as_ref());
        let missing =
            missing.filter(|e| e.member.state.is_live() && !theirs.contains_key(&e.member.id));
        send.extend(missing.map(|e| e.record(step.now)));
        let own = &self.own.peer.id;
        let in_range =
            after.as_ref().is_none_or(|a| own > a) && upto.as_ref().is_none_or(|u| own <= u);
        if in_range && !theirs.contains_key(own) {
            send.push(self.own_record());
        }
        if !want.is_empty() || !send.is_empty() {
            self.send_records(step, from, addr, Frame::Records { want }, &send);
        }
    }

    pub(super) fn on_records(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        want: Vec<NodeId>,
        updates: Vec<Record>,
    ) {
        self.apply_from_sync(step, from, updates);
        let addr = self.back_to(from);
        let mut send = Vec::new();
        // Asked of a table, so never more than the table has and each once; names we lack cost a
        // look-up each.
        let want: BTreeSet<&NodeId> = want.iter().take(SUMMARIES_MAX).collect();
        for id in want {
            if *id == self.own.peer.id {
                send.push(self.own_record());
            } else if let Some(e) = self.table.get(id) {
                send.push(e.record(step.now));
            }
        }
        if !send.is_empty() {
            self.send_records(step, from, addr, Frame::Records { want: Vec::new() }, &send);
        }
    }

    /// What another table holds, perhaps that of the other half of a cut: whom it declared dead
    /// while we hear it is not failed here, but told of it, so that it refutes; and probed.
    pub(super) fn apply_from_sync(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        records: Vec<Record>,
    ) {
        let own = &self.own.peer;
        if records.iter().any(|r| r.peer() == *own && self.is_far_from_us(r.incarnation)) {
            let (own, addr) = (self.own_record(), self.back_to(from));
            self.send_records(step, from, addr, Frame::Gossip, &[own]);
        }
        for record in records {
            let heard = self.table.get(&record.id).is_some_and(|e| {
                e.member.state == State::Alive
                    && e.member.instance == record.instance
                    && record.rank() > e.rank()
            });
            if heard && record.state == State::Failed {
                self.tell_of_own_death(step, &record);
            } else {
                self.apply(step, record, Some(from));
            }
        }
    }

    fn tell_of_own_death(&mut self, step: &mut Step<'_>, record: &Record) {
        let peer = record.peer();
        if let Some(addr) = self.addr_of(&peer)
            && self.sync.may_tell(step.now, &peer.id)
        {
            self.send_records(step, &peer, addr, Frame::Gossip, std::slice::from_ref(record));
            self.probe_at_once(step, &peer);
        }
    }

    pub(super) fn own_summary(&self) -> Summary {
        Summary {
            id: self.own.peer.id.clone(),
            instance: self.own.peer.instance,
            incarnation: self.own.incarnation,
            state: self.own.state,
        }
    }
}
