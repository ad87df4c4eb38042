//! Configuration: plain data with defaults, checked as a whole before anything starts.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    error::{Error, FieldError, Result},
    member::{self, NodeId},
    transport::secret::Secret,
};

/// How nodes prove that they belong together, and keep what they say secret. Always TLS 1.3,
/// always mutual, except for [`Security::Insecure`].
#[derive(Clone)]
pub enum Security {
    /// Everybody who holds the secret is a member and may claim any node id. One line of
    /// configuration: every node derives the same certificate authority and issues itself a
    /// certificate.
    Secret(Secret),
    /// A certificate authority of your own. The node id must stand in the certificate's subject
    /// alternative names as the URI `peerage:<id>`.
    Pem {
        /// The authority's certificate(s), PEM.
        ca: PathBuf,
        /// This node's certificate chain, leaf first, PEM.
        cert: PathBuf,
        /// This node's private key, PEM.
        key: PathBuf,
    },
    /// No authentication: whoever reaches the port is a member. Only with loopback addresses.
    Insecure,
}

impl fmt::Debug for Security {
    /// Never shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Security::Secret(_) => f.write_str("Secret(…)"),
            Security::Pem { ca, cert, key } => {
                f.debug_struct("Pem").field("ca", ca).field("cert", cert).field("key", key).finish()
            }
            Security::Insecure => f.write_str("Insecure"),
        }
    }
}

/// Everything a node is started with. [`Config::new`] gives the defaults; every field may be
/// changed, and [`Config::validate`] names every wrong one at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The name of the cluster, 1 to 128 bytes. Nodes of other clusters are refused. No default.
    pub cluster: String,
    /// This node's stable name, 1 to 128 bytes, unique in the cluster. No default.
    pub node_id: String,
    /// The UDP address to listen on; port 0 takes a free one. Default `127.0.0.1:0`.
    pub listen: SocketAddr,
    /// The address that others reach us at, where it differs from the bound one (NAT, or a
    /// wildcard listen address, which cannot be announced). Default: the bound address.
    pub advertise: Option<SocketAddr>,
    /// Where to join, tried together. May be empty for the first node. At most 64. Default none.
    pub seeds: Vec<SocketAddr>,
    /// What this node announces about itself: at most 64 tags, 2048 bytes in all. Default none.
    pub tags: BTreeMap<String, String>,
    /// How nodes authenticate. No default: start fails without a choice.
    pub security: Option<Security>,

    /// One member is probed each interval. 100 ms to 60 s, default 1 s (SWIM's protocol period).
    pub probe_interval: Duration,
    /// How long the answer to a direct probe may take. 50 ms to 30 s, below `probe_interval`;
    /// default 500 ms.
    pub probe_timeout: Duration,
    /// How long the answer through others may take after that. 50 ms to 60 s, default 1 s.
    pub indirect_timeout: Duration,
    /// How many others are asked to probe on our behalf. 0 to 16, default 3 (SWIM's K′).
    pub indirect_probes: u32,
    /// The shortest time a suspect has to refute, at N ≤ 10; grows with log10 N. 1 s to 10 min,
    /// default 3 s.
    pub suspicion_min: Duration,
    /// The longest time a suspect has, when nobody confirms the suspicion, as a multiple of the
    /// shortest. 1 to 20, default 3 (Lifeguard's suspicion timer).
    pub suspicion_max_factor: u32,
    /// How often waiting gossip is sent besides what rides on probes. 20 ms to 10 s, default
    /// 200 ms.
    pub gossip_interval: Duration,
    /// To how many members it is sent. 1 to 16, default 3.
    pub gossip_fanout: u32,
    /// How often the whole table is compared with a random member's. 1 s to 1 h, default 30 s.
    pub sync_interval: Duration,
    /// How often failed members and lost seeds are tried at first; doubles up to eight times it.
    /// 100 ms to 10 min, default 2 s.
    pub heal_interval: Duration,
    /// How long the dead are remembered, and tried again. 10 s to 30 days, default 24 h.
    pub dead_retention: Duration,
    /// The most members the table holds, the dead included; past it the longest dead are
    /// forgotten, and newcomers are refused while all live. 2 to 100 000, default 10 000.
    pub members_max: u32,

    /// The most links held at once. 4 to 10 000, default 50.
    pub links_max: u32,
    /// How long an unused link is kept. 1 s to 1 h, default 60 s.
    pub link_idle_timeout: Duration,
    /// How long making a link may take. 100 ms to 60 s, default 5 s.
    pub connect_timeout: Duration,
    /// The largest payload of a request, an answer or a message, in bytes. 1 KiB to 1 GiB,
    /// default 64 MiB.
    pub payload_max: u64,
    /// The most inbound requests handled at once; more are refused with `Busy`. 1 to 1 000 000,
    /// default 1024.
    pub requests_max: u32,
    /// How many events wait for one subscriber before it gets `EventsDropped`. 1 to 1 000 000,
    /// default 1024.
    pub event_queue: u32,
    /// How long `leave` waits for its announcement to spread. 0 to 60 s, default 5 s.
    pub leave_timeout: Duration,
    /// How long `leave` waits for requests under way. 0 to 60 s, default 2 s.
    pub drain_timeout: Duration,
}

impl Config {
    /// The defaults, for a node of the given cluster and name.
    pub fn new(cluster: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            node_id: node_id.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            seeds: Vec::new(),
            tags: BTreeMap::new(),
            security: None,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_timeout: Duration::from_secs(1),
            indirect_probes: 3,
            suspicion_min: Duration::from_secs(3),
            suspicion_max_factor: 3,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            sync_interval: Duration::from_secs(30),
            heal_interval: Duration::from_secs(2),
            dead_retention: Duration::from_secs(24 * 3600),
            members_max: 10_000,
            links_max: 50,
            link_idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            payload_max: 64 << 20,
            requests_max: 1024,
            event_queue: 1024,
            leave_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(2),
        }
    }

    /// Checks every field and names all that are wrong in one error. Reads no file and opens no
    /// socket.
    pub fn validate(&self) -> Result<()> {
        let mut check = Check(Vec::new());
        check.name("cluster", &self.cluster);
        check.name("node_id", &self.node_id);
        check.addresses(self);
        if let Err(why) = member::check_tags(&self.tags) {
            check.wrong("tags", format!("{} tags", self.tags.len()), why);
        }
        check.security(self);

        const MS: fn(u64) -> Duration = Duration::from_millis;
        const S: fn(u64) -> Duration = Duration::from_secs;
        check.time("probe_interval", self.probe_interval, MS(100), S(60));
        check.time("probe_timeout", self.probe_timeout, MS(50), S(30));
        if self.probe_timeout >= self.probe_interval {
            let expected = format!("must be below probe_interval ({:?})", self.probe_interval);
            check.wrong("probe_timeout", format!("{:?}", self.probe_timeout), expected);
        }
        check.time("indirect_timeout", self.indirect_timeout, MS(50), S(60));
        check.number("indirect_probes", self.indirect_probes.into(), 0, 16);
        check.time("suspicion_min", self.suspicion_min, S(1), S(600));
        check.number("suspicion_max_factor", self.suspicion_max_factor.into(), 1, 20);
        check.time("gossip_interval", self.gossip_interval, MS(20), S(10));
        check.number("gossip_fanout", self.gossip_fanout.into(), 1, 16);
        check.time("sync_interval", self.sync_interval, S(1), S(3600));
        check.time("heal_interval", self.heal_interval, MS(100), S(600));
        check.time("dead_retention", self.dead_retention, S(10), S(30 * 24 * 3600));
        check.number("members_max", self.members_max.into(), 2, 100_000);
        check.number("links_max", self.links_max.into(), 4, 10_000);
        check.time("link_idle_timeout", self.link_idle_timeout, S(1), S(3600));
        check.time("connect_timeout", self.connect_timeout, MS(100), S(60));
        check.number("payload_max", self.payload_max, 1024, 1 << 30);
        check.number("requests_max", self.requests_max.into(), 1, 1_000_000);
        check.number("event_queue", self.event_queue.into(), 1, 1_000_000);
        check.time("leave_timeout", self.leave_timeout, S(0), S(60));
        check.time("drain_timeout", self.drain_timeout, S(0), S(60));
        if check.0.is_empty() { Ok(()) } else { Err(Error::Config(check.0)) }
    }
}

/// Collects what is wrong.
struct Check(Vec<FieldError>);

impl Check {
    fn wrong(
        &mut self,
        field: &'static str,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.0.push(FieldError { field, value: value.into(), expected: expected.into() });
    }

    fn name(&mut self, field: &'static str, value: &str) {
        if let Err(why) = NodeId::new(value) {
            let shown: String = value.chars().take(64).collect();
            self.wrong(field, format!("{shown:?}"), why);
        }
    }

    fn time(&mut self, field: &'static str, value: Duration, min: Duration, max: Duration) {
        if value < min || value > max {
            self.wrong(field, format!("{value:?}"), format!("must be {min:?} to {max:?}"));
        }
    }

    fn number(&mut self, field: &'static str, value: u64, min: u64, max: u64) {
        if value < min || value > max {
            self.wrong(field, value.to_string(), format!("must be {min} to {max}"));
        }
    }

    fn addresses(&mut self, config: &Config) {
        if let Some(addr) = config.advertise {
            if addr.ip().is_unspecified() || addr.port() == 0 {
                self.wrong(
                    "advertise",
                    addr.to_string(),
                    "must be an address and port that others can reach",
                );
            }
        } else if config.listen.ip().is_unspecified() {
            self.wrong(
                "advertise",
                "none",
                "must be set when listen is a wildcard address, which others cannot reach",
            );
        }
        const SEEDS_MAX: usize = 64;
        if config.seeds.len() > SEEDS_MAX {
            self.wrong(
                "seeds",
                format!("{} addresses", config.seeds.len()),
                format!("at most {SEEDS_MAX}"),
            );
        }
        for seed in &config.seeds {
            if seed.ip().is_unspecified() || seed.port() == 0 {
                self.wrong(
                    "seeds",
                    seed.to_string(),
                    "must be an address and port that can be reached",
                );
            }
        }
    }

    fn security(&mut self, config: &Config) {
        match &config.security {
            None => self.wrong(
                "security",
                "none",
                "choose a secret, PEM files, or insecure on loopback",
            ),
            Some(Security::Insecure) => {
                let all = [Some(config.listen), config.advertise]
                    .into_iter()
                    .flatten()
                    .chain(config.seeds.iter().copied());
                for addr in all.filter(|a| !a.ip().is_loopback()) {
                    self.wrong(
                        "security",
                        "insecure",
                        format!("is only allowed with loopback addresses; {addr} is none"),
                    );
                }
            }
            Some(Security::Secret(_) | Security::Pem { .. }) => {}
        }
    }
}

/// Builds a [`Config`] field by field and starts a cluster from it; see [`Config`] for what each
/// field means, its bounds and its default.
#[derive(Clone, Debug)]
pub struct Builder(Config);

macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        $(
            #[doc = concat!("Sets [`Config::", stringify!($field), "`].")]
            pub fn $field(mut self, value: $type) -> Self {
                self.0.$field = value;
                self
            }
        )*
    };
}

impl Builder {
    /// Starts from the defaults.
    pub fn new(cluster: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self(Config::new(cluster, node_id))
    }

    setters! {
        listen: SocketAddr, seeds: Vec<SocketAddr>, tags: BTreeMap<String, String>,
        probe_interval: Duration, probe_timeout: Duration, indirect_timeout: Duration,
        indirect_probes: u32, suspicion_min: Duration, suspicion_max_factor: u32,
        gossip_interval: Duration, gossip_fanout: u32, sync_interval: Duration,
        heal_interval: Duration, dead_retention: Duration, members_max: u32, links_max: u32,
        link_idle_timeout: Duration, connect_timeout: Duration, payload_max: u64,
        requests_max: u32, event_queue: u32, leave_timeout: Duration, drain_timeout: Duration,
    }

    /// Sets [`Config::advertise`].
    pub fn advertise(mut self, addr: SocketAddr) -> Self {
        self.0.advertise = Some(addr);
        self
    }

    /// Adds one address to [`Config::seeds`].
    pub fn seed(mut self, addr: SocketAddr) -> Self {
        self.0.seeds.push(addr);
        self
    }

    /// Adds one tag to [`Config::tags`].
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.tags.insert(key.into(), value.into());
        self
    }

    /// Authenticates by a shared secret, see [`Security::Secret`].
    pub fn secret(mut self, secret: Secret) -> Self {
        self.0.security = Some(Security::Secret(secret));
        self
    }

    /// Authenticates by certificates of your own, see [`Security::Pem`].
    pub fn pem(
        mut self,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.0.security = Some(Security::Pem { ca: ca.into(), cert: cert.into(), key: key.into() });
        self
    }

    /// Does without authentication, see [`Security::Insecure`].
    pub fn insecure(mut self) -> Self {
        self.0.security = Some(Security::Insecure);
        self
    }

    /// The configuration as it stands.
    pub fn config(&self) -> &Config {
        &self.0
    }

    /// Checks the configuration, binds the socket and starts the node. Does not wait for a seed
    /// to answer: [`Cluster::join`](crate::Cluster::join) does.
    pub async fn start(self) -> Result<crate::Cluster> {
        crate::Cluster::start(self.0).await
    }
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self(config)
    }
}

/// The tags as records hold them.
pub(crate) fn shared_tags(tags: &BTreeMap<String, String>) -> member::Tags {
    Arc::new(tags.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert!(Builder::new("c", "n").insecure().config().validate().is_ok());
    }

    #[test]
    fn every_wrong_field_is_named_in_one_error() {
        let mut config = Config::new("", "\n");
        config.seeds = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        config.probe_timeout = Duration::from_secs(40);
        config.links_max = 0;
        config.payload_max = 1;
        let Err(Error::Config(fields)) = config.validate() else { panic!("it was accepted") };
        let mut names: Vec<_> = fields.iter().map(|f| f.field).collect();
        names.dedup();
        assert_eq!(
            names,
            [
                "cluster",
                "node_id",
                "seeds",
                "security",
                "probe_timeout",
                "links_max",
                "payload_max"
            ]
        );
    }

    #[test]
    fn insecure_needs_loopback() {
        let builder =
            Builder::new("c", "n").insecure().seed(SocketAddr::from(([192, 0, 2, 1], 7000)));
        let Err(Error::Config(fields)) = builder.config().validate() else {
            panic!("it was accepted")
        };
        assert_eq!(fields.len(), 1);
        assert_eq!(fields[0].field, "security");
    }
}
