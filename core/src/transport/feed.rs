//! Bytes as a peer could send them, given to whatever reads what stands on a stream before a program's
//! own: for fuzzers and for tests. Nothing here may panic, whatever comes and however it is cut up.

use std::{
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use s2n_quic::stream;
use tokio::time::Instant;

use super::{
    end::Taken,
    hello::{self, Answer, Hello},
    reader::{Reader, Source},
    request::{self, Call, TOPIC_BYTES_MAX},
    shelf::{self, Shelf},
    stream as streams,
};
use crate::member::{Instance, NodeId, Peer};

/// Larger than what is read in one piece, and than what comes from the shelf.
const PAYLOAD_MAX: u64 = 2 * shelf::LARGE as u64;
/// No more records are read than that.
const RECORDS_MAX: usize = 1000;

/// What the first byte chooses, by its remainder.
const KINDS: u8 = 6;

/// Reads bytes as one of these: what a dialer says in its hello, the answer to one, a request, a stream's
/// head, an answer, records about streams. The first byte says which, the second in what chunks it comes.
pub fn feed(bytes: &[u8]) {
    let [kind, cut, bytes @ ..] = bytes else { return };
    let source = || Chunks { rest: Bytes::copy_from_slice(bytes), cut: usize::from(*cut) };
    match kind % KINDS {
        0 => at_once(dialer(source())),
        1 => at_once(acceptor(source())),
        2 => at_once(request(source(), bytes)),
        3 => at_once(stream(source())),
        4 => at_once(answer(source(), bytes)),
        _ => at_once(records(source())),
    }
}

/// A hello as it stands on the stream, and the answer that lets a peer in: to begin from.
pub fn examples() -> Vec<Vec<u8>> {
    let example = |kind: u8, bytes: &[u8]| [&[kind, 7], bytes].concat();
    let request = b"\0\x04\0\0\x03\xe8\0\0\0\0\0\0\0\x02echohi";
    let opening = b"ST\0\x05\0\0\x03\xe8\0\0\0\0\0\x01\0\0upper";
    let record =
        b"\0\x11\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\x02\0\0\0\x0d\x01\0\0\0\0\0\0\0\x04\0\0\0\x07";
    let encoded = |what: Result<Bytes, hello::Failure>| what.unwrap_or_default();
    vec![
        example(0, &encoded(hello::encode(hello::VERSIONS, &ours()))),
        example(1, &encoded(hello::encode(hello::VERSIONS, &Answer::Welcome(ours())))),
        example(1, &encoded(hello::encode(hello::VERSIONS, &Answer::Full(50, vec![addr()])))),
        example(2, request),
        example(3, opening),
        example(4, b"\0\0\0\0\0\0\0\0\x02hi"),
        example(4, b"\x03\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\x04\0"),
        example(5, record),
    ]
}

/// Who dials may be anybody with a certificate: what it says decides nothing that this does not bear out.
async fn dialer(mut source: Chunks) {
    let Ok(theirs) = hello::receive::<Hello>(&mut source).await else { return };
    same_again(&theirs);
    let known = [ours().id];
    let refused = hello::judge(&ours(), &theirs, &known);
    assert!(refused.is_some() || known.contains(&theirs.id), "{theirs:?}");
}

async fn acceptor(mut source: Chunks) {
    let Ok(answer) = hello::receive::<Answer>(&mut source).await else { return };
    same_again(&answer);
    let known = [ours().id];
    if let Ok(theirs) = hello::accept(&ours(), addr(), answer, &known) {
        assert!(known.contains(&theirs.id) && theirs.cluster == ours().cluster, "{theirs:?}");
    }
}

fn same_again<T>(what: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = postcard::to_stdvec(what).expect("what was decoded is encoded");
    assert_eq!(postcard::from_bytes::<T>(&bytes).as_ref(), Ok(what));
}

/// What is read of a payload is what was sent, whatever buffers it went through.
async fn request(source: Chunks, bytes: &[u8]) {
    let mut reader = Reader::new(source);
    let Some(topic) = request::read_length(&mut reader).await else { return };
    let Some(head) = request::read_head(&mut reader, topic).await else { return };
    assert!(head.topic.len() <= TOPIC_BYTES_MAX);
    if head.bytes <= PAYLOAD_MAX
        && let Ok(payload) = reader.payload(head.bytes as usize, &Arc::<Shelf>::default()).await
    {
        let behind = &bytes[2 + 4 + 8 + head.topic.len()..];
        assert_eq!(payload, behind[..head.bytes as usize]);
        reader.end().await;
    }
}

async fn stream(source: Chunks) {
    let mut reader = Reader::new(source);
    if request::read_length(&mut reader).await == Some(streams::MARK)
        && let Some(head) = streams::read_head(&mut reader).await
    {
        assert!(head.topic.len() <= TOPIC_BYTES_MAX);
        while let Ok(Some(chunk)) = reader.next().await {
            assert!(!chunk.is_empty());
        }
    }
}

async fn answer(source: Chunks, bytes: &[u8]) {
    let peer = Peer { id: ours().id, instance: Instance(1) };
    let deadline = Duration::from_secs(1);
    let until = Instant::now() + deadline;
    let call = Call { peer: &peer, topic: "topic", payload: Bytes::new(), deadline, until };
    let mut reader = Reader::new(source);
    let shelf = Arc::<Shelf>::default();
    if let Ok(Ok(payload)) = request::read_answer(&shelf, &mut reader, 0, &call, PAYLOAD_MAX).await
    {
        assert_eq!(payload, bytes[request::ANSWER_HEAD..][..payload.len()]);
    }
}

/// And the code that a link is closed with, of the same bytes.
async fn records(source: Chunks) {
    let mut code = [0; 8];
    let some = source.rest.len().min(8);
    code[..some].copy_from_slice(&source.rest[..some]);
    let _ = Taken::of(u64::from_be_bytes(code));
    let mut reader = Reader::new(source);
    for _ in 0..RECORDS_MAX {
        let Ok(first) = reader.exact(1).await else { return };
        let Some((_, told)) = streams::read_record(first[0], &mut reader).await else { return };
        if let streams::Told::Failed(message) = told {
            assert!(message.len() <= 3 * usize::from(u16::MAX));
        }
    }
}

fn ours() -> Hello {
    Hello {
        cluster: "c".into(),
        id: NodeId::new("a").expect("a short name without controls"),
        instance: Instance(1),
        listen: addr(),
        expect: None,
        serial: 1,
        generation: 0,
        slot: 0,
    }
}

fn addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000))
}

/// A stream that brings so many bytes at once, now and then none.
struct Chunks {
    rest: Bytes,
    cut: usize,
}

impl Source for Chunks {
    async fn chunk(&mut self) -> stream::Result<(Bytes, bool)> {
        let size = if self.cut == 0 { self.rest.len() } else { self.cut.min(self.rest.len()) };
        let chunk = self.rest.split_to(size);
        let open = !self.rest.is_empty();
        Ok((chunk, open))
    }
}

/// Nothing that is read here has to be waited for.
fn at_once(future: impl Future<Output = ()>) {
    let poll = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(poll, Poll::Ready(()), "it waits although all is there");
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_examples_are_read_whole() {
        for (at, example) in examples().iter().enumerate() {
            for cut in [0, 1, 2, 255] {
                feed(&[&[example[0], cut], &example[2..]].concat());
            }
            assert!(example.len() > 2, "example {at}");
        }
    }

    #[test]
    fn nothing_breaks_a_reader() {
        let mut rng = StdRng::seed_from_u64(3);
        for example in examples() {
            for length in 0..example.len() {
                feed(&example[..length]);
            }
            for _ in 0..2000 {
                let mut damaged = example.clone();
                for _ in 0..rng.random_range(1..4) {
                    let at = rng.random_range(0..damaged.len());
                    damaged[at] = rng.random();
                }
                feed(&damaged);
            }
        }
    }

    /// A payload that needs several buffers, and one from the shelf.
    #[test]
    fn payloads_are_read_whole_in_any_chunks() {
        for bytes in [0, 1, 70_000, shelf::LARGE - 1, shelf::LARGE, PAYLOAD_MAX as usize] {
            let payload: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
            let head = [&[0; 6][..], &(bytes as u64).to_be_bytes()].concat();
            for cut in [0, 97, 255] {
                feed(&[&[2, cut][..], &head, &payload].concat());
                feed(&[&[4, cut, 0][..], &(bytes as u64).to_be_bytes(), &payload].concat());
            }
        }
    }
}
