//! Who is let in, and what those who are not are told.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::*;
use crate::{error::Code, transport::secret::Secret};

/// Starts a pair, dials, and returns the error; asserts that the acceptor made no link.
async fn refused(a: Options, b: Options, expect: Option<&str>) -> Error {
    let (mut a, mut b) = (TestNode::with(a).await, TestNode::with(b).await);
    let error = a.dial(b.addr(), expect).await.unwrap_err();
    until("the acceptor is done", || b.transport.node().tasks.len() == 2).await;
    a.assert_no_link();
    b.assert_no_link();
    assert_eq!(a.transport.stats().dial_failures, 1);
    error
}

fn with_secret(id: &str, secret: &Secret) -> Options {
    Options { security: Security::Secret(secret.clone()), ..options(id) }
}

#[tokio::test]
async fn one_secret_is_one_cluster() {
    let secret = Secret::generate();
    let mut a = TestNode::with(with_secret("a", &secret)).await;
    let b = TestNode::with(with_secret("ä b/%", &secret)).await;
    assert_eq!(a.dial(b.addr(), Some("ä b/%")).await.unwrap(), b.peer);
}

#[tokio::test]
async fn another_secret_is_not_authenticated() {
    let (one, other) = (Secret::generate(), Secret::generate());
    let error = refused(with_secret("a", &one), with_secret("b", &other), None).await;
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let error = refused(options("a"), with_secret("b", &other), None).await;
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn another_cluster_is_told_so() {
    let error =
        refused(options("a"), Options { cluster: "other".into(), ..options("b") }, None).await;
    assert_eq!(error.code(), Code::WrongCluster, "{error}");
}

#[tokio::test]
async fn another_node_than_expected_is_told_so() {
    let error = refused(options("a"), options("b"), Some("c")).await;
    assert_eq!(error.code(), Code::WrongNode, "{error}");
}

#[tokio::test]
async fn a_node_does_not_link_to_itself() {
    let mut a = TestNode::start("a").await;
    let error = a.dial(a.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongNode, "{error}");
    a.assert_no_link();
}

/// An authority of the user's own, with files in a directory that goes with it.
struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn options(&self, id: &str, certified: &str) -> Options {
        let mut params = CertificateParams::default();
        let uri = identity::uri(&NodeId::new(certified).unwrap());
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.distinguished_name.push(DnType::CommonName, "node");
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str| self.dir.join(format!("{id}-{certified}-{what}.pem"));
        std::fs::write(file("cert"), cert.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        let security =
            Security::Pem { ca: self.dir.join("ca.pem"), cert: file("cert"), key: file("key") };
        Options { security, ..options(id) }
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn certificates_of_ones_own_work() {
    let pki = Pki::new("own");
    let (mut a, b) =
        (TestNode::with(pki.options("a", "a")).await, TestNode::with(pki.options("b", "b")).await);
    assert_eq!(a.dial(b.addr(), Some("b")).await.unwrap(), b.peer);
    assert_eq!(a.request(&b, "who", "").await.unwrap(), "a");
}

#[tokio::test]
async fn another_authority_is_not_authenticated() {
    let (one, other) = (Pki::new("one"), Pki::new("other"));
    let error = refused(one.options("a", "a"), other.options("b", "b"), None).await;
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

/// The acceptor trusts both authorities' servers, but the dialer's certificate is unknown to it:
/// the dialer sees a good connection and hears of the refusal only afterwards.
#[tokio::test]
async fn a_certificate_unknown_to_the_acceptor_is_not_authenticated() {
    let (one, other) = (Pki::new("asked"), Pki::new("stranger"));
    let mut stranger = other.options("a", "a");
    if let Security::Pem { ca, .. } = &mut stranger.security {
        *ca = one.dir.join("ca.pem");
    }
    let mut b = TestNode::with(one.options("b", "b")).await;
    let mut a = TestNode::with(stranger).await;
    let error = a.dial(b.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    b.assert_no_link();
    assert_eq!(b.transport.stats().unauthenticated, 1);
}

#[tokio::test]
async fn a_certificate_for_another_id_is_refused_at_start_and_by_peers() {
    let pki = Pki::new("claims");
    let claims = pki.options("a", "someone-else");
    let handler: Arc<dyn Inbound> = Arc::new(Shared(Arc::new(Handler {
        dropped: None.into(),
        arrived: Semaphore::new(0),
        messages: None.into(),
    })));
    let error = Transport::bind(claims.clone(), handler.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Config, "{error}");

    // Somebody who skips that check is caught by either side of a link.
    let Security::Pem { ca, cert, key } = &claims.security else { panic!() };
    let identity = Identity::from_pem(ca, cert, key).unwrap();
    let (liar, mut events) = Transport::bind_as(claims.clone(), &identity, handler).unwrap();
    let mut b = TestNode::with(pki.options("b", "b")).await;
    let error = b.dial(liar.local_addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongNode, "as dialer: {error}");
    until("the refusal is heard", || liar.links().is_empty()).await;
    liar.dial(b.addr(), None);
    let error = loop {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            TransportEvent::DialFailed { error, .. } => break error,
            TransportEvent::LinkUp { .. } | TransportEvent::LinkDown { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(error.code(), Code::WrongNode, "as acceptor: {error}");
    b.assert_no_link();
}

#[tokio::test]
async fn unreadable_files_are_named() {
    let pki = Pki::new("missing");
    let mut options = pki.options("a", "a");
    if let Security::Pem { key, .. } = &mut options.security {
        *key = pki.dir.join("no-such-file.pem");
    }
    let error = Identity::load(&options.security, &options.node_id).err().unwrap();
    assert!(error.to_string().contains("no-such-file.pem"), "{error}");
}
