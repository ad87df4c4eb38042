//! Why links end: what the peer is told, and what it says about the peer.

use std::fmt;

use s2n_quic::{application, connection, provider::connection_close_formatter as close};
use s2n_quic_core::transport;

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
    /// What the peer proved itself by is accepted no more.
    Untrusted = 6,
    /// The peer did not answer a ping.
    Unanswered = 7,
    /// The peer's certificate is not for the id that it claims.
    NotProven = 8,
    /// Its host, or a firewall, says that nobody listens there any more.
    Gone = 9,
    /// Another process listens where the peer did.
    Succeeded = 10,
}

/// How many of the peer's streams were taken on a link, those given up and frames included. Streams are
/// taken in their order, so these say of each whether it was. As HTTP/3 has it (GOAWAY, RFC 9114, 5.2):
/// whoever is under way when a link is closed must know whether to ask again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bidirectional: u64,
    pub(super) unidirectional: u64,
}

impl Taken {
    const BITS: u32 = 27;
    const MAX: u64 = (1 << Self::BITS) - 1;

    /// The code with which a link is closed. Past a hundred million streams it says that all were taken.
    pub(super) fn with(self, code: Code) -> application::Error {
        let [bi, uni] = [self.bidirectional, self.unidirectional].map(|n| n.min(Self::MAX));
        let code = u64::from(code as u8) | bi << 8 | uni << (8 + Self::BITS);
        application::Error::new(code).unwrap_or(application::Error::UNKNOWN) // 62 bits fit
    }

    pub(super) fn of(code: u64) -> Self {
        let field = |shift: u32| match code >> shift & Self::MAX {
            Self::MAX => u64::MAX,
            n => n,
        };
        Self { bidirectional: field(8), unidirectional: field(8 + Self::BITS) }
    }

    /// Whether a stream of the one who reads this was among them.
    fn has(self, stream: u64) -> bool {
        let taken = if stream & 2 == 0 { self.bidirectional } else { self.unidirectional };
        stream >> 2 < taken
    }
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

/// A handshake's end by TLS, as QUIC carries it (RFC 9001, section 4.8).
#[derive(Clone, Copy, Debug)]
pub(super) struct Alert {
    code: u64,
    /// The peer did not like what we showed, as opposed to us.
    by_peer: bool,
}

impl Alert {
    /// Alerts are the last 256 codes of QUIC's own.
    const CODES: std::ops::Range<u64> = 0x100..0x200;
    const CERTIFICATE_EXPIRED: u64 = 45;
    /// No certificate, one that makes no sense, and one of an authority that is unknown or whose
    /// namesake's key did not sign it.
    const NOT_OURS: [u64; 5] = [42, 46, 48, 51, 116];

    pub(super) fn of(error: &connection::Error) -> Option<Self> {
        match error {
            connection::Error::Transport { code, initiator, .. }
                if Self::CODES.contains(&code.as_u64()) =>
            {
                let code = code.as_u64() - Self::CODES.start;
                Some(Self { code, by_peer: initiator.is_remote() })
            }
            _ => None,
        }
    }

    /// A certificate has expired, or is not valid yet.
    pub(super) fn is_expiry(self) -> bool {
        self.code == Self::CERTIFICATE_EXPIRED
    }

    /// What was wrong with whose certificate.
    pub(super) fn reason(self) -> String {
        match (self.by_peer, self.code) {
            (false, Self::CERTIFICATE_EXPIRED) => {
                "its certificate has expired or is not valid yet".into()
            }
            (true, Self::CERTIFICATE_EXPIRED) => {
                "our certificate has expired or is not valid yet in its eyes".into()
            }
            (false, code) if Self::NOT_OURS.contains(&code) => {
                "its certificate is of no secret or authority that we accept".into()
            }
            (true, code) if Self::NOT_OURS.contains(&code) => {
                "our certificate is of no secret or authority that it accepts".into()
            }
            (false, code) => format!("TLS failed with our alert {code}"),
            (true, code) => format!("TLS failed with its alert {code}"),
        }
    }
}

/// What a connection's end tells the peer. The stack's own choice, [`close::Production`], tells
/// nothing of TLS; what was wrong with its certificate the peer may know, and who mends it must.
pub(super) struct Farewells;

impl close::Formatter for Farewells {
    fn format_transport_error(
        &self,
        context: &close::Context<'_>,
        error: transport::Error,
    ) -> close::ConnectionClose<'_> {
        let alert = error.try_into_tls_error().map(|alert| u64::from(alert.code));
        let of_certificate =
            |code: u64| code == Alert::CERTIFICATE_EXPIRED || Alert::NOT_OURS.contains(&code);
        if alert.is_some_and(of_certificate) {
            transport::Error::new(error.code.as_varint()).into()
        } else {
            close::Production.format_transport_error(context, error)
        }
    }

    fn format_application_error(
        &self,
        context: &close::Context<'_>,
        error: application::Error,
    ) -> close::ConnectionClose<'_> {
        close::Production.format_application_error(context, error)
    }

    fn format_early_transport_error(
        &self,
        context: &close::Context<'_>,
        error: transport::Error,
    ) -> close::ConnectionClose<'_> {
        self.format_transport_error(context, error)
    }

    fn format_early_application_error(
        &self,
        context: &close::Context<'_>,
        error: application::Error,
    ) -> close::ConnectionClose<'_> {
        close::Production.format_early_application_error(context, error)
    }
}

const UNUSED_BY_PEER: &str = "the peer closed it unused";
pub(super) const NOBODY_THERE: &str = "nobody listens at the peer's address any more";
pub(super) const SUCCEEDED: &str = "another process listens at the peer's address";
pub(super) const MOVED: &str = "the peer took it to another address";

/// The code with which the peer closed a connection.
pub(super) fn remote_code(error: &connection::Error) -> Option<u64> {
    match error {
        connection::Error::Application { error, initiator, .. } if initiator.is_remote() => {
            Some(u64::from(*error) & 0xff)
        }
        _ => None,
    }
}

/// Whether the peer closed a link that was of no use to it before it took this stream, if there was one:
/// nothing came of it, and another link may be tried.
pub(super) fn is_unheard(error: &connection::Error, stream: Option<u64>) -> bool {
    let closed = match error {
        connection::Error::Application { error, initiator, .. } if initiator.is_remote() => {
            u64::from(*error)
        }
        _ => return false,
    };
    let for_itself = [Code::Unused as u64, Code::Duplicate as u64].contains(&(closed & 0xff));
    for_itself && stream.is_none_or(|stream| !Taken::of(closed).has(stream))
}

/// Why a connection ended, in words.
pub(super) fn describe(error: &connection::Error) -> String {
    const SHUTDOWN: u64 = Code::Shutdown as u64;
    const DUPLICATE: u64 = Code::Duplicate as u64;
    const UNUSED: u64 = Code::Unused as u64;
    const REFUSED: u64 = Code::Refused as u64;
    const CLOSED: u64 = Code::Closed as u64;
    const UNTRUSTED: u64 = Code::Untrusted as u64;
    const UNANSWERED: u64 = Code::Unanswered as u64;
    const NOT_PROVEN: u64 = Code::NotProven as u64;
    const GONE: u64 = Code::Gone as u64;
    const SUCCEEDED_BY: u64 = Code::Succeeded as u64;
    match (remote_code(error), error) {
        (Some(SHUTDOWN), _) => "the peer shuts down".into(),
        (Some(DUPLICATE), _) => "the peer keeps another link".into(),
        (Some(UNUSED), _) => UNUSED_BY_PEER.into(),
        (Some(REFUSED), _) => "the peer refused it".into(),
        (Some(CLOSED), _) => "the peer closed it".into(),
        (Some(UNTRUSTED), _) => "the peer accepts our secret or authority no more".into(),
        (Some(NOT_PROVEN), _) => {
            "the peer refused it: our certificate is not for our node id".into()
        }
        (Some(UNANSWERED), _) => "our answers do not reach the peer".into(),
        (Some(GONE), _) => "the peer was told that nobody listens at our address".into(),
        (Some(SUCCEEDED_BY), _) => "the peer has met another process at our address".into(),
        (Some(_), _) => "the peer closed it for a reason that this version does not know".into(),
        (_, connection::Error::Closed { .. }) => "it was closed".into(),
        (_, connection::Error::Application { error, .. }) => match u64::from(*error) & 0xff {
            SHUTDOWN => "this node shuts down".into(),
            UNTRUSTED => "this node accepts the peer's secret or authority no more".into(),
            UNANSWERED => "the peer did not answer".into(),
            GONE => NOBODY_THERE.into(),
            SUCCEEDED_BY => SUCCEEDED.into(),
            _ => "this node closed it".into(),
        },
        (_, connection::Error::StatelessReset { .. }) => {
            "the peer does not know it any more".into()
        }
        (_, connection::Error::IdleTimerExpired { .. }) => "nothing was heard from the peer".into(),
        (_, connection::Error::MaxHandshakeDurationExceeded { .. }) => "no answer".into(),
        (_, other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_which_streams_were_taken() {
        let none = Taken::default();
        assert_eq!(none.with(Code::Unused), application::Error::from(Code::Unused));
        let some = Taken { bidirectional: 3, unidirectional: Taken::MAX - 1 };
        let code = u64::from(some.with(Code::Duplicate));
        assert_eq!((code & 0xff, Taken::of(code)), (Code::Duplicate as u64, some));
        for (id, taken) in [(0, true), (8, true), (12, false), (2, true), (4 * 1_000_000 + 2, true)]
        {
            assert_eq!((Taken::of(code).has(id), none.has(id)), (taken, false), "{id}");
        }
        // Where there is no room to say it, none is asked for again.
        let many = Taken { bidirectional: u64::MAX, unidirectional: Taken::MAX };
        let many = Taken::of(u64::from(many.with(Code::Unused)));
        assert!(many.has(4 << 40) && many.has((4 << 40) + 2));
    }
}
