//! What a node gossips, seen at the other end of a real link: a peer made of the bare transport
//! decodes every frame that it gets.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;
use peerage::{
    Cluster, NodeId, Secret, State,
    member::{Instance, Peer},
    transport::{Class, Inbound, Options, Transport, TransportEvent},
    wire::{self, Frame, Message, Record},
};
use support::*;
use tokio::sync::mpsc;

/// What the design allows one message to hold; not taken from the code, which is to keep to it.
const UPDATES_MAX: usize = 20;
const MESSAGE_BYTES_MAX: usize = 4096;

/// Takes no requests.
struct Nobody;

impl Inbound for Nobody {}

/// A member that only listens: it answers probes, so that it stays one, and gossips nothing.
struct Observer {
    transport: Transport,
    events: mpsc::Receiver<TransportEvent>,
    /// Whom it observes.
    node: Peer,
    addr: SocketAddr,
}

impl Observer {
    /// Joins a cluster of one node.
    async fn join(node: &Cluster, secret: &Secret) -> Self {
        let me = Peer { id: NodeId::new("observer").unwrap(), instance: Instance(7) };
        let config = Cluster::builder("test", me.id.as_str()).secret(secret.clone());
        let few = Options::of(config.config(), me.instance).unwrap();
        let options = Options { payload_max: 1 << 20, requests_max: 1, streams_max: 1, ..few };
        let (transport, mut events) = Transport::bind(options, Arc::new(Nobody)).await.unwrap();
        let addr = node.addr();
        transport.dial(addr, None);
        let peer = loop {
            match in_time("a link", events.recv()).await.unwrap() {
                TransportEvent::LinkUp { peer, .. } => break peer,
                TransportEvent::DialFailed { error, .. } => panic!("{error}"),
                _ => {}
            }
        };
        let mut observer = Self { transport, events, node: peer, addr };
        let ours = record(&me, State::Alive, observer.transport.advertised(), &BTreeMap::new());
        observer.send(Class::Stream, &Frame::Join { fresh: true }, &[ours]);
        while !matches!(observer.next().await.0.frame, Frame::Welcome) {}
        observer
    }

    fn send(&self, class: Class, frame: &Frame, records: &[Record]) {
        let updates: Vec<Bytes> = records.iter().map(|r| wire::encode_record(r).into()).collect();
        let bytes = wire::encode(frame, &updates);
        self.transport.send_frame(&self.node, self.addr, class, bytes);
    }

    /// The next frame, and how long it is.
    async fn next(&mut self) -> (Message, usize) {
        loop {
            if let TransportEvent::Frame { bytes, .. } =
                in_time("a frame", self.events.recv()).await.unwrap()
            {
                let message = wire::decode(&bytes).unwrap();
                if let Frame::Ping { seq, reliable, .. } = message.frame {
                    let class = if reliable { Class::Stream } else { Class::Datagram };
                    self.send(class, &Frame::Ack { seq }, &[]);
                }
                return (message, bytes.len());
            }
        }
    }

    /// Tells the node in one frame of so many members that came and left again: all of that is
    /// news at once, and there is nobody but us to pass it on to.
    fn tell(&self, members: usize, tags: &BTreeMap<String, String>) -> BTreeSet<NodeId> {
        let peer = |n| Peer { id: NodeId::new(format!("m{n}")).unwrap(), instance: Instance(n) };
        let peers: Vec<_> = (1..=members as u64).map(peer).collect();
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        let states = [State::Alive, State::Left];
        let records: Vec<_> =
            states.iter().flat_map(|s| peers.iter().map(|p| record(p, *s, addr, tags))).collect();
        self.send(Class::Stream, &Frame::Gossip, &records);
        peers.into_iter().map(|peer| peer.id).collect()
    }

    /// Takes frames until all these members were heard of; returns those with news of them, as
    /// numbers of updates and bytes.
    async fn hear(&mut self, members: &BTreeSet<NodeId>) -> Vec<(usize, usize)> {
        let mut missing = members.clone();
        let mut frames = Vec::new();
        while !missing.is_empty() {
            let (message, bytes) = self.next().await;
            // A sync sends whole tables and has limits of its own.
            assert!(!matches!(message.frame, Frame::Records { .. }), "a sync told us");
            for update in &message.updates {
                missing.remove(&update.id);
            }
            if message.updates.iter().any(|u| members.contains(&u.id)) {
                frames.push((message.updates.len(), bytes));
            }
        }
        frames
    }
}

fn record(peer: &Peer, state: State, addr: SocketAddr, tags: &BTreeMap<String, String>) -> Record {
    Record {
        id: peer.id.clone(),
        instance: peer.instance,
        incarnation: 1,
        state,
        addr,
        tags: Arc::new(tags.clone()),
        observers: Vec::new(),
        unresponsive: false,
        dead_for_ms: 0,
    }
}

async fn observed() -> (Cluster, Observer) {
    let secret = Secret::generate();
    let node = node("n0", &secret).start().await.unwrap();
    let observer = Observer::join(&node, &secret).await;
    (node, observer)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_twenty_updates_come_in_several_frames() {
    let (node, mut observer) = observed().await;
    let members = observer.tell(70, &BTreeMap::new());
    let frames = observer.hear(&members).await;
    assert!(frames.len() >= 70_usize.div_ceil(UPDATES_MAX), "{frames:?}");
    for (updates, bytes) in &frames {
        assert!(*updates <= UPDATES_MAX && *bytes <= MESSAGE_BYTES_MAX, "{frames:?}");
    }
    // The limit that this test is about was the one that counted.
    assert!(frames.iter().any(|(updates, _)| *updates == UPDATES_MAX), "{frames:?}");
    node.shutdown_now().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_four_kibibytes_of_updates_come_in_several_frames() {
    let (node, mut observer) = observed().await;
    let tags = BTreeMap::from([("large".to_owned(), "x".repeat(1200))]);
    let members = observer.tell(12, &tags);
    let frames = observer.hear(&members).await;
    for (updates, bytes) in &frames {
        assert!(*updates <= UPDATES_MAX && *bytes <= MESSAGE_BYTES_MAX, "{frames:?}");
    }
    // One more would not have fitted.
    assert!(frames.iter().any(|(_, bytes)| bytes + 1200 > MESSAGE_BYTES_MAX), "{frames:?}");
    node.shutdown_now().await.unwrap();
}
