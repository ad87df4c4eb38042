//! A valid member that says as much as its link takes: news without end about itself, and whatever
//! asks for an answer. (That it could also lie about others is another matter: suspicions are
//! refuted, see the tests of the machine.)
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use peerage::{
    Cluster, NodeId, Secret, State,
    member::{self, Peer},
    transport::{Class, Inbound, Options, Transport, TransportEvent},
    wire::{self, Frame, Record},
};
use peerage_hostile::{Honest, PATIENCE, until};
use tokio::sync::mpsc;

const FLOOD: Duration = Duration::from_secs(5);
/// So many frames beyond the flooder's share, which a slow machine takes longer to send.
const REFUSED_MIN: u64 = 3000;
/// What the process may grow, in KiB: 4 MiB of frames wait for the driver at most, 4 MiB are in the
/// window of the link; the rest is the flooder's own, and the allocator's.
const GROWTH_MAX_KIB: u64 = 32 << 10;

/// Takes no requests.
struct Nobody;

impl Inbound for Nobody {}

/// The bare transport under a hand of its own.
struct Flooder {
    transport: Transport,
    events: mpsc::Receiver<TransportEvent>,
    me: Peer,
    victim: Peer,
    addr: SocketAddr,
    incarnation: u64,
    frames: u64,
}

impl Flooder {
    async fn join(honest: &Honest, secret: &Secret) -> Self {
        let me = Peer {
            id: NodeId::new("flooder").unwrap(),
            instance: member::Instance(rand::random()),
        };
        let config = Cluster::builder("test", me.id.as_str()).secret(secret.clone());
        let few = Options::of(config.config(), me.instance).unwrap();
        let options = Options { payload_max: 1 << 20, requests_max: 1, streams_max: 1, ..few };
        let (transport, mut events) = Transport::bind(options, Arc::new(Nobody)).await.unwrap();
        let addr = honest.nodes[0].addr();
        transport.dial(addr, None);
        let victim = loop {
            match tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
                TransportEvent::LinkUp { peer, .. } => break peer,
                TransportEvent::DialFailed { error, .. } => panic!("{error}"),
                _ => {}
            }
        };
        let mut flooder = Self { transport, events, me, victim, addr, incarnation: 1, frames: 0 };
        flooder.say(Class::Stream, &Frame::Join { fresh: true }, 1);
        flooder
    }

    fn record(&self) -> Record {
        let tags = (0..40).map(|n| (format!("key{n}"), format!("{:>40}", self.incarnation)));
        Record {
            id: self.me.id.clone(),
            instance: self.me.instance,
            incarnation: self.incarnation,
            state: State::Alive,
            addr: self.transport.advertised(),
            tags: Arc::new(tags.take(20).collect::<BTreeMap<_, _>>()),
            observers: Vec::new(),
            dead_for_ms: 0,
            unresponsive: false,
        }
    }

    /// A frame with so many records, each of which is news.
    fn say(&mut self, class: Class, frame: &Frame, records: usize) {
        let updates: Vec<Bytes> = (0..records)
            .map(|_| {
                self.incarnation += 1;
                wire::encode_record(&self.record()).into()
            })
            .collect();
        self.frames += 1;
        self.transport.send_frame(&self.victim, self.addr, class, wire::encode(frame, &updates));
    }

    /// Everything at once, over and over: for so long at least, and until that was a flood.
    async fn flood(mut self, victim: Cluster) -> (u64, Self) {
        let begun = Instant::now();
        let refused = || victim.stats().transport.frames_refused;
        let mut n = 0;
        while begun.elapsed() < FLOOD || (refused() < REFUSED_MIN && begun.elapsed() < PATIENCE) {
            while self.events.try_recv().is_ok() {} // what comes back is of no interest
            for _ in 0..50 {
                n += 1;
                let target = self.victim.clone();
                match n % 10 {
                    0 => self.say(Class::Stream, &Frame::Gossip, 100),
                    1 => self.say(
                        Class::Datagram,
                        &Frame::Ping { seq: n, target, reliable: false },
                        0,
                    ),
                    2 => {
                        self.say(Class::Stream, &Frame::Ping { seq: n, target, reliable: true }, 0)
                    }
                    3 => {
                        let addr = self.addr;
                        self.say(Class::Datagram, &Frame::PingReq { seq: n, target, addr }, 0);
                    }
                    4 => self.say(Class::Stream, &Frame::Digest { hash: n }, 0),
                    5 => self.say(Class::Stream, &Frame::Join { fresh: true }, 1),
                    _ => self.say(Class::Datagram, &Frame::Gossip, 1),
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (self.frames, self)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_floods_takes_no_more_than_its_share() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let flooder = Flooder::join(&honest, &secret).await;
    until("it is a member", || honest.nodes.iter().all(|node| node.stats().alive == 4)).await;
    let victim = honest.nodes[0].clone();
    let outcome = honest.withstand(flooder.flood(victim)).await;
    let (frames, flooder) = outcome.attack;
    let stats = honest.nodes[0].stats();
    eprintln!(
        "{frames} frames, {} requests, slowest {:?}, grown by {} KiB; a newcomer after {:?}\n{stats:?}",
        outcome.answered,
        outcome.slowest,
        outcome.grown_kib,
        honest.admit(0).await
    );
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    let refused = stats.transport.frames_refused;
    assert!(refused >= REFUSED_MIN, "hardly a flood: {refused} of {frames} frames refused");
    flooder.transport.abort();
    honest.end().await;
}
