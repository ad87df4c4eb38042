//! The queue of updates that wait to be spread.
//!
//! One entry per member: a newer update replaces the older, so the queue is never longer than
//! the table. Each update is sent a limited number of times, the urgent and the least sent first.

use std::{cmp::Reverse, collections::BTreeMap};

use bytes::Bytes;

use super::table::Slot;

/// The most updates in one message.
pub const UPDATES_MAX: usize = 20;
/// The most bytes of updates in one message on a stream: 4 KiB with the frame around them, which
/// needs up to 300. The largest record has some 3,500.
pub const STREAM_BYTES_MAX: usize = 4096 - 300;
/// The most bytes of updates in one datagram: a packet holds some 1,160 B right after the
/// handshake, with the same around them.
pub const DATAGRAM_BYTES_MAX: usize = 800;

/// How many updates that do not fit are passed over in search of one that does.
const PASSED_OVER_MAX: u32 = 8;
/// With fewer updates waiting than this there is room to repeat all of them in full.
const BUSY: usize = 64;
/// With more, hearing an update from somebody else counts as having sent it so many times: those
/// who know it already are then soon the most, and in a mass join repeating it is most of the work.
const HEARD_COUNTS: u32 = 2;
/// With more than this the queue is held short: then some may miss an update, and learn of it when
/// they compare tables.
const LONG: usize = 1024;
/// For so many updates more, hearing one counts once more.
const LONG_STEP: usize = 16;

/// What goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Priority {
    /// A life depends on it: suspicions and refutations.
    Critical,
    /// Somebody is gone.
    High,
    /// Somebody came.
    Medium,
    /// Tags changed.
    Low,
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: Bytes,
    priority: Priority,
    sent: u32,
    /// Newer entries first among equals.
    order: u64,
}

/// Where an entry stands in the order of sending.
type Place = (Priority, u32, Reverse<u64>);

impl Entry {
    fn place(&self) -> Place {
        (self.priority, self.sent, Reverse(self.order))
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    entries: BTreeMap<Slot, Entry>,
    /// The same in the order of sending.
    order: BTreeMap<Place, Slot>,
    next_order: u64,
    /// How many updates wait that no datagram can hold.
    large: usize,
    /// How many wait on which a life depends.
    urgent: usize,
    /// Some were repeated less often than they would have been.
    cut_short: bool,
}

impl Gossip {
    /// Queues an encoded update about a member, in place of any older one.
    pub fn push(&mut self, about: Slot, priority: Priority, bytes: Bytes) {
        self.remove(about);
        self.next_order += 1;
        self.large += usize::from(bytes.len() > DATAGRAM_BYTES_MAX);
        self.urgent += usize::from(priority == Priority::Critical);
        let entry = Entry { bytes, priority, sent: 0, order: self.next_order };
        self.order.insert(entry.place(), about);
        self.entries.insert(about, entry);
    }

    /// Forgets what is queued about a member.
    pub fn remove(&mut self, about: Slot) {
        if let Some(e) = self.entries.remove(&about) {
            self.order.remove(&e.place());
            self.large -= usize::from(e.bytes.len() > DATAGRAM_BYTES_MAX);
            self.urgent -= usize::from(e.priority == Priority::Critical);
        }
    }

    /// Forgets everything on which no life depends.
    pub fn keep_critical(&mut self) {
        let others = (Priority::High, 0, Reverse(u64::MAX))..;
        let others: Vec<Slot> = self.order.range(others).map(|(_, slot)| *slot).collect();
        others.into_iter().for_each(|slot| self.remove(slot));
    }

    /// Whom the queue says to be gone.
    pub fn about_the_gone(&self) -> Vec<Slot> {
        let first = |priority| (priority, 0, Reverse(u64::MAX));
        let range = first(Priority::High)..first(Priority::Medium);
        self.order.range(range).map(|(_, slot)| *slot).collect()
    }

    /// Takes the updates for one message: at most [`UPDATES_MAX`] and `bytes_max`, each counted
    /// as sent once more and dropped from the queue after `sends_max` times. `about` goes first
    /// if it is queued: a suspect is told that it is one.
    pub fn take(&mut self, bytes_max: usize, sends_max: u32, about: Option<Slot>) -> Vec<Bytes> {
        let mut room = bytes_max;
        let mut chosen = Vec::new();
        let first = about.filter(|slot| self.entries.contains_key(slot));
        let others = self.order.values().copied().filter(|slot| Some(*slot) != first);
        let mut passed_over = 0;
        for slot in first.into_iter().chain(others) {
            let size = self.entries[&slot].bytes.len();
            if size <= room {
                room -= size;
                chosen.push(slot);
            } else {
                passed_over += 1;
            }
            if chosen.len() == UPDATES_MAX || passed_over == PASSED_OVER_MAX {
                break;
            }
        }
        chosen.into_iter().filter_map(|slot| self.count(slot, 1, sends_max)).collect()
    }

    /// Somebody else passed on what is queued: where much waits it needs fewer who do. This is the
    /// feedback of rumour mongering (Demers et al. 1987). A matter of life is repeated in full.
    pub fn heard(&mut self, about: Slot, sends_max: u32) {
        let busy = self.entries.len() >= BUSY;
        if busy && self.entries.get(&about).is_some_and(|e| e.priority != Priority::Critical) {
            let over = self.entries.len().saturating_sub(LONG);
            let times = HEARD_COUNTS + (over / LONG_STEP) as u32;
            self.count(about, times, sends_max);
            self.cut_short = true;
        }
    }

    /// Counts an update as sent so many times more; its bytes.
    fn count(&mut self, about: Slot, times: u32, sends_max: u32) -> Option<Bytes> {
        let entry = self.entries.get_mut(&about)?;
        let bytes = entry.bytes.clone();
        self.order.remove(&entry.place());
        entry.sent += times;
        let place = entry.place();
        if entry.sent >= sends_max {
            self.remove(about);
        } else {
            self.order.insert(place, about);
        }
        Some(bytes)
    }

    /// Whether an update about the member waits.
    pub fn contains(&self, about: Slot) -> bool {
        self.entries.contains_key(&about)
    }

    /// Whether an update waits that no datagram can hold.
    pub fn has_large(&self) -> bool {
        self.large > 0
    }

    /// How many messages it takes to pass on once all on which a life depends.
    pub fn urgent_messages(&self) -> usize {
        self.urgent.div_ceil(UPDATES_MAX)
    }

    /// How many updates wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits any more of what was cut short, once: somebody may have missed some.
    pub fn ends_cut_short(&mut self) -> bool {
        self.is_empty() && std::mem::take(&mut self.cut_short)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> Slot {
        Slot(n)
    }

    #[test]
    fn more_than_twenty_updates_or_4_kib_are_split() {
        let mut gossip = Gossip::default();
        for n in 0..50 {
            gossip.push(id(n), Priority::Medium, Bytes::from(vec![0; 10]));
        }
        let sizes: Vec<_> = (0..3).map(|_| gossip.take(STREAM_BYTES_MAX, 1, None).len()).collect();
        assert_eq!(sizes, [20, 20, 10]);
        for n in 0..4 {
            gossip.push(id(n), Priority::Medium, Bytes::from(vec![0; 1500]));
        }
        assert_eq!(gossip.take(STREAM_BYTES_MAX, 1, None).len(), 2);
        assert_eq!(gossip.take(STREAM_BYTES_MAX, 1, None).len(), 2);
        assert!(gossip.is_empty());
    }

    #[test]
    fn urgent_and_least_sent_first_and_each_a_limited_number_of_times() {
        let mut gossip = Gossip::default();
        gossip.push(id(1), Priority::Low, Bytes::from_static(b"l"));
        gossip.push(id(2), Priority::Critical, Bytes::from_static(b"c"));
        assert_eq!(gossip.take(1, 2, None), ["c"]);
        assert_eq!(gossip.take(1, 2, None), ["c"]);
        assert_eq!(gossip.take(1, 2, None), ["l"]);
        assert_eq!(gossip.take(1, 2, None), ["l"]);
        assert!(gossip.take(1, 2, None).is_empty());
    }

    #[test]
    fn urgent_updates_are_counted_in_messages() {
        let mut gossip = Gossip::default();
        for n in 0..=UPDATES_MAX as u32 {
            gossip.push(id(n), Priority::Critical, Bytes::from_static(b"c"));
        }
        gossip.push(id(99), Priority::High, Bytes::from_static(b"h"));
        assert_eq!(gossip.urgent_messages(), 2);
        // One was replaced by what is not urgent, so the others fit.
        gossip.push(id(0), Priority::Low, Bytes::from_static(b"l"));
        assert_eq!(gossip.urgent_messages(), 1);
        while !gossip.take(STREAM_BYTES_MAX, 1, None).is_empty() {}
        assert_eq!(gossip.urgent_messages(), 0);
    }

    #[test]
    fn a_newer_update_replaces_the_older() {
        let mut gossip = Gossip::default();
        gossip.push(id(1), Priority::Medium, Bytes::from_static(b"old"));
        gossip.push(id(1), Priority::High, Bytes::from_static(b"new"));
        assert_eq!(gossip.len(), 1);
        assert_eq!(gossip.take(9, 1, None), ["new"]);
    }

    #[test]
    fn what_others_repeat_is_repeated_less_but_not_where_a_life_depends_on_it() {
        let mut gossip = Gossip::default();
        gossip.push(id(1), Priority::Medium, Bytes::from_static(b"m"));
        gossip.push(id(2), Priority::Critical, Bytes::from_static(b"c"));
        let hear = |gossip: &mut Gossip| {
            for _ in 0..3 {
                gossip.heard(id(1), 6);
                gossip.heard(id(2), 6);
            }
        };
        hear(&mut gossip);
        assert!(gossip.contains(id(1)), "there is room to repeat it");
        for n in 3..=BUSY as u32 {
            gossip.push(id(n), Priority::Medium, Bytes::from_static(b"other"));
        }
        hear(&mut gossip);
        assert_eq!((gossip.contains(id(1)), gossip.contains(id(2))), (false, true));
    }

    #[test]
    fn a_long_queue_is_held_short() {
        let mut gossip = Gossip::default();
        for n in 0..(LONG + 10 * LONG_STEP) as u32 {
            gossip.push(id(n), Priority::Medium, Bytes::from_static(b"m"));
        }
        gossip.heard(id(0), 14);
        assert!(gossip.contains(id(0)), "heard once it counts twelve times");
        gossip.heard(id(0), 14);
        assert!(!gossip.contains(id(0)));
    }

    #[test]
    fn only_what_is_critical_is_kept() {
        let mut gossip = Gossip::default();
        let all = [Priority::High, Priority::Critical, Priority::Medium, Priority::Low];
        for (n, priority) in (0..).zip(all) {
            gossip.push(id(n), priority, Bytes::from_static(b"u"));
        }
        gossip.keep_critical();
        assert!(gossip.contains(id(1)));
        assert_eq!(gossip.len(), 1);
    }

    #[test]
    fn what_does_not_fit_does_not_hold_up_what_does() {
        let mut gossip = Gossip::default();
        for n in 0..7 {
            gossip.push(id(n), Priority::Critical, Bytes::from(vec![0; 900]));
        }
        gossip.push(id(7), Priority::Low, Bytes::from_static(b"l"));
        assert_eq!(gossip.take(DATAGRAM_BYTES_MAX, 1, None), ["l"]);
        assert!(gossip.has_large());
    }
}
