//! Peers without a certificate of the cluster: they come no further than the handshake.
#![allow(missing_docs, clippy::unwrap_used)]

use peerage::Secret;
use peerage_hostile::{Honest, Intruder, PATIENCE};

/// What the process may grow, in KiB: 5 MiB measured, most of it the strangers' own.
const GROWTH_MAX_KIB: u64 = 16 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_is_heard_by_nobody() {
    let honest = Honest::start(&Secret::generate()).await;
    let addr = honest.nodes[1].addr();
    // Not only for the attack: their stacks end when they like, and are no memory of the members'.
    let strangers =
        [Intruder::new(None, "stranger"), Intruder::new(Some(&Secret::generate()), "stranger")];
    let outcome = honest
        .withstand(async {
            let mut heard = 0;
            for n in 0..200 {
                // The client's side of the handshake is over before the other has judged it.
                let Ok(mut connection) = strangers[n % 2].connect(addr).await else { continue };
                let Ok(stream) = connection.open_bidirectional_stream().await else { continue };
                let (mut receive, mut send) = stream.split();
                let _ = send.send(strangers[n % 2].hello()).await; // it may be over by now
                let answer = tokio::time::timeout(PATIENCE, receive.receive()).await;
                heard += usize::from(matches!(answer.expect("an end"), Ok(Some(_))));
            }
            heard
        })
        .await;
    eprintln!("{outcome:?}; a newcomer after {:?}", honest.admit(1).await);
    assert_eq!(outcome.attack, 0);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    let stats = honest.nodes[1].stats().transport;
    assert!(stats.unauthenticated >= 200, "{stats:?}");
    honest.end().await;
}
