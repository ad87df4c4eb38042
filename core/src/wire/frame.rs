//! Frames: what members say to each other besides requests.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{DecodeError, Record, Skimmed, encode_record};
use crate::member::{Instance, NodeId, Peer, State};

/// The longest frame, on a stream. Datagrams are bounded by the path.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The kind of heartbeats.
const BEAT: u8 = 13;

/// A frame with the updates that ride on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What is asked or said.
    pub frame: Frame,
    /// Facts about members.
    pub updates: Vec<Record>,
}

/// What is asked or said. Who says it is known from the link, never from the frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Only updates.
    Gossip,
    /// Are you there? Answered by `Ack` if the receiver is `target`, over a stream if `reliable`.
    Ping {
        /// The prober's own number.
        seq: u64,
        /// Who is meant: another process under the same id must not answer.
        target: Peer,
        /// Came over a stream and is to be answered over one.
        reliable: bool,
    },
    /// The answer to `Ping` or, through a helper, to `PingReq`.
    Ack {
        /// The number of the ping.
        seq: u64,
    },
    /// Probe this member on my behalf.
    PingReq {
        /// The prober's own number.
        seq: u64,
        /// Who is to be probed.
        target: Peer,
        /// Where it listens.
        addr: SocketAddr,
    },
    /// The target of your `PingReq` has not answered me either; I myself am well.
    Nack {
        /// The number of the request.
        seq: u64,
    },
    /// Admit me. Answered by `Welcome` or `Refused`.
    Join {
        /// The table is empty: send all of yours.
        fresh: bool,
    },
    /// You are admitted. The table follows in `Records` if you were fresh, else in `Summaries`.
    Welcome,
    /// Another living process has your node id; its record comes along.
    Refused,
    /// The fingerprint of my table; answered by `Summaries` if yours differs.
    Digest {
        /// See `membership::table`.
        hash: u64,
    },
    /// My table in short, for the ids in (`after`, `upto`].
    Summaries {
        /// Where the range begins, exclusive; from the very first if `None`.
        after: Option<NodeId>,
        /// Where the range ends, inclusive; the very last if `None`.
        upto: Option<NodeId>,
        /// All in the range.
        list: Vec<Summary>,
    },
    /// The updates that you lack; send me those in `want`.
    Records {
        /// Whose records are wanted back.
        want: Vec<NodeId>,
    },
    /// We have the same node id. The younger of us has to stop.
    Conflict {
        /// For how long the sender has been running, in milliseconds.
        uptime_ms: u64,
    },
    /// I am there. Sent at regular times on watch edges, in both directions; not answered.
    Heartbeat {
        /// One more than that of the last; much more after the edge was laid anew.
        seq: u64,
        /// The last one that the sender has seen from the receiver; 0 for none.
        seen: u64,
        /// How often the sender means to say so.
        every_ms: u32,
        /// What the sender has the edge for.
        want: Want,
    },
}

/// What one end of a watch edge has it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// Nothing any more: the receiver may take it up.
    Nothing,
    /// It is to stay, so the receiver is to keep it up as well.
    Edge,
    /// The sender judges the receiver's silence, so it is to be heard in every interval.
    Watch,
}

/// A record in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The stable name.
    pub id: NodeId,
    /// The process start.
    pub instance: Instance,
    /// The member's own counter.
    pub incarnation: u64,
    /// What it is believed to be.
    pub state: State,
}

/// The frame's bytes with the given updates, which are encoded records.
pub fn encode(frame: &Frame, updates: &[Bytes]) -> Bytes {
    if let Frame::Heartbeat { seq, seen, every_ms, want } = frame
        && updates.is_empty()
    {
        return encode_beat(&(seq, seen, every_ms, want));
    }
    let mut out = Vec::with_capacity(48 + updates.iter().map(Bytes::len).sum::<usize>());
    out.resize(5, 0);
    let (kind, body) = match frame {
        Frame::Gossip => (1, Ok(out)),
        Frame::Ping { seq, target, reliable } => {
            (2, postcard::to_extend(&(seq, target, reliable), out))
        }
        Frame::Ack { seq } => (3, postcard::to_extend(seq, out)),
        Frame::PingReq { seq, target, addr } => (4, postcard::to_extend(&(seq, target, addr), out)),
        Frame::Nack { seq } => (5, postcard::to_extend(seq, out)),
        Frame::Join { fresh } => (6, postcard::to_extend(fresh, out)),
        Frame::Welcome => (7, Ok(out)),
        Frame::Refused => (8, Ok(out)),
        Frame::Digest { hash } => (9, postcard::to_extend(hash, out)),
        Frame::Summaries { after, upto, list } => {
            (10, postcard::to_extend(&(after, upto, list), out))
        }
        Frame::Records { want } => (11, postcard::to_extend(want, out)),
        Frame::Conflict { uptime_ms } => (12, postcard::to_extend(uptime_ms, out)),
        Frame::Heartbeat { seq, seen, every_ms, want } => {
            (BEAT, postcard::to_extend(&(seq, seen, every_ms, want), out))
        }
    };
    out = body.expect("plain data in memory always encodes");
    let length = (out.len() - 5) as u32;
    out[0] = kind;
    out[1..5].copy_from_slice(&length.to_le_bytes());
    for update in updates {
        out.extend_from_slice(update);
    }
    out.into()
}

/// A heartbeat alone, which most frames are: in as many bytes as it needs.
fn encode_beat(body: &(&u64, &u64, &u32, &Want)) -> Bytes {
    let mut out = [0; 5 + 10 + 10 + 5 + 1];
    let length = postcard::to_slice(body, &mut out[5..]).map(|b| b.len());
    let length = length.expect("the longest numbers fit");
    out[0] = BEAT;
    out[1..5].copy_from_slice(&(length as u32).to_le_bytes());
    Bytes::copy_from_slice(&out[..5 + length])
}

/// Whether a frame is a heartbeat without updates.
pub(crate) fn is_lone_beat(bytes: &[u8]) -> bool {
    matches!(bytes, [BEAT, a, b, c, d, body @ ..]
        if u32::from_le_bytes([*a, *b, *c, *d]) as usize == body.len())
}

/// Reads a frame and its updates.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let (frame, updates) = skim(bytes)?;
    Ok(Message { frame, updates: updates.iter().map(Skimmed::record).collect::<Result<_, _>>()? })
}

/// Reads a frame and checks its updates, without taking them apart: most of them are known.
pub(crate) fn skim(mut bytes: &[u8]) -> Result<(Frame, Vec<Skimmed<'_>>), DecodeError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let kind = bytes.try_get_u8().map_err(|_| DecodeError::Truncated)?;
    let length = bytes.try_get_u32_le().map_err(|_| DecodeError::Truncated)? as usize;
    let (body, mut rest) = bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    let frame = match kind {
        1 => Frame::Gossip,
        2 => {
            let (seq, target, reliable) = read(body, "a malformed ping")?;
            Frame::Ping { seq, target, reliable }
        }
        3 => Frame::Ack { seq: read(body, "a malformed ack")? },
        4 => {
            let (seq, target, addr) = read(body, "a malformed ping-req")?;
            Frame::PingReq { seq, target, addr }
        }
        5 => Frame::Nack { seq: read(body, "a malformed nack")? },
        6 => Frame::Join { fresh: read(body, "a malformed join")? },
        7 => Frame::Welcome,
        8 => Frame::Refused,
        9 => Frame::Digest { hash: read(body, "a malformed digest")? },
        10 => {
            let (after, upto, list) = read(body, "a malformed summaries")?;
            Frame::Summaries { after, upto, list }
        }
        11 => Frame::Records { want: read(body, "a malformed records")? },
        12 => Frame::Conflict { uptime_ms: read(body, "a malformed conflict")? },
        BEAT => {
            let (seq, seen, every_ms, want) = read(body, "a malformed heartbeat")?;
            Frame::Heartbeat { seq, seen, every_ms, want }
        }
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    };
    let mut updates = Vec::new();
    while !rest.is_empty() {
        let length = rest.try_get_u16_le().map_err(|_| DecodeError::Truncated)?.into();
        let (record, after) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        updates.push(Skimmed::new(record)?);
        rest = after;
    }
    Ok((frame, updates))
}

fn read<T: DeserializeOwned>(body: &[u8], what: &'static str) -> Result<T, DecodeError> {
    // What a later version appended stays unread.
    postcard::take_from_bytes(body)
        .map(|(value, _)| value)
        .map_err(|_| DecodeError::Malformed(what))
}

/// The encoded form that the gossip queue and the sync keep.
pub(crate) fn update(record: &Record) -> Bytes {
    encode_record(record).into()
}
