//! What happens in a cluster, as subscribers see it.

use std::sync::Arc;

use crate::member::{Member, NodeId};

/// One event. Sequence numbers rise by one per event of a cluster and are the same for all
/// subscribers; a gap means that [`EventKind::EventsDropped`] stands in for what is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The place in the one order of all events of this node.
    pub seq: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. Events are about *other* members, unless they say otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A member is there that was not, or is there again.
    MemberJoined {
        /// The member as it is now.
        member: Arc<Member>,
    },
    /// A member's tags or address changed.
    MemberUpdated {
        /// The member as it is now.
        member: Arc<Member>,
    },
    /// Somebody could not reach a member; it has time to refute.
    MemberSuspected {
        /// The member as it is now.
        member: Arc<Member>,
        /// Who raised the suspicion.
        observers: Arc<[NodeId]>,
    },
    /// A suspected member refuted.
    MemberRecovered {
        /// The member as it is now.
        member: Arc<Member>,
    },
    /// A member is gone without having said so.
    MemberFailed {
        /// The member as it was last known.
        member: Arc<Member>,
        /// Who raised or confirmed the suspicion, as far as is known here.
        observers: Arc<[NodeId]>,
        /// Another process has taken over its id.
        replaced: bool,
    },
    /// A member left of its own will.
    MemberLeft {
        /// The member as it was last known.
        member: Arc<Member>,
    },
    /// This node's trust in its own timing changed: 0 is full health, each step lengthens its
    /// probe intervals and time-outs by one (Lifeguard, Dadgar et al. 2017).
    LocalHealthChanged {
        /// The new score, 0 to 8.
        score: u32,
    },
    /// Another process under our node id lives.
    NameConflict {
        /// The id that is claimed twice.
        id: NodeId,
    },
    /// This subscriber was too slow and missed events. What it knew is replaced by `members`.
    EventsDropped {
        /// How many events were dropped for this subscriber.
        count: u64,
        /// All members as of this event, in order of their ids, ourselves included.
        members: Arc<[Arc<Member>]>,
    },
}

impl EventKind {
    /// The name that logs, metrics and every language use.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::MemberJoined { .. } => "MemberJoined",
            EventKind::MemberUpdated { .. } => "MemberUpdated",
            EventKind::MemberSuspected { .. } => "MemberSuspected",
            EventKind::MemberRecovered { .. } => "MemberRecovered",
            EventKind::MemberFailed { .. } => "MemberFailed",
            EventKind::MemberLeft { .. } => "MemberLeft",
            EventKind::LocalHealthChanged { .. } => "LocalHealthChanged",
            EventKind::NameConflict { .. } => "NameConflict",
            EventKind::EventsDropped { .. } => "EventsDropped",
        }
    }

    /// The member that the event is about, where there is one.
    pub fn member(&self) -> Option<&Arc<Member>> {
        match self {
            EventKind::MemberJoined { member }
            | EventKind::MemberUpdated { member }
            | EventKind::MemberSuspected { member, .. }
            | EventKind::MemberRecovered { member }
            | EventKind::MemberFailed { member, .. }
            | EventKind::MemberLeft { member } => Some(member),
            EventKind::LocalHealthChanged { .. }
            | EventKind::NameConflict { .. }
            | EventKind::EventsDropped { .. } => None,
        }
    }
}
