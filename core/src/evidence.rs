//! Why a member is suspect or failed: who observed what, and what happened to it before.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::member::{NodeId, State};

/// A node trusts its own timing from 0 (full) to this.
pub const HEALTH_SCORE_MAX: u32 = 8;

/// How many things that happened to one member are remembered.
pub const HISTORY_MAX: usize = 32;

/// Which way between an observer and a member fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Direction {
    /// The observer cannot tell: it got no answer, and has no watch edge, or no link any more, on
    /// which the member would have been heard.
    #[default]
    Unknown,
    /// We don't hear them: the member's heartbeats do not reach the observer.
    FromMember,
    /// They don't hear us: the observer's heartbeats or probes do not reach the member, whose own
    /// words arrive.
    ToMember,
    /// Neither hears the other.
    Both,
}

impl Direction {
    pub(crate) fn of_failing(from_member: bool, to_member: bool) -> Self {
        match (from_member, to_member) {
            (true, true) => Direction::Both,
            (true, false) => Direction::FromMember,
            (false, true) => Direction::ToMember,
            (false, false) => Direction::Unknown,
        }
    }

    /// The name that logs and every language use.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Unknown => "unknown",
            Direction::FromMember => "fromMember",
            Direction::ToMember => "toMember",
            Direction::Both => "both",
        }
    }
}

/// What one observer saw when it could not reach a member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Observation {
    /// Who could not reach the member.
    pub observer: NodeId,
    /// How surprising the silence of the member's heartbeats was (Hayashibara et al. 2004);
    /// nothing if the observer does not watch it. At most 1000, to a tenth.
    pub phi: Option<f64>,
    /// How many probes in a row the member had not answered, not even through others.
    pub missed_probes: u32,
    /// Which way fails.
    pub direction: Direction,
    /// The observer's trust in its own timing, 0 (full) to 8.
    pub health_score: u32,
}

/// The greatest phi that is told.
pub const PHI_MAX: f64 = 1000.0;

/// An observation as it travels: short.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wire<Id = NodeId> {
    pub(crate) observer: Id,
    phi_tenths: Option<u16>,
    missed_probes: u32,
    direction: Direction,
    health_score: u32,
}

impl<Id> Wire<Id> {
    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.phi_tenths.is_some_and(|tenths| f64::from(tenths) > PHI_MAX * 10.0) {
            return Err(format!("a phi of more than {PHI_MAX}"));
        }
        if self.health_score > HEALTH_SCORE_MAX {
            return Err(format!("a health score of {}", self.health_score));
        }
        Ok(())
    }
}

impl From<Observation> for Wire {
    fn from(o: Observation) -> Self {
        let tenths = |phi: f64| (phi.clamp(0.0, PHI_MAX) * 10.0).round() as u16;
        Self {
            observer: o.observer,
            phi_tenths: o.phi.map(tenths),
            missed_probes: o.missed_probes,
            direction: o.direction,
            health_score: o.health_score,
        }
    }
}

impl TryFrom<Wire> for Observation {
    type Error = String;
    fn try_from(wire: Wire) -> Result<Self, String> {
        wire.check()?;
        Ok(Self {
            observer: wire.observer,
            phi: wire.phi_tenths.map(|tenths| f64::from(tenths) / 10.0),
            missed_probes: wire.missed_probes,
            direction: wire.direction,
            health_score: wire.health_score,
        })
    }
}

/// One thing that happened to a member, as this node saw it.
#[derive(Clone, PartialEq, Debug)]
pub struct Happened {
    /// How long ago.
    pub ago: Duration,
    /// The event's name.
    pub what: &'static str,
    /// The member's state after it.
    pub state: State,
    /// Its incarnation after it.
    pub incarnation: u64,
    /// Who could not reach it, where that was the cause.
    pub observers: Arc<[Observation]>,
}

/// What this node knows about one member, and how it came to know it.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    /// The member's id.
    pub id: NodeId,
    /// What it is believed to be.
    pub state: State,
    /// Its incarnation.
    pub incarnation: u64,
    /// Whether there is a link to it.
    pub linked: bool,
    /// Whether we watch it: our judgement of its silence counts.
    pub watched: bool,
    /// How surprising its silence is to us now; nothing if there is no watch edge, or nothing was
    /// heard on it yet. At most 1000.
    pub phi: Option<f64>,
    /// How long ago we last heard a heartbeat of it; nothing as before.
    pub heard: Option<Duration>,
    /// How many of our last heartbeats it has not seen.
    pub unseen: u64,
    /// How many of our probes in a row it has not answered, not even through others.
    pub missed_probes: u32,
    /// How long it still has to refute, while it is suspect.
    pub refute_within: Option<Duration>,
    /// Who could not reach it, while it is suspect or failed.
    pub observers: Arc<[Observation]>,
    /// What happened to it, the oldest first; at most [`HISTORY_MAX`].
    pub history: Vec<Happened>,
}
