//! Keys that change while links are up.

use std::{fs, sync::atomic::AtomicBool};

use super::{pki::Pki, *};
use crate::{
    error::Code,
    transport::{KeyEvent, secret::Secret},
};

fn of_secrets(id: &str, secrets: &[Secret]) -> Options {
    Options { security: Security::Secrets(secrets.to_vec()), ..options(id) }
}

/// Nothing about the link has to be made anew any more.
fn is_settled(node: &TestNode, links: usize) -> bool {
    let node = node.transport.node();
    let all = node.pool.links();
    all.len() == links && all.iter().all(|link| !node.is_stale(link))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_in_three_steps_and_nothing_is_lost() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let mut nodes = Vec::new();
    for id in ["a", "b", "c"] {
        nodes.push(Arc::new(TestNode::with(of_secrets(id, std::slice::from_ref(&old))).await));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut asking = Vec::new();
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.peer != from.peer) {
            let (from, to, stop) = (from.clone(), to.clone(), stop.clone());
            asking.push(tokio::spawn(async move {
                let mut answers = 0;
                while !stop.load(Relaxed) {
                    assert_eq!(from.request(&to, "echo", "on").await.unwrap(), "on");
                    answers += 1;
                }
                answers
            }));
        }
    }
    // Under way from before the first step until after the last.
    let (a, b) = (nodes[0].clone(), nodes[1].clone());
    let held = tokio::spawn(async move { a.request(&b, "held", "").await });
    nodes[1].handler.arrived.acquire().await.unwrap().forget();
    for step in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()], vec![new.clone()]]
    {
        for node in &nodes {
            node.transport.set_secrets(&step).unwrap();
        }
        until("links with these keys", || nodes.iter().all(|n| is_settled(n, 2))).await;
    }
    nodes[1].handler.release.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap(), "released");
    assert_eq!(nodes[1].handler.arrived.available_permits(), 0, "it was asked once");
    stop.store(true, Relaxed);
    for task in asking {
        assert!(task.await.unwrap() > 0);
    }
    for node in &nodes {
        assert_eq!(node.transport.stats().distrusted, 0);
    }
    // Whoever has the old one only is nobody now.
    let mut late = TestNode::with(of_secrets("late", &[old])).await;
    let error = late.dial(nodes[0].addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

/// No other link can take a stream over, so it ends with the one that it is on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_lasts_as_long_as_the_secret_that_its_link_was_made_with() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let start = |id| TestNode::with(of_secrets(id, std::slice::from_ref(&old)));
    let (a, b) = (start("a").await, start("b").await);
    let set = |secrets: &[Secret]| {
        for node in [&a, &b] {
            node.transport.set_secrets(secrets).unwrap();
        }
    };
    let open = || a.transport.open_stream(&b.peer, b.addr(), "echo", PATIENCE);
    let mut stream = open().await.unwrap();
    for step in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        set(&step);
        until("links with these keys", || is_settled(&a, 1) && is_settled(&b, 1)).await;
        stream.write("on", PATIENCE).await.unwrap();
        assert_eq!(stream.read(PATIENCE).await.unwrap().unwrap(), "on");
    }
    let removed = Instant::now();
    set(std::slice::from_ref(&new));
    let error = stream.read(PATIENCE).await.unwrap_err();
    assert!(removed.elapsed() <= Duration::from_secs(5), "{:?}", removed.elapsed());
    assert_eq!(error.code(), Code::LinkLost, "{error}");
    let mut another = open().await.unwrap();
    another.write("on", PATIENCE).await.unwrap();
    assert_eq!(another.read(PATIENCE).await.unwrap().unwrap(), "on");
}

#[tokio::test]
async fn a_peer_with_a_removed_secret_only_is_let_go_within_five_seconds() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let mut a = TestNode::with(of_secrets("a", &[old.clone(), new.clone()])).await;
    let mut b = TestNode::with(of_secrets("b", &[old])).await;
    a.dial(b.addr(), None).await.unwrap();
    until("both have it", || b.transport.has_link(&a.peer)).await;
    let hanging = b.transport.clone();
    let (to, addr) = (a.peer.clone(), a.addr());
    let hangs =
        tokio::spawn(
            async move { hanging.request(&to, addr, "hang", Bytes::new(), PATIENCE).await },
        );
    a.handler.arrived.acquire().await.unwrap().forget();
    let began = Instant::now();
    a.transport.set_secrets(&[new]).unwrap();
    let error = hangs.await.unwrap().unwrap_err();
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(error.code(), Code::LinkLost, "{error}");
    assert!(error.to_string().contains("accepts our secret or authority no more"), "{error}");
    until("both know", || a.transport.links().is_empty() && b.transport.links().is_empty()).await;
    assert_eq!(a.transport.stats().distrusted, 1);
    let error = b.dial(a.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let error = a.dial(b.addr(), None).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
}

#[tokio::test]
async fn a_secret_that_comes_back_in_time_keeps_its_links() {
    let (old, new) = (Secret::generate(), Secret::generate());
    let mut a = TestNode::with(of_secrets("a", &[new.clone(), old.clone()])).await;
    let b = TestNode::with(of_secrets("b", &[old.clone(), new.clone()])).await;
    a.dial(b.addr(), None).await.unwrap();
    let link = a.transport.node().pool.links().remove(0);
    a.transport.set_secrets(std::slice::from_ref(&new)).unwrap();
    until("it is seen", || link.distrusted.load(Relaxed)).await;
    a.transport.set_secrets(&[new, old]).unwrap();
    until("its time is over", || !link.distrusted.load(Relaxed)).await;
    assert_eq!(a.request(&b, "echo", "still").await.unwrap(), "still");
    assert_eq!(a.transport.stats().distrusted, 0);
}

#[tokio::test]
async fn secrets_that_cannot_be_set_are_refused() {
    let secret = Secret::generate();
    let a = TestNode::with(of_secrets("a", std::slice::from_ref(&secret))).await;
    for secrets in [vec![], vec![secret.clone(); 9]] {
        let error = a.transport.set_secrets(&secrets).unwrap_err();
        assert_eq!(error.code(), Code::Argument, "{error}");
        assert!(error.to_string().contains("1 to 8"), "{error}");
    }
    let pki = Pki::new("no-secret");
    for node in [TestNode::start("b").await, TestNode::with(pki.options("c", "c")).await] {
        let error = node.transport.set_secrets(std::slice::from_ref(&secret)).unwrap_err();
        assert_eq!(error.code(), Code::Argument, "{error}");
    }
    let error = a.transport.reload_certificates().await.unwrap_err();
    assert_eq!(error.code(), Code::Argument, "{error}");
}

impl TestNode {
    /// The next event about certificates.
    async fn key_event(&mut self) -> KeyEvent {
        loop {
            if let TransportEvent::Keys(event) = self.event().await {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn changed_files_are_read_and_links_made_anew() {
    let pki = Pki::new("changed");
    let mut a = TestNode::with(pki.options("a", "a")).await;
    let b = TestNode::with(pki.options("b", "b")).await;
    a.dial(b.addr(), None).await.unwrap();
    let before = b.transport.node().pool.links().remove(0);
    pki.options("a", "a"); // another certificate, into the same files
    assert!(
        matches!(a.key_event().await, KeyEvent::Reloaded { path } if path.ends_with("cert.pem"))
    );
    let shown = |b: &TestNode| b.transport.node().pool.links().first().map(|l| l.chain.clone());
    until("b sees the new one", || shown(&b).is_some_and(|now| now != before.chain)).await;
    assert_eq!(a.request(&b, "who", "").await.unwrap(), "a");
    assert_eq!(b.request(&a, "who", "").await.unwrap(), "b");
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing() {
    let pki = Pki::new("garbage");
    let options = pki.options("a", "a");
    let Security::Pem { cert, key, .. } = options.security.clone() else { panic!() };
    let mut a = TestNode::with(options).await;
    let mut b = TestNode::with(pki.options("b", "b")).await;
    for (file, text) in [(&cert, "no certificate"), (&key, "no key")] {
        let good = fs::read(file).unwrap();
        fs::write(file, text).unwrap();
        let error = a.transport.reload_certificates().await.unwrap_err();
        assert_eq!(error.code(), Code::Config, "{error}");
        let event = a.key_event().await;
        assert!(matches!(event, KeyEvent::Rejected { .. }), "{event:?}");
        b.dial(a.addr(), Some("a")).await.unwrap();
        fs::write(file, good).unwrap();
        assert!(matches!(a.key_event().await, KeyEvent::Reloaded { .. }));
    }
    // The key of another certificate.
    pki.options("x", "a");
    fs::copy(pki.dir.join("x-a-key.pem"), &key).unwrap();
    let error = a.transport.reload_certificates().await.unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
    // A certificate of another node.
    pki.options("x", "x");
    fs::copy(pki.dir.join("x-x-key.pem"), &key).unwrap();
    fs::copy(pki.dir.join("x-x-cert.pem"), &cert).unwrap();
    let error = a.transport.reload_certificates().await.unwrap_err();
    assert!(error.to_string().contains("peerage:a"), "{error}");
}

#[tokio::test]
async fn an_authority_is_replaced_and_the_one_before_is_let_go() {
    let (old, new) = (Pki::new("before"), Pki::new("after"));
    let mut a = TestNode::with(old.options("a", "a")).await;
    let mut b = TestNode::with(old.options("b", "b")).await;
    a.dial(b.addr(), None).await.unwrap();
    let ca = old.dir.join("ca.pem");
    let both = [fs::read(&ca).unwrap(), fs::read(new.dir.join("ca.pem")).unwrap()].concat();
    fs::write(&ca, both).unwrap();
    for node in [&mut a, &mut b] {
        node.transport.reload_certificates().await.unwrap();
    }
    // One node moves, the other does not.
    new.options("a", "a");
    for what in ["cert", "key"] {
        let name = format!("a-a-{what}.pem");
        fs::copy(new.dir.join(&name), old.dir.join(&name)).unwrap();
    }
    a.transport.reload_certificates().await.unwrap();
    until("links with these keys", || is_settled(&a, 1) && is_settled(&b, 1)).await;
    fs::copy(new.dir.join("ca.pem"), &ca).unwrap();
    let removed = Instant::now();
    a.transport.reload_certificates().await.unwrap();
    until("the one that did not move is let go", || a.transport.links().is_empty()).await;
    assert!(removed.elapsed() <= Duration::from_secs(5), "{:?}", removed.elapsed());
    assert_eq!(a.transport.stats().distrusted, 1);
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_before_it_comes() {
    let pki = Pki::new("ends");
    for (seconds, told) in [(3_600_000, false), (1_500_000, true), (300_000, true)] {
        let mut node = TestNode::with(pki.lasting("n", seconds)).await;
        let left = node.transport.certificate_left().unwrap().as_secs();
        assert!(left.abs_diff(seconds as u64) <= 60, "{left}");
        if told {
            let KeyEvent::Expiring { path, left } = node.key_event().await else { panic!() };
            assert!(path.ends_with("n-n-cert.pem"), "{path}");
            assert!(left.as_secs().abs_diff(seconds as u64) <= 60, "{left:?}");
        } else {
            pki.lasting("n", seconds - 1);
            let event = node.key_event().await;
            assert!(matches!(event, KeyEvent::Reloaded { .. }), "the first thing told: {event:?}");
        }
    }
    let mut node = TestNode::with(pki.lasting("n", 3)).await;
    let mut told = Vec::new();
    while told.last() != Some(&0) {
        let KeyEvent::Expiring { left, .. } = node.key_event().await else { panic!() };
        told.push(left.as_secs());
    }
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(TestNode::start("s").await.transport.certificate_left().is_none());
}
