//! The table: what this node believes about every other.

mod slots;

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use rand::{Rng, rngs::StdRng};

use super::{
    Suspicion, Time,
    account::History,
    rings::{self, Rings},
    time::{Before, Since},
};
use crate::{
    evidence::Observation,
    member::{Instance, Member, NodeId, State},
    wire::{Record, Summary},
};

pub use slots::Slot;
use slots::Slots;

/// What is believed about one other node.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As users see it.
    pub member: Arc<Member>,
    /// Runs while the state is suspect.
    pub suspicion: Option<Box<Suspicion>>,
    /// Who could not reach it, when it failed.
    pub observers: Arc<[Observation]>,
    /// Since when it is failed or left.
    dead_since: Option<Before>,
    /// Whether the transport holds a link to exactly this process.
    pub linked: bool,
    /// How many probes of ours in a row it has not answered.
    pub missed_probes: u32,
    /// Whether it was heard while it did not answer the last of them.
    pub(super) heard_meanwhile: bool,
    /// The checks of it that fail, see [`Check`](super::account::Check).
    pub(super) unreached: u8,
    /// When the first that we saw of it happened, if anything did, ...
    pub(super) since: Option<Since>,
    /// ... and at which incarnation we first heard of it.
    pub(super) first_incarnation: u64,
    /// What happened to it since.
    pub(super) history: History,
    /// What its places on the rings are made from.
    place_seed: u64,
    /// Its place in `Table::live`.
    live_at: Option<At>,
    /// Its place in `Table::linked`.
    linked_at: Option<At>,
}

/// A place in a list, of which an `Option` takes no more room.
#[derive(Clone, Copy, Debug)]
struct At(NonZeroU32);

impl At {
    fn new(index: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Entry {
    /// The order of rule 2.
    pub fn rank(&self) -> (u64, State) {
        (self.member.incarnation, self.member.state)
    }

    /// Since when it is failed or left.
    pub(super) fn dead_since(&self) -> Option<Before> {
        self.dead_since
    }

    /// Who could not reach it.
    pub(super) fn observers_now(&self) -> &[Observation] {
        self.suspicion.as_ref().map_or(&self.observers, |s| &s.observers)
    }

    fn fingerprint(&self) -> u64 {
        fingerprint(self.place_seed, self.member.instance, self.rank())
    }

    /// The whole record, as it is passed on.
    pub fn record(&self, now: Time) -> Record {
        let m = &self.member;
        Record {
            id: m.id.clone(),
            instance: m.instance,
            incarnation: m.incarnation,
            state: m.state,
            addr: m.addr,
            tags: m.tags.clone(),
            observers: self.observers_now().to_vec(),
            unresponsive: m.unresponsive,
            dead_for_ms: self.dead_since.map_or(0, |since| since.ago(now).as_millis() as u64),
        }
    }
}

/// All other nodes that are known, the dead included until they are forgotten.
#[derive(Clone, Debug)]
pub struct Table {
    slots: Slots,
    /// Alive and suspect members, in no order that matters: for picking at random.
    live: Vec<Slot>,
    /// Those of `live` that we hold a link to.
    linked: Vec<Slot>,
    /// Those with a running suspicion.
    suspected: BTreeSet<Slot>,
    /// XOR of the fingerprints of all live records.
    hash: u64,
    /// Our neighbours among the live.
    rings: Rings,
    live_version: u64,
    /// Whose records changed, for the simulator's checkers if there are any.
    #[cfg(feature = "simulator")]
    touched: Option<Vec<NodeId>>,
}

impl Table {
    /// An empty one, of a node that is on so many rings.
    pub fn new(own: &NodeId, rings: u32, seed: u64) -> Self {
        Self {
            slots: Slots::new(seed),
            live: Vec::new(),
            linked: Vec::new(),
            suspected: BTreeSet::new(),
            hash: 0,
            rings: Rings::new(rings as usize, own),
            live_version: 0,
            #[cfg(feature = "simulator")]
            touched: None,
        }
    }

    /// Whose records changed since this was asked last; nothing the first time.
    #[cfg(feature = "simulator")]
    pub fn take_touched(&mut self) -> Vec<NodeId> {
        self.touched.replace(Vec::new()).unwrap_or_default()
    }

    /// See `membership::warm`.
    #[cfg(feature = "simulator")]
    pub fn warm(&self, ask: super::Ask) {
        ask(std::ptr::from_ref(&self.live_version).cast(), 8);
    }

    #[cfg(feature = "simulator")]
    fn touch(&mut self, id: &NodeId) {
        self.touched.iter_mut().for_each(|all| all.push(id.clone()));
    }

    /// What is known about a node.
    pub fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.find(id.as_str()).map(|slot| self.slots.at(slot))
    }

    /// For what is not part of the record: suspicion and observers.
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.find(id.as_str()).map(|slot| self.slots.at_mut(slot))
    }

    /// Where the entry of a node lies.
    pub fn find(&self, id: &str) -> Option<Slot> {
        self.slots.find(id)
    }

    /// The entry in a slot, which must be in use.
    pub fn at(&self, slot: Slot) -> &Entry {
        self.slots.at(slot)
    }

    /// All entries in order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.slots.iter()
    }

    /// The entries with ids in (`after`, `upto`].
    pub fn range(
        &self,
        after: Option<&NodeId>,
        upto: Option<&NodeId>,
    ) -> impl Iterator<Item = &Entry> {
        self.slots.range(after, upto)
    }

    /// All that are known, the dead included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many are alive or suspect.
    pub fn live_len(&self) -> usize {
        self.live.len()
    }

    /// Whether we hold a link to whoever has this id.
    pub fn is_linked(&self, id: &NodeId) -> bool {
        self.get(id).is_some_and(|e| e.linked)
    }

    /// How many live members we hold a link to.
    pub fn linked_len(&self) -> usize {
        self.linked.len()
    }

    /// The fingerprint of the live records; `own` is ours. Equal tables have equal ones. The dead
    /// do not count: one node may have forgotten them already.
    pub fn hash(&self, own: &Summary) -> u64 {
        self.hash
            ^ fingerprint(rings::place_seed(&own.id), own.instance, (own.incarnation, own.state))
    }

    /// Inserts or replaces what is believed about a node.
    pub fn put(
        &mut self,
        member: Arc<Member>,
        suspicion: Option<Box<Suspicion>>,
        observers: Arc<[Observation]>,
        dead_since: Option<Before>,
    ) -> Slot {
        let id = member.id.clone();
        #[cfg(feature = "simulator")]
        self.touch(&id);
        let is_live = member.state.is_live();
        let suspected = suspicion.is_some();
        let (slot, was_live, same_process) = match self.find(id.as_str()) {
            Some(slot) => {
                let entry = self.slots.at_mut(slot);
                let was_live = entry.member.state.is_live();
                let same_process = entry.member.instance == member.instance;
                if was_live {
                    self.hash ^= entry.fingerprint();
                }
                (entry.member, entry.suspicion) = (member, suspicion);
                (entry.observers, entry.dead_since) = (observers, dead_since);
                entry.linked &= same_process;
                // Another process, or one that is back: what was seen before says nothing.
                if !same_process || !was_live {
                    (entry.missed_probes, entry.unreached) = (0, 0);
                }
                (slot, was_live, same_process)
            }
            None => {
                let place_seed = rings::place_seed(&id);
                let (linked, live_at, linked_at) = (false, None, None);
                let entry = Entry {
                    missed_probes: 0,
                    heard_meanwhile: false,
                    unreached: 0,
                    since: None,
                    first_incarnation: member.incarnation,
                    history: History::default(),
                    member,
                    suspicion,
                    observers,
                    dead_since,
                    linked,
                    place_seed,
                    live_at,
                    linked_at,
                };
                (self.slots.insert(entry), false, false)
            }
        };
        if !same_process || was_live != is_live {
            self.live_version += 1;
        }
        if suspected {
            self.suspected.insert(slot);
        } else {
            self.suspected.remove(&slot);
        }
        let place_seed = self.slots.at(slot).place_seed;
        if is_live {
            self.hash ^= self.slots.at(slot).fingerprint();
        }
        match (was_live, is_live) {
            (false, true) => {
                self.slots.at_mut(slot).live_at = Some(At::new(self.live.len()));
                self.live.push(slot);
                self.rings.add(place_seed, &id);
            }
            (true, false) => {
                self.leave_live(slot);
                self.leave_rings(&id);
            }
            _ => {}
        }
        self.place_in_linked(slot);
        slot
    }

    /// Forgets a node; where it lay.
    pub fn remove(&mut self, id: &NodeId) -> Option<Slot> {
        let slot = self.find(id.as_str())?;
        #[cfg(feature = "simulator")]
        self.touch(id);
        self.suspected.remove(&slot);
        if self.slots.at(slot).live_at.is_some() {
            self.hash ^= self.slots.at(slot).fingerprint();
            self.live_version += 1;
            self.leave_live(slot);
            self.leave_rings(id);
        }
        self.slots.at_mut(slot).linked = false;
        self.place_in_linked(slot);
        self.slots.remove(slot);
        Some(slot)
    }

    fn leave_rings(&mut self, id: &NodeId) {
        let entries = self.live.iter().map(|slot| self.slots.at(*slot));
        self.rings.remove(id, entries.map(|e| (e.place_seed, &e.member.id)));
    }

    fn leave_live(&mut self, slot: Slot) {
        let Some(at) = self.slots.at_mut(slot).live_at.take() else { return };
        self.live.swap_remove(at.index());
        if let Some(moved) = self.live.get(at.index()) {
            self.slots.at_mut(*moved).live_at = Some(at);
        }
    }

    /// Puts a member into `linked`, or takes it out.
    fn place_in_linked(&mut self, slot: Slot) {
        let entry = self.slots.at_mut(slot);
        match (entry.linked_at, entry.linked && entry.live_at.is_some()) {
            (None, true) => {
                entry.linked_at = Some(At::new(self.linked.len()));
                self.linked.push(slot);
            }
            (Some(at), false) => {
                entry.linked_at = None;
                self.linked.swap_remove(at.index());
                if let Some(moved) = self.linked.get(at.index()) {
                    self.slots.at_mut(*moved).linked_at = Some(at);
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Our neighbours on the rings.
    pub fn rings(&self) -> &Rings {
        &self.rings
    }

    /// Rises whenever another set of processes is live.
    pub fn live_version(&self) -> u64 {
        self.live_version
    }

    /// All live members, in no order that matters.
    pub fn live(&self) -> impl Iterator<Item = &NodeId> {
        self.live.iter().map(|slot| &self.slots.at(*slot).member.id)
    }

    /// Whether there are so few that everybody watches everybody.
    pub fn all_watch_all(&self) -> bool {
        self.live.len() <= self.rings.count()
    }

    /// Who watches a member: live ones, perhaps `own`, which is us.
    pub fn watchers_of(&self, id: &NodeId, own: &NodeId) -> Vec<NodeId> {
        let own = (rings::place_seed(own), own);
        let live = self.live.iter().map(|slot| self.slots.at(*slot));
        let others = live.map(|e| (e.place_seed, &e.member.id)).chain(std::iter::once(own));
        if self.all_watch_all() {
            return others.filter(|(_, i)| *i != id).map(|(_, i)| i.clone()).collect();
        }
        rings::watchers_of(self.rings.count(), id, others)
    }

    /// The live members that we hold a link to.
    pub fn linked(&self) -> impl Iterator<Item = &NodeId> {
        self.linked.iter().map(|slot| &self.slots.at(*slot).member.id)
    }

    /// Notes whether the transport holds a link to the member.
    pub fn set_linked(&mut self, id: &NodeId, linked: bool) {
        let Some(slot) = self.find(id.as_str()) else { return };
        self.slots.at_mut(slot).linked = linked;
        self.place_in_linked(slot);
    }

    /// Notes a measured round trip.
    pub fn set_rtt(&mut self, id: &NodeId, sample: Duration) {
        if let Some(e) = self.get_mut(id) {
            let member = Arc::make_mut(&mut e.member);
            // The smoothing of TCP (RFC 6298): seven eighths of the old.
            member.rtt = Some(member.rtt.map_or(sample, |old| (old * 7 + sample) / 8));
        }
    }

    /// Up to `count` distinct live members at random that pass the filter.
    pub fn pick(
        &self,
        rng: &mut StdRng,
        count: usize,
        accept: impl Fn(&Entry) -> bool,
    ) -> Vec<Arc<Member>> {
        self.pick_from(&self.live, rng, count, accept)
    }

    /// Up to `count` distinct live members at random that we hold a link to.
    pub fn pick_linked(&self, rng: &mut StdRng, count: usize) -> Vec<Arc<Member>> {
        self.pick_from(&self.linked, rng, count, |_| true)
    }

    fn pick_from(
        &self,
        from: &[Slot],
        rng: &mut StdRng,
        count: usize,
        accept: impl Fn(&Entry) -> bool,
    ) -> Vec<Arc<Member>> {
        let mut chosen: Vec<Arc<Member>> = Vec::with_capacity(count);
        if from.is_empty() {
            return chosen;
        }
        // A random start and a walk from there would favour neighbours; draws are enough while
        // most pass, and a scan from a random place finds the rest.
        for _ in 0..4 * count {
            let slot = from[rng.random_range(0..from.len())];
            self.choose(slot, &accept, &mut chosen);
            if chosen.len() == count {
                return chosen;
            }
        }
        let start = rng.random_range(0..from.len());
        for i in 0..from.len() {
            if chosen.len() == count {
                break;
            }
            self.choose(from[(start + i) % from.len()], &accept, &mut chosen);
        }
        chosen
    }

    fn choose(&self, slot: Slot, accept: &impl Fn(&Entry) -> bool, chosen: &mut Vec<Arc<Member>>) {
        let entry = self.slots.at(slot);
        if accept(entry) && !chosen.iter().any(|m| Arc::ptr_eq(m, &entry.member)) {
            chosen.push(entry.member.clone());
        }
    }

    /// The running suspicions.
    pub fn suspicions(&self) -> impl Iterator<Item = (&NodeId, &Suspicion)> {
        let entries = self.suspected.iter().map(|slot| self.slots.at(*slot));
        entries.filter_map(|e| Some((&e.member.id, e.suspicion.as_deref()?)))
    }

    /// The same, to change them.
    pub fn suspicions_mut(&mut self, mut change: impl FnMut(&mut Suspicion)) {
        for slot in &self.suspected {
            if let Some(s) = self.slots.at_mut(*slot).suspicion.as_deref_mut() {
                change(s);
            }
        }
    }
}

/// A record in short.
pub fn summary(m: &Member) -> Summary {
    Summary { id: m.id.clone(), instance: m.instance, incarnation: m.incarnation, state: m.state }
}

/// A number for the record in short; mixed well since such numbers are XORed.
fn fingerprint(id_hash: u64, instance: Instance, (incarnation, state): (u64, State)) -> u64 {
    let own = rings::mix(id_hash ^ instance.0.rotate_left(32));
    rings::mix(own ^ (incarnation << 2 | state as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand simulated nodes keep a hundred million of them.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<Entry>>() <= 88, "{}", size_of::<Option<Entry>>());
    }
}
