//! A stranger floods a member with packets. One test in this binary, since it measures the memory
//! of the whole process.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{fs, net::UdpSocket};

use peerage::{EventKind, Secret};
use rand::Rng;
use support::{PATIENCE, all_see, cluster_of};

/// How many packets are thrown, of 70 bytes, by each of two.
const PACKETS: usize = 400_000;
/// From how many sockets: answers to one address leave in one call of the system, those to many do
/// not, and wait.
const SOCKETS: usize = 64;
/// What the process may grow meanwhile, in KiB: the answers that may wait are 1.3 MiB (1.4 to 1.6
/// measured; 5 to 10 without a bound), and the rest is the allocator's.
const GROWTH_MAX_KIB: u64 = 3 << 10;

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// They belong to no link, so each asks for a stateless reset, for which the stack keeps a queue
/// without a bound of its own.
fn flood(to: std::net::SocketAddr, packets: usize) -> usize {
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|_| {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let (mut rng, mut heard, mut answers) = (rand::rng(), [0; 2048], 0);
    for socket in sockets.iter().cycle().take(packets) {
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
async fn packets_of_links_that_nobody_has_are_not_kept_and_accuse_nobody() {
    let nodes = cluster_of(3, &Secret::generate()).await;
    nodes[1].handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    let ask = async || nodes[0].request("n1", "echo", "honest", PATIENCE).await.unwrap();
    ask().await;
    let mut events: Vec<_> = nodes.iter().map(peerage::Cluster::events).collect();
    let (before, mut most, to) = (rss_kib(), 0, nodes[1].addr());
    let flooding = [(); 2].map(|()| tokio::task::spawn_blocking(move || flood(to, PACKETS)));
    while !flooding.iter().all(tokio::task::JoinHandle::is_finished) {
        assert_eq!(ask().await, "honest");
        most = most.max(rss_kib());
    }
    let mut answers = 0;
    for flooding in flooding {
        answers += flooding.await.unwrap();
    }
    let grown = most.saturating_sub(before);
    let refused = nodes[1].stats().transport.packets_refused;
    eprintln!("{answers} answers, {refused} packets refused, grown by {grown} KiB");
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
