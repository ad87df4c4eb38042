//! A valid member whose streams all fail, one after the other, and that does not read why: what there is
//! to tell it is kept up to a bound, and then it is not kept itself.
#![allow(missing_docs, clippy::unwrap_used)]

use peerage::Secret;
use peerage_hostile::{Honest, Intruder, stream_head};

/// So many it would open if it were let.
const MANY: u32 = 50_000;
/// What the process may grow: 1 MiB that waits, what the intruder's window holds, and both stacks; 10 MiB
/// measured.
const GROWTH_MAX_KIB: u64 = 32 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_hear_why_its_streams_fail_is_not_kept() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    honest.nodes[0].handle_streams("fails", |_| async { Err("x".repeat(1000)) }).unwrap();
    let stalled = honest.nodes[0].stats().transport.stalled;
    let intruder = Intruder::new(Some(&secret), "intruder");
    let (mut handle, _unheard) = intruder.link(honest.nodes[0].addr()).await;

    let attack = async {
        for n in 0..MANY {
            let Ok(stream) = handle.open_bidirectional_stream().await else { return n };
            let (mut receive, mut send) = stream.split();
            if send.send(stream_head("fails")).await.is_ok() {
                while let Ok(Some(_)) = receive.receive().await {}
            }
        }
        MANY
    };
    let outcome = honest.withstand(attack).await;
    eprintln!(
        "streams that fail: {} until it was not kept, slowest request {:?}, grown by {} KiB",
        outcome.attack, outcome.slowest, outcome.grown_kib
    );
    assert!(outcome.attack > 100 && outcome.attack < MANY, "{}", outcome.attack);
    assert!(honest.nodes[0].stats().transport.stalled > stalled);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    drop(handle);
    honest.end().await;
}
