//! Configuration: plain data with defaults, checked as a whole before anything starts.

mod fields;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use fields::Config;

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
    /// Several secrets, so that one can be replaced while the cluster runs: a node proves itself by
    /// the first, and believes whoever holds any of them. At most 8. See
    /// [`Cluster::set_secrets`](crate::Cluster::set_secrets).
    Secrets(Vec<Secret>),
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
            Security::Secrets(all) => write!(f, "Secrets({} of them)", all.len()),
            Security::Pem { ca, cert, key } => {
                f.debug_struct("Pem").field("ca", ca).field("cert", cert).field("key", key).finish()
            }
            Security::Insecure => f.write_str("Insecure"),
        }
    }
}

/// How many links there must be room for besides two a ring.
pub(crate) const LINKS_BESIDES_RINGS: u64 = 8;

/// How many heartbeats the dead are remembered for at least.
const HEARTBEATS_OF_RETENTION: u32 = 10;

impl Config {
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
        self.check_bounds(&mut check);
        // Of what is out of its own bounds that is said, and nothing more.
        if self.probe_timeout >= self.probe_interval && !check.has("probe_timeout") {
            let expected = format!("must be below the probe interval ({:?})", self.probe_interval);
            check.wrong("probe_timeout", format!("{:?}", self.probe_timeout), expected);
        }
        // Who was away for half of it begins anew, which must mean more than a few heartbeats missed.
        let (retention, beat) = (self.dead_retention, self.heartbeat_interval);
        let within = !check.has("dead_retention") && !check.has("heartbeat_interval");
        if within && retention < beat.saturating_mul(HEARTBEATS_OF_RETENTION) {
            let expected = format!("must be ten heartbeat intervals ({beat:?}) at least");
            check.wrong("dead_retention", format!("{retention:?}"), expected);
        }
        // Watch edges pin their links, and what is not watched needs some too.
        let links_min = 2 * u64::from(self.watch_rings) + LINKS_BESIDES_RINGS;
        if self.watch_rings <= 12 && (4..links_min).contains(&u64::from(self.links_max)) {
            let expected = format!("must be at least {links_min} with {} rings", self.watch_rings);
            check.wrong("links_max", self.links_max.to_string(), expected);
        }
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
        self.0.push(FieldError {
            field: field.into(),
            value: value.into(),
            expected: expected.into(),
        });
    }

    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|e| e.field == field)
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
            Some(Security::Secrets(all)) => {
                if let Err(expected) = check_secrets(all.len()) {
                    self.wrong("secrets", format!("{} secrets", all.len()), expected);
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

impl Builder {
    /// Starts from the defaults.
    pub fn new(cluster: impl Into<String>, node_id: impl Into<String>) -> Self {
        Self(Config::new(cluster, node_id))
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

    /// Authenticates by several secrets, see [`Security::Secrets`].
    pub fn secrets(mut self, secrets: impl Into<Vec<Secret>>) -> Self {
        self.0.security = Some(Security::Secrets(secrets.into()));
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

    /// The same on a runtime of the program's: see [`Cluster::start_on`](crate::Cluster::start_on).
    pub async fn start_on(self, runtime: &tokio::runtime::Handle) -> Result<crate::Cluster> {
        crate::Cluster::start_on(self.0, runtime).await
    }
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self(config)
    }
}

/// How many secrets may be accepted at once: each is one more signature to try in a handshake.
const SECRETS_MAX: usize = 8;

/// Whether there may be so many secrets, or what would be right.
pub(crate) fn check_secrets(count: usize) -> Result<(), String> {
    if (1..=SECRETS_MAX).contains(&count) {
        Ok(())
    } else {
        Err(format!("must be 1 to {SECRETS_MAX} secrets"))
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
        let names: Vec<_> = fields.iter().map(|f| f.field.as_ref()).collect();
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
    fn the_time_of_a_probe_lies_within_its_interval() {
        let mut config = Builder::new("c", "n").insecure().config().clone();
        config.probe_timeout = config.probe_interval;
        let Err(Error::Config(fields)) = config.validate() else { panic!("it was accepted") };
        let named: Vec<_> = fields.iter().map(|f| f.field.as_ref()).collect();
        assert_eq!(named, ["probe_timeout"]);
        assert!(fields[0].expected.contains("probe interval"), "{fields:?}");
    }

    #[test]
    fn the_dead_are_remembered_for_ten_heartbeats() {
        let mut config = Builder::new("c", "n").insecure().config().clone();
        let wrong = |config: &Config| match config.validate() {
            Ok(()) => Vec::new(),
            Err(Error::Config(fields)) => fields,
            Err(other) => panic!("{other}"),
        };
        config.dead_retention = Duration::from_secs(10);
        assert_eq!(wrong(&config).len(), 0, "with the default of a second");
        config.heartbeat_interval = Duration::from_millis(1001);
        let fields = wrong(&config);
        let [only] = &fields[..] else { panic!("{fields:?}") };
        assert_eq!((only.field.as_ref(), only.value.as_ref()), ("dead_retention", "10s"));
        assert!(only.expected.contains("heartbeat intervals (1.001s)"), "{only:?}");
        config.dead_retention = Duration::from_millis(10_010);
        assert_eq!(wrong(&config).len(), 0);
        // What is out of its own bounds is named alone.
        config.heartbeat_interval = Duration::from_secs(61);
        let named: Vec<_> = wrong(&config).iter().map(|f| f.field.to_string()).collect();
        assert_eq!(named, ["heartbeat_interval"]);
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
