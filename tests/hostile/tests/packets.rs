//! Datagrams without sense: random bytes under every kind of header, of any length.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};

use peerage::Secret;
use peerage_hostile::Honest;
use rand::Rng;

const PACKETS: usize = 300_000;
/// Answers to many addresses do not leave in one call of the system.
const SOCKETS: usize = 64;
/// What the process may grow, in KiB: up to 1,024 answers of each kind, with 1.3 KiB for a stateless
/// reset, a Retry or a version negotiation, are 4 MiB; as much again is the allocator's.
const GROWTH_MAX_KIB: u64 = 8 << 10;

fn flood(to: SocketAddr) -> usize {
    let sockets: Vec<_> = (0..SOCKETS)
        .map(|_| {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let mut rng = rand::rng();
    let (mut packet, mut sent) = ([0; 1400], 0);
    for n in 0..PACKETS {
        let length = if n % 3 == 0 { 1200 } else { rng.random_range(0..1400) };
        rng.fill(&mut packet[..length.min(64)]);
        match n % 5 {
            0 => packet[0] |= 0xc0,                                // long, any version
            1 => packet[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]), // an Initial
            2 => packet[..5].copy_from_slice(&[0xe0, 0, 0, 0, 1]), // a Handshake packet
            3 => packet[..5].copy_from_slice(&[0x80, 0, 0, 0, 0]), // version negotiation
            _ => packet[0] = packet[0] & 0x3f | 0x40,              // short
        }
        if n % 5 < 3 {
            packet[5] = 8; // a connection id that can be taken for one
            packet[14] = 8;
        }
        sent += usize::from(sockets[n % SOCKETS].send(&packet[..length]).is_ok());
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_not_kept_and_accuses_nobody() {
    let honest = Honest::start(&Secret::generate()).await;
    let to = honest.nodes[0].addr();
    let attack = async { tokio::task::spawn_blocking(move || flood(to)).await.unwrap() };
    let outcome = honest.withstand(attack).await;
    eprintln!("{outcome:?}; a newcomer after {:?}", honest.admit(0).await);
    eprintln!("{:?}", honest.nodes[0].stats().transport);
    assert!(outcome.attack > PACKETS / 2, "the flood did not come about");
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    honest.end().await;
}
