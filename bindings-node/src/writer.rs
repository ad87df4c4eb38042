//! Lays records, events and outcomes out for TypeScript, many at a time: numbers as slots of
//! eight bytes, texts in one table, payloads beside them. One crossing carries a whole batch,
//! where an object a property at a time would cost a crossing each.
//!
//! `ts/reader.ts` is the other half.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use napi::bindgen_prelude::{ArrayBuffer, BufferSlice, Env};
use napi_derive::napi;
use peerage::{State, Tags};

/// Payloads below this share one buffer, as Node's own small ones do; above it each has its own,
/// so that nobody who keeps a small payload keeps a large one with it.
const SHARED_BYTES_MAX: usize = 4096;

/// A batch as it crosses.
#[napi(object)]
pub struct Batch<'env> {
    /// Numbers, eight bytes each in the machine's own order.
    pub slots: ArrayBuffer<'env>,
    /// The table of texts, as a JSON array.
    pub texts: String,
    /// The small payloads, one after another.
    pub small: Option<BufferSlice<'env>>,
    /// The large payloads.
    pub large: Option<Vec<BufferSlice<'env>>>,
}

/// A batch being written. It borrows what it writes, so that equal texts are found without a copy.
pub(crate) struct Writer<'a> {
    slots: Vec<u8>,
    texts: String,
    texts_count: u32,
    known_texts: HashMap<&'a str, u32>,
    known_addresses: HashMap<SocketAddr, u32>,
    /// By where they are: records of one member share their tags.
    known_tags: HashMap<*const BTreeMap<String, String>, u32>,
    small: Vec<u8>,
    large: Vec<&'a Bytes>,
}

impl<'a> Writer<'a> {
    /// A batch of about so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: Vec::with_capacity(slots * 8),
            texts: "[".into(),
            texts_count: 0,
            known_texts: HashMap::new(),
            known_addresses: HashMap::new(),
            known_tags: HashMap::new(),
            small: Vec::new(),
            large: Vec::new(),
        }
    }

    /// The batch, ready to cross.
    pub(crate) fn finish(mut self, env: &Env) -> napi::Result<Batch<'_>> {
        self.texts.push(']');
        let copy = |bytes: &&Bytes| BufferSlice::copy_from(env, bytes);
        Ok(Batch {
            slots: ArrayBuffer::copy_from(env, &self.slots)?,
            texts: self.texts,
            small: match self.small.is_empty() {
                true => None,
                false => Some(BufferSlice::from_data(env, self.small)?),
            },
            large: match self.large.is_empty() {
                true => None,
                false => Some(self.large.iter().map(copy).collect::<napi::Result<_>>()?),
            },
        })
    }

    /// A number that JavaScript holds exactly.
    pub(crate) fn count(&mut self, value: f64) {
        self.slots.extend_from_slice(&value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.slots.extend_from_slice(&value.to_ne_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.count(f64::from(u8::from(value)));
    }

    pub(crate) fn state(&mut self, value: State) {
        self.count(f64::from(value as u8));
    }

    /// Milliseconds.
    pub(crate) fn span(&mut self, value: Duration) {
        self.count(value.as_secs_f64() * 1000.0);
    }

    /// Nothing is no number.
    pub(crate) fn optional_span(&mut self, value: Option<Duration>) {
        match value {
            Some(value) => self.span(value),
            None => self.count(f64::NAN),
        }
    }

    /// Nothing is no number.
    pub(crate) fn optional_number(&mut self, value: Option<f64>) {
        self.count(value.unwrap_or(f64::NAN));
    }

    pub(crate) fn text(&mut self, value: &'a str) {
        let place = match self.known_texts.get(value) {
            Some(place) => *place,
            None => {
                let place = self.new_text(value);
                self.known_texts.insert(value, place);
                place
            }
        };
        self.count(f64::from(place));
    }

    pub(crate) fn address(&mut self, value: SocketAddr) {
        let place = match self.known_addresses.get(&value) {
            Some(place) => *place,
            None => {
                let place = self.new_text(&value.to_string());
                self.known_addresses.insert(value, place);
                place
            }
        };
        self.count(f64::from(place));
    }

    /// The place among the tags of this batch; those that are new to it follow.
    pub(crate) fn tags(&mut self, value: &'a Tags) {
        let next = self.known_tags.len() as u32;
        let place = *self.known_tags.entry(Arc::as_ptr(value)).or_insert(next);
        self.count(f64::from(place));
        if place == next {
            self.count(value.len() as f64);
            for (key, value) in value.iter() {
                self.text(key);
                self.text(value);
            }
        }
    }

    pub(crate) fn list<T>(&mut self, list: &'a [T], write: impl Fn(&mut Self, &'a T)) {
        self.count(list.len() as f64);
        for item in list {
            write(self, item);
        }
    }

    /// A payload: its length, and the bytes beside the slots.
    pub(crate) fn bytes(&mut self, value: &'a Bytes) {
        self.count(value.len() as f64);
        if value.len() < SHARED_BYTES_MAX {
            self.small.extend_from_slice(value);
        } else {
            self.large.push(value);
        }
    }

    fn new_text(&mut self, value: &str) -> u32 {
        if self.texts_count > 0 {
            self.texts.push(',');
        }
        quote(&mut self.texts, value);
        self.texts_count += 1;
        self.texts_count - 1
    }
}

/// Appends a JSON string.
fn quote(out: &mut String, value: &str) {
    out.push('"');
    let mut rest = value;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        out.push_str(&rest[..at]);
        let odd = rest.as_bytes()[at];
        match odd {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(odd >> 4)]));
                out.push(char::from(HEX[usize::from(odd & 15)]));
            }
        }
        rest = &rest[at + 1..]; // what was found is one byte long
    }
    out.push_str(rest);
    out.push('"');
}
