//! Counters and gauges of one node.

use std::{sync::Arc, time::Duration};

use crate::{
    member::{Member, State},
    membership::Counters,
    transport::{LinkStats, Transport, TransportStats},
};

/// What the driver knows, written after each of its steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Status {
    pub(super) counters: Counters,
    pub(super) gossip_waiting: usize,
    pub(super) health_score: u32,
}

/// Counters since the start, and gauges as of now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Members believed alive, ourselves included.
    pub alive: usize,
    /// Members believed suspect.
    pub suspect: usize,
    /// Failed members that are still remembered.
    pub failed: usize,
    /// Members that left and are still remembered.
    pub left: usize,
    /// Updates that wait to be spread.
    pub gossip_waiting: usize,
    /// Trust in our own timing, 0 (full) to 8.
    pub health_score: u32,
    /// What the protocol counted.
    pub membership: Counters,
    /// What the transport counted.
    pub transport: TransportStats,
    /// Each link that is up, those that are being drained included, in no order.
    pub links: Vec<LinkStats>,
    /// How long the first to end of our certificates from files, and of those we trust, still
    /// holds; nothing where they are made of a secret.
    pub certificate_left: Option<Duration>,
    /// Events published.
    pub events: u64,
    /// Events dropped for slow subscribers, summed over them.
    pub events_dropped: u64,
    /// Subscribers now.
    pub subscribers: usize,
}

impl Stats {
    pub(super) fn new(
        members: &[Arc<Member>],
        status: Status,
        transport: &Transport,
        events: (u64, u64, usize),
    ) -> Self {
        let count = |state: State| members.iter().filter(|m| m.state == state).count();
        Self {
            alive: count(State::Alive),
            suspect: count(State::Suspect),
            failed: count(State::Failed),
            left: count(State::Left),
            gossip_waiting: status.gossip_waiting,
            health_score: status.health_score,
            membership: status.counters,
            transport: transport.stats(),
            links: transport.links_and_draining(),
            certificate_left: transport.certificate_left(),
            events: events.0,
            events_dropped: events.1,
            subscribers: events.2,
        }
    }
}
