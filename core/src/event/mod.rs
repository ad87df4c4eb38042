//! What happens in a cluster, as subscribers see it.

mod kind;

pub use kind::EventKind;

/// One event. Sequence numbers rise by one per event of a cluster and are the same for all
/// subscribers; a gap means that [`EventKind::EventsDropped`] stands in for what is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The place in the one order of all events of this node.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
}
