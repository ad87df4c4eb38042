//! Who is let in, and what those who are not are told.

use super::{pki::Pki, *};
use crate::{error::Code, transport::secret::Secret};

/// Starts a pair, dials, and returns the error; asserts that the acceptor made no link.
async fn refused(a: Options, b: Options, expect: Option<&str>) -> Error {
    let (mut a, mut b) = (TestNode::with(a).await, TestNode::with(b).await);
    let error = a.dial(b.addr(), expect).await.unwrap_err();
    until("the acceptor is done", || b.transport.node().tasks.len() == TASKS_IDLE).await;
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
        release: Semaphore::new(0),
        messages: None.into(),
        ignored: Arc::default(),
    })));
    let error = Transport::bind(claims.clone(), handler.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Config, "{error}");

    // Somebody who skips that check is caught by either side of a link.
    let Security::Pem { ca, cert, key } = &claims.security else { panic!() };
    let identity = Identity::from_pem(ca, cert, key).unwrap();
    let (liar, mut events) = Transport::bind_as(claims.clone(), identity, handler).unwrap();
    let mut b = TestNode::with(pki.options("b", "b")).await;
    let error = b.dial(liar.local_addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongNode, "as dialer: {error}");
    assert_eq!(b.transport.stats().wrong_node, 1);
    let why = loop {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            TransportEvent::LinkDown { end, .. } => break end.to_string(),
            TransportEvent::LinkUp { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert!(why.contains("our certificate is not for our node id"), "{why}");
    until("nothing is left of it", || liar.links().is_empty()).await;
    liar.dial(b.addr(), None);
    let error = loop {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            TransportEvent::DialFailed { error, .. } => break error,
            TransportEvent::LinkUp { .. } | TransportEvent::LinkDown { .. } => {}
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(error.code(), Code::WrongNode, "as acceptor: {error}");
    assert!(error.to_string().contains("our certificate is not for that id"), "{error}");
    assert_eq!(b.transport.stats().wrong_node, 2);
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

#[tokio::test]
async fn each_side_knows_why_a_peer_was_refused() {
    let pki = Pki::new("expired");
    let mut good = TestNode::with(pki.options("good", "good")).await;
    let expired = pki.expired("old");
    let error = Identity::load(&expired.security, &expired.node_id).err().unwrap();
    assert!(error.to_string().contains("has expired"), "{error}");
    // One whose certificate ended while it ran.
    let mut old = TestNode::careless(expired).await;
    let error = old.dial(good.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::CertificateExpired, "{error}");
    assert!(error.to_string().contains("our certificate"), "{error}");
    // Those who dial know at once, the others when the end has come to them.
    let counted = |node: &TestNode| {
        let stats = node.transport.stats();
        (stats.unauthenticated, stats.expired, stats.wrong_cluster)
    };
    let heard = async |acceptor: &TestNode, expected| {
        let what = format!("{} counts {expected:?}", acceptor.peer.id);
        until(&what, || counted(acceptor) == expected).await;
    };
    assert_eq!(counted(&old), (1, 1, 0));
    heard(&good, (1, 1, 0)).await;
    let error = good.dial(old.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::CertificateExpired, "{error}");
    assert!(error.to_string().contains("its certificate"), "{error}");
    assert_eq!(counted(&good), (2, 2, 0));
    heard(&old, (2, 2, 0)).await;

    let mut stranger = TestNode::with(Pki::new("strange").options("s", "s")).await;
    let error = stranger.dial(good.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert_eq!(counted(&stranger), (1, 0, 0));
    heard(&good, (3, 2, 0)).await;
    let error = good.dial(stranger.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert_eq!(counted(&good), (4, 2, 0));
    heard(&stranger, (2, 0, 0)).await;

    let other = Options { cluster: "other".into(), ..pki.options("w", "w") };
    let mut other = TestNode::with(other).await;
    let error = other.dial(good.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongCluster, "{error}");
    assert_eq!((counted(&good), counted(&other)), ((4, 2, 1), (0, 0, 1)));
    let error = good.dial(other.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongCluster, "{error}");
    assert_eq!((counted(&good), counted(&other)), ((4, 2, 2), (0, 0, 2)));

    let mut seeks = TestNode::with(pki.options("x", "x")).await;
    let error = seeks.dial(good.addr(), Some("y")).await.unwrap_err();
    assert_eq!(error.code(), Code::WrongNode, "{error}");
    assert_eq!(good.transport.stats().wrong_node, 1);
    good.assert_no_link();
}
