//! Handshakes that are begun by the thousand and never finished.
#![cfg(target_os = "linux")] // it answers on all of 127/8
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use peerage::Secret;
use peerage_hostile::{HalfOpen, Honest, rss_kib, until};

/// How many each attack begins.
const HANDSHAKES: usize = 10_000;
/// What one node may have unfinished of one address, and of all together.
const OF_ONE_MAX: u64 = 512;
const OF_ALL_MAX: u64 = 1024;
/// What the process may grow while 1,024 handshakes are unfinished, in KiB: 24 KiB measured each, and
/// what the allocator keeps.
const GROWTH_MAX_KIB: u64 = 48 << 10;

/// A handshake is given up 5 s after it began; so long until all are.
const GONE_MAX: Duration = Duration::from_secs(8);

/// Begins handshakes from these addresses in turn, and answers what is asked.
async fn attack(to: SocketAddr, from: Vec<IpAddr>, proves: bool) -> (usize, usize) {
    tokio::task::spawn_blocking(move || {
        let mut all: Vec<_> = from.into_iter().map(|ip| HalfOpen::new(ip, to)).collect();
        let sources = all.len();
        for n in 0..HANDSHAKES {
            all[n % sources].begin();
            all[n % sources].answer(proves);
            if n % 64 == 63 {
                std::thread::sleep(Duration::from_millis(5)); // some 10,000 a second
            }
        }
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(10));
            all.iter_mut().for_each(|half_open| half_open.answer(proves));
        }
        let sum = |of: fn(&HalfOpen) -> usize| all.iter().map(of).sum();
        (sum(|half_open| half_open.retries), sum(|half_open| half_open.begun))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_nobody_finishes_keep_nobody_out() {
    let honest = Honest::start(&Secret::generate()).await;
    let to = honest.nodes[0].addr();
    let local = |host| IpAddr::V4(Ipv4Addr::new(127, 0, 1, host));
    let stats = |honest: &Honest| honest.nodes[0].stats().transport;

    // Whoever sends under an honest address, and hears no answer, has nothing held against it.
    let outcome = honest.withstand(attack(to, vec![to.ip()], false)).await;
    eprintln!("unproven: {outcome:?}; a newcomer after {:?}", honest.admit(0).await);
    assert!(outcome.attack.0 > HANDSHAKES / 2, "hardly any Retry");
    assert_eq!(stats(&honest).handshakes_refused, 0);
    assert!(stats(&honest).handshakes_unfinished <= 64);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);

    // One address that proves itself has a share, and others come in beside it.
    let outcome = honest.withstand(attack(to, vec![local(1)], true)).await;
    let unfinished = stats(&honest).handshakes_unfinished;
    eprintln!(
        "one address: {outcome:?}, {unfinished} unfinished; a newcomer after {:?}",
        honest.admit(0).await
    );
    assert!((OF_ONE_MAX / 2..=OF_ONE_MAX + 64).contains(&unfinished), "{unfinished}");
    assert!(stats(&honest).handshakes_refused > 0);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);

    // Many addresses fill what there is, and no more than that; then nobody else comes in.
    let before = rss_kib();
    let outcome = honest.withstand_alone(attack(to, (2..=20).map(local).collect(), true)).await;
    let unfinished = stats(&honest).handshakes_unfinished;
    eprintln!("many addresses: {outcome:?}, {unfinished} unfinished");
    assert!((OF_ALL_MAX / 2..=OF_ALL_MAX).contains(&unfinished), "{unfinished}");
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);

    // The deadline of handshakes, 5 s, ends them all.
    let ended = Instant::now();
    until("they are gone", || stats(&honest).handshakes_unfinished == 0).await;
    assert!(ended.elapsed() <= GONE_MAX, "{:?}", ended.elapsed());

    // Once more: were the memory of the others kept, it would be above what one may take.
    let again = honest.withstand_alone(attack(to, (2..=20).map(local).collect(), true)).await;
    eprintln!("many addresses again: {again:?}");
    let grown = rss_kib().saturating_sub(before);
    assert!(again.attack.1 > 0 && grown <= GROWTH_MAX_KIB, "grown by {grown} KiB in all");
    until("they are gone again", || stats(&honest).handshakes_unfinished == 0).await;
    honest.end().await;
}
