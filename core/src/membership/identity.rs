//! What others say about ourselves: refuting, and settling who we are when two processes have
//! one id.

use std::{net::SocketAddr, time::Duration};

use super::{Effect, Membership, Step, Time, gossip::Priority, planted::Bug};
use crate::{
    event::EventKind,
    member::{Peer, State},
    wire::{Frame, INCARNATION_MAX, Record},
};

/// How long another living process under our id has to answer before we take its record for one
/// of the dead and announce ourselves above it.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Somebody speaks of another process under our id.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) deadline: Time,
    incarnation: u64,
}

impl Membership {
    /// Somebody else's view of us. Rule 1: only we raise our incarnation; rule 3: we never take
    /// over that we are suspect or failed.
    pub(super) fn about_us(&mut self, step: &mut Step<'_>, record: Record) {
        if self.is_out_of_our_reach(&record) {
            self.counters.frames_bad += 1;
            return;
        }
        let ours = (self.own.incarnation, self.own.state);
        if self.own.state == State::Left {
            if record.rank() < ours {
                return; // they will hear
            }
            return self.announce(step, Priority::Critical);
        }
        if record.instance == self.own.peer.instance {
            if record.rank() > ours {
                if self.planted(Bug::BelievesOthers) {
                    self.own.state = record.state;
                    return;
                }
                self.refute(step, record.incarnation);
            }
        } else {
            self.meet_namesake(step, record);
        }
    }

    fn refute(&mut self, step: &mut Step<'_>, above: u64) {
        if self.planted(Bug::LostRefutation) {
            return;
        }
        self.counters.refutations += 1;
        self.change_health(step, |h| h.worse(1));
        self.raise_incarnation(step, above, Priority::Critical);
    }

    /// Announces our record above an incarnation. Above the highest that is believed nothing can be
    /// announced, but nobody believes a leap to there either; see docs/ARCHITECTURE.md.
    pub(super) fn raise_incarnation(&mut self, step: &Step<'_>, above: u64, priority: Priority) {
        let incarnation = self.own.incarnation.max(above).saturating_add(1);
        if incarnation > INCARNATION_MAX {
            return;
        }
        self.own.incarnation = incarnation;
        self.version += 1;
        self.announce(step, priority);
    }

    /// A record of another process under our id.
    fn meet_namesake(&mut self, step: &mut Step<'_>, record: Record) {
        let peer = record.peer();
        let below = record.incarnation < self.own.incarnation;
        // Whoever admitted us has made sure that the old process is gone; the dead are gone; and
        // nobody else can live where we listen.
        if self.join.pending() || !record.state.is_live() || record.addr == self.own.addr {
            if !below {
                self.raise_incarnation(step, record.incarnation, Priority::Critical);
            }
            return;
        }
        // Below ours it is most likely our predecessor's, but perhaps that of a process in another
        // part of the cluster, which only asking it can tell.
        match &mut self.conflict {
            Some(conflict) => conflict.incarnation = conflict.incarnation.max(record.incarnation),
            None => {
                self.conflict = Some(Conflict {
                    deadline: step.now + ANSWER_WITHIN,
                    incarnation: record.incarnation,
                });
                self.claim_id(step, &peer, record.addr);
            }
        }
    }

    fn claim_id(&mut self, step: &mut Step<'_>, peer: &Peer, addr: SocketAddr) {
        let uptime_ms = step.now.since(self.started).as_millis() as u64;
        self.send_records(step, peer, addr, Frame::Conflict { uptime_ms }, &[]);
    }

    pub(super) fn tick_conflict(&mut self, step: &mut Step<'_>) {
        if let Some(conflict) = self.conflict.take_if(|c| c.deadline <= step.now)
            && conflict.incarnation >= self.own.incarnation
        {
            self.raise_incarnation(step, conflict.incarnation, Priority::Critical);
        }
    }

    /// Another living process under our id: the older stays, at equal age the greater instance.
    pub(super) fn on_conflict(&mut self, step: &mut Step<'_>, from: &Peer, uptime_ms: u64) {
        if from.id != self.own.peer.id || from.instance == self.own.peer.instance {
            return self.bad_frame(step, from, "a conflict over an id that is not its own");
        }
        let ours = (step.now.since(self.started).as_millis() as u64, self.own.peer.instance);
        if ours < (uptime_ms, from.instance) {
            return self.yield_id(step);
        }
        // It learns our age, and stops. We stay above whatever it announced.
        self.claim_id(step, from, self.own.addr);
        let above = self.conflict.take().map_or(self.own.incarnation, |c| c.incarnation);
        self.raise_incarnation(step, above, Priority::Critical);
    }

    /// This node is the one that must go.
    pub(super) fn yield_id(&mut self, step: &mut Step<'_>) {
        step.event(EventKind::NameConflict { id: self.own.peer.id.clone() });
        step.out.push(Effect::Stop);
        self.stopped = true;
    }
}
