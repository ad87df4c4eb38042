//! Ten thousand and a hundred thousand updates through the gossip queue, and what those notice of it
//! who read meanwhile. The queue belongs to the driver alone and has no lock; readers share with it
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
    member::{Instance, Peer},
    transport::{Class, Inbound, Options, Transport, TransportEvent},
    wire::{self, Frame, Record},
};
use support::{in_time, node, until};

const MEMBERS: u64 = 5000;
const READERS: usize = 4;
/// What a read may take, all but one in a hundred: it waits for nobody, but for a processor.
const READ_MAX: Duration = Duration::from_millis(100);
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
    let instance = Instance(1 + round * MEMBERS + MEMBERS - 1);
    until("the last is taken in", || {
        node.get(&last).is_some_and(|m| m.instance == instance && m.state == State::Left)
    })
    .await;
}

/// Reads as often as it can until it is told to stop; how long each took.
fn read(node: &Cluster, stop: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let (members, stats) = (node.members(), node.stats());
        took.push(began.elapsed());
        assert!(stats.gossip_waiting <= MEMBERS as usize + 2, "one entry a member at most");
        assert!(members.len() <= MEMBERS as usize + 2);
        std::thread::sleep(Duration::from_millis(1));
    }
    took
}

async fn through(rounds: u64) {
    let secret = Secret::generate();
    let node = node("n0", &secret).start().await.unwrap();
    let teller = teller(&node, &secret).await;
    let stop = Arc::<AtomicBool>::default();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (node, stop) = (node.clone(), stop.clone());
            std::thread::spawn(move || read(&node, &stop))
        })
        .collect();
    let began = Instant::now();
    for round in 0..rounds {
        tell(&node, &teller, round).await;
    }
    let took = began.elapsed();
    stop.store(true, Relaxed);
    let mut reads: Vec<_> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    reads.sort_unstable();
    let at = |share: f64| reads[((reads.len() - 1) as f64 * share) as usize];
    eprintln!(
        "{} updates in {took:?}; {} reads: half within {:?}, 99 % within {:?}, all within {:?}",
        rounds * 2 * MEMBERS,
        reads.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    let left = node.members().iter().filter(|m| m.state == State::Left).count();
    assert_eq!(left, MEMBERS as usize, "every update was taken in");
    assert!(took < TAKEN_IN_MAX, "{took:?}");
    assert!(at(0.99) < READ_MAX, "{:?}", at(0.99));
    node.shutdown_now().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_by_the_thousand_keep_no_reader_waiting() {
    for rounds in [1, 10] {
        through(rounds).await;
    }
}
