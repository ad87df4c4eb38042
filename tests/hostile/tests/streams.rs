//! A valid member that opens all the streams it may, and lets them stall: with nothing on them, with
//! a payload that never comes, with answers that it never reads.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use peerage::Secret;
use peerage_hostile::{Held, Honest, Intruder, KIND_MESSAGE, until};
use s2n_quic::{connection::Handle, stream};

/// So many a peer may open of each kind.
const STREAMS: usize = 4096;
/// So many requests of one peer are let in at once: three quarters of 1,024.
const REQUESTS_MAX: u64 = 768;
/// More than the intruder's window for one answer.
const UNREAD: u64 = 60 << 10;
/// What the process may grow while 8,192 streams are open, in KiB: 10 KiB measured each, both ends
/// together, and half as much for the allocator.
const GROWTH_MAX_KIB: u64 = 120 << 10;
/// Opens what it may, and says so little that nobody can tell what it wants.
async fn open_all(handle: &mut Handle) -> Held {
    // One too many may be refused before we hear that it was sent.
    let sent = |sent: stream::Result<()>| match sent {
        Ok(()) | Err(stream::Error::StreamReset { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let mut held = Held::default();
    for n in 0..STREAMS {
        let (receive, mut send) = handle.open_bidirectional_stream().await.unwrap().split();
        sent(send.send(Bytes::from_static(b"\0")).await);
        held.0.push(send);
        held.1.push(receive);
        let mut send = handle.open_send_stream().await.unwrap();
        if n % 2 == 0 {
            sent(send.send(Bytes::from_static(&[KIND_MESSAGE])).await);
        } else {
            sent(send.flush().await);
        }
        held.0.push(send);
    }
    held
}

/// Waits until the node holds none of the member's requests any more, which still keeps its streams.
async fn given_up(honest: &Honest, held: &Held) {
    until("what stalls is given up", || {
        let links = honest.nodes[0].stats().transport;
        links.requests_in <= 2 // those of honest members that are just under way
    })
    .await;
    assert!(!held.0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_stall_starve_nobody_and_are_given_up() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let addr = honest.nodes[0].addr();
    let stats = |honest: &Honest| honest.nodes[0].stats().transport;
    let intruder = Intruder::new(Some(&secret), "intruder");
    let mut handle = intruder.deaf_link(addr).await;

    let outcome = honest.withstand(open_all(&mut handle)).await;
    let held = outcome.attack;
    eprintln!(
        "all streams: {} requests, slowest {:?}, grown by {} KiB; a newcomer after {:?}",
        outcome.answered,
        outcome.slowest,
        outcome.grown_kib,
        honest.admit(0).await
    );
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    assert!(stats(&honest).requests_in <= REQUESTS_MAX + 2);
    assert!(stats(&honest).requests_refused >= STREAMS as u64 - REQUESTS_MAX);
    honest.withstand(given_up(&honest, &held)).await;
    assert!(stats(&honest).stalled >= REQUESTS_MAX);
    handle.close(0u8.into());
    drop((handle, held));
    honest.are_normal().await;

    // Payloads that do not come; such as come, on streams that do not end; and answers that nobody
    // reads, for which there is no room.
    let mut handle = intruder.deaf_link(addr).await;
    let attack = async {
        let withheld = Intruder::withhold(&mut handle, 400, 1000, 0).await;
        let endless = Intruder::withhold(&mut handle, 100, 1000, 1000).await;
        let mut unread = Intruder::withhold(&mut handle, 200, UNREAD, UNREAD).await;
        unread.0.iter_mut().for_each(|send| send.finish().unwrap());
        [withheld, endless, unread]
    };
    let outcome = honest.withstand(attack).await;
    eprintln!(
        "requests: slowest {:?}, grown by {} KiB; a newcomer after {:?}",
        outcome.slowest,
        outcome.grown_kib,
        honest.admit(0).await
    );
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    let under_way = stats(&honest).requests_in;
    assert!((600..=REQUESTS_MAX + 2).contains(&under_way), "{under_way}");
    for held in &outcome.attack {
        honest.withstand(given_up(&honest, held)).await;
    }
    handle.close(0u8.into());
    drop((handle, outcome.attack));
    honest.end().await;
}
