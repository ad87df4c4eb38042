//! A member with as many processes as may have a link, each of which asks as much as it may: they have
//! one share together, and leave a quarter to others.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use peerage::Secret;
use peerage_hostile::{Honest, Intruder, until};

/// How many processes of one node have a link.
const PROCESSES: usize = 4;
/// How many requests of one node are let in: three quarters of 1,024.
const SHARE: usize = 768;
/// What the process may grow, in KiB: 3,072 streams with 10 KiB each, both ends together, and half as much
/// for the allocator.
const GROWTH_MAX_KIB: u64 = 48 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_of_one_node_leave_a_quarter_of_the_requests_to_others() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let node = honest.nodes[0].clone();
    let intruder = Intruder::new(Some(&secret), "many");
    let attack = async {
        let (mut links, mut most) = (Vec::new(), 0);
        for n in 0..PROCESSES as u64 {
            let (mut handle, acceptor) = intruder.link_of(node.addr(), 1 + n, n).await;
            let held = Intruder::withhold(&mut handle, SHARE, 1000, 0).await;
            // They are taken in their order, so all of them were by now.
            assert!(!Intruder::ask(&mut handle).await, "process {n} is let in beyond the share");
            most = most.max(node.stats().transport.requests_in);
            links.push((handle, acceptor, held));
        }
        tokio::time::sleep(Duration::from_secs(2)).await; // the others ask all the while
        (links, most.max(node.stats().transport.requests_in))
    };
    let outcome = honest.withstand(attack).await;
    let (links, most) = outcome.attack;
    let stats = node.stats().transport;
    eprintln!(
        "{most} at once, slowest {:?}, grown by {} KiB: {stats:?}",
        outcome.slowest, outcome.grown_kib
    );
    // A few of the honest ones may be under way, and what is just being refused.
    assert!((SHARE as u64..SHARE as u64 + 16).contains(&most), "{most} requests at once");
    assert!(stats.requests_refused as usize >= (PROCESSES - 1) * SHARE);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    // What does not come is given up, and then there is room.
    until("they are given up", || node.stats().transport.requests_in <= 16).await;
    links.iter().for_each(|(handle, ..)| handle.close(0u8.into()));
    drop(links);
    honest.end().await;
}
