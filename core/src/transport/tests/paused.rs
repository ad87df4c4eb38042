//! What takes minutes, at its real intervals: tokio's clock is paused, and jumps to the next timer
//! when nothing is left to do. Packets on loopback are there before it jumps.

use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_unused_link_is_closed_after_a_minute_and_a_pinned_one_never() {
    let mut a = TestNode::start("a").await;
    let (b, c) = (TestNode::start("b").await, TestNode::start("c").await);
    assert_eq!(a.dial(b.addr(), Some("b")).await.unwrap(), b.peer);
    assert_eq!(a.dial(c.addr(), Some("c")).await.unwrap(), c.peer);
    a.transport.pin(&c.peer, true);
    until("both have it", || c.transport.has_link(&a.peer)).await;
    c.transport.pin(&a.peer, true);
    let began = Instant::now();
    // For half a minute it is used, and membership never counts as a use.
    while began.elapsed() < Duration::from_secs(30) {
        a.request(&b, "echo", "").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let used = Instant::now();
    let end = loop {
        let frame = Bytes::from_static(b"heartbeat");
        a.transport.send_frame(&b.peer, b.addr(), Class::Datagram, frame);
        match timeout(Duration::from_secs(1), a.events.recv()).await {
            Ok(Some(TransportEvent::LinkDown { peer, end })) => break (peer, end),
            Ok(event) => panic!("{event:?}"),
            Err(_) => assert!(used.elapsed() < Duration::from_secs(70), "it is still there"),
        }
    };
    assert_eq!(end, (b.peer.clone(), LinkEnd::Idle));
    let after = used.elapsed();
    // The last use was up to a second before; the sweep comes every five.
    assert!(after >= Duration::from_secs(58) && after <= Duration::from_secs(66), "{after:?}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(a.transport.has_link(&c.peer), "a pin keeps it");
    let stats = a.transport.stats();
    assert_eq!((stats.idled, stats.broken, stats.unanswered), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_health_checks_run_at_their_interval_and_a_quiet_link_is_kept_up() {
    // Of one clock, so that they look at the same moment.
    let clock = Some(Duration::ZERO);
    let mut a = TestNode::with(Options { clock, ..options("a") }).await;
    let b = TestNode::with(Options { clock, ..options("b") }).await;
    let began = Instant::now();
    a.dial(b.addr(), Some("b")).await.unwrap();
    for node in [&a, &b] {
        let other = if node.peer == a.peer { &b.peer } else { &a.peer };
        until("it is up", || node.transport.has_link(other)).await;
        node.transport.pin(other, true);
    }
    for minute in 1..=10 {
        tokio::time::sleep_until(began + Duration::from_secs(60 * minute + 15)).await;
        for node in [&a, &b] {
            assert_eq!(node.transport.stats().pings, 2 * minute, "at {minute} min");
        }
    }
    let link = &a.transport.links()[0];
    assert_eq!((link.path, link.timeouts), (Path::Good, 0));
    // Keep-alives and answers: it never was silent for longer than the stack allows, ...
    assert!(link.heard.unwrap() < Duration::from_millis(1800), "{link:?}");
    // ... and only one end asked at a time: a packet from each in 1.25 to 1.75 s.
    let sent = link.packets_sent + b.transport.links()[0].packets_sent;
    assert!((700..1200).contains(&sent), "{sent} packets in ten minutes");
    assert_eq!(a.transport.stats().unanswered + b.transport.stats().unanswered, 0);
}

/// So that a peer that dies meanwhile is noticed within a second.
#[tokio::test(start_paused = true)]
async fn a_link_is_pinged_ten_times_a_second_while_something_waits_on_it() {
    let mut a = TestNode::start("a").await;
    let b = TestNode::start("b").await;
    a.dial(b.addr(), Some("b")).await.unwrap();
    a.transport.pin(&b.peer, true);
    let sent = || a.transport.stats().packets_sent;
    let long = Duration::from_secs(10);
    for streams in [false, true] {
        let began = sent();
        if streams {
            let stream = a.open(&b, "ignore").await.unwrap();
            tokio::time::sleep(long).await;
            drop((stream, b.ignored().await));
        } else {
            let (peer, addr) = (&b.peer, b.addr());
            let asked = a.transport.request(peer, addr, "hang", Bytes::new(), long).await;
            assert_eq!(asked.unwrap_err().code(), crate::Code::Timeout);
        }
        let grown = sent() - began;
        assert!((90..=250).contains(&grown), "{grown} packets in ten seconds, {streams}");
        tokio::time::sleep(Duration::from_secs(1)).await; // what is just ending
        let quiet = sent();
        tokio::time::sleep(long).await;
        let grown = sent() - quiet;
        assert!(grown <= 20, "{grown} packets in ten quiet seconds, {streams}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_for_the_membership_alone_goes_when_that_has_said_what_it_had_to_say() {
    let mut a = TestNode::start("a").await;
    let b = TestNode::start("b").await;
    a.dial(b.addr(), Some("b")).await.unwrap();
    let frame = |class| {
        a.transport.send_frame(&b.peer, b.addr(), class, Bytes::from_static(b"summaries"));
    };
    // While an exchange lasts it stays, ...
    for _ in 0..15 {
        frame(Class::Stream);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(a.transport.has_link(&b.peer));
    }
    // ... and datagrams do not keep it.
    let said = Instant::now();
    let end = loop {
        a.transport.send_frame(&b.peer, b.addr(), Class::Datagram, Bytes::from_static(b"ping"));
        match timeout(Duration::from_secs(1), a.events.recv()).await {
            Ok(Some(TransportEvent::LinkDown { peer, end })) => break (peer, end),
            Ok(event) => panic!("{event:?}"),
            Err(_) => assert!(said.elapsed() < Duration::from_secs(15), "it is still there"),
        }
    };
    assert_eq!(end, (b.peer.clone(), LinkEnd::Idle));
    // The last frame went out two seconds before; the sweep comes every five.
    assert!(said.elapsed() >= Duration::from_secs(2), "{:?}", said.elapsed());
    assert_eq!((a.transport.stats().idled, b.transport.stats().idled), (1, 0));
}
