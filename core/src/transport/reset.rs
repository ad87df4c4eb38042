//! Stateless resets (RFC 9000, section 10.3): a process that listens where another one died tells
//! that one's peers at their next packet that it knows nothing of their links. Without it they would
//! wait for an answer until the link is judged by its silence.
//!
//! The token of a connection must be the same before and after the loss of everything else, so it is
//! made of what the node's configuration says, and of the connection's id. Where that is changed while the
//! node runs, links made from then on get tokens of what a restarted process would read. Each endpoint has a key
//! of its own: one that could be brought to answer for another's living connection would hand out
//! the means to end it (section 21.11).

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{hkdf, hmac};
use s2n_quic::provider::stateless_reset_token::{Generator, Provider};
use s2n_quic_core::stateless_reset::token::{LEN, Token};

use crate::member::NodeId;

/// What a node's tokens are made from, besides its id: the secret, or its private key.
#[derive(Clone)]
pub(super) struct ResetKey(hkdf::Prk);

/// Which of a node's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Accepts,
    Dials,
}

/// The keys of a node's tokens, one for each of its endpoints, as they are now.
#[derive(Debug)]
pub(super) struct ResetKeys {
    id: NodeId,
    accepts: Arc<ArcSwap<hmac::Key>>,
    dials: Arc<ArcSwap<hmac::Key>>,
}

impl ResetKeys {
    pub(super) fn new(from: &ResetKey, id: NodeId) -> Self {
        let key = |role| Arc::new(ArcSwap::from_pointee(from.of(&id, role)));
        Self { accepts: key(Role::Accepts), dials: key(Role::Dials), id }
    }

    pub(super) fn change(&self, from: &ResetKey) {
        self.accepts.store(Arc::new(from.of(&self.id, Role::Accepts)));
        self.dials.store(Arc::new(from.of(&self.id, Role::Dials)));
    }

    pub(super) fn tokens(&self, role: Role) -> ResetTokens {
        ResetTokens(match role {
            Role::Accepts => self.accepts.clone(),
            Role::Dials => self.dials.clone(),
        })
    }
}

/// Makes an endpoint's tokens.
pub(super) struct ResetTokens(Arc<ArcSwap<hmac::Key>>);

impl ResetKey {
    pub(super) fn new(material: &[u8]) -> Self {
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, b"peerage stateless reset 1").extract(material))
    }

    fn of(&self, id: &NodeId, role: Role) -> hmac::Key {
        let role: &[u8] = match role {
            Role::Accepts => b"accepts",
            Role::Dials => b"dials",
        };
        let info = [role, b" ", id.as_str().as_bytes()];
        let okm = self.0.expand(&info, hmac::HMAC_SHA256);
        okm.expect("a key of the hash's own length can be derived").into()
    }
}

impl Provider for ResetTokens {
    type Generator = Self;
    type Error = std::convert::Infallible;

    fn start(self) -> Result<Self, Self::Error> {
        Ok(self)
    }
}

impl Generator for ResetTokens {
    fn generate(&mut self, local_connection_id: &[u8]) -> Token {
        let tag = hmac::sign(&self.0.load(), local_connection_id);
        let mut token = [0; LEN];
        token.copy_from_slice(&tag.as_ref()[..LEN]);
        token.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(material: &[u8], id: &str, role: Role, connection: &[u8]) -> Token {
        let id = NodeId::new(id).unwrap();
        ResetKeys::new(&ResetKey::new(material), id).tokens(role).generate(connection)
    }

    #[test]
    fn a_token_is_the_same_after_a_restart_and_another_one_for_everything_else() {
        let all = || token(b"secret", "n0", Role::Accepts, b"id01");
        assert_eq!(all(), all());
        for other in [
            token(b"other", "n0", Role::Accepts, b"id01"),
            token(b"secret", "n1", Role::Accepts, b"id01"),
            token(b"secret", "n0", Role::Dials, b"id01"),
            token(b"secret", "n0", Role::Accepts, b"id02"),
        ] {
            assert_ne!(all(), other);
        }
    }

    #[test]
    fn once_the_keys_have_changed_tokens_are_those_of_a_process_that_starts_with_them() {
        let keys = ResetKeys::new(&ResetKey::new(b"before"), NodeId::new("n0").unwrap());
        let mut tokens = [Role::Accepts, Role::Dials].map(|role| (role, keys.tokens(role)));
        keys.change(&ResetKey::new(b"after"));
        for (role, tokens) in &mut tokens {
            assert_eq!(tokens.generate(b"id01"), token(b"after", "n0", *role, b"id01"));
        }
    }
}
