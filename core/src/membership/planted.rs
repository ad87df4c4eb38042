//! Bugs that the simulator plants, one at a time, to test that its checkers see them. Without the
//! feature `simulator`, which only the simulator turns on, there is none and no way to one; and
//! even with it the only way is a method of the machine that no `Cluster` calls.

use super::Membership;

/// A mistake somebody could make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "simulator"), allow(dead_code))]
pub enum Bug {
    /// Who suspects a member raises its incarnation.
    SuspicionRaises,
    /// Alive at an equal incarnation supersedes failed.
    Resurrection,
    /// A node takes over what others say about it.
    BelievesOthers,
    /// A suspicion about ourselves is not refuted.
    LostRefutation,
    /// A message takes as many updates as there are.
    MessagesUnlimited,
    /// A leave raises an alarm.
    AlarmAboutLeave,
    /// A confirmed suspicion is told again.
    EventTwice,
    /// A check that fails is told each time, not once.
    CheckToldTwice,
    /// A suspect has no time to refute.
    NoTimeToRefute,
    /// Edges are never taken up.
    EdgesStay,
    /// The links of edges are not kept.
    EdgesUnpinned,
    /// Each node has rings of its own.
    RingsDiffer,
    /// Our own pauses count as others' silence, by whatever they might be noticed.
    PausesUnnoticed,
    /// Who hears nobody takes all for dead.
    SilenceAccuses,
    /// A death that others declared is believed at once.
    DeathsBelieved,
    /// An answer counts for whichever probe is under way.
    AckUnmatched,
    /// An update is queued once for each member that it is for.
    QueueUnbounded,
    /// Who was away for long keeps its table.
    TablesKept,
}

#[cfg(feature = "simulator")]
impl Membership {
    /// Plants a bug. Before the first input.
    pub fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
        if bug == Bug::RingsDiffer {
            let misnamed = self.own.peer.id.as_str().chars().rev().collect::<String>();
            if let Ok(other) = crate::member::NodeId::new(misnamed) {
                self.table = super::table::Table::new(&other, self.settings.watch_rings, 0);
            }
        }
    }

    pub(super) fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

#[cfg(not(feature = "simulator"))]
impl Membership {
    pub(super) const fn planted(&self, _: Bug) -> bool {
        false
    }
}
