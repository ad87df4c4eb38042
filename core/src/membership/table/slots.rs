//! Where entries lie: each in a slot that stays its own until it is forgotten, found by its id
//! through a hash and walked in order of the ids. Everything else in the machine that speaks of
//! many members keeps slots, which compare in one instruction; names compare letter by letter.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Entry;
use crate::member::NodeId;

/// The place of one entry, until it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub(in crate::membership) u32);

impl Slot {
    /// Stands for ourselves, who have no entry.
    pub const OWN: Slot = Slot(u32::MAX);
}

/// The entries.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    by_hash: HashTable<Slot>,
    by_id: Vec<Slot>,
    hasher: FixedState,
}

impl Slots {
    /// None. Each node has its own seed, so that nobody can choose names which collide everywhere.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_hash: HashTable::new(),
            by_id: Vec::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one(id);
        self.by_hash.find(hash, |slot| self.at(*slot).member.id.as_str() == id).copied()
    }

    /// The entry of a slot that is in use.
    pub(super) fn at(&self, slot: Slot) -> &Entry {
        self.entries[slot.0 as usize].as_ref().expect("whoever keeps a slot keeps one in use")
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries[slot.0 as usize].as_mut().expect("whoever keeps a slot keeps one in use")
    }

    /// Takes in an entry under an id that has none.
    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        let id = entry.member.id.clone();
        let by_id = self.by_id.partition_point(|s| self.at(*s).member.id < id);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot(self.entries.len() as u32 - 1)
        });
        self.entries[slot.0 as usize] = Some(entry);
        self.by_id.insert(by_id, slot);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |s: &Slot| {
            let entry = entries[s.0 as usize].as_ref();
            hasher.hash_one(entry.map_or("", |e| e.member.id.as_str()))
        };
        self.by_hash.insert_unique(hasher.hash_one(id.as_str()), slot, hash);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        let id = self.at(slot).member.id.clone();
        let hash = self.hasher.hash_one(id.as_str());
        if let Ok(found) = self.by_hash.find_entry(hash, |s| *s == slot) {
            found.remove();
        }
        let by_id = self.by_id.partition_point(|s| self.at(*s).member.id < id);
        self.by_id.remove(by_id);
        self.free.push(slot);
        self.entries[slot.0 as usize].take()
    }

    /// In order of the ids.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.by_id.iter().map(|slot| self.at(*slot))
    }

    /// Those with ids in (`after`, `upto`], in order.
    pub(super) fn range(
        &self,
        after: Option<&NodeId>,
        upto: Option<&NodeId>,
    ) -> impl Iterator<Item = &Entry> {
        let upper = |id: &NodeId| self.by_id.partition_point(|s| self.at(*s).member.id <= *id);
        let (from, to) = (after.map_or(0, upper), upto.map_or(self.by_id.len(), upper));
        // A peer can send an inverted range.
        self.by_id[from.min(to)..to].iter().map(|slot| self.at(*slot))
    }
}
