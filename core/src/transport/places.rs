//! A bounded number of places: in all, and for one node. Who comes when they are taken displaces who
//! has been there for longest.
//!
//! So nobody can hold them against others. What an honest peer wants a place for takes it
//! milliseconds, and who wants to keep one loses it first; to push an honest peer out, others would
//! have to come by the hundred within its few milliseconds.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::member::NodeId;

/// The places for one purpose.
pub(super) struct Places {
    max: usize,
    per_node_max: usize,
    /// Those who have one, the first come first.
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    all: VecDeque<Holder>,
}

struct Holder {
    serial: u64,
    /// Nobody, where the certificate names nobody.
    node: Option<NodeId>,
    /// Dropped, it displaces.
    _keep: oneshot::Sender<()>,
}

/// A place. Dropping it frees it.
pub(super) struct Place {
    places: Arc<Places>,
    serial: u64,
    kept: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(max: usize, per_node_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_node_max, taken: Mutex::default() })
    }

    /// Takes a place; says whether somebody was displaced.
    pub(super) fn take(self: &Arc<Self>, node: Option<&NodeId>) -> (Place, bool) {
        let (keep, kept) = oneshot::channel();
        let mut taken = self.taken.lock();
        let of_node = taken.all.iter().filter(|holder| holder.node.as_ref() == node).count();
        let displaced = if of_node >= self.per_node_max {
            taken.all.iter().position(|holder| holder.node.as_ref() == node)
        } else if taken.all.len() >= self.max {
            Some(0)
        } else {
            None
        };
        let displaced = displaced.and_then(|at| taken.all.remove(at));
        let serial = taken.next;
        taken.next += 1;
        taken.all.push_back(Holder { serial, node: node.cloned(), _keep: keep });
        (Place { places: self.clone(), serial, kept }, displaced.is_some())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken.lock().all.len()
    }
}

impl Place {
    /// Waits until somebody else has it.
    pub(super) async fn displaced(&mut self) {
        let _ = (&mut self.kept).await; // nothing is ever sent
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Ok(at) = taken.all.binary_search_by_key(&self.serial, |holder| holder.serial) {
            taken.all.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
    }

    fn is_displaced(place: &mut Place) -> bool {
        place.kept.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn who_has_been_there_for_longest_makes_room() {
        let places = Places::new(3, 2);
        let mut taken: Vec<_> = (0..3).map(|n| places.take(Some(&id(n))).0).collect();
        let (fourth, displaced) = places.take(Some(&id(3)));
        assert!(displaced && is_displaced(&mut taken[0]));
        assert!(!is_displaced(&mut taken[1]) && !is_displaced(&mut taken[2]));
        drop(fourth);
        assert!(!places.take(None).1, "a place that was free");
        taken.clear();
        assert_eq!(places.len(), 0);
    }

    #[test]
    fn one_node_displaces_itself() {
        let places = Places::new(10, 2);
        let (mut other, _) = places.take(None);
        let mut of_one: Vec<_> = (0..5).map(|_| places.take(Some(&id(1))).0).collect();
        let displaced: Vec<_> = of_one.iter_mut().map(is_displaced).collect();
        assert_eq!(displaced, [true, true, true, false, false]);
        assert!(!is_displaced(&mut other));
        drop(of_one);
        assert_eq!(places.len(), 1);
    }
}
