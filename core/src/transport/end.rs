//! Why links end: what the peer is told, and what it says about the peer.

use std::fmt;

use s2n_quic::{application, connection};

/// Why a connection was closed by us; the other side reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// The node shuts down.
    Shutdown = 1,
    /// Another link to the same peer stays.
    Duplicate = 2,
    /// Nothing was under way on it, for a while or when room was needed. Whoever used it at that
    /// very moment was not heard and may use another link.
    Unused = 3,
    /// The hello was refused.
    Refused = 4,
    /// The owner of the transport said so.
    Closed = 5,
}

impl From<Code> for application::Error {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a link is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// Nobody used it, and its room was needed.
    Evicted,
    /// Nobody used it for a while.
    Idle,
    /// Nobody used it in the peer's eyes, or the peer closed it without any complaint.
    UnusedByPeer,
    /// We closed it, and why.
    Closed(String),
    /// It broke, or the peer closed it for a reason: how.
    Broken(String),
}

impl LinkEnd {
    /// Whether it says nothing good about the peer, which had better be looked after.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// How a connection ended that we did not close.
    pub(super) fn of(error: &connection::Error) -> Self {
        match error {
            _ if remote_code(error) == Some(Code::Unused as u64) => Self::UnusedByPeer,
            connection::Error::Closed { initiator, .. } if initiator.is_remote() => {
                Self::UnusedByPeer
            }
            // Silence comes here too: keep-alives go both ways, so it is none of a peer that lives.
            _ => Self::Broken(describe(error)),
        }
    }
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evicted => "unused, and room was needed",
            Self::Idle => "unused for a while",
            Self::UnusedByPeer => UNUSED_BY_PEER,
            Self::Closed(reason) | Self::Broken(reason) => reason,
        })
    }
}

const UNUSED_BY_PEER: &str = "the peer closed it unused";

/// The code with which the peer closed a connection.
pub(super) fn remote_code(error: &connection::Error) -> Option<u64> {
    match error {
        connection::Error::Application { error, initiator, .. } if initiator.is_remote() => {
            Some(u64::from(*error))
        }
        _ => None,
    }
}

/// Why a connection ended, in words.
pub(super) fn describe(error: &connection::Error) -> String {
    const SHUTDOWN: u64 = Code::Shutdown as u64;
    const DUPLICATE: u64 = Code::Duplicate as u64;
    const UNUSED: u64 = Code::Unused as u64;
    const REFUSED: u64 = Code::Refused as u64;
    const CLOSED: u64 = Code::Closed as u64;
    match (remote_code(error), error) {
        (Some(SHUTDOWN), _) => "the peer shuts down".into(),
        (Some(DUPLICATE), _) => "the peer keeps another link".into(),
        (Some(UNUSED), _) => UNUSED_BY_PEER.into(),
        (Some(REFUSED), _) => "the peer refused it".into(),
        (Some(CLOSED), _) => "the peer closed it".into(),
        (_, connection::Error::Closed { .. }) => "it was closed".into(),
        (_, connection::Error::Application { .. }) => "this node closed it".into(),
        (_, connection::Error::StatelessReset { .. }) => {
            "the peer does not know it any more".into()
        }
        (_, connection::Error::IdleTimerExpired { .. }) => "nothing was heard from the peer".into(),
        (_, connection::Error::MaxHandshakeDurationExceeded { .. }) => "no answer".into(),
        (_, other) => other.to_string(),
    }
}
