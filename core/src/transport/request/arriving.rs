//! What arrives of a peer's request or message: the head, and then the payload, in their time.

use std::{pin::pin, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::{HEAD, TOPIC_BYTES_MAX};
use crate::{
    deadline::{self, in_time},
    transport::{
        Refusal,
        link::Link,
        node::Node,
        reader::{Reader, Source},
        share::Room,
    },
};

/// How long a payload waits for room: what waits takes up the link's window.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take over a payload, or over reading an answer: this, ...
const PASSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// ... and a second for each so many bytes. The deadline of a request is the peer's to choose.
const PASSAGE_BYTES_PER_S: u64 = 16 << 10;

/// Until when so many bytes must have come or gone.
pub(super) fn passage(bytes: u64) -> Instant {
    Instant::now() + PASSAGE_TIMEOUT + Duration::from_secs(bytes / PASSAGE_BYTES_PER_S)
}

/// What stands before a payload.
pub(in crate::transport) struct Head {
    pub(in crate::transport) topic: String,
    pub(super) until: Instant,
    pub(in crate::transport) deadline: Duration,
    pub(in crate::transport) bytes: u64,
}

/// The first thing in a head: the length of the topic.
pub(in crate::transport) async fn read_length(reader: &mut Reader<impl Source>) -> Option<u16> {
    Some(reader.exact(2).await.ok()?.get_u16())
}

pub(in crate::transport) async fn read_head(
    reader: &mut Reader<impl Source>,
    topic: u16,
) -> Option<Head> {
    let mut head = reader.exact(HEAD - 2).await.ok()?;
    let (topic, millis, bytes) = (usize::from(topic), head.get_u32(), head.get_u64());
    if topic > TOPIC_BYTES_MAX {
        return None;
    }
    let topic = String::from_utf8(reader.exact(topic).await.ok()?.into()).ok()?;
    // A peer may write any into it.
    let deadline = Duration::from_millis(millis.into()).min(deadline::MAX);
    Some(Head { topic, until: Instant::now() + deadline, deadline, bytes })
}

/// Reads the head; `None` when that does not come.
pub(super) async fn head_in_time(
    node: &Node,
    reader: &mut Reader,
    until: Instant,
    topic: Option<u16>,
) -> Option<Head> {
    let head = async {
        let topic = match topic {
            Some(length) => length,
            None => read_length(reader).await?,
        };
        read_head(reader, topic).await
    };
    in_time(pin!(head), || until).await.unwrap_or_else(|_| {
        node.stats.stalled.up();
        None
    })
}

/// Reads the payload and the end of the stream, once the peer has room for it; the room is taken as
/// long as the permit is held. Refused where there is none for a while, and `None` when the payload does
/// not come or its deadline is over.
pub(super) async fn payload_in_time<'a>(
    node: &Node,
    link: &'a Link,
    reader: &mut Reader,
    head: &Head,
) -> Option<Result<(Bytes, Room<'a>), Refusal>> {
    let share = &link.share.payloads;
    let room = pin!(share.room(&link.payloads, head.bytes));
    let patience = || head.until.min(Instant::now() + ROOM_TIMEOUT);
    let Ok(room) = in_time(room, patience).await else {
        if head.until <= Instant::now() {
            return None;
        }
        node.stats.requests_refused.up();
        return Some(Err(Refusal::Busy(share.at_once(head.bytes))));
    };
    let whole = async {
        let payload = reader.payload(head.bytes as usize, &node.shelf).await;
        reader.end().await;
        payload
    };
    let until = || head.until.min(passage(head.bytes));
    let Ok(payload) = in_time(pin!(whole), until).await else {
        node.stats.stalled.up();
        return None;
    };
    Some(Ok((payload.ok()?, room)))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    struct Whole(Bytes);

    impl Source for Whole {
        async fn chunk(&mut self) -> s2n_quic::stream::Result<(Bytes, bool)> {
            Ok((std::mem::take(&mut self.0), false))
        }
    }

    #[tokio::test]
    async fn no_deadline_is_longer_than_an_hour() {
        for (millis, seconds) in [(0, 0), (7000, 7), (3_600_000, 3600), (u32::MAX, 3600)] {
            let mut head = BytesMut::new();
            bytes::BufMut::put_u32(&mut head, millis);
            bytes::BufMut::put_u64(&mut head, 5);
            let mut reader = Reader::new(Whole(head.freeze()));
            let head = read_head(&mut reader, 0).await.unwrap();
            assert_eq!((head.deadline, head.bytes), (Duration::from_secs(seconds), 5));
            assert!(head.until <= Instant::now() + deadline::MAX);
        }
    }
}
