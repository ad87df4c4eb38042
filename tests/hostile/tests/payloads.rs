//! A valid member that announces the largest payloads and sends them nearly whole.
#![allow(missing_docs, clippy::unwrap_used)]

use peerage::Secret;
use peerage_hostile::{Honest, Intruder};

/// Of the 64 MiB that are allowed.
const PAYLOAD: u64 = 60 << 20;
const REQUESTS: usize = 8;
/// What the process may grow, in KiB: two payloads are received at once, 4 MiB are in the window of
/// the link, and half as much again may be the intruder's own and the allocator's. Without a bound
/// it would be all eight, 480 MiB.
const GROWTH_MAX_KIB: u64 = 192 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_that_never_come_whole_cost_no_more_than_two() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let addr = honest.nodes[0].addr();
    let intruder = Intruder::new(Some(&secret), "intruder");
    let mut handle = intruder.deaf_link(addr).await;
    let attack = Intruder::withhold(&mut handle, REQUESTS, PAYLOAD, PAYLOAD - (1 << 20));
    let outcome = honest.withstand(attack).await;
    eprintln!(
        "{} requests, slowest {:?}, grown by {} KiB; a newcomer after {:?}",
        outcome.answered,
        outcome.slowest,
        outcome.grown_kib,
        honest.admit(0).await
    );
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    handle.close(0u8.into());
    drop(outcome.attack);
    honest.end().await;
}
