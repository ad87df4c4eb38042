//! A record that was read and checked whole, but not taken apart: nothing was allocated for it.
//!
//! A fact that goes round reaches a node many times and is news once. What decides that is at the
//! record's beginning; the rest is only checked, so that a bad record is noticed all the same.

use std::{fmt, net::SocketAddr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use super::{DecodeError, OBSERVERS_MAX, Record, record};
use crate::{
    evidence,
    member::{self, Instance, State, TAGS_BYTES_MAX, TAGS_MAX},
};

/// A record as it lies in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skimmed<'a> {
    pub(crate) id: &'a str,
    pub(crate) instance: Instance,
    pub(crate) incarnation: u64,
    pub(crate) state: State,
    bytes: &'a [u8],
}

/// The fields of [`Record`], in its order.
#[derive(Deserialize)]
struct Fields<'a> {
    id: &'a str,
    instance: Instance,
    incarnation: u64,
    state: State,
    _addr: SocketAddr,
    _tags: CheckedTags,
    _observers: CheckedObservers,
    _dead_for_ms: u64,
    _unresponsive: bool,
}

impl<'a> Skimmed<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let malformed = || DecodeError::Malformed("a malformed record");
        let (f, _later_fields) =
            postcard::take_from_bytes::<Fields<'_>>(bytes).map_err(|_| malformed())?;
        member::check_id(f.id).map_err(|_| malformed())?;
        record::check_incarnation(f.incarnation, f.id)?;
        Ok(Self {
            id: f.id,
            instance: f.instance,
            incarnation: f.incarnation,
            state: f.state,
            bytes,
        })
    }

    /// The order of rule 2: greater supersedes.
    pub(crate) fn rank(&self) -> (u64, State) {
        (self.incarnation, self.state)
    }

    /// Takes it apart.
    pub(crate) fn record(&self) -> Result<Record, DecodeError> {
        Record::decode(self.bytes)
    }
}

/// Tags within their limits.
struct CheckedTags;

impl<'de> Deserialize<'de> for CheckedTags {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = CheckedTags;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tags within their limits")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CheckedTags, A::Error> {
                let (mut count, mut bytes) = (0, 0);
                while let Some((key, value)) = map.next_entry::<&str, &str>()? {
                    count += 1;
                    bytes += key.len() + value.len();
                    if key.is_empty() || count > TAGS_MAX || bytes > TAGS_BYTES_MAX {
                        return Err(A::Error::custom("tags beyond their limits"));
                    }
                }
                Ok(CheckedTags)
            }
        }
        d.deserialize_map(Walk)
    }
}

/// Observers within their limits.
struct CheckedObservers;

impl<'de> Deserialize<'de> for CheckedObservers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = CheckedObservers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("observers within their limits")
            }
            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<CheckedObservers, A::Error> {
                let mut count = 0;
                while let Some(seen) = seq.next_element::<evidence::Wire<&str>>()? {
                    count += 1;
                    let well = member::check_id(seen.observer).is_ok() && seen.check().is_ok();
                    if count > OBSERVERS_MAX || !well {
                        return Err(A::Error::custom("observers beyond their limits"));
                    }
                }
                Ok(CheckedObservers)
            }
        }
        d.deserialize_seq(Walk)
    }
}
