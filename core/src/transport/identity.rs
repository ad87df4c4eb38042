//! Who a node is: its certificate, its key and the authority that it trusts.

use std::{
    fmt::{self, Write as _},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::{reset::ResetKey, secret::Secret, tls};
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

/// What one node proves itself by, and whom it believes.
pub(super) struct Identity {
    /// Our certificate chain, leaf first, and its key.
    pub(super) ours: Arc<CertifiedKey>,
    pub(super) roots: Arc<RootCertStore>,
    /// When ours ends, or the first of those that we trust; never for those made of secrets.
    pub(super) validity: Option<Validity>,
    /// The files that it was read from, as they were then; none where it is made of secrets.
    pub(super) files: Files,
    pub(super) resets: ResetKey,
}

/// Files, each with the time when it was written last, and its length. One that cannot be looked
/// at has none: it may be just being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Files {
    fn of(paths: &[&Path]) -> Self {
        Self(paths.iter().map(|path| ((*path).into(), None)).collect()).again()
    }

    /// The same files, as they are now.
    pub(super) fn again(&self) -> Self {
        let stamp = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        Self(self.0.iter().map(|(path, _)| (path.clone(), stamp(path))).collect())
    }
}

impl Identity {
    /// Makes or reads what `security` says, and makes sure that it speaks for `id`.
    pub(super) fn load(security: &Security, id: &NodeId) -> Result<Self> {
        match security {
            Security::Secret(secret) => Self::from_secrets(std::slice::from_ref(secret), id),
            Security::Secrets(secrets) => Self::from_secrets(secrets, id),
            Security::Insecure => Self::from_secrets(&[Secret::public()], id),
            Security::Pem { ca, cert, key } => {
                let identity = Self::from_pem(ca, cert, key)?;
                let found = identity.ours.cert.first().map(|leaf| node_ids(leaf));
                if !found.unwrap_or_default().contains(id) {
                    let expected =
                        format!("must hold the URI {:?} in its subject alternative names", uri(id));
                    return Err(wrong_file(cert, expected));
                }
                match &identity.validity {
                    Some(validity) if validity.left(SystemTime::now()).is_zero() => {
                        Err(wrong_file(&validity.path, "has expired"))
                    }
                    _ => Ok(identity),
                }
            }
        }
    }

    /// Issues a certificate by the authority that everybody derives from the first secret, and
    /// trusts those of all of them.
    fn from_secrets(secrets: &[Secret], id: &NodeId) -> Result<Self> {
        let Some(first) = secrets.first() else { return Err(internal("there is no secret")) };
        let mut roots = RootCertStore::empty();
        for secret in secrets {
            // Ed25519 signatures are deterministic, and so is everything else in it: every node
            // gets the same bytes. Trust needs the key and the subject only, but equal is easier
            // to reason about than equivalent.
            let authority = authority_key(secret).map_err(internal)?;
            let root = authority_params().self_signed(&authority).map_err(internal)?;
            roots.add(root.der().clone()).map_err(internal)?;
        }
        let issuer = Issuer::new(authority_params(), authority_key(first).map_err(internal)?);
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(internal)?;
        let leaf = leaf_params(id).map_err(internal)?.signed_by(&key, &issuer).map_err(internal)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let ours = CertifiedKey::from_der(vec![leaf.der().clone()], key, &tls::provider())
            .map_err(internal)?;
        Ok(Self {
            ours: Arc::new(ours),
            roots: Arc::new(roots),
            validity: None,
            files: Files::default(),
            // Not of the key, which is another one at each start.
            resets: ResetKey::new(first.bytes()),
        })
    }

    /// Reads the files of an authority of the user's own. Looks neither at the node id nor at the
    /// clock.
    pub(super) fn from_pem(ca: &Path, cert: &Path, key: &Path) -> Result<Self> {
        let files = Files::of(&[cert, key, ca]); // before they are read, so that no change is missed
        let mut roots = RootCertStore::empty();
        let anchors = certificates(ca)?;
        for anchor in &anchors {
            roots.add(anchor.clone()).map_err(|why| wrong_file(ca, why))?;
        }
        let chain = certificates(cert)?;
        let validity = Validity::first_to_end(&[(cert, &chain), (ca, &anchors)]);
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|why| wrong_file(key, why))?;
        let resets = ResetKey::new(secret.secret_der());
        let ours = CertifiedKey::from_der(chain, secret, &tls::provider())
            .map_err(|why| wrong_file(key, why))?;
        Ok(Self { ours: Arc::new(ours), roots: Arc::new(roots), validity, files, resets })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)") // never a key
    }
}

/// How long a certificate of a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) path: PathBuf,
    from: SystemTime,
    to: SystemTime,
}

impl Validity {
    /// The first to end of all these. What cannot be parsed is for the handshake to refuse.
    fn first_to_end(files: &[(&Path, &Vec<CertificateDer<'_>>)]) -> Option<Self> {
        let of = |path: &Path, der: &CertificateDer<'_>| {
            let (_, cert) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
            let time = |at: x509_parser::time::ASN1Time| {
                let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            };
            let validity = cert.validity();
            let (from, to) = (time(validity.not_before), time(validity.not_after));
            Some(Self { path: path.into(), from, to })
        };
        let all = files.iter().flat_map(|(path, all)| all.iter().filter_map(|der| of(path, der)));
        all.min_by_key(|validity| validity.to)
    }

    /// How long it still holds.
    pub(super) fn left(&self, now: SystemTime) -> Duration {
        self.to.duration_since(now).unwrap_or_default()
    }

    /// All of its time.
    pub(super) fn whole(&self) -> Duration {
        self.to.duration_since(self.from).unwrap_or_default()
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
            assert_eq!(node_ids(&identity.ours.cert[0]), [id]);
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
