//! Certificates of a cluster, derived from its secret as every node derives them. Written anew here:
//! whoever holds the secret can do as much, and does not use our code for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use aws_lc_rs::hkdf;
use peerage::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

/// The configuration of a client that shows certificates for these nodes in turn, if it holds the
/// secret, and takes every server for the right one.
pub(crate) fn client(secret: Option<&Secret>, ids: &[String]) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match secret {
        Some(secret) => {
            let certified = ids.iter().map(|id| {
                let (chain, key) = certificate(secret, id);
                let key = provider::sign::any_supported_type(&key).unwrap();
                Arc::new(CertifiedKey::new(chain, key))
            });
            let (certified, next) = (certified.collect(), AtomicUsize::new(0));
            config.with_client_cert_resolver(Arc::new(InTurn { certified, next }))
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"peerage/1".to_vec()];
    config
}

/// One key share only, so that a first flight fits one packet.
fn crypto() -> Arc<CryptoProvider> {
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
    crypto.kx_groups = vec![provider::kx_group::X25519];
    Arc::new(crypto)
}

fn certificate(
    secret: &Secret,
    id: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let text = secret.to_text();
    let hex = text.strip_prefix("peerage-secret-").unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let mut seed = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"peerage certificate authority 1")
        .extract(&bytes)
        .expand(&[b"ed25519 seed"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut seed))
        .unwrap();
    let mut pkcs8 = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    pkcs8.extend_from_slice(&seed);
    let authority =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_ED25519)
            .unwrap();
    let mut root = timeless("Peerage cluster authority");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut leaf = timeless("Peerage node");
    leaf.subject_alt_names = vec![SanType::URI(format!("peerage:{id}").try_into().unwrap())];
    let leaf = leaf.signed_by(&key, &Issuer::new(root, authority)).unwrap();
    (vec![leaf.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn timeless(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(1975, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params
}

/// Shows one certificate after the other.
#[derive(Debug)]
struct InTurn {
    certified: Vec<Arc<CertifiedKey>>,
    next: AtomicUsize,
}

impl ResolvesClientCert for InTurn {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let next = self.next.fetch_add(1, Relaxed);
        self.certified.get(next % self.certified.len()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Does not care whom it attacks.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
