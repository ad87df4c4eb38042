//! TLS 1.3, always mutual: the configurations of both roles.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
};

use super::identity::Identity;
use crate::error::{Error, Result};

/// The hard fence against everything that speaks another protocol.
const ALPN: &[u8] = b"peerage/1";
/// The server name that everybody sends; the node id in the certificate takes its place.
pub(super) const SERVER_NAME: &str = "peerage";

/// The configuration of the accepting role: a client without a certificate of ours is refused
/// within the handshake, before any byte of it is decoded.
pub(super) fn server(identity: &Identity) -> Result<ServerConfig> {
    let provider = provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider.clone())
            .build()
            .map_err(unusable)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every link shows its certificate anew: no resumption, and no packets for tickets.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The configuration of the dialing role.
pub(super) fn client(identity: &Identity) -> Result<ClientConfig> {
    let provider = provider();
    let verifier = ChainVerifier {
        roots: identity.roots.clone(),
        algorithms: provider.signature_verification_algorithms,
        // Checks handshake signatures; its opinion about names is never asked.
        signatures: WebPkiServerVerifier::builder_with_provider(
            identity.roots.clone(),
            provider.clone(),
        )
        .build()
        .map_err(unusable)?,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn unusable(why: impl ToString) -> Error {
    Error::Config(vec![crate::FieldError {
        field: "security".into(),
        value: "certificates".into(),
        expected: why.to_string(),
    }])
}

/// The same cryptography on every platform, passed explicitly: a process-wide default belongs to
/// the program that embeds us. QUIC wants the suites of TLS 1.3 only.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// Verifies a server's chain like webpki does, but not its DNS name: which node answers is
/// decided by the node id in the certificate, against the one expected, right after the handshake.
#[derive(Debug)]
struct ChainVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    signatures: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &cert,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    /// TLS 1.2 is never negotiated.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
