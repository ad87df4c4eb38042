//! The table: what this node believes about every other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, rngs::StdRng};

use super::{
    Suspicion, Time,
    rings::{self, Rings},
};
use crate::{
    member::{Member, NodeId, State},
    wire::{Record, Summary},
};

/// What is believed about one other node.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As users see it.
    pub member: Arc<Member>,
    /// Runs while the state is suspect.
    pub suspicion: Option<Suspicion>,
    /// Who could not reach it, when it failed.
    pub observers: Vec<NodeId>,
    /// Since when it is failed or left.
    pub dead_since: Option<Time>,
    /// Whether the transport holds a link to exactly this process.
    pub linked: bool,
    /// What its places on the rings are made from.
    place_seed: u64,
    /// Its place in `Table::live`.
    live_at: Option<usize>,
    /// Its place in `Table::linked`.
    linked_at: Option<usize>,
}

impl Entry {
    /// The order of rule 2.
    pub fn rank(&self) -> (u64, State) {
        (self.member.incarnation, self.member.state)
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
            observers: self.suspicion.as_ref().map_or(&self.observers, |s| &s.observers).clone(),
            dead_for_ms: self.dead_since.map_or(0, |since| now.since(since).as_millis() as u64),
        }
    }
}

/// All other nodes that are known, the dead included until they are forgotten.
#[derive(Clone, Debug)]
pub struct Table {
    entries: BTreeMap<NodeId, Entry>,
    /// Alive and suspect members, in no order that matters: for picking at random.
    live: Vec<NodeId>,
    /// Those of `live` that we hold a link to.
    linked: Vec<NodeId>,
    /// Those with a running suspicion.
    suspected: BTreeSet<NodeId>,
    /// XOR of the fingerprints of all live records.
    hash: u64,
    /// Our neighbours among the live.
    rings: Rings,
    live_version: u64,
}

impl Table {
    /// An empty one, of a node that is on so many rings.
    pub fn new(own: &NodeId, rings: u32) -> Self {
        Self {
            entries: BTreeMap::new(),
            live: Vec::new(),
            linked: Vec::new(),
            suspected: BTreeSet::new(),
            hash: 0,
            rings: Rings::new(rings, own),
            live_version: 0,
        }
    }

    /// What is known about a node.
    pub fn get(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// For what is not part of the record: suspicion and observers.
    pub fn get_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// All entries in order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entries with ids in (`after`, `upto`].
    pub fn range(
        &self,
        after: Option<&NodeId>,
        upto: Option<&NodeId>,
    ) -> impl Iterator<Item = &Entry> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = after.map_or(Unbounded, |id| Excluded(id.clone()));
        // An inverted range would panic; a peer can send one.
        let inverted = matches!((after, upto), (Some(a), Some(u)) if a >= u);
        let to = upto.map_or(Unbounded, |id| Included(id.clone()));
        let all = (!inverted).then(|| self.entries.range((from, to)));
        all.into_iter().flatten().map(|(_, e)| e)
    }

    /// All that are known, the dead included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are alive or suspect.
    pub fn live_len(&self) -> usize {
        self.live.len()
    }

    /// How many live members we hold a link to.
    pub fn linked_len(&self) -> usize {
        self.linked.len()
    }

    /// The fingerprint of the live records; `own` is ours. Equal tables have equal ones. The dead
    /// do not count: one node may have forgotten them already.
    pub fn hash(&self, own: &Summary) -> u64 {
        self.hash ^ fingerprint(own)
    }

    /// Inserts or replaces what is believed about a node.
    pub fn put(
        &mut self,
        member: Arc<Member>,
        suspicion: Option<Suspicion>,
        observers: Vec<NodeId>,
        dead_since: Option<Time>,
    ) {
        let id = member.id.clone();
        let old = self.take(&id);
        let was_live = old.as_ref().is_some_and(|e| e.member.state.is_live());
        let place_seed = old.as_ref().map_or_else(|| rings::place_seed(&id), |e| e.place_seed);
        let same_process = old.as_ref().is_some_and(|e| e.member.instance == member.instance);
        if !same_process || was_live != member.state.is_live() {
            self.live_version += 1;
        }
        let linked = same_process && old.is_some_and(|e| e.linked);
        let mut entry = Entry {
            member,
            suspicion,
            observers,
            dead_since,
            linked,
            place_seed,
            live_at: None,
            linked_at: None,
        };
        if entry.member.state.is_live() {
            entry.live_at = Some(self.live.len());
            self.live.push(id.clone());
            if linked {
                entry.linked_at = Some(self.linked.len());
                self.linked.push(id.clone());
            }
            self.hash ^= fingerprint(&summary(&entry.member));
        }
        if entry.suspicion.is_some() {
            self.suspected.insert(id.clone());
        }
        let is_live = entry.live_at.is_some();
        self.entries.insert(id.clone(), entry);
        if is_live && !was_live {
            self.rings.add(place_seed, &id);
        } else if was_live && !is_live {
            self.leave_rings(&id);
        }
    }

    /// Forgets a node.
    pub fn remove(&mut self, id: &NodeId) -> Option<Entry> {
        let entry = self.take(id)?;
        if entry.live_at.is_some() {
            self.live_version += 1;
            self.leave_rings(id);
        }
        Some(entry)
    }

    fn leave_rings(&mut self, id: &NodeId) {
        let rest = self.live.iter().map(|i| (self.entries[i].place_seed, i));
        self.rings.remove(id, rest);
    }

    fn take(&mut self, id: &NodeId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.suspected.remove(id);
        if let Some(at) = entry.live_at {
            self.hash ^= fingerprint(&summary(&entry.member));
            self.live.swap_remove(at);
            if let Some(moved) = self.live.get(at) {
                let moved = self.entries.get_mut(moved).expect("every live id has an entry");
                moved.live_at = Some(at);
            }
        }
        self.unlink(entry.linked_at);
        Some(entry)
    }

    /// Takes one out of `linked`; its own entry is the caller's matter.
    fn unlink(&mut self, linked_at: Option<usize>) {
        let Some(at) = linked_at else { return };
        self.linked.swap_remove(at);
        if let Some(moved) = self.linked.get(at) {
            let moved = self.entries.get_mut(moved).expect("every linked id has an entry");
            moved.linked_at = Some(at);
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
    pub fn live(&self) -> &[NodeId] {
        &self.live
    }

    /// Whether there are so few that everybody watches everybody.
    pub fn all_watch_all(&self) -> bool {
        self.live.len() <= self.rings.count()
    }

    /// Who watches a member: live ones, perhaps `own`, which is us.
    pub fn watchers_of(&self, id: &NodeId, own: &NodeId) -> Vec<NodeId> {
        let own = (rings::place_seed(own), own);
        let others = self.live.iter().map(|i| (self.entries[i].place_seed, i));
        let others = others.chain(std::iter::once(own));
        if self.all_watch_all() {
            return others.filter(|(_, i)| *i != id).map(|(_, i)| i.clone()).collect();
        }
        rings::watchers_of(self.rings.count(), id, others)
    }

    /// The live members that we hold a link to.
    pub fn linked(&self) -> &[NodeId] {
        &self.linked
    }

    /// Notes whether the transport holds a link to the member.
    pub fn set_linked(&mut self, id: &NodeId, linked: bool) {
        let Some(e) = self.entries.get_mut(id) else { return };
        e.linked = linked;
        match (e.linked_at, linked && e.live_at.is_some()) {
            (None, true) => {
                e.linked_at = Some(self.linked.len());
                self.linked.push(id.clone());
            }
            (Some(at), false) => {
                e.linked_at = None;
                self.unlink(Some(at));
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Notes a measured round trip.
    pub fn set_rtt(&mut self, id: &NodeId, sample: Duration) {
        if let Some(e) = self.entries.get_mut(id) {
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
        from: &[NodeId],
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
            let id = &from[rng.random_range(0..from.len())];
            self.choose(id, &accept, &mut chosen);
            if chosen.len() == count {
                return chosen;
            }
        }
        let start = rng.random_range(0..from.len());
        for i in 0..from.len() {
            if chosen.len() == count {
                break;
            }
            self.choose(&from[(start + i) % from.len()], &accept, &mut chosen);
        }
        chosen
    }

    fn choose(&self, id: &NodeId, accept: &impl Fn(&Entry) -> bool, chosen: &mut Vec<Arc<Member>>) {
        let entry = &self.entries[id];
        if accept(entry) && !chosen.iter().any(|m| m.id == *id) {
            chosen.push(entry.member.clone());
        }
    }

    /// The running suspicions.
    pub fn suspicions(&self) -> impl Iterator<Item = (&NodeId, &Suspicion)> {
        self.suspected.iter().filter_map(|id| Some((id, self.entries[id].suspicion.as_ref()?)))
    }

    /// The same, to change them.
    pub fn suspicions_mut(&mut self, mut change: impl FnMut(&mut Suspicion)) {
        for id in &self.suspected {
            if let Some(s) = self.entries.get_mut(id).and_then(|e| e.suspicion.as_mut()) {
                change(s);
            }
        }
    }
}

/// A record in short.
pub fn summary(m: &Member) -> Summary {
    Summary { id: m.id.clone(), instance: m.instance, incarnation: m.incarnation, state: m.state }
}

/// FNV-1a, 64 bit, of the record in short; spread by a last multiplication since it is XORed.
fn fingerprint(s: &Summary) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let numbers = [s.instance.0.to_le_bytes(), s.incarnation.to_le_bytes()];
    for byte in s.id.as_str().bytes().chain(numbers.into_iter().flatten()).chain([s.state as u8]) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
