//! What a transport is started with.

use std::{net::SocketAddr, time::Duration};

use crate::{
    config::{Config, Security},
    error::{Error, Result},
    member::{Instance, NodeId},
};

/// What a transport is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's name; nodes of others are refused.
    pub cluster: String,
    /// Who we are.
    pub node_id: NodeId,
    /// Which process of that name we are.
    pub instance: Instance,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach us, if not at the bound address.
    pub advertise: Option<SocketAddr>,
    /// How nodes prove that they belong together.
    pub security: Security,
    /// The most links of our own making; peers may open a few more.
    pub links_max: usize,
    /// The most links to one peer.
    pub links_per_peer: usize,
    /// How often each link's peer is asked whether it is there.
    pub health_check_interval: Duration,
    /// How long an unused link is kept.
    pub link_idle_timeout: Duration,
    /// How long making a link may take.
    pub connect_timeout: Duration,
    /// The largest payload of a request, an answer or a message.
    pub payload_max: u64,
    /// The most requests of peers' that are handled at once.
    pub requests_max: usize,
    /// The most streams that are open at once, ours and peers' each.
    pub streams_max: usize,
    /// What a clock that all nodes can read shows now, if there is one: they do what they do now and
    /// then at the same moments.
    pub clock: Option<Duration>,
}

impl Options {
    /// What a node's configuration, which was validated, says about its transport.
    pub fn of(config: &Config, instance: Instance) -> Result<Self> {
        let Some(security) = config.security.clone() else {
            return Err(Error::Internal("configuration was not validated".into()));
        };
        let node_id = NodeId::new(&config.node_id).map_err(|expected| Error::Argument {
            field: "node_id",
            value: config.node_id.clone(),
            expected,
        })?;
        Ok(Self {
            cluster: config.cluster.clone(),
            node_id,
            instance,
            listen: config.listen,
            advertise: config.advertise,
            security,
            links_max: config.links_max as usize,
            links_per_peer: config.links_per_peer as usize,
            health_check_interval: config.health_check_interval,
            link_idle_timeout: config.link_idle_timeout,
            connect_timeout: config.connect_timeout,
            payload_max: config.payload_max,
            requests_max: config.requests_max as usize,
            streams_max: config.streams_max as usize,
            clock: None,
        })
    }
}
