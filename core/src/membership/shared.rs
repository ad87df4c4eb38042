//! Members that many machines in one process hold alike, kept once. Ten thousand simulated nodes
//! with ten thousand members each would else need some forty gigabytes. Only the simulator has
//! more than a few machines, so nothing else turns this on.

#[cfg(feature = "simulator")]
use std::collections::HashMap;
use std::sync::Arc;

#[cfg(feature = "simulator")]
use parking_lot::Mutex;

use super::Membership;
use crate::member::Member;
#[cfg(feature = "simulator")]
use crate::member::NodeId;

/// What the machines of one process hold alike.
#[cfg(feature = "simulator")]
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<HashMap<NodeId, Arc<Member>>>>);

#[cfg(feature = "simulator")]
impl Membership {
    /// Keeps members together with the other machines that were given the same. Before the first
    /// input.
    pub fn share(&mut self, shared: &Shared) {
        self.shared = Some(shared.clone());
    }

    /// Whose records changed since this was asked last, for checkers that do not read the whole
    /// table after every step. They are noted from the first time on.
    pub fn take_touched(&mut self) -> Vec<NodeId> {
        self.table.take_touched()
    }

    pub(super) fn shared(&self, mut member: Member) -> Arc<Member> {
        let Some(Shared(all)) = &self.shared else { return Arc::new(member) };
        let mut all = all.lock();
        if let Some((id, held)) = all.get_key_value(&member.id) {
            if **held == member {
                return held.clone();
            }
            member.id = id.clone();
        }
        let rtt = member.rtt;
        let member = Arc::new(member);
        // A round trip is nobody else's.
        if rtt.is_none() {
            all.insert(member.id.clone(), member.clone());
        }
        member
    }
}

#[cfg(not(feature = "simulator"))]
impl Membership {
    pub(super) fn shared(&self, member: Member) -> Arc<Member> {
        Arc::new(member)
    }
}
