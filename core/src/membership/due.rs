//! When the machine wants to be called next, and whether it wants anything at all.

use super::{Membership, Time, time::First};
use crate::member::State;

impl Membership {
    /// The first of all that is to be done in time.
    pub(super) fn first_deadline(&self) -> Option<Time> {
        if self.stopped {
            return None;
        }
        let mut first = First::default();
        first.or(self.gossip_at);
        if self.own.state != State::Left {
            first.or(self.probes.deadline());
            first.or(self.join.deadline());
            first.or(self.conflict.as_ref().map(|c| c.deadline));
            first.or(self.first_suspicion());
            first.or(self.watch.deadline());
            first.or(self.sync.deadline());
            first.or(self.heal.deadline());
        }
        first.time()
    }

    /// Whether nothing waits for any call at all, whatever it brings.
    pub(super) fn is_settled(&self, now: Time) -> bool {
        self.own.state != State::Left
            && self.watch.is_planned_for(self.table.live_version())
            && self.heard_last.is_some_and(|at| now.since(at) < self.settings.heartbeat_interval)
    }
}
