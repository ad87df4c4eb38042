//! The part of the configuration that the protocol needs.

use std::{net::SocketAddr, time::Duration};

use crate::{
    config::Config,
    member::{Peer, Tags},
};

/// Who this node is and how it is to behave; checked already, see [`Config`] for the meanings.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each is the field of `Config` with the same name
pub struct Settings {
    /// This node: its stable name and its process start.
    pub me: Peer,
    /// Where others reach it.
    pub addr: SocketAddr,
    pub tags: Tags,
    pub seeds: Vec<SocketAddr>,
    /// Where this node knew members when it ran last: tried besides the seeds, but not waited for.
    pub known: Vec<SocketAddr>,
    /// What this node announces at first; more than when it ran last.
    pub incarnation: u64,
    /// What a clock that all nodes can read shows at time zero, if there is one. It is used for one
    /// thing: rounds of heartbeats begin at moments that nodes have in common, which saves them
    /// wakes. A clock that is wrong saves none, and does nothing else.
    pub clock: Option<Duration>,
    pub probe_interval: Duration,
    pub probe_timeout: Duration,
    pub indirect_timeout: Duration,
    pub indirect_probes: usize,
    pub watch_rings: u32,
    pub heartbeat_interval: Duration,
    pub heartbeat_pause: Duration,
    pub phi_threshold: u32,
    pub suspicion_min: Duration,
    pub suspicion_max_factor: u32,
    pub gossip_interval: Duration,
    pub gossip_fanout: usize,
    pub sync_interval: Duration,
    pub heal_interval: Duration,
    pub dead_retention: Duration,
    pub members_max: usize,
}

impl Settings {
    /// Takes them from a checked configuration.
    pub fn new(me: Peer, addr: SocketAddr, config: &Config) -> Self {
        Self {
            me,
            addr,
            tags: crate::config::shared_tags(&config.tags),
            known: Vec::new(),
            incarnation: 1,
            clock: None,
            seeds: config.seeds.iter().copied().filter(|s| *s != addr).collect(),
            probe_interval: config.probe_interval,
            probe_timeout: config.probe_timeout,
            indirect_timeout: config.indirect_timeout,
            indirect_probes: config.indirect_probes as usize,
            watch_rings: config.watch_rings,
            heartbeat_interval: config.heartbeat_interval,
            heartbeat_pause: config.heartbeat_pause,
            phi_threshold: config.phi_threshold,
            suspicion_min: config.suspicion_min,
            suspicion_max_factor: config.suspicion_max_factor,
            gossip_interval: config.gossip_interval,
            gossip_fanout: config.gossip_fanout as usize,
            sync_interval: config.sync_interval,
            heal_interval: config.heal_interval,
            dead_retention: config.dead_retention,
            members_max: config.members_max as usize,
        }
    }
}
