//! Ten thousand and a hundred thousand updates through the gossip queue of one member to another, and
//! what those notice of it who read meanwhile. The queue belongs to the driver alone and has no lock; readers share with it
//! the view, which is swapped in whole, and a few numbers.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage::{
    Cluster, NodeId, Secret, State,
    member::{Instance, Member, Peer},
    transport::{Class, Inbound, Options, Transport, TransportEvent},
    wire::{self, Frame, Record},
};
use support::{cluster_of, in_time, until};

const MEMBERS: u64 = 1000;
const READERS: usize = 4;
/// What a read may take, all but one in a hundred: it waits for nobody, but for a processor.
const READ_MAX: Duration = Duration::from_millis(100);
/// What every second read takes at most: that many have a processor at once. Measured: 8 µs.
const HALF_MAX: Duration = Duration::from_millis(1);
/// Within which time all is taken in. An unoptimised build on a busy machine needs some seconds.
const TAKEN_IN_MAX: Duration = Duration::from_secs(30);

/// Takes no requests.
struct Nobody;

impl Inbound for Nobody {}

/// A peer of the bare transport, which tells what it likes.
async fn teller(node: &Cluster, secret: &Secret) -> (Transport, Peer) {
    let config = Cluster::builder("test", "teller").secret(secret.clone());
    let few = Options::of(config.config(), Instance(7)).unwrap();
    let options = Options { payload_max: 1 << 20, requests_max: 1, streams_max: 1, ..few };
    let (transport, mut events) = Transport::bind(options, Arc::new(Nobody)).await.unwrap();
    transport.dial(node.addr(), None);
    let peer = loop {
        match in_time("a link", events.recv()).await.unwrap() {
            TransportEvent::LinkUp { peer, .. } => break peer,
            TransportEvent::DialFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    };
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    (transport, peer)
}

fn id(n: u64) -> String {
    format!("m{n:05}")
}

/// Each member's next process, which came and left again: two updates a member.
async fn tell(node: &Cluster, teller: &(Transport, Peer), round: u64) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 9));
    let record = |n, state| {
        wire::encode_record(&Record {
            id: NodeId::new(id(n)).unwrap(),
            instance: Instance(1 + round * MEMBERS + n),
            incarnation: 1 + round,
            state,
            addr,
            tags: Arc::default(),
            observers: Vec::new(),
            unresponsive: false,
            dead_for_ms: 0,
        })
    };
    for first in (0..MEMBERS).step_by(500) {
        let records = (first..first + 500)
            .flat_map(|n| [State::Alive, State::Left].map(|state| record(n, state).into()));
        let bytes = wire::encode(&Frame::Gossip, &records.collect::<Vec<Bytes>>());
        let sent = teller.0.stats().frames_sent;
        teller.0.send_frame(&teller.1, node.addr(), Class::Stream, bytes);
        until("the frame is there", || teller.0.stats().frames_sent > sent).await;
    }
    let last = id(MEMBERS - 1);
    until("the last is taken in", || node.get(&last).is_some_and(|m| is_told(&m, round))).await;
}

/// Whether it is what a round told of it.
fn is_told(member: &Member, round: u64) -> bool {
    let n: u64 = member.id.as_str()[1..].parse().unwrap();
    member.instance == Instance(1 + round * MEMBERS + n) && member.state == State::Left
}

/// Of how many members a node knows what a round told.
fn told(node: &Cluster, round: u64) -> usize {
    let members = node.members();
    let told = members.iter().filter(|m| m.id.as_str().starts_with('m'));
    told.filter(|m| is_told(m, round)).count()
}

/// Reads as often as it can until it is told to stop; how long each took, and how many updates waited
/// at most.
fn read(node: &Cluster, stop: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut took, mut waiting) = (Vec::new(), 0);
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let (members, stats) = (node.members(), node.stats());
        took.push(began.elapsed());
        waiting = waiting.max(stats.gossip_waiting);
        assert!(stats.gossip_waiting <= MEMBERS as usize + 2, "one entry a member at most");
        assert!(members.len() <= MEMBERS as usize + 2);
        std::thread::sleep(Duration::from_millis(1));
    }
    (took, waiting)
}

async fn through(rounds: u64) {
    let secret = Secret::generate();
    let nodes = cluster_of(2, &secret).await;
    let (node, other) = (&nodes[0], &nodes[1]);
    let teller = teller(node, &secret).await;
    let stop = Arc::<AtomicBool>::default();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (node, stop) = (node.clone(), stop.clone());
            std::thread::spawn(move || read(&node, &stop))
        })
        .collect();
    let began = Instant::now();
    for round in 0..rounds {
        tell(node, &teller, round).await;
    }
    let told_after = began.elapsed();
    until("the other has heard all of it", || told(other, rounds - 1) == MEMBERS as usize).await;
    let took = began.elapsed();
    stop.store(true, Relaxed);
    let read: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let waiting = read.iter().map(|(_, waiting)| *waiting).max().unwrap();
    let mut reads: Vec<_> = read.into_iter().flat_map(|(took, _)| took).collect();
    reads.sort_unstable();
    let at = |share: f64| reads[((reads.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{} updates in {told_after:?}, the last passed on after {took:?}, {waiting} waiting at most; {} reads: half within {:?}, 99 % within {:?}, all within {:?}",
        rounds * 2 * MEMBERS,
        reads.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    assert_eq!(told(node, rounds - 1), MEMBERS as usize, "every update was taken in");
    assert!(waiting >= MEMBERS as usize / 2, "they did not go through the queue: {waiting}");
    assert!(told_after < TAKEN_IN_MAX, "{told_after:?}");
    assert!(at(0.5) < HALF_MAX, "{:?}", at(0.5));
    assert!(at(0.99) < READ_MAX, "{:?}", at(0.99));
    teller.0.abort();
    for node in &nodes {
        node.shutdown_now().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_by_the_thousand_keep_no_reader_waiting() {
    for rounds in [5, 50] {
        through(rounds).await;
    }
}
