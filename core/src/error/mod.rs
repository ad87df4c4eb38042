//! Every error of the public surface, each with a stable code.

mod code;

use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};

pub use code::Code;

use crate::member::NodeId;

/// The result of a public call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One configuration field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name, as in [`Config`](crate::Config).
    pub field: Cow<'static, str>,
    /// The value that was given, as text.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.field, self.value, self.expected)
    }
}

/// What went wrong. Each variant says what the error leaves behind.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong; every wrong field is named. Nothing was started.
    #[error("wrong configuration: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<FieldError>),
    /// The listen address could not be bound. Nothing was started.
    #[error("cannot listen on {addr}: {reason}")]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the operating system said.
        reason: String,
    },
    /// An argument of a call is wrong. Nothing was done.
    #[error("{field} = {value}: {expected}")]
    Argument {
        /// The argument's name.
        field: &'static str,
        /// The value that was given, as text.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// No seed could be joined; the node runs on and keeps trying. Says what each seed answered.
    #[error("no seed could be joined: {}", .0.iter().map(|(a, e)| format!("{a}: {e}")).collect::<Vec<_>>().join("; "))]
    JoinFailed(Vec<(SocketAddr, String)>),
    /// Another living process has this node id. The cluster handle is closed.
    #[error("another living process has the node id {0:?}")]
    NameConflict(NodeId),
    /// The peer's certificate, or ours in the peer's eyes, was not accepted. No link was made.
    #[error("{addr} is not authenticated: {reason}")]
    Unauthenticated {
        /// The peer's address.
        addr: SocketAddr,
        /// What TLS said.
        reason: String,
    },
    /// The peer's certificate, or ours, has expired or is not valid yet. No link was made.
    #[error("{addr} is not authenticated: {reason}")]
    CertificateExpired {
        /// The peer's address.
        addr: SocketAddr,
        /// Whose certificate.
        reason: String,
    },
    /// The peer belongs to another cluster. No link was made.
    #[error("{addr} belongs to another cluster than {ours:?}")]
    WrongCluster {
        /// The peer's address.
        addr: SocketAddr,
        /// The name of our cluster.
        ours: String,
    },
    /// Another node than the expected one answers at an address, or a node's certificate is for
    /// another node id. No link was made.
    #[error("{addr} was to be node {expected:?} but {found}")]
    WrongNode {
        /// The peer's address.
        addr: SocketAddr,
        /// The id that was expected or claimed.
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// The peer speaks no protocol version that we speak. No link was made.
    #[error("{addr} speaks protocol versions {theirs}; we speak {ours}")]
    WrongVersion {
        /// The peer's address.
        addr: SocketAddr,
        /// The peer's range.
        theirs: String,
        /// Our range.
        ours: String,
    },
    /// The peer could not be reached in time. Nothing was delivered.
    #[error("{target} cannot be reached: {reason}")]
    Unreachable {
        /// The peer's id or address.
        target: String,
        /// Why.
        reason: String,
    },
    /// The link broke while the call was under way. The request may or may not have been handled.
    #[error("the link to {target} was lost: {reason}")]
    LinkLost {
        /// The peer's id.
        target: String,
        /// Why.
        reason: String,
    },
    /// Every link is in use and none became free before the deadline. Nothing was sent.
    #[error("all links are in use: {current} of {max}")]
    PoolFull {
        /// Links held.
        current: usize,
        /// The most that may be held.
        max: usize,
    },
    /// The deadline passed. The request may or may not have been handled.
    #[error("no answer from {target} within {after:?}")]
    Timeout {
        /// The peer's id.
        target: String,
        /// The time that was allowed.
        after: Duration,
    },
    /// The target is not a live member. Nothing was sent.
    #[error("{0:?} is not a live member")]
    UnknownMember(String),
    /// The target handles no such topic. Nothing was done there.
    #[error("{target} handles no topic {topic:?}")]
    UnknownTopic {
        /// The peer's id.
        target: String,
        /// The topic that was asked for.
        topic: String,
    },
    /// The handler on the other side returned an error or panicked.
    #[error("the handler of {topic:?} at {target} failed: {message}")]
    Handler {
        /// The peer's id.
        target: String,
        /// The topic that was asked for.
        topic: String,
        /// What the handler said.
        message: String,
    },
    /// A payload is larger than allowed. Nothing was sent, or the answer was discarded.
    #[error("a payload of {bytes} bytes is over the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Too much is under way already. Nothing was sent.
    #[error("too many {what}: the limit is {max}")]
    Busy {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The cluster handle is closed: it left, was shut down, or its last handle was dropped.
    #[error("the cluster is closed: {0}")]
    Closed(String),
    /// A part of this node panicked and the node was stopped. A defect of ours: please report it.
    #[error("internal failure: {0}")]
    Internal(String),
    /// A call panicked and was stopped at the boundary to another language. A defect of ours:
    /// please report it.
    #[error("the call panicked: {0}")]
    Panic(String),
    /// The caller cancelled the call, in a language where a call cannot just be dropped. A
    /// request may or may not have been handled.
    #[error("the call was cancelled")]
    Cancelled,
    /// The other side gave the stream up, or told us to stop sending. What it had not read is
    /// lost.
    #[error("{target} {}", reset_text(*code))]
    StreamReset {
        /// The peer's id.
        target: String,
        /// What its program said, 0 to [`Stream::CODE_MAX`](crate::Stream::CODE_MAX), or
        /// [`Stream::DROPPED`](crate::Stream::DROPPED).
        code: u32,
    },
}

fn reset_text(code: u32) -> String {
    if code == crate::Stream::DROPPED {
        return "dropped the stream unfinished".into();
    }
    format!("gave the stream up with code {code}")
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Error::Config(_) => Code::Config,
            Error::Bind { .. } => Code::Bind,
            Error::Argument { .. } => Code::Argument,
            Error::JoinFailed(_) => Code::JoinFailed,
            Error::NameConflict(_) => Code::NameConflict,
            Error::Unauthenticated { .. } => Code::Unauthenticated,
            Error::CertificateExpired { .. } => Code::CertificateExpired,
            Error::WrongCluster { .. } => Code::WrongCluster,
            Error::WrongNode { .. } => Code::WrongNode,
            Error::WrongVersion { .. } => Code::WrongVersion,
            Error::Unreachable { .. } => Code::Unreachable,
            Error::LinkLost { .. } => Code::LinkLost,
            Error::PoolFull { .. } => Code::PoolFull,
            Error::Timeout { .. } => Code::Timeout,
            Error::UnknownMember(_) => Code::UnknownMember,
            Error::UnknownTopic { .. } => Code::UnknownTopic,
            Error::Handler { .. } => Code::Handler,
            Error::TooLarge { .. } => Code::TooLarge,
            Error::Busy { .. } => Code::Busy,
            Error::Closed(_) => Code::Closed,
            Error::Internal(_) => Code::Internal,
            Error::Panic(_) => Code::Panic,
            Error::Cancelled => Code::Cancelled,
            Error::StreamReset { .. } => Code::StreamReset,
        }
    }
}
