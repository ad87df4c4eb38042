//! What is known about a node: the plain data that every other room shares.

use std::{borrow::Borrow, collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// The longest node id, in bytes of UTF-8. It must fit a certificate's SAN and every frame.
pub const NODE_ID_BYTES_MAX: usize = 128;
/// How many tags one member may announce.
pub const TAGS_MAX: usize = 64;
/// How many bytes all keys and values of one member's tags may have together. A record must fit
/// one gossip message whole, so that nothing ever has to be merged from pieces.
pub const TAGS_BYTES_MAX: usize = 2048;

/// The stable name of a node, unique in its cluster: 1 to [`NODE_ID_BYTES_MAX`] bytes of UTF-8
/// without control characters. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Takes a name after checking it; the error says what is wrong with it.
    pub fn new(name: impl AsRef<str>) -> Result<Self, String> {
        check_id(name.as_ref())?;
        Ok(Self(name.as_ref().into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Says what is wrong with a name, if anything.
pub fn check_id(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("must not be empty".into());
    }
    if name.len() > NODE_ID_BYTES_MAX {
        return Err(format!("has {} bytes; at most {NODE_ID_BYTES_MAX} are allowed", name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("contains the control character {c:?}")),
        None => Ok(()),
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    /// A peer's bytes pass the same check as a user's text.
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        NodeId::new(<&str>::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// A random number of one process start: tells two processes under one node id apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance(pub u64);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One process under one node id: what a link leads to.
#[allow(clippy::derived_hash_with_manual_eq)] // equal in another order, but equal in the same cases
#[derive(Clone, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// The stable name.
    pub id: NodeId,
    /// The process start.
    pub instance: Instance,
}

impl PartialEq for Peer {
    /// The numbers first: they nearly always differ where the names do, and cost less.
    fn eq(&self, other: &Self) -> bool {
        self.instance == other.instance && self.id == other.id
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:?}", self.id, self.instance)
    }
}

/// What a member is believed to be. The order is the one of rule 2: at equal incarnation the
/// greater state wins (after SWIM, Das et al. 2002).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody could not reach it; it has time to refute.
    Suspect,
    /// It was suspect and did not refute in time.
    Failed,
    /// It said that it goes.
    Left,
}

impl State {
    /// The name that logs, metrics and every language use.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Alive => "alive",
            State::Suspect => "suspect",
            State::Failed => "failed",
            State::Left => "left",
        }
    }

    /// Whether the member still takes part: alive or suspect.
    pub fn is_live(self) -> bool {
        matches!(self, State::Alive | State::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a member announces about itself. Shared, since every record and snapshot holds it.
pub type Tags = Arc<BTreeMap<String, String>>;

/// Says what is wrong with a set of tags, if anything.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), String> {
    if tags.len() > TAGS_MAX {
        return Err(format!("{} tags; at most {TAGS_MAX} are allowed", tags.len()));
    }
    let bytes: usize = tags.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > TAGS_BYTES_MAX {
        return Err(format!(
            "{bytes} bytes of keys and values; at most {TAGS_BYTES_MAX} are allowed"
        ));
    }
    if tags.contains_key("") {
        return Err("a key must not be empty".into());
    }
    Ok(())
}

/// What is known about one node, as users see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// The stable name.
    pub id: NodeId,
    /// The process start.
    pub instance: Instance,
    /// The member's own counter, raised only by itself.
    pub incarnation: u64,
    /// What it is believed to be.
    pub state: State,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it announces about itself.
    pub tags: Tags,
    /// The smoothed round trip of our own probes to it; `None` before the first answer, and for
    /// ourselves.
    pub rtt: Option<Duration>,
}

impl Member {
    /// The process that this record speaks of.
    pub fn peer(&self) -> Peer {
        Peer { id: self.id.clone(), instance: self.instance }
    }

    /// Whether every given tag is announced with exactly the given value.
    pub fn has_tags<K: AsRef<str>, V: AsRef<str>>(&self, wanted: &[(K, V)]) -> bool {
        wanted.iter().all(|(k, v)| self.tags.get(k.as_ref()).is_some_and(|have| have == v.as_ref()))
    }
}
