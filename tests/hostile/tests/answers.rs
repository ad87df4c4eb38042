//! A valid peer whose answers to requests are none.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use peerage::{
    Cluster, Code, Secret,
    member::Instance,
    transport::{Inbound, Options, Transport, TransportEvent},
};
use peerage_hostile::{Intruder, PATIENCE, until};
use s2n_quic::{connection::StreamAcceptor, stream::SendStream};
use tokio::{sync::mpsc, time::timeout};

const PAYLOAD_MAX: u64 = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(1);

struct Nobody;

impl Inbound for Nobody {}

async fn node(secret: &Secret) -> (Transport, mpsc::Receiver<TransportEvent>) {
    let config = Cluster::builder("test", "n0").secret(secret.clone());
    let few = Options::of(config.config(), Instance(1)).unwrap();
    let options = Options { payload_max: PAYLOAD_MAX, requests_max: 10, streams_max: 10, ..few };
    Transport::bind(options, Arc::new(Nobody)).await.unwrap()
}

/// What there is after the bytes.
#[derive(Clone, Copy, Debug)]
enum Then {
    End,
    Reset,
    Nothing,
    Endlessly,
}

/// An answer that says this of itself and holds that.
fn answer(status: u8, length: u64, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(status);
    bytes.put_u64(length);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Takes the next request, whole, and says that.
async fn say(acceptor: &mut StreamAcceptor, bytes: Bytes, then: Then) -> Option<SendStream> {
    let stream = acceptor.accept_bidirectional_stream().await.unwrap().unwrap();
    let (mut receive, mut send) = stream.split();
    while receive.receive().await.unwrap().is_some() {}
    if !bytes.is_empty() {
        send.send(bytes).await.unwrap();
    }
    match then {
        Then::End => send.finish().unwrap(),
        Then::Reset => send.reset(77u8.into()).unwrap(),
        Then::Nothing => return Some(send),
        Then::Endlessly => {
            let chunk = Bytes::from(vec![0x55; 16 << 10]);
            while send.send(chunk.clone()).await.is_ok() {}
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_ends_its_request_and_nothing_else() {
    let secret = Secret::generate();
    let (node, mut events) = node(&secret).await;
    let intruder = Intruder::new(Some(&secret), "intruder");
    let (_handle, mut acceptor) = intruder.link(node.local_addr()).await;
    let (peer, addr) = loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("a link in time");
        if let Some(TransportEvent::LinkUp { peer, addr, .. }) = event {
            break (peer, addr);
        }
    };

    let frame = Bytes::from_static(b"\x00\x01a frame of another kind, which is no answer");
    let noise = Bytes::from_iter(
        (0..100_000).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 6),
    );
    let lost = [Code::LinkLost].as_slice();
    let large = [Code::TooLarge].as_slice();
    for (what, bytes, then, codes) in [
        ("nothing", Bytes::new(), Then::End, lost),
        ("half a head", answer(0, 5, b"").slice(..4), Then::End, lost),
        ("a head without a payload", answer(0, 5, b""), Then::End, lost),
        ("a payload cut off", answer(0, 50_000, &[7; 20_000]), Then::End, lost),
        ("a payload reset", answer(0, 50_000, &[7; 20_000]), Then::Reset, lost),
        ("a reset", Bytes::new(), Then::Reset, lost),
        ("a status that there is not", answer(200, 0, b""), Then::End, lost),
        ("a frame", frame, Then::End, &[Code::LinkLost, Code::TooLarge]),
        ("noise", noise, Then::End, &[Code::LinkLost, Code::TooLarge]),
        ("too long by one", answer(0, PAYLOAD_MAX + 1, b""), Then::Endlessly, large),
        ("as long as can be", answer(0, u64::MAX, b""), Then::Endlessly, large),
        ("a refusal as long as can be", answer(2, u64::MAX, b""), Then::Endlessly, large),
        ("a refusal without its number", answer(3, 0, b""), Then::End, &[Code::Busy]),
        ("a message that is no text", answer(2, 3, b"\xff\xfe\xfd"), Then::End, &[Code::Handler]),
        ("silence", Bytes::new(), Then::Nothing, &[Code::Timeout]),
        ("half an answer and silence", answer(0, 9, b"half"), Then::Nothing, &[Code::Timeout]),
    ] {
        let began = Instant::now();
        let asking = node.request(&peer, addr, "topic", Bytes::from_static(b"payload"), DEADLINE);
        let saying = timeout(PATIENCE, say(&mut acceptor, bytes, then));
        let (answered, said) = tokio::join!(asking, saying);
        let _open = said.unwrap_or_else(|_| panic!("{what}: it goes on listening"));
        let error = answered.expect_err(what);
        assert!(codes.contains(&error.code()), "{what}: {error:?}");
        let took = began.elapsed();
        let early = error.code() != Code::Timeout;
        assert!(!early || took < DEADLINE, "{what}: after {took:?}");
        until("nothing is under way", || node.stats().requests_out == 0).await;
        assert!(node.links().iter().all(|link| link.in_flight == 0), "{what}");

        // The link is as good as before.
        let asking = node.request(&peer, addr, "topic", Bytes::new(), PATIENCE);
        let saying = say(&mut acceptor, answer(0, 4, b"fine"), Then::End);
        assert_eq!(tokio::join!(asking, saying).0.unwrap(), "fine", "after {what}");
    }
    assert_eq!((node.stats().pool.links_total, node.stats().accepted), (1, 1), "all on one link");
    node.shutdown(Duration::ZERO).await;
}
