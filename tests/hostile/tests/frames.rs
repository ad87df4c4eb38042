//! A valid member whose membership frames are too large, or never end.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use peerage::Secret;
use peerage_hostile::{Honest, Intruder, KIND_FRAME, PATIENCE, until};
use s2n_quic::connection::Handle;
use tokio::{task::JoinSet, time::timeout};

/// How many frames of one peer are received at once.
const AT_ONCE: usize = 32;
/// How often as many that are too large are sent, each time on a link of its own, and how many at
/// once that never end.
const ROUNDS: usize = 16;
const STREAMS: usize = 2 * AT_ONCE;
/// The largest frame has 1 MiB.
const OVERSIZED: usize = 3 << 20;
/// Just below that, and then nothing.
const ENDLESS: usize = 900 << 10;
/// What the process may grow, in KiB: of the 32 frames that are received at once each may have come
/// nearly whole (32 MiB), 4 MiB are in the stack's window, and the attacker's own buffers count as
/// much again.
const GROWTH_MAX_KIB: u64 = 96 << 10;

/// Sends that much on each of so many streams, and keeps it open for as long as somebody listens;
/// how many were given up.
async fn send(handle: &Handle, bytes: usize, at_once: usize) -> usize {
    let payload = Bytes::from(vec![0x55; 64 << 10]);
    let mut streams = JoinSet::new();
    for _ in 0..at_once {
        let (mut handle, payload) = (handle.clone(), payload.clone());
        streams.spawn(async move {
            let mut stream = handle.open_send_stream().await.ok()?;
            stream.send(Bytes::from_static(&[KIND_FRAME])).await.ok()?;
            for _ in 0..bytes.div_ceil(payload.len()) {
                stream.send(payload.clone()).await.ok()?;
            }
            // It never ends by itself: the other side must give it up.
            while stream.send(Bytes::from_static(&[0])).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(())
        });
    }
    streams.join_all().await.len()
}

/// Frames that are too large, on ever new links. How many of these were closed for it.
async fn oversized(intruder: &Intruder, addr: SocketAddr) -> usize {
    let mut closed = 0;
    for round in 0..ROUNDS {
        let (mut handle, mut acceptor) = intruder.link(addr).await;
        // One is enough.
        send(&handle, OVERSIZED, if round == 0 { 1 } else { AT_ONCE }).await;
        let end = async { while let Ok(Some(_)) = acceptor.accept().await {} };
        closed += usize::from(timeout(PATIENCE, end).await.is_ok() && handle.ping().is_err());
    }
    closed
}

async fn endless(intruder: &Intruder, addr: SocketAddr) -> usize {
    let (handle, _acceptor) = intruder.link(addr).await;
    let given_up = send(&handle, ENDLESS, STREAMS).await;
    handle.close(0u8.into());
    given_up
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_too_large_or_never_end_are_given_up() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let addr = honest.nodes[0].addr();
    let intruder = Intruder::new(Some(&secret), "intruder");
    let stats = |honest: &Honest| honest.nodes[0].stats().transport;

    let outcome = honest.withstand(oversized(&intruder, addr)).await;
    eprintln!("oversized: {outcome:?}; a newcomer after {:?}", honest.admit(0).await);
    assert_eq!(outcome.attack, ROUNDS, "not all links were closed");
    // And those that were meant for a newcomer who left.
    assert!(stats(&honest).frames_dropped >= ROUNDS as u64);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);

    // They are given up after 20 s, those among them that waited for their turn as well.
    let outcome = honest.withstand(endless(&intruder, addr)).await;
    eprintln!("endless: {outcome:?}; a newcomer after {:?}", honest.admit(0).await);
    assert_eq!(outcome.attack, STREAMS, "not all were given up");
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    until("they were counted", || stats(&honest).stalled == STREAMS as u64).await;
    honest.end().await;
}
