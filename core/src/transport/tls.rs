//! TLS 1.3, always mutual: the configurations of both roles. What is proved and believed in a
//! handshake is asked of the [`Keys`] at that time.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
};

use super::keys::Keys;
use crate::error::{Error, Result};

/// The hard fence against everything that speaks another protocol.
const ALPN: &[u8] = b"peerage/1";
/// The server name that everybody sends; the node id in the certificate takes its place.
pub(super) const SERVER_NAME: &str = "peerage";

/// The configuration of the accepting role: a client without a certificate of ours is refused
/// within the handshake, before any byte of it is decoded.
pub(super) fn server(keys: &Arc<Keys>) -> Result<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(keys.clone())
        .with_cert_resolver(keys.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every link shows its certificate anew: no resumption, and no packets for tickets.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The configuration of the dialing role.
pub(super) fn client(keys: &Arc<Keys>) -> Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(keys.clone())
        .with_client_cert_resolver(keys.clone());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(super) fn unusable(why: impl ToString) -> Error {
    Error::Config(vec![crate::FieldError {
        field: "security".into(),
        value: "certificates".into(),
        expected: why.to_string(),
    }])
}

/// The same cryptography on every platform, passed explicitly: a process-wide default belongs to
/// the program that embeds us. QUIC wants the suites of TLS 1.3 only.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}
