//! Where the memory of the edges lies, see `membership::warm`.

use super::{Edge, edges::Edges};
use crate::membership::{Ask, Membership, Time};

impl Membership {
    /// Then the lists of its edges.
    pub fn warm_edges(&self, ask: Ask) {
        let Edges { peers, times, .. } = &self.watch.edges;
        ask(times.as_ptr().cast(), size_of_val(times.as_slice()));
        ask(peers.as_ptr().cast(), size_of_val(peers.as_slice()));
    }

    /// Then the edge to whoever's frame comes.
    pub fn warm_edge(&self, instance: u64, ask: Ask) {
        if let Some(at) = self.find_instance(instance) {
            ask(std::ptr::from_ref(&self.watch.edges[at]).cast(), size_of::<Edge>());
        }
    }

    /// Or the edges on which a heartbeat is due; to which processes is told.
    pub fn warm_due(&self, now: Time, ask: Ask, mut to: impl FnMut(u64)) {
        for at in (0..self.watch.edges.len()).filter(|at| self.watch.edges.beat_due(*at, now)) {
            ask(std::ptr::from_ref(&self.watch.edges[at]).cast(), size_of::<Edge>());
            let peer = &self.watch.edges.peers[at];
            // Its name is counted once more.
            ask(peer.id.as_str().as_ptr().wrapping_sub(16), 16);
            to(peer.instance.0);
        }
    }

    /// And last what that edge remembers.
    pub fn warm_past(&self, instance: u64, ask: Ask) {
        if let Some(at) = self.find_instance(instance) {
            self.watch.edges[at].phi.warm(ask);
        }
    }

    fn find_instance(&self, instance: u64) -> Option<usize> {
        self.watch.edges.peers.iter().position(|p| p.instance.0 == instance)
    }
}
