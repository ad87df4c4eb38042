//! The keys in use: what this node proves itself by and whom it believes, in every handshake from
//! now on. They may be changed while links are up; what becomes of those is `renew`'s.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

use super::{
    identity::{Files, Identity, Validity},
    reset::{ResetKeys, ResetTokens, Role},
    tls,
};
use crate::{error::Result, member::NodeId};

/// Both endpoints of a node ask here.
#[derive(Debug)]
pub(super) struct Keys {
    current: ArcSwap<Current>,
    algorithms: WebPkiSupportedAlgorithms,
    /// How many certificates of ours came before this one.
    generation: AtomicU64,
    resets: ResetKeys,
}

#[derive(Debug)]
struct Current {
    identity: Identity,
    /// Judges those who dial us.
    dialers: Arc<dyn ClientCertVerifier>,
}

impl Current {
    fn new(identity: Identity) -> Result<Self> {
        let roots = identity.roots.clone();
        let dialers = WebPkiClientVerifier::builder_with_provider(roots, tls::provider())
            .build()
            .map_err(tls::unusable)?;
        Ok(Self { identity, dialers })
    }
}

impl Keys {
    /// Those of this node.
    pub(super) fn new(identity: Identity, id: NodeId) -> Result<Self> {
        Ok(Self {
            resets: ResetKeys::new(&identity.resets, id),
            current: ArcSwap::from_pointee(Current::new(identity)?),
            algorithms: tls::provider().signature_verification_algorithms,
            generation: AtomicU64::new(0),
        })
    }

    /// Uses these from now on. A handshake under way may still end with those before.
    pub(super) fn change(&self, identity: Identity) -> Result<()> {
        let before = self.current.load_full();
        let next = Current::new(identity)?;
        let same = before.identity.ours.cert == next.identity.ours.cert;
        self.resets.change(&next.identity.resets);
        self.current.store(Arc::new(next));
        if !same {
            self.generation.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Grows each time that we prove ourselves by another certificate.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// What makes the tokens of an endpoint's stateless resets.
    pub(super) fn reset_tokens(&self, role: Role) -> ResetTokens {
        self.resets.tokens(role)
    }

    pub(super) fn ours(&self) -> Arc<CertifiedKey> {
        self.current.load().identity.ours.clone()
    }

    /// What was read of which files.
    pub(super) fn files(&self) -> Files {
        self.current.load().identity.files.clone()
    }

    pub(super) fn validity(&self) -> Option<Validity> {
        self.current.load().identity.validity.clone()
    }

    /// Whether a peer would still be believed that showed this chain; it dialed us, or we dialed
    /// it.
    pub(super) fn accepts(&self, chain: &[CertificateDer<'static>], dialed_us: bool) -> bool {
        let Some((leaf, rest)) = chain.split_first() else { return false };
        let now = UnixTime::now();
        if dialed_us {
            self.verify_client_cert(leaf, rest, now).is_ok()
        } else {
            self.verify_chain(leaf, rest, now).is_ok()
        }
    }

    /// Like webpki does for servers, but without their DNS name: which node answers is decided by
    /// the node id in the certificate, against the one expected, right after the handshake.
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        let roots = &self.current.load().identity.roots;
        verify_server_cert_signed_by_trust_anchor(&leaf, roots, rest, now, self.algorithms.all)
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.ours())
    }
}

impl ResolvesClientCert for Keys {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.ours())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Keys {
    /// None, so that everybody shows what it has: ours change, and the hints could not.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.current.load().dialers.verify_client_cert(end_entity, intermediates, now)
    }

    /// TLS 1.2 is never negotiated.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Keys {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify_chain(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    /// TLS 1.2 is never negotiated.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
