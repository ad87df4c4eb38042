//! The cluster secret: one shared string from which every node derives the same authority.

use std::{fmt, sync::Arc};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::error::{Error, Result};

/// The shortest secret that is accepted. Whoever reaches a port can fetch a certificate and guess
/// the secret offline, so a short one protects nothing.
const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 1024;
const PREFIX: &str = "peerage-secret-";

/// What all members of a cluster share. Whoever holds it is a member and may claim any node id.
///
/// It has no `Display` and its `Debug` shows nothing, so that it is never logged by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// A new secret of 32 random bytes.
    pub fn generate() -> Self {
        Self(StdRng::from_os_rng().random::<[u8; 32]>().as_slice().into())
    }

    /// Takes the text form of a generated secret, or any other text of 16 to 1024 bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(hex) => from_hex(hex).ok_or_else(|| {
                refused(text.len(), format!("must be hexadecimal after {PREFIX:?}"))
            })?,
            None => text.as_bytes().to_vec(),
        };
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            let expected = format!(
                "must have {BYTES_MIN} to {BYTES_MAX} bytes; make one with Secret::generate"
            );
            return Err(refused(bytes.len(), expected));
        }
        Ok(Self(bytes.into()))
    }

    /// The text form, for a configuration file or an environment variable.
    pub fn to_text(&self) -> String {
        self.0.iter().fold(PREFIX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// The key material.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What stands in for a secret where authentication is off: everybody knows it.
    pub(super) fn public() -> Self {
        Self(b"peerage: no secret at all, everybody knows this".as_slice().into())
    }
}

/// The error never repeats what was given.
fn refused(bytes: usize, expected: String) -> Error {
    Error::Argument { field: "secret", value: format!("{bytes} bytes"), expected }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_debug_hides_it() {
        let secret = Secret::generate();
        assert_eq!(Secret::parse(&secret.to_text()).ok(), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn short_or_broken_secrets_are_refused() {
        for text in
            ["", "fifteen bytes..", "peerage-secret-00ff", "peerage-secret-zz", "peerage-secret-é"]
        {
            let Err(error) = Secret::parse(text) else { panic!("{text:?} was accepted") };
            assert_eq!(error.code(), crate::Code::Argument);
        }
        assert!(Secret::parse("exactly 16 bytes").is_ok());
    }
}
