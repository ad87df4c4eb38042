//! The queue of updates that wait to be spread.
//!
//! One entry per member: a newer update replaces the older, so the queue is never longer than
//! the table. Each update is sent a limited number of times, the urgent and the least sent first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::member::NodeId;

/// The most updates in one message.
pub const UPDATES_MAX: usize = 20;
/// The most bytes of updates in one message on a stream: 4 KiB with the frame around them, which
/// needs up to 300. The largest record has some 3,500.
pub const STREAM_BYTES_MAX: usize = 4096 - 300;
/// The most bytes of updates in one datagram: a packet holds some 1,160 B right after the
/// handshake, with the same around them.
pub const DATAGRAM_BYTES_MAX: usize = 800;

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

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    entries: BTreeMap<NodeId, Entry>,
    /// The same in the order of sending.
    order: BTreeSet<(Priority, u32, std::cmp::Reverse<u64>, NodeId)>,
    next_order: u64,
}

impl Gossip {
    /// Queues an encoded update about a member, in place of any older one.
    pub fn push(&mut self, id: NodeId, priority: Priority, bytes: Bytes) {
        self.remove(&id);
        self.next_order += 1;
        let entry = Entry { bytes, priority, sent: 0, order: self.next_order };
        self.order.insert((priority, 0, std::cmp::Reverse(entry.order), id.clone()));
        self.entries.insert(id, entry);
    }

    /// Forgets what is queued about a member.
    pub fn remove(&mut self, id: &NodeId) {
        if let Some(e) = self.entries.remove(id) {
            self.order.remove(&(e.priority, e.sent, std::cmp::Reverse(e.order), id.clone()));
        }
    }

    /// Takes the updates for one message: at most [`UPDATES_MAX`] and `bytes_max`, each counted
    /// as sent once more and dropped from the queue after `sends_max` times. `about` goes first
    /// if it is queued: a suspect is told that it is one.
    pub fn take(&mut self, bytes_max: usize, sends_max: u32, about: Option<&NodeId>) -> Vec<Bytes> {
        let mut room = bytes_max;
        let mut chosen = Vec::new();
        let first = about.filter(|id| self.entries.contains_key(*id));
        let others = self.order.iter().map(|(.., id)| id).filter(|id| Some(*id) != first);
        for id in first.into_iter().chain(others) {
            let size = self.entries[id].bytes.len();
            if size <= room {
                room -= size;
                chosen.push(id.clone());
                if chosen.len() == UPDATES_MAX {
                    break;
                }
            }
        }
        chosen.into_iter().map(|id| self.count_as_sent(id, sends_max)).collect()
    }

    fn count_as_sent(&mut self, id: NodeId, sends_max: u32) -> Bytes {
        let entry = self.entries.get_mut(&id).expect("the caller took the id from the queue");
        let bytes = entry.bytes.clone();
        self.order.remove(&(
            entry.priority,
            entry.sent,
            std::cmp::Reverse(entry.order),
            id.clone(),
        ));
        entry.sent += 1;
        if entry.sent >= sends_max {
            self.entries.remove(&id);
        } else {
            self.order.insert((entry.priority, entry.sent, std::cmp::Reverse(entry.order), id));
        }
        bytes
    }

    /// Whether an update about the member waits.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.entries.contains_key(id)
    }

    /// Whether an update waits that no datagram can hold.
    pub fn has_large(&self) -> bool {
        self.entries.values().any(|e| e.bytes.len() > DATAGRAM_BYTES_MAX)
    }

    /// How many updates wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
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
    fn a_newer_update_replaces_the_older() {
        let mut gossip = Gossip::default();
        gossip.push(id(1), Priority::Medium, Bytes::from_static(b"old"));
        gossip.push(id(1), Priority::High, Bytes::from_static(b"new"));
        assert_eq!(gossip.len(), 1);
        assert_eq!(gossip.take(9, 1, None), ["new"]);
    }
}
