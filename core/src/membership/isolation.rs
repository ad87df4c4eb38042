//! When it is we who could not hear: our own pauses, and being cut off.
//!
//! When we hear nobody at all: that so many died at once is less likely than that we are the one
//! who is cut off. Judgement waits, for a while, and others are forgiven once we hear them again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Effect, Membership, Step, Time, join::Join, planted::Bug};
use crate::{
    event::EventKind,
    member::{Member, Peer, State},
};

/// How long nobody was heard, as a share of the heartbeat interval, before it means that. Every
/// edge brings one in each interval, so then all are late at once.
const SILENT_FROM: f64 = 1.25;
/// With fewer others than this their silence is evidence about them, and the only one there is.
const OTHERS_MIN: usize = 3;
/// How long judgement waits. Whoever hears nobody for longer must take it that they are gone, ...
const WAIT_MAX: Duration = Duration::from_secs(30);
/// ... and must have said so before others forget them: after this part of that time at the latest.
const WAIT_OF_RETENTION: u32 = 4;

/// A tick this much later than asked for is a pause of ours: others had no chance to be heard.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Who heard nobody for this part of the time that the dead are remembered begins anew: what is left
/// of it is for others to tell it who died meanwhile. It is no less than five heartbeat intervals, see
/// [`Config::validate`](crate::Config::validate).
const ANEW_OF_RETENTION: u32 = 2;
/// How many addresses of those who lived are kept then.
const KNOWN_MAX: usize = 64;

/// How long after we last were late we do nothing for others that costs a handshake.
const STARVING: Duration = Duration::from_secs(2);

impl Membership {
    /// Our tasks are so late. Where the machine is short of time, what costs a handshake makes it
    /// shorter, for others on it as well, who then answer later still: such storms feed
    /// themselves.
    pub(super) fn starved(&mut self, now: Time, late: Duration) {
        self.counters.starved += u64::from(!self.is_starving(now));
        self.forgive(now, late);
        self.starved_at = Some(now);
    }

    /// Whether our tasks were late just now.
    pub(super) fn is_starving(&self, now: Time) -> bool {
        self.starved_at.is_some_and(|at| now.since(at) < STARVING)
    }

    /// Until when judgement waits, if it does.
    pub(super) fn cut_off(&self, now: Time) -> Option<Time> {
        let heard = self.heard_last?;
        let silent = now.since(heard);
        // What it nearly always is, for less than the rest costs.
        if silent < self.settings.heartbeat_interval {
            return None;
        }
        let waits = self.table.live_len() >= OTHERS_MIN
            && silent >= self.silent_from()
            && silent < self.wait_max()
            && !self.planted(Bug::SilenceAccuses)
            && !self.planted(Bug::PausesUnnoticed);
        waits.then(|| heard + self.wait_max())
    }

    fn wait_max(&self) -> Duration {
        WAIT_MAX.min(self.settings.dead_retention / WAIT_OF_RETENTION)
    }

    fn silent_from(&self) -> Duration {
        self.settings.heartbeat_interval.mul_f64(SILENT_FROM)
    }

    /// Somebody is heard. If nobody was for a while, all others get that much more time.
    pub(super) fn heard_somebody(&mut self, step: &Step<'_>) {
        let cut_off = self.cut_off(step.now).is_some();
        if let Some(heard) = self.heard_last.replace(step.now)
            && cut_off
        {
            self.forgive(step.now, step.now.since(heard));
        }
    }

    /// When our own clock tick comes late (starvation, suspend, a debugger) nobody could be
    /// heard meanwhile: everything that others had to do in time gets that much more.
    pub(super) fn notice_own_pause(&mut self, step: &mut Step<'_>) {
        let Some(told) = self.deadline_told else { return };
        let late = step.now.since(told);
        if late < PAUSE_MIN || self.planted(Bug::PausesUnnoticed) {
            return;
        }
        if late >= self.anew_after() && self.own.state != State::Left {
            return self.begin_anew(step);
        }
        self.forgive(step.now, late);
        self.join.grant(late);
        if let Some(conflict) = &mut self.conflict {
            conflict.deadline = conflict.deadline + late;
        }
    }

    /// After how long without a word from anybody we begin anew.
    fn anew_after(&self) -> Duration {
        self.settings.dead_retention / ANEW_OF_RETENTION
    }

    /// Nobody has been heard for so long that those we still hold alive may be long forgotten. Of
    /// thousands a node that is cut off judges some neighbours after the other only.
    pub(super) fn begin_anew_if_alone(&mut self, step: &mut Step<'_>) {
        let alone = self.heard_last.is_some_and(|at| step.now.since(at) >= self.anew_after());
        if alone && self.table.live_len() > 0 && !self.planted(Bug::PausesUnnoticed) {
            self.begin_anew(step);
        }
    }

    /// Others have forgotten who died meanwhile, so what we remember may be of the dead, and our word
    /// would bring them back. What waits on the links there are is as old, so they go as well. Whoever
    /// listens to events is told that all are gone: who is there joins anew. Where those were who lived
    /// is tried besides the seeds, as it is after a restart: to dial is to say nothing.
    fn begin_anew(&mut self, step: &mut Step<'_>) {
        if self.planted(Bug::TablesKept) {
            return;
        }
        let live = self.table.iter().filter(|e| e.member.state.is_live()).map(|e| e.member.addr);
        let known: Vec<SocketAddr> = live.take(KNOWN_MAX).collect();
        self.know_of(step.now, known);
        let all: Vec<Arc<Member>> = self.table.iter().map(|e| e.member.clone()).collect();
        for member in all {
            if self.table.is_linked(&member.id) {
                self.outdated.insert(member.peer());
                step.out.push(Effect::Close { peer: member.peer(), reason: "begins anew" });
            }
            self.take_up(step, &member.id);
            self.forget(&member.id);
            if member.state.is_live() {
                let member = Arc::new(Member { state: State::Failed, ..Member::clone(&member) });
                let observers = Arc::from([]);
                step.event(EventKind::MemberFailed { member, observers, replaced: false });
            }
        }
        self.heard_last = None;
        self.conflict = None;
        self.join = Join::new(false);
        self.start_joining(step);
    }

    /// Whether what a peer says may be older than our table.
    pub(super) fn is_outdated(&self, from: &Peer) -> bool {
        !self.outdated.is_empty() && self.outdated.contains(from)
    }

    /// For so long nobody could be heard, for reasons of our own: what others had to do in time
    /// gets that much more, and all silences begin anew.
    pub(super) fn forgive(&mut self, now: Time, late: Duration) {
        self.probes.grant(late);
        self.table.suspicions_mut(|suspicion| suspicion.grant(late));
        self.restart_watch(now);
    }
}
