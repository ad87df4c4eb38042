//! What the two ends of a link tell each other about its streams, besides what is in them: up to
//! where may be sent, that nobody reads any more, and why a handler failed.
//!
//! Each side opens one unidirectional stream for that on a link, when there is something to tell;
//! further ones are not heard. It begins with [`KIND`]; then come records: `length u16, kind u8, stream
//! id u64` and what the kind has. Records of unknown kinds, and of streams that are gone, are passed
//! over. All numbers are big-endian.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use s2n_quic::stream;
use tokio::{sync::Notify, time::timeout};

use super::flow::Flow;
use crate::{
    error::Error,
    transport::{
        end::{Code, LinkEnd},
        link::Link,
        node::Node,
        reader::{Reader, Source},
    },
};

/// The kind byte that it begins with, see `request`.
pub(in crate::transport) const KIND: u8 = 2;

/// Up to which byte the peer may send: `limit u64`.
const CREDIT: u8 = 0;
/// Nobody reads what the peer sends: `code u32`.
const STOP: u8 = 1;
/// Our handler failed: the message.
const FAILED: u8 = 2;

/// What stands in a record before that which its kind has.
const HEAD: usize = 1 + 8;
/// A record is no longer than this; a message is cut.
const RECORD_MAX: usize = 2048;
const MESSAGE_MAX: usize = 1024;
/// How long the peer may take over a record that it has begun.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// So much of that waits for a peer that does not read it, which a peer that lives does at once. One that
/// has more to hear is not kept.
const NOTES_MAX: usize = 1 << 20;
/// So much is sent at once.
const BATCH: usize = 16 << 10;

/// The streams of one link.
#[derive(Default)]
pub(in crate::transport) struct Streams {
    state: Mutex<Open>,
    wake: Notify,
    /// What the peer has to tell is being heard, or was.
    heard: AtomicBool,
}

#[derive(Default)]
struct Open {
    flows: HashMap<u64, Known>,
    /// Grants to tell; a later one takes the place of an earlier one.
    grants: HashMap<u64, u64>,
    /// Other records, ...
    notes: VecDeque<Bytes>,
    /// ... and how many bytes that is.
    notes_bytes: usize,
    writing: bool,
    /// Why the link ended, once it has.
    ended: Option<String>,
}

/// A stream that is open here.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) flow: Arc<Flow>,
    pub(super) target: String,
    pub(super) topic: String,
}

impl Known {
    fn lost(&self, reason: &str) -> Error {
        Error::LinkLost { target: self.target.clone(), reason: reason.into() }
    }
}

impl Streams {
    /// How many bytes have arrived on all of them that nobody has read.
    pub(in crate::transport) fn waiting(&self) -> u64 {
        self.state.lock().flows.values().map(|known| known.flow.inlet.waiting()).sum()
    }

    /// Takes a stream in, unless the link has ended.
    pub(super) fn add(&self, id: u64, known: Known) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.ended {
            return Err(known.lost(reason));
        }
        state.flows.insert(id, known);
        Ok(())
    }

    pub(super) fn remove(&self, id: u64) {
        let mut state = self.state.lock();
        state.grants.remove(&id);
        let known = state.flows.remove(&id);
        drop(state);
        drop(known); // unlocked
    }

    /// Whether any is open.
    pub(in crate::transport) fn any(&self) -> bool {
        !self.state.lock().flows.is_empty()
    }

    /// The link has ended: whoever reads or writes hears of it at once.
    pub(in crate::transport) fn end(&self, reason: String) {
        let mut state = self.state.lock();
        let flows = std::mem::take(&mut state.flows);
        state.ended.get_or_insert(reason.clone());
        drop(state);
        for known in flows.values() {
            known.flow.lose(&known.lost(&reason));
        }
        self.wake.notify_one();
    }

    /// How many bytes wait that the peer does not read.
    #[cfg(test)]
    pub(in crate::transport) fn notes(&self) -> usize {
        self.state.lock().notes_bytes
    }

    fn known(&self, id: u64) -> Option<Known> {
        self.state.lock().flows.get(&id).cloned()
    }
}

/// What this end has to tell about one of its streams.
pub(in crate::transport) struct Teller {
    pub(in crate::transport) node: Arc<Node>,
    pub(in crate::transport) link: Arc<Link>,
    pub(in crate::transport) id: u64,
}

impl Teller {
    pub(super) fn grant(&self, limit: u64) {
        self.tell(|open| match open.grants.entry(self.id) {
            Entry::Occupied(mut told) => *told.get_mut() = limit.max(*told.get()),
            Entry::Vacant(place) => {
                place.insert(limit);
            }
        });
    }

    pub(super) fn stop(&self, code: u32) {
        self.note(record(STOP, self.id, &code.to_be_bytes()));
    }

    pub(in crate::transport) fn failed(&self, message: &str) {
        let cut = &message[..message.floor_char_boundary(MESSAGE_MAX)];
        self.note(record(FAILED, self.id, cut.as_bytes()));
    }

    fn note(&self, record: Bytes) {
        let mut full = false;
        self.tell(|open| {
            full = open.notes_bytes + record.len() > NOTES_MAX;
            if !full {
                open.notes_bytes += record.len();
                open.notes.push_back(record);
            }
        });
        if full {
            stalled(&self.node, &self.link, "the peer does not hear what became of its streams");
        }
    }

    fn tell(&self, note: impl FnOnce(&mut Open)) {
        let mut state = self.link.streams.state.lock();
        if state.ended.is_some() {
            return;
        }
        note(&mut state);
        let begin = !std::mem::replace(&mut state.writing, true);
        drop(state);
        if begin {
            let link = self.link.clone();
            self.node.spawn("stream control", async move {
                // An error means that the link ends, which is told elsewhere.
                let _ = write(&link).await;
            });
        }
        self.link.streams.wake.notify_one();
    }
}

fn record(kind: u8, id: u64, rest: &[u8]) -> Bytes {
    let mut record = BytesMut::with_capacity(2 + HEAD + rest.len());
    put(&mut record, kind, id, rest);
    record.freeze()
}

fn put(out: &mut BytesMut, kind: u8, id: u64, rest: &[u8]) {
    out.put_u16((HEAD + rest.len()) as u16); // the longest is a message, which is cut to fit
    out.put_u8(kind);
    out.put_u64(id);
    out.put_slice(rest);
}

/// Tells what there is to tell until the link ends.
async fn write(link: &Link) -> stream::Result<()> {
    let mut stream = link.handle.clone().open_send_stream().await?;
    stream.send(Bytes::from_static(&[KIND])).await?;
    loop {
        let mut batch = BytesMut::new();
        let ended = {
            let mut state = link.streams.state.lock();
            while batch.len() < BATCH
                && let Some(note) = state.notes.pop_front()
            {
                state.notes_bytes -= note.len();
                batch.put_slice(&note);
            }
            for (id, limit) in state.grants.drain() {
                put(&mut batch, CREDIT, id, &limit.to_be_bytes());
            }
            state.ended.is_some()
        };
        if ended {
            return Ok(());
        }
        if batch.is_empty() {
            link.streams.wake.notified().await;
        } else {
            stream.send(batch.freeze()).await?;
        }
    }
}

/// Ends a link whose streams cannot go on.
fn stalled(node: &Node, link: &Arc<Link>, how: &str) {
    node.stats.stalled.up();
    node.drop_link(link, LinkEnd::Broken(how.into()));
    link.close(Code::Closed);
}

/// Hears what the peer tells, until the link ends or nonsense comes. On one stream of a link: dropping
/// another one tells the peer to stop.
pub(in crate::transport) async fn hear(node: &Node, link: &Arc<Link>, mut reader: Reader) {
    if link.streams.heard.swap(true, Relaxed) {
        return;
    }
    // There may be nothing to tell for as long as the link lasts.
    while let Ok(first) = reader.exact(1).await {
        let Ok(record) = timeout(RECORD_TIMEOUT, read_record(first[0], &mut reader)).await else {
            return stalled(node, link, "the peer does not finish what it tells of its streams");
        };
        let Some((id, told)) = record else { return };
        let Some(known) = link.streams.known(id) else { continue };
        match told {
            Told::Credit(limit) => known.flow.outlet.grant(limit),
            Told::Stop(code) => {
                known.flow.outlet.fail(Error::StreamReset { target: known.target, code });
            }
            Told::Failed(message) => {
                let Known { flow, target, topic } = known;
                flow.fail(Error::Handler { target, topic, message });
            }
            Told::Unknown => {}
        }
    }
}

/// What a record says of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transport) enum Told {
    Credit(u64),
    Stop(u32),
    Failed(String),
    /// What a later version may have to say.
    Unknown,
}

/// The rest of a record of which this byte has come, and the stream that it is about; `None` where it
/// makes no sense.
pub(in crate::transport) async fn read_record(
    first: u8,
    reader: &mut Reader<impl Source>,
) -> Option<(u64, Told)> {
    let second = reader.exact(1).await.ok()?[0];
    let length = usize::from(u16::from_be_bytes([first, second]));
    if !(HEAD..=RECORD_MAX).contains(&length) {
        return None;
    }
    let mut record = reader.exact(length).await.ok()?;
    let (kind, id) = (record.get_u8(), record.get_u64());
    let told = match kind {
        CREDIT if record.len() >= 8 => Told::Credit(record.get_u64()),
        STOP if record.len() >= 4 => Told::Stop(record.get_u32()),
        FAILED => Told::Failed(String::from_utf8_lossy(&record).into_owned()),
        _ => Told::Unknown,
    };
    Some((id, told))
}
