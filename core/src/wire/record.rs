//! One gossiped fact: a record of a member, always whole.
//!
//! A record that said only «suspect at incarnation 5» could overtake «alive at 5, with these
//! tags»; the latter would then be older by rule 2 and its tags lost. So every record carries
//! everything.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::DecodeError;
use crate::{
    evidence::Observation,
    member::{self, Instance, NodeId, Peer, State, Tags},
};

/// The highest incarnation that is believed. A member raises its own by one at a time, so that
/// no honest one comes near in the life of a cluster; what is above is refused as hostile.
pub const INCARNATION_MAX: u64 = 1 << 62;
/// How many observers a record names at most: as many as there can be rings, so that all of a
/// member's watchers fit. The longest names and all tags still fit one message.
pub const OBSERVERS_MAX: usize = 12;

/// What one node says about a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The stable name.
    pub id: NodeId,
    /// The process start.
    pub instance: Instance,
    /// The member's own counter.
    pub incarnation: u64,
    /// What it is believed to be.
    pub state: State,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it announces about itself.
    pub tags: Tags,
    /// Who could not reach it; empty unless suspect or failed.
    pub observers: Vec<Observation>,
    /// For how long it has been failed or left, in milliseconds: so that all forget it at about
    /// the same time and nobody keeps the memory of the dead alive by passing it on.
    pub dead_for_ms: u64,
    /// It says that its program does not respond.
    pub unresponsive: bool,
}

impl Record {
    /// The process that the record speaks of.
    pub fn peer(&self) -> Peer {
        Peer { id: self.id.clone(), instance: self.instance }
    }

    /// The order of rule 2: greater supersedes.
    pub fn rank(&self) -> (u64, State) {
        (self.incarnation, self.state)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (record, _later_fields) = postcard::take_from_bytes::<Record>(bytes)
            .map_err(|_| DecodeError::Malformed("a malformed record"))?;
        check_incarnation(record.incarnation, record.id.as_str())?;
        if record.observers.len() > OBSERVERS_MAX {
            return Err(DecodeError::NotAllowed(format!("{} observers", record.observers.len())));
        }
        member::check_tags(&record.tags).map_err(DecodeError::NotAllowed)?;
        Ok(record)
    }
}

/// Nobody comes so far by honest means.
pub(super) fn check_incarnation(incarnation: u64, id: &str) -> Result<(), DecodeError> {
    if incarnation > INCARNATION_MAX {
        return Err(DecodeError::NotAllowed(format!("incarnation {incarnation} of {id:?}")));
    }
    Ok(())
}

/// The record's bytes as they stand in a frame, its length in front.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut bytes =
        postcard::to_extend(record, vec![0, 0]).expect("plain data in memory always encodes");
    // Names, tags and observers are limited so that a record has at most some 4 KiB.
    let length = u16::try_from(bytes.len() - 2).expect("a record within its limits fits 16 bits");
    bytes[..2].copy_from_slice(&length.to_le_bytes());
    bytes
}
