//! A valid member whose membership frames are nonsense: each is counted and costs it the link, the log
//! says so at a limited rate, and honest members notice nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::{
    Cluster, NodeId, Secret, State,
    member::{Instance, Peer},
    transport::{Class, Inbound, Options, Transport, TransportEvent},
    wire::{self, Frame, INCARNATION_MAX, Record},
};
use peerage_hostile::{Honest, PATIENCE, until};
use tokio::{sync::mpsc, time::timeout};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// How often each kind of nonsense is said by datagram and by stream.
const ROUNDS: usize = 8;
/// What the process may grow, in KiB; measured with the attacker's part: 2 MiB.
const GROWTH_MAX_KIB: u64 = 16 << 10;
/// So many lines of a kind are written in a second.
const LINES_MAX: usize = 10;

/// Why links are closed for it.
const REASONS: [&str; 5] = [
    "a truncated frame",
    "a malformed ack",
    "a malformed record",
    "a record beyond its limits",
    "a join without a record of its sender",
];

/// What the log says.
#[derive(Default)]
struct Said {
    /// How many links were closed, ...
    closed: usize,
    /// ... for what reasons, ...
    reasons: BTreeSet<String>,
    /// ... and how many frames nothing could be made of.
    frames: usize,
}

struct Lines(&'static Mutex<Said>);

#[derive(Default)]
struct Line {
    message: String,
    reason: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "reason" => self.reason = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        matches!(metadata.target(), "peerage::link" | "peerage::membership")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut said = self.0.lock();
        match line.message.as_str() {
            "closing a link" => {
                said.closed += 1;
                said.reasons.insert(line.reason);
            }
            "nothing to be made of a frame" => said.frames += 1,
            _ => {}
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Takes no requests.
struct Nobody;

impl Inbound for Nobody {}

/// The bare transport under a hand of its own.
struct Babbler {
    transport: Transport,
    events: mpsc::Receiver<TransportEvent>,
    addr: SocketAddr,
}

impl Babbler {
    async fn new(secret: &Secret, addr: SocketAddr) -> Self {
        let config = Cluster::builder("test", "babbler").secret(secret.clone());
        let options = Options::of(config.config(), Instance(rand::random())).unwrap();
        let (transport, events) = Transport::bind(options, Arc::new(Nobody)).await.unwrap();
        Self { transport, events, addr }
    }

    async fn event(&mut self) -> TransportEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap()
    }

    async fn link(&mut self) -> Peer {
        self.transport.dial(self.addr, None);
        loop {
            match self.event().await {
                TransportEvent::LinkUp { peer, .. } => return peer,
                TransportEvent::DialFailed { .. } => self.transport.dial(self.addr, None),
                _ => {}
            }
        }
    }

    /// Says it on a link of its own, and waits until that is closed.
    async fn say(&mut self, class: Class, frame: &Bytes) {
        let peer = self.link().await;
        self.transport.send_frame(&peer, self.addr, class, frame.clone());
        while !matches!(self.event().await, TransportEvent::LinkDown { .. }) {}
    }
}

/// One of each kind that there is.
fn nonsense() -> Vec<(&'static str, Bytes)> {
    let record = |incarnation| Record {
        id: NodeId::new("n1").unwrap(),
        instance: Instance(1),
        incarnation,
        state: State::Failed,
        addr: SocketAddr::from(([127, 0, 0, 1], 9)),
        tags: Arc::default(),
        observers: Vec::new(),
        dead_for_ms: 0,
        unresponsive: false,
    };
    let gossip =
        |record: Record| wire::encode(&Frame::Gossip, &[wire::encode_record(&record).into()]);
    let mut no_state = gossip(record(5)).to_vec();
    let at = no_state.iter().rposition(|byte| *byte == State::Failed as u8).unwrap();
    no_state[at] = 77;
    let join = Frame::Join { fresh: true };
    vec![
        ("nothing of a frame", Bytes::from_static(b"\x01")),
        ("less than it says", Bytes::from_static(b"\x02\x20\0\0\0no more")),
        ("noise", Bytes::from_static(b"\x03\x05\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("an incarnation beyond all", gossip(record(INCARNATION_MAX + 1))),
        ("a state that there is not", no_state.into()),
        ("another's name", wire::encode(&join, &[wire::encode_record(&record(5)).into()])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_counted_and_costs_the_link() {
    let lines: &'static Mutex<Said> = Box::leak(Box::default());
    tracing::subscriber::set_global_default(Lines(lines)).unwrap();
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let node = &honest.nodes[0];
    let mut babbler = Babbler::new(&secret, node.addr()).await;
    let all = nonsense();
    let mut said = 0;
    let begun = std::time::Instant::now();
    let outcome = honest
        .withstand(async {
            for (what, frame) in &all {
                for round in 0..2 * ROUNDS {
                    let class = if round % 2 == 0 { Class::Datagram } else { Class::Stream };
                    babbler.say(class, frame).await;
                    said += 1;
                    let counted = || node.stats().membership.frames_bad == said;
                    until(&format!("{what} is counted the {said}. time"), counted).await;
                }
            }
        })
        .await;
    let seconds = begun.elapsed().as_secs() as usize + 2;
    let log = std::mem::take(&mut *lines.lock());
    eprintln!(
        "{said} frames, {} and {} lines in {:?}, slowest request {:?}, grown by {} KiB",
        log.closed,
        log.frames,
        begun.elapsed(),
        outcome.slowest,
        outcome.grown_kib
    );
    for lines in [log.closed, log.frames] {
        assert!((1..=LINES_MAX * seconds).contains(&lines), "{lines} lines in {seconds} s");
    }
    let reasons: Vec<&str> = log.reasons.iter().map(|r| r.trim_matches('"')).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(|r| REASONS.contains(r)), "{reasons:?}");
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);

    // A kind that only a later version knows is no offence.
    let peer = babbler.link().await;
    let later = Bytes::from_static(b"\xfa\x03\0\0\0new");
    babbler.transport.send_frame(&peer, babbler.addr, Class::Stream, later.clone());
    until("it is counted", || node.stats().membership.frames_unknown == 1).await;
    // It is said, once there is room for a line again.
    let say = async {
        while lines.lock().frames == 0 {
            babbler.transport.send_frame(&peer, babbler.addr, Class::Stream, later.clone());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, say).await.expect("a line in time");
    assert_eq!(node.stats().membership.frames_bad, said);
    assert!(timeout(Duration::from_millis(200), babbler.events.recv()).await.is_err(), "it stays");
    babbler.transport.abort();
    honest.end().await;
}
