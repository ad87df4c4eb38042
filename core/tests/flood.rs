//! A stranger floods a member with packets. One test in this binary, since it measures the memory
//! of the whole process.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{fs, net::UdpSocket};

use peerage::{EventKind, Secret};
use rand::Rng;
use support::{PATIENCE, all_see, cluster_of};

/// How many packets are thrown, of 70 bytes.
const PACKETS: usize = 300_000;
/// What the process may grow by meanwhile, in KiB. The stack's queue of resets holds what comes
/// between two turns of the endpoint: measured were 3, 5 and 10 MiB, and twice that would be next.
const GROWTH_MAX_KIB: u64 = 48 << 10;

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// They belong to no link, so each asks for a stateless reset, for which the stack keeps a queue
/// without a bound of its own.
fn flood(to: std::net::SocketAddr) -> usize {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut rng, mut heard, mut answers) = (rand::rng(), [0; 2048], 0);
    for _ in 0..PACKETS {
        let mut packet: [u8; 70] = rng.random();
        packet[0] = packet[0] & 0x3f | 0x40; // a short header
        let _ = socket.send_to(&packet, to); // a full buffer drops it
        while socket.recv_from(&mut heard).is_ok() {
            answers += 1;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_links_that_nobody_has_fill_nothing_and_accuse_nobody() {
    let nodes = cluster_of(3, &Secret::generate()).await;
    nodes[1].handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    let ask = async || nodes[0].request("n1", "echo", "honest", PATIENCE).await.unwrap();
    ask().await;
    let mut events: Vec<_> = nodes.iter().map(peerage::Cluster::events).collect();
    let (before, to) = (rss_kib(), nodes[1].addr());
    let flooding = tokio::task::spawn_blocking(move || flood(to));
    while !flooding.is_finished() {
        assert_eq!(ask().await, "honest");
    }
    let answers = flooding.await.unwrap();
    let grown = rss_kib().saturating_sub(before);
    eprintln!("{answers} answers, grown by {grown} KiB");
    assert!(answers > 0, "the flood reached nobody");
    assert!(grown <= GROWTH_MAX_KIB, "grown by {grown} KiB");
    all_see(&nodes, 3).await;
    for node in &nodes {
        node.shutdown_now().await.unwrap();
    }
    for events in &mut events {
        while let Some(event) = events.next().await {
            let kind = &event.kind;
            let wrong =
                matches!(kind, EventKind::MemberSuspected { .. } | EventKind::MemberFailed { .. });
            assert!(!wrong, "{event:?}");
        }
    }
}
