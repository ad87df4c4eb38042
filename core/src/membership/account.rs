//! Evidence: what we saw of a member ourselves, and the account of what happened to it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Effect, Membership, Step, Time, planted::Bug};
use crate::{
    event::EventKind,
    evidence::{Explanation, HISTORY_MAX, Happened, Observation, PHI_MAX},
    member::{NodeId, State},
};

/// Something that happened to a member.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    at: Time,
    what: &'static str,
    state: State,
    incarnation: u64,
    observers: Arc<[Observation]>,
}

/// How we look after a member; each has its bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// Its heartbeats, on a watch edge.
    Heartbeats = 1,
    /// A probe, also through others.
    Probe = 2,
}

/// What happened to one member, the oldest first. Most have nothing but a beginning, so that is
/// all the room they take.
#[derive(Clone, Debug, Default)]
#[allow(clippy::box_collection)] // one word where there is nothing, in tables of thousands
pub(super) struct History(Option<Box<VecDeque<Noted>>>);

impl History {
    fn note(&mut self, noted: Noted) {
        let all = self.0.get_or_insert_default();
        if all.len() == HISTORY_MAX {
            all.pop_front();
        }
        all.push_back(noted);
    }

    fn iter(&self) -> impl Iterator<Item = &Noted> {
        self.0.iter().flat_map(|all| all.iter())
    }
}

impl Membership {
    /// What we see of a member that we cannot reach.
    pub(super) fn observation(&self, now: Time, id: &NodeId) -> Observation {
        let phi = self.watch_sight(now, id).and_then(|edge| edge.phi);
        Observation {
            observer: self.own.peer.id.clone(),
            phi: phi.map(|phi| phi.min(PHI_MAX)),
            missed_probes: self.table.get(id).map_or(0, |e| e.missed_probes),
            direction: self.direction(now, id),
            health_score: self.health.score(),
        }
    }

    /// We could not reach a member: told once, until all that failed is well again.
    pub(super) fn health_check_failed(&mut self, step: &mut Step<'_>, id: &NodeId, check: Check) {
        let observation = self.observation(step.now, id);
        let again = self.planted(Bug::CheckToldTwice);
        let Some(entry) = self.table.get_mut(id).filter(|e| e.member.state.is_live()) else {
            return;
        };
        let told = entry.unreached != 0 && !again;
        entry.unreached |= check as u8;
        if !told {
            let from = step.out.len();
            let member = entry.member.clone();
            step.event(EventKind::HealthCheckFailed { member, observers: [observation].into() });
            self.note_events(step, from);
        }
    }

    /// A check of a member is well again.
    pub(super) fn reached(&mut self, id: &NodeId, check: Check) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.unreached &= !(check as u8);
            if check == Check::Probe {
                entry.missed_probes = 0;
            }
        }
    }

    /// Notes the events since a place in the effects in the accounts of their members.
    pub(super) fn note_events(&mut self, step: &Step<'_>, from: usize) {
        for effect in &step.out[from..] {
            let Effect::Event(kind) = effect else { continue };
            let observers = match kind {
                EventKind::MemberSuspected { observers, .. }
                | EventKind::MemberFailed { observers, .. }
                | EventKind::HealthCheckFailed { observers, .. } => observers.clone(),
                _ => Arc::from([]),
            };
            let Some(member) = kind.member() else { continue };
            let Some(entry) = self.table.get_mut(&member.id) else { continue };
            let (what, state, incarnation) = (kind.name(), member.state, member.incarnation);
            if entry.since.is_none() {
                entry.since = Some(step.now.into()); // the first of all: it joined
                if matches!(kind, EventKind::MemberJoined { .. }) {
                    continue;
                }
            }
            entry.history.note(Noted { at: step.now, what, state, incarnation, observers });
        }
    }

    /// What is known about another node, and how we came to know it.
    pub fn explain(&self, now: Time, id: &NodeId) -> Option<Explanation> {
        let entry = self.table.get(id)?;
        let sight = self.watch_sight(now, id);
        let left = |at: Time| Duration::from_micros(at.0.saturating_sub(now.0));
        // Nothing of one that we only ever heard of as dead.
        let joined = entry.since.map(|since| Happened {
            ago: now.since(since.into()),
            what: "MemberJoined",
            state: State::Alive,
            incarnation: entry.first_incarnation,
            observers: Arc::from([]),
        });
        let later = entry.history.iter().map(|noted| Happened {
            ago: now.since(noted.at),
            what: noted.what,
            state: noted.state,
            incarnation: noted.incarnation,
            observers: noted.observers.clone(),
        });
        let mut history: Vec<Happened> = joined.into_iter().chain(later).collect();
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        Some(Explanation {
            id: id.clone(),
            state: entry.member.state,
            incarnation: entry.member.incarnation,
            linked: entry.linked,
            watched: self.is_watched(id),
            phi: sight.as_ref().and_then(|s| s.phi).map(|phi| phi.min(PHI_MAX)),
            heard: sight.as_ref().and_then(|s| s.heard).map(|at| now.since(at)),
            unseen: sight.map_or(0, |s| s.unseen),
            missed_probes: entry.missed_probes,
            refute_within: entry.suspicion.as_ref().map(|s| left(s.deadline)),
            observers: entry.observers_now().into(),
            history,
        })
    }
}
