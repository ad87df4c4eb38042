//! The edges of one node, a few dozen at most, in order of the peers' ids.
//!
//! Heartbeats come and go some forty times a second, so what each of them looks at lies close
//! together: whom an edge leads to, and when something is due on it.

use super::{Edge, Time};
use crate::member::{NodeId, Peer};

/// Never.
const NEVER: Time = Time(u64::MAX);

/// When something is due on one edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    beat: Time,
    judge: Time,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Edges {
    pub(super) peers: Vec<Peer>,
    pub(super) times: Vec<Times>,
    edges: Vec<Edge>,
}

impl Edges {
    pub(super) fn len(&self) -> usize {
        self.edges.len()
    }

    /// Where the edge to exactly this process is.
    pub(super) fn find(&self, peer: &Peer) -> Option<usize> {
        self.peers.iter().position(|p| p == peer)
    }

    /// Where the edge to a process with this id is.
    pub(super) fn find_id(&self, id: &NodeId) -> Option<usize> {
        self.peers.binary_search_by(|p| p.id.cmp(id)).ok()
    }

    pub(super) fn contains(&self, id: &NodeId) -> bool {
        self.find_id(id).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter()
    }

    /// Takes in an edge to a peer whose id has none.
    pub(super) fn insert(&mut self, edge: Edge) {
        let at = self.peers.partition_point(|p| p.id < edge.peer.id);
        self.peers.insert(at, edge.peer.clone());
        self.times.insert(at, Times { beat: NEVER, judge: NEVER });
        self.edges.insert(at, edge);
    }

    pub(super) fn remove(&mut self, id: &NodeId) -> Option<Edge> {
        let at = self.find_id(id)?;
        self.peers.remove(at);
        self.times.remove(at);
        Some(self.edges.remove(at))
    }

    /// The next heartbeat is due then, if ever.
    pub(super) fn beat_at(&mut self, at: usize, time: Option<Time>) {
        self.times[at].beat = time.unwrap_or(NEVER);
    }

    /// The silence so far will mean something then, if ever.
    pub(super) fn judge_at(&mut self, at: usize, time: Option<Time>) {
        self.times[at].judge = time.unwrap_or(NEVER);
    }

    pub(super) fn is_judged(&self, at: usize) -> bool {
        self.times[at].judge != NEVER
    }

    pub(super) fn beat_due(&self, at: usize, now: Time) -> bool {
        self.times[at].beat <= now
    }

    pub(super) fn judge_due(&self, at: usize, now: Time) -> bool {
        self.times[at].judge <= now
    }

    /// The earliest of all.
    pub(super) fn due(&self) -> Option<Time> {
        let all = self.times.iter().map(|t| t.beat.min(t.judge));
        all.min().filter(|at| *at != NEVER)
    }
}

impl std::ops::Index<usize> for Edges {
    type Output = Edge;
    fn index(&self, at: usize) -> &Edge {
        &self.edges[at]
    }
}

impl std::ops::IndexMut<usize> for Edges {
    fn index_mut(&mut self, at: usize) -> &mut Edge {
        &mut self.edges[at]
    }
}
