//! What is seen of a member over its watch edge: for judging it, for evidence, and for whoever looks.

use std::time::Duration;

use super::{Edge, LATE, Time, UNASKED, UNSEEN_MAX};
use crate::{
    evidence::Direction,
    member::{NodeId, Peer},
    membership::Membership,
};

/// What one end of a watch edge knows, for whoever looks.
#[derive(Clone, Debug)]
pub struct WatchEdge {
    /// The other end.
    pub peer: Peer,
    /// Whether we judge its silence.
    pub watched: bool,
    /// Whether the rings call for the edge, as opposed to one that is about to go.
    pub wanted: bool,
    /// When we last heard a heartbeat.
    pub heard: Option<Time>,
    /// How many of our last heartbeats the other end has not seen.
    pub unseen: u64,
    /// How surprising the silence is; nothing before the first heartbeat.
    pub phi: Option<f64>,
    /// Which way fails, as far as we can tell.
    pub direction: Direction,
}

impl Membership {
    /// The watch edges, in order of the peers' ids.
    pub fn watch_edges(&self, now: Time) -> impl Iterator<Item = WatchEdge> {
        let pause = self.heartbeat_pause();
        let deviations = self.watch.deviations;
        self.watch.edges.iter().map(move |e| e.sight(now, deviations, pause))
    }

    /// The edge to whoever has this id.
    pub(in crate::membership) fn watch_sight(&self, now: Time, id: &NodeId) -> Option<WatchEdge> {
        let edge = &self.watch.edges[self.watch.edges.find_id(id)?];
        Some(edge.sight(now, self.watch.deviations, self.heartbeat_pause()))
    }

    /// Which way to a member fails. A probe that got no answer tells before a silence does: its
    /// member was heard meanwhile, or was not though a heartbeat was due.
    pub(in crate::membership) fn direction(&self, now: Time, id: &NodeId) -> Direction {
        let missed = self.table.get(id).filter(|e| e.missed_probes > 0);
        let heard = missed.is_some_and(|e| e.heard_meanwhile);
        let Some(edge) = self.watch.edges.find_id(id).map(|at| &self.watch.edges[at]) else {
            return Direction::of_failing(false, heard);
        };
        let silent = edge.is_silent(now, self.watch.deviations, self.heartbeat_pause());
        let late = missed.is_some() && !heard && edge.is_late(now);
        Direction::of_failing(silent || late, heard || edge.is_unseen())
    }

    /// Whether a member is heard in each interval, and said just now that it hears us.
    pub(in crate::membership) fn is_heard_both_ways(&self, now: Time, id: &NodeId) -> bool {
        let Some(edge) = self.watch.edges.find_id(id).map(|at| &self.watch.edges[at]) else {
            return false;
        };
        let just_now = self.settings.heartbeat_interval.mul_f64(UNASKED);
        let heard = edge.heard.is_some_and(|at| now.since(at) < just_now) && !edge.rests;
        heard && edge.is_judged_there() && edge.unseen_when_heard <= 1
    }
}

impl Edge {
    /// Whether its silence is too surprising, ...
    fn is_silent(&self, now: Time, deviations: f64, pause: Duration) -> bool {
        self.heard.is_some() && self.phi.crossing(deviations, pause) <= now
    }

    /// ... and whether a heartbeat at least is missing, though there is a link that it could come by.
    fn is_late(&self, now: Time) -> bool {
        let due = self.phi.expected().mul_f64(LATE);
        self.linked && !self.rests && self.heard.is_some_and(|at| now.since(at) >= due)
    }

    /// Whether our heartbeats do not arrive there, by the peer's own word.
    fn is_unseen(&self) -> bool {
        self.unseen_when_heard >= UNSEEN_MAX
    }

    fn sight(&self, now: Time, deviations: f64, pause: Duration) -> WatchEdge {
        WatchEdge {
            peer: self.peer.clone(),
            watched: self.watched,
            wanted: self.wanted,
            heard: self.heard,
            unseen: self.unseen(),
            phi: self.heard.map(|_| self.phi.value(now, pause)),
            direction: Direction::of_failing(
                self.is_silent(now, deviations, pause),
                self.is_unseen(),
            ),
        }
    }
}
