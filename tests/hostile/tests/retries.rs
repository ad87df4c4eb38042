//! Packets that each could be the first of one handshake, each answered by a Retry, and each Retry
//! answered: no more than one of them begins anything.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{net::Ipv4Addr, time::Duration};

use peerage::Secret;
use peerage_hostile::{HalfOpen, Honest, until};

/// From how many unfinished handshakes on dialers prove their address.
const UNPROVEN: usize = 64;
const HANDSHAKES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_two_retries_begins_one_handshake() {
    let honest = Honest::start(&Secret::generate()).await;
    let node = &honest.nodes[0];
    let to = node.addr();
    let refused = || node.stats().transport.handshakes_refused;
    let unfinished = || node.stats().transport.handshakes_unfinished;

    let attack = async {
        let mut many = HalfOpen::new(Ipv4Addr::LOCALHOST.into(), to);
        (0..UNPROVEN).for_each(|_| many.begin());
        until("many are unfinished", || unfinished() >= UNPROVEN as u64).await;
        let mut twice = HalfOpen::new(Ipv4Addr::LOCALHOST.into(), to);
        for n in 1..=HANDSHAKES {
            twice.begin();
            let mut proofs = Vec::new();
            until("it is answered by a Retry", || {
                proofs.append(&mut twice.proofs());
                proofs.len() == 1
            })
            .await;
            twice.begin_again();
            until("it is answered by another one", || {
                proofs.append(&mut twice.proofs());
                proofs.len() == 2
            })
            .await;
            proofs.iter().for_each(|proof| twice.send(proof));
            until("one begins and the other is refused", || {
                twice.answer(false);
                twice.begun >= n && refused() == n as u64
            })
            .await;
        }
    };
    // A newcomer may be asked for a Retry as well.
    let outcome = honest.withstand_alone(attack).await;
    eprintln!("{outcome:?}; {} refused", refused());
    assert_eq!(refused(), HANDSHAKES as u64);
    assert!(unfinished() <= (UNPROVEN + HANDSHAKES) as u64);

    // The deadline of handshakes, 5 s, ends them all.
    until("they are gone", || unfinished() == 0).await;
    tokio::time::timeout(Duration::from_secs(30), honest.end()).await.unwrap();
}
