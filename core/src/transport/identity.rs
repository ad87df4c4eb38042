//! Who a node is: its certificate, its key and the authority that it trusts.

use std::{fmt::Write as _, path::Path, sync::Arc};

use aws_lc_rs::hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::{reset::ResetKey, secret::Secret};
use crate::{
    config::Security,
    error::{Error, FieldError, Result},
    member::NodeId,
};

/// The scheme of the URI in a certificate's subject alternative names that holds a node id; a DNS
/// name cannot hold every id.
const SCHEME: &str = "peerage:";
/// How many node ids of one certificate are looked at.
const IDS_MAX: usize = 16;

/// A node's certificate chain, key and trust anchors.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) resets: ResetKey,
}

impl Identity {
    /// Makes or reads what `security` says, and makes sure that it speaks for `id`.
    pub(super) fn load(security: &Security, id: &NodeId) -> Result<Self> {
        match security {
            Security::Secret(secret) => Self::from_secret(secret, id),
            Security::Insecure => Self::from_secret(&Secret::public(), id),
            Security::Pem { ca, cert, key } => {
                let identity = Self::from_pem(ca, cert, key)?;
                let found = identity.chain.first().map(|leaf| node_ids(leaf)).unwrap_or_default();
                if !found.contains(id) {
                    let expected =
                        format!("must hold the URI {:?} in its subject alternative names", uri(id));
                    return Err(wrong_file(cert, expected));
                }
                Ok(identity)
            }
        }
    }

    /// Issues a certificate by the authority that everybody derives from the secret.
    fn from_secret(secret: &Secret, id: &NodeId) -> Result<Self> {
        let authority = authority_key(secret).map_err(internal)?;
        let params = authority_params();
        // Ed25519 signatures are deterministic, and so is everything else in it: every node gets
        // the same bytes. Trust needs the key and the subject only, but equal is easier to reason
        // about than equivalent.
        let root = params.self_signed(&authority).map_err(internal)?.der().clone();
        let issuer = Issuer::new(params, authority);
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(internal)?;
        let leaf = leaf_params(id).map_err(internal)?.signed_by(&key, &issuer).map_err(internal)?;
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(internal)?;
        Ok(Self {
            chain: vec![leaf.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            roots: Arc::new(roots),
            // Not of the key, which is another one at each start.
            resets: ResetKey::new(secret.bytes()),
        })
    }

    /// Reads the files of an authority of the user's own. Does not look at the node id.
    pub(super) fn from_pem(ca: &Path, cert: &Path, key: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for anchor in certificates(ca)? {
            roots.add(anchor).map_err(|why| wrong_file(ca, why))?;
        }
        let chain = certificates(cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|why| wrong_file(key, why))?;
        let resets = ResetKey::new(key.secret_der());
        Ok(Self { chain, key, roots: Arc::new(roots), resets })
    }
}

/// Reads all certificates of a PEM file; at least one must be there.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<_, _>>)
        .map_err(|why| wrong_file(path, why))?;
    if all.is_empty() { Err(wrong_file(path, "holds no certificate")) } else { Ok(all) }
}

fn wrong_file(path: &Path, why: impl ToString) -> Error {
    Error::Config(vec![FieldError {
        field: "security".into(),
        value: path.display().to_string(),
        expected: why.to_string(),
    }])
}

fn internal(why: impl ToString) -> Error {
    Error::Internal(format!("cannot make a certificate: {}", why.to_string()))
}

/// The key of the authority: HKDF of the secret gives the seed of an Ed25519 key.
fn authority_key(secret: &Secret) -> std::result::Result<KeyPair, String> {
    let mut seed = [0u8; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"peerage certificate authority 1")
        .extract(secret.bytes())
        .expand(&[b"ed25519 seed"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut seed))
        .map_err(|_| "key derivation failed")?;
    // PKCS #8 version 1 around an Ed25519 seed (RFC 8410, section 7).
    let mut pkcs8 = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    pkcs8.extend_from_slice(&seed);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
        .map_err(|e| e.to_string())
}

/// A validity from 1975 to 9999, so that nobody's clock matters.
fn timeless(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params
}

fn authority_params() -> CertificateParams {
    let mut params = timeless("Peerage cluster authority");
    params.serial_number = Some(SerialNumber::from(1u64));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(id: &NodeId) -> std::result::Result<CertificateParams, rcgen::Error> {
    let mut params = timeless("Peerage node");
    params.subject_alt_names =
        vec![SanType::URI(uri(id).try_into()?), SanType::DnsName("peerage".try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// The URI that binds a certificate to a node id; bytes outside RFC 3986's unreserved set are
/// percent-encoded.
pub(super) fn uri(id: &NodeId) -> String {
    id.as_str().bytes().fold(SCHEME.to_owned(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}"); // writing to a String cannot fail
        }
        text
    })
}

/// The node ids that a certificate speaks for. Whatever cannot be parsed speaks for nobody.
pub(super) fn node_ids(leaf: &[u8]) -> Vec<NodeId> {
    let Ok((_, cert)) = x509_parser::certificate::X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let Ok(Some(names)) = cert.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    });
    uris.take(IDS_MAX).filter_map(|id| NodeId::new(percent_decoded(id)?).ok()).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_carry_any_node_id() {
        for name in ["a", "node 1/ä%€", "peerage:x"] {
            let id = NodeId::new(name).unwrap();
            let identity = Identity::load(&Security::Insecure, &id).unwrap();
            assert_eq!(node_ids(&identity.chain[0]), [id]);
        }
    }

    #[test]
    fn every_node_derives_the_same_authority() {
        let secret = Secret::generate();
        let make = || authority_params().self_signed(&authority_key(&secret).unwrap()).unwrap();
        assert_eq!(make().der(), make().der());
        let other =
            authority_params().self_signed(&authority_key(&Secret::generate()).unwrap()).unwrap();
        assert_ne!(make().der(), other.der());
    }

    #[test]
    fn garbage_speaks_for_nobody() {
        assert!(node_ids(b"").is_empty());
        assert!(node_ids(&[0x30; 64]).is_empty());
        assert_eq!(percent_decoded("%"), None);
        assert_eq!(percent_decoded("%zz"), None);
        assert_eq!(percent_decoded("%ff"), None);
    }
}
