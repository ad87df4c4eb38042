//! A member that claims to be many processes, and one process that makes link after link.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use peerage::Secret;
use peerage_hostile::{Held, Honest, Intruder, until};
use s2n_quic::connection::{Handle, StreamAcceptor};

/// How many processes, and links.
const LINKS: usize = 100;
/// How many processes of one node have a link.
const PROCESSES_MAX: usize = 4;
/// How many links of one node that another has taken the place of may still be in use.
const RETIRED_MAX: usize = 4;
/// How many links there are between honest members.
const OF_HONEST: usize = 2;
/// What the process may grow, in KiB: both ends of so many connections, and as much again for those
/// that are just ending.
const GROWTH_MAX_KIB: u64 = 24 << 10;

type Link = (Handle, StreamAcceptor, Held);

/// Makes links, each of the next process or all of one, on each of which a request never ends.
async fn attack(intruder: &Intruder, addr: SocketAddr, of_one: bool) -> Vec<Link> {
    let mut links = Vec::new();
    for n in 0..LINKS as u64 {
        let instance = if of_one { 1 } else { 1 + n };
        let (mut handle, acceptor) = intruder.link_of(addr, instance, n).await;
        let held = Intruder::withhold(&mut handle, 1, 1000, 0).await;
        links.push((handle, acceptor, held));
    }
    links
}

/// How many of them are still up.
fn up(links: &[Link]) -> usize {
    links.iter().filter(|(handle, ..)| handle.clone().ping().is_ok()).count()
}

/// One node id with many processes: four have a link.
async fn many_processes(secret: &Secret, honest: &Honest) {
    let node = honest.nodes[0].clone();
    let intruder = Intruder::new(Some(secret), "many");
    let outcome = honest.withstand(attack(&intruder, node.addr(), false)).await;
    let links = outcome.attack;
    until("four are left", || up(&links) <= PROCESSES_MAX).await;
    let stats = node.stats().transport;
    eprintln!("grown by {} KiB, slowest {:?}: {stats:?}", outcome.grown_kib, outcome.slowest);
    assert_eq!(stats.pool.links_total, OF_HONEST + PROCESSES_MAX, "the honest ones keep theirs");
    assert_eq!(stats.evicted as usize, LINKS - PROCESSES_MAX);
    // Those who came last.
    assert_eq!(up(&links[LINKS - PROCESSES_MAX..]), PROCESSES_MAX);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
}

/// One process that makes link after link: it keeps its link and four before that.
async fn many_links(secret: &Secret, honest: &Honest) {
    let node = honest.nodes[0].clone();
    let before = node.stats().transport.accepted as usize;
    let intruder = Intruder::new(Some(secret), "busy");
    let outcome = honest.withstand(attack(&intruder, node.addr(), true)).await;
    let links = outcome.attack;
    // Something is under way on each, for an hour: only their number ends them.
    until("five are left", || up(&links) <= 1 + RETIRED_MAX).await;
    assert!(links.last().unwrap().0.clone().ping().is_ok(), "the newest is the link");
    let stats = node.stats().transport;
    eprintln!("grown by {} KiB, slowest {:?}: {stats:?}", outcome.grown_kib, outcome.slowest);
    assert_eq!(stats.pool.links_total, OF_HONEST + 1);
    assert!(stats.accepted as usize - before >= LINKS); // and newcomers'
    until("the requests of the others ended", || {
        node.stats().transport.requests_in <= (1 + RETIRED_MAX) as u64
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await; // and it stays so
    assert_eq!(up(&links), 1 + RETIRED_MAX);
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_up_processes_or_links_has_few_of_them() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    many_processes(&secret, &honest).await;
    honest.are_normal().await;
    many_links(&secret, &honest).await;
    honest.end().await;
}
