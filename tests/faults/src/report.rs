//! What a fleet and its agents say to each other: one JSON object a line.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// To an agent, on its standard input. The end of it ends the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// Start a node; answered by `Started` or `NotStarted`.
    Start(Start),
    /// Answered by one `View` for each node.
    View,
    /// Answered by one `Heard` for each node.
    Heard {
        /// A member's id.
        member: String,
    },
    /// Block the loop that obeys, for so long; answered by `Blocked` when that is over. In a
    /// language whose loop answers for the node, the node is unresponsive meanwhile.
    Block {
        /// For how long, in milliseconds.
        ms: u64,
    },
}

/// A node to be started, with default settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it joins.
    pub seeds: Vec<SocketAddr>,
}

/// From an agent, on its standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// A node runs, and listens here.
    Started {
        /// Its id.
        node: String,
        /// Where it listens.
        addr: SocketAddr,
    },
    /// A node could not be started.
    NotStarted {
        /// Its id.
        node: String,
        /// Why.
        error: String,
    },
    /// A node ended by itself.
    Ended {
        /// Its id.
        node: String,
        /// Why.
        error: String,
    },
    /// A node saw something.
    Event(Seen),
    /// What a node sees now.
    View {
        /// Its id.
        node: String,
        /// How many members it holds alive, itself included.
        alive: usize,
        /// Those that it does not: ids and states.
        others: Vec<(String, String)>,
        /// Those that say that their program does not respond.
        unresponsive: Vec<String>,
    },
    /// When a node heard a heartbeat of a member last.
    Heard {
        /// Its id.
        node: String,
        /// The member's.
        member: String,
        /// How long ago, in milliseconds; nothing where it does not watch that one.
        ms: Option<u64>,
    },
    /// A loop was blocked, and is not any more.
    Blocked {
        /// The node that it answers for.
        node: String,
        /// For how long it was.
        blocked_ms: u64,
    },
}

/// An event, and who saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The node that saw it.
    pub node: String,
    /// When, in microseconds of the machine's clock, which all processes here share.
    pub at_us: u64,
    /// The kind, by its name.
    pub kind: String,
    /// Whom it is about.
    pub member: Option<String>,
    /// Where that one listens.
    pub addr: Option<SocketAddr>,
    /// Who observed it, ...
    pub observers: Vec<String>,
    /// ... and which direction fails, in the eyes of each.
    #[serde(default)]
    pub directions: Vec<String>,
    /// Another process has taken over its id.
    pub replaced: bool,
}

/// The machine's clock, in microseconds.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
