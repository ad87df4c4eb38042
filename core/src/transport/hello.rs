//! The hello: the first exchange on a link, before which it carries nothing else.
//!
//! The dialing side is told that a connection is up before the other side has judged its
//! certificate; only the answer to its hello says that both are content, or why not.
//!
//! On the first bidirectional stream the dialer sends `magic, min version, max version` in fixed
//! form, so that any future version can read them, and then its [`Hello`]; the answer is an
//! [`Answer`]. Both are length-prefixed postcard of at most 4 KiB; later versions may append
//! fields.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use s2n_quic::stream::SendStream;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::reader::Source;
use crate::{
    error::Error,
    member::{Instance, NodeId, Peer},
};

const MAGIC: [u8; 4] = *b"peer";
/// The protocol versions that we speak.
pub(super) const VERSIONS: (u16, u16) = (1, 1);
const BYTES_MAX: usize = 4096;
/// How many others a full node names, and how many are listened to.
pub(super) const OTHERS_MAX: usize = 8;
/// Magic, both versions, length.
const HEAD: usize = 4 + 2 + 2 + 2;

/// What each side says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) cluster: String,
    pub(super) id: NodeId,
    pub(super) instance: Instance,
    /// Where the sender listens.
    pub(super) listen: SocketAddr,
    /// Whom the dialer wants to reach; anybody, if none.
    pub(super) expect: Option<NodeId>,
    /// Grows with each dial of one process.
    pub(super) serial: u64,
    /// Grows with each link that takes the place of one whose keys were changed; it counts before
    /// all else when two links compete.
    pub(super) generation: u64,
    /// Which of several links to the same peer it is to be, from 0; the dialer says so.
    pub(super) slot: u16,
}

impl Hello {
    pub(super) fn peer(&self) -> Peer {
        Peer { id: self.id.clone(), instance: self.instance }
    }
}

/// What the accepting side says to a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The link is up.
    Welcome(Hello),
    /// We are of another cluster.
    WrongCluster,
    /// The dialer's certificate is not for the node id that it claims.
    NotYourCertificate,
    /// We are not whom the dialer expects.
    WrongNode(NodeId),
    /// No version in common.
    WrongVersion(u16, u16),
    /// No room for another link than so many; these might have some.
    Full(u32, Vec<SocketAddr>),
    /// The dialer reached itself.
    Yourself,
    /// We are shutting down.
    Closing,
}

/// Why a hello failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The stream or the connection ended.
    Stream(s2n_quic::stream::Error),
    /// It made no sense.
    Nonsense(&'static str),
    /// The other side speaks these versions only.
    Versions(u16, u16),
}

impl From<s2n_quic::stream::Error> for Failure {
    fn from(error: s2n_quic::stream::Error) -> Self {
        Self::Stream(error)
    }
}

/// Sends one side's part and ends the stream.
pub(super) async fn send<T: Serialize>(stream: &mut SendStream, what: &T) -> Result<(), Failure> {
    let sent = stream.send(encode(VERSIONS, what)?).await.and_then(|()| stream.finish());
    match sent {
        // Who has read it all lets go of the stream, perhaps before it was told to end.
        Ok(()) | Err(s2n_quic::stream::Error::StreamReset { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Receives the other side's part.
pub(super) async fn receive<T: DeserializeOwned>(stream: &mut impl Source) -> Result<T, Failure> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some(body) = body(&bytes)? {
            return postcard::from_bytes(&body)
                .map_err(|_| Failure::Nonsense("its fields do not decode"));
        }
        let (chunk, open) = stream.chunk().await?;
        if chunk.is_empty() && !open {
            return Err(Failure::Nonsense("it ends early"));
        }
        if bytes.len() + chunk.len() > HEAD + BYTES_MAX {
            return Err(Failure::Nonsense("it is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
}

pub(super) fn encode<T: Serialize>(versions: (u16, u16), what: &T) -> Result<Bytes, Failure> {
    let body =
        postcard::to_stdvec(what).map_err(|_| Failure::Nonsense("our fields do not encode"))?;
    let length =
        u16::try_from(body.len()).map_err(|_| Failure::Nonsense("our fields are too long"))?;
    let mut bytes = BytesMut::with_capacity(HEAD + body.len());
    bytes.put_slice(&MAGIC);
    bytes.put_u16(versions.0);
    bytes.put_u16(versions.1);
    bytes.put_u16(length);
    bytes.put_slice(&body);
    Ok(bytes.freeze())
}

/// The body, once it is there whole. Looks at the magic and the versions as soon as they are.
fn body(mut bytes: &[u8]) -> Result<Option<Bytes>, Failure> {
    let seen = bytes.len().min(MAGIC.len());
    if bytes[..seen] != MAGIC[..seen] {
        return Err(Failure::Nonsense("it does not begin like one"));
    }
    if bytes.len() < HEAD {
        return Ok(None);
    }
    bytes = &bytes[MAGIC.len()..];
    let mut number = || {
        let (first, rest) = bytes.split_at(2);
        bytes = rest;
        u16::from_be_bytes([first[0], first[1]])
    };
    let (min, max, length) = (number(), number(), usize::from(number()));
    if min > VERSIONS.1 || max < VERSIONS.0 {
        return Err(Failure::Versions(min, max));
    }
    if length > BYTES_MAX {
        return Err(Failure::Nonsense("it is too long"));
    }
    Ok(bytes.get(..length).map(Bytes::copy_from_slice))
}

/// Judges what a dialer said; `None` means that it is welcome. `ids` are those that its
/// certificate speaks for.
pub(super) fn judge(ours: &Hello, theirs: &Hello, ids: &[NodeId]) -> Option<Answer> {
    if !ids.contains(&theirs.id) {
        Some(Answer::NotYourCertificate)
    } else if theirs.cluster != ours.cluster {
        Some(Answer::WrongCluster)
    } else if theirs.expect.as_ref().is_some_and(|expect| *expect != ours.id) {
        Some(Answer::WrongNode(ours.id.clone()))
    } else if theirs.peer() == ours.peer() {
        Some(Answer::Yourself)
    } else {
        None
    }
}

/// Turns the answer into the peer's own words, or into the error that it stands for. Believes
/// nothing that the peer's certificate does not bear out.
pub(super) fn accept(
    ours: &Hello,
    addr: SocketAddr,
    answer: Answer,
    ids: &[NodeId],
) -> Result<Hello, Error> {
    let expected =
        || ours.expect.as_ref().map_or_else(|| "another node".to_owned(), ToString::to_string);
    let wrong_node = |expected: String, found: String| Error::WrongNode { addr, expected, found };
    let unreachable =
        |reason: &str| Error::Unreachable { target: addr.to_string(), reason: reason.into() };
    let theirs = match answer {
        Answer::Welcome(theirs) => theirs,
        Answer::WrongCluster => {
            return Err(Error::WrongCluster { addr, ours: ours.cluster.clone() });
        }
        Answer::NotYourCertificate => {
            return Err(wrong_node(
                ours.id.to_string(),
                "our certificate is not for that id".into(),
            ));
        }
        Answer::WrongNode(found) => {
            return Err(wrong_node(expected(), format!("node {found:?} answers")));
        }
        Answer::WrongVersion(min, max) => return Err(wrong_version(addr, min, max)),
        Answer::Full(max, _) => {
            return Err(Error::Busy { what: "links at the peer", max: max as usize });
        }
        Answer::Yourself => return Err(wrong_node(expected(), "this node itself answers".into())),
        Answer::Closing => return Err(unreachable("it is shutting down")),
    };
    if !ids.contains(&theirs.id) {
        let found = format!("its certificate is for {ids:?}");
        return Err(wrong_node(theirs.id.to_string(), found));
    }
    if theirs.cluster != ours.cluster {
        return Err(Error::WrongCluster { addr, ours: ours.cluster.clone() });
    }
    if ours.expect.as_ref().is_some_and(|expect| *expect != theirs.id) {
        return Err(wrong_node(expected(), format!("node {:?} answers", theirs.id)));
    }
    Ok(theirs)
}

/// The error for a peer whose versions do not meet ours.
pub(super) fn wrong_version(addr: SocketAddr, min: u16, max: u16) -> Error {
    let ours = format!("{} to {}", VERSIONS.0, VERSIONS.1);
    Error::WrongVersion { addr, theirs: format!("{min} to {max}"), ours }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: "c".into(),
            id: NodeId::new("a").unwrap(),
            instance: Instance(1),
            listen: SocketAddr::from(([127, 0, 0, 1], 1)),
            expect: None,
            serial: 0,
            generation: 0,
            slot: 0,
        }
    }

    #[test]
    fn whole_hellos_are_read_and_partial_ones_waited_for() {
        let bytes = encode(VERSIONS, &hello()).unwrap();
        for end in 0..bytes.len() {
            assert!(body(&bytes[..end]).unwrap().is_none());
        }
        let whole = body(&bytes).unwrap().unwrap();
        assert_eq!(postcard::from_bytes::<Hello>(&whole).unwrap(), hello());
    }

    #[test]
    fn other_versions_and_nonsense_are_told_apart() {
        assert!(matches!(body(&encode((7, 9), &hello()).unwrap()), Err(Failure::Versions(7, 9))));
        assert!(matches!(body(b"GET / HTTP/1.1"), Err(Failure::Nonsense(_))));
        assert!(matches!(body(b"peer\x00\x01\x00\x01\xff\xff"), Err(Failure::Nonsense(_))));
    }

    #[test]
    fn a_claim_needs_its_certificate_first() {
        let other = NodeId::new("b").unwrap();
        let ours = Hello { id: other.clone(), cluster: "d".into(), ..hello() };
        assert_eq!(judge(&ours, &hello(), &[other]), Some(Answer::NotYourCertificate));
        assert_eq!(judge(&ours, &hello(), &[hello().id]), Some(Answer::WrongCluster));
        assert_eq!(judge(&hello(), &hello(), &[hello().id]), Some(Answer::Yourself));
    }
}
