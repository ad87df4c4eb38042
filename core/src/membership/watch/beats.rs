//! Heartbeats on watch edges: sending them, hearing them, and judging their absence.

use std::time::Duration;

use super::{
    ANSWER_MIN, EVERY_MS, LATE, LAY_EVERY, SPARSE, Time, UNASKED, UNSEEN_MAX, WANTED_FOR,
    WANTED_FOR_ITS,
};
use crate::{
    member::{Peer, State},
    membership::{Class, Effect, Membership, Step, account::Check, phi::Phi},
    wire::{self, Frame, Want},
};

impl Membership {
    pub(super) fn tick_beats(&mut self, step: &mut Step<'_>) {
        for at in 0..self.watch.edges.len() {
            if self.watch.edges.beat_due(at, step.now) {
                let want = self.want(at, step.now);
                self.send_heartbeat(step, at, want);
            }
        }
        self.judge_silence(step);
        self.watch.due = self.watch.edges.due();
    }

    fn want(&self, at: usize, now: Time) -> Want {
        match (self.holds(at, now), self.watch.edges[at].watched) {
            (false, _) => Want::Nothing,
            (true, false) => Want::Edge,
            (true, true) => Want::Watch,
        }
    }

    pub(super) fn send_heartbeat(&mut self, step: &mut Step<'_>, at: usize, want: Want) {
        let interval = self.settings.heartbeat_interval;
        let follows = self.follows(at);
        let rounds = &self.watch.rounds;
        let edge = &mut self.watch.edges[at];
        let every = if edge.is_judged_there() { interval } else { sparse(interval) };
        // The last word to one that judges our silence must not be lost.
        let last = want == Want::Nothing && edge.is_judged_there();
        let unseen = edge.unseen() >= UNSEEN_MAX;
        let class = if unseen || last { Class::Stream } else { Class::Datagram };
        edge.sent += 1;
        edge.spoke = step.now;
        // After a pause of ours the missed ones are not made up for.
        edge.slot = edge.slot + every;
        if edge.slot <= step.now + every / 2 || edge.slot > step.now + every * 2 {
            edge.slot = rounds.first(step.now + every);
        }
        edge.next =
            if follows { step.now + interval.mul_f64(UNASKED) } else { rounds.begins(edge.slot) };
        let every_ms = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
        let frame = Frame::Heartbeat { seq: edge.sent, seen: edge.seen, every_ms, want };
        let (peer, addr) = (edge.peer.clone(), edge.addr);
        let alone = edge.state == State::Alive && self.gossip.is_empty();
        self.plan_beat(step.now, at);
        self.counters.heartbeats += 1;
        if alone {
            let bytes = wire::encode(&frame, &[]);
            step.out.push(Effect::Send { to: peer, addr, class, bytes });
        } else {
            self.send(step, &peer, addr, class, &frame);
        }
    }

    /// Whether the peer's heartbeats set the pace of ours: both are due in every interval, and the
    /// peer's id is the lesser.
    fn follows(&self, at: usize) -> bool {
        let edge = &self.watch.edges[at];
        let both = edge.is_judged_there() && edge.watched && edge.heard.is_some() && !edge.rests;
        let often = edge.phi.expected() < self.settings.heartbeat_interval.mul_f64(UNASKED);
        both && often && edge.peer.id < self.own.peer.id
    }

    /// Sets when the next heartbeat on an edge goes out: when it is its turn, or before that if
    /// the one whom we watch falls silent.
    fn plan_beat(&mut self, now: Time, at: usize) {
        let interval = self.settings.heartbeat_interval;
        let edge = &self.watch.edges[at];
        let mut next = edge.next;
        if edge.watched
            && !edge.is_judged_there()
            && let Some(heard) = edge.heard
        {
            let late = heard + edge.phi.expected().mul_f64(LATE);
            let late = late.max(edge.spoke + interval);
            next = next.min(self.watch.rounds.first(late));
        }
        self.watch.edges.beat_at(at, Some(next.max(now)));
    }

    /// The next heartbeat on an edge goes out by then, if there is a link.
    pub(super) fn beat_by(&mut self, at: usize, time: Time) {
        let edge = &mut self.watch.edges[at];
        edge.next = edge.next.min(time);
        if edge.linked {
            let next = edge.next;
            self.watch.edges.beat_at(at, Some(next));
            self.watch.due_by(next);
        }
    }

    pub(in crate::membership) fn on_heartbeat(
        &mut self,
        step: &mut Step<'_>,
        from: &Peer,
        (seq, seen, every_ms, want): (u64, u64, u32, Want),
    ) {
        if !EVERY_MS.contains(&every_ms) {
            return self.bad_frame(
                step,
                from,
                "heartbeats in an interval that nobody may configure",
            );
        }
        let Some(at) = self.watch.edges.find(from).or_else(|| self.meet_beat(step, from, want))
        else {
            return;
        };
        if !self.watch.edges[at].state.is_live() {
            return self.tell_the_dead(step, from);
        }
        if !self.watch.edges[at].linked {
            self.table.set_linked(&from.id, true);
            self.edge_linked(step, from);
        }
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let interval = self.settings.heartbeat_interval;
        let edge = &mut self.watch.edges[at];
        if seq <= edge.seen {
            return; // overtaken on its way
        }
        let every = Duration::from_millis(every_ms.into());
        edge.seen = seq;
        edge.dials = 0;
        edge.echoed = edge.echoed.max(seen.min(edge.sent));
        edge.unseen_when_heard = edge.sent - edge.echoed;
        edge.unsaid = (every.as_micros() / interval.as_micros()).saturating_sub(1) as u64;
        let again = std::mem::take(&mut edge.unreached);
        let wanted_for = (interval * WANTED_FOR).max(every * WANTED_FOR_ITS);
        edge.wanted_there = (want != Want::Nothing).then_some(step.now + wanted_for);
        let asks = !edge.is_judged_there() && want == Want::Watch;
        edge.asked = want == Want::Watch;
        let rested = std::mem::replace(&mut edge.rests, want == Want::Nothing);
        if edge.heard.is_none() {
            edge.phi = Phi::new(step.now, every);
        } else if rested {
            edge.phi.restart(step.now);
        } else {
            let longest = edge.phi.silence(deviations, pause);
            edge.phi.heard(step.now, every, longest);
        }
        edge.heard = Some(step.now);
        let judged = edge.watched && !edge.rests;
        let judge = judged.then(|| edge.phi.crossing(deviations, pause));
        let idle = want == Want::Nothing && !edge.wanted;
        let soon = edge.slot.min(step.now + interval);
        self.watch.edges.judge_at(at, judge);
        if let Some(at) = judge {
            self.watch.due_by(at);
        }
        if asks {
            self.beat_by(at, soon);
        }
        self.answer(step, at);
        if idle {
            self.watch.lay_by(step.now + LAY_EVERY);
        }
        if again {
            self.reached(&from.id, Check::Heartbeats);
        }
    }

    /// A heartbeat came on an edge where it sets our pace, or where ours are rare and one is due
    /// nearly: ours goes out now, and the acknowledgement that the transport owes rides on it.
    fn answer(&mut self, step: &mut Step<'_>, at: usize) {
        let interval = self.settings.heartbeat_interval;
        let edge = &self.watch.edges[at];
        if !edge.linked {
            return;
        }
        let due = if edge.is_judged_there() {
            self.follows(at) && step.now >= edge.spoke + interval.mul_f64(ANSWER_MIN)
        } else {
            step.now + interval.mul_f64(LATE) >= edge.slot
        };
        if due {
            let want = self.want(at, step.now);
            self.send_heartbeat(step, at, want);
        } else {
            self.plan_beat(step.now, at);
        }
    }

    /// A heartbeat of one that we have no edge to; where the edge is that it asks for.
    fn meet_beat(&mut self, step: &mut Step<'_>, from: &Peer, want: Want) -> Option<usize> {
        if !self.is_live(from) {
            self.tell_the_dead(step, from);
            return None;
        }
        self.table.set_linked(&from.id, true);
        if self.watch.edges.contains(&from.id) {
            self.take_up(step, &from.id); // it led to another process
        }
        if want != Want::Nothing {
            self.lay(step, from.clone(), None);
        }
        self.watch.edges.find(from)
    }

    /// Whom we hold dead is told so, and refutes; a stranger has been told of us.
    fn tell_the_dead(&mut self, step: &mut Step<'_>, from: &Peer) {
        if self.table.get(&from.id).is_some() {
            let addr = self.back_to(from);
            self.send(step, from, addr, Class::Datagram, &Frame::Gossip);
        }
    }

    /// Accuses those whose silence has become too surprising.
    fn judge_silence(&mut self, step: &mut Step<'_>) {
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let cut_off = self.cut_off(step.now);
        let mut accused = Vec::new();
        for at in 0..self.watch.edges.len() {
            if !self.watch.edges.judge_due(at, step.now) {
                continue;
            }
            // Our own health may have changed since.
            let crossing = self.watch.edges[at].phi.crossing(deviations, pause);
            if crossing > step.now {
                self.watch.edges.judge_at(at, Some(crossing));
                continue;
            }
            if let Some(until) = cut_off {
                self.watch.edges.judge_at(at, Some(until));
                continue;
            }
            self.watch.edges.judge_at(at, None);
            // A peer that wants the edge no more than we do may fall silent.
            let edge = &self.watch.edges[at];
            if edge.watched && edge.state.is_live() && self.holds(at, step.now) {
                accused.push(edge.peer.id.clone());
                self.watch.edges[at].unreached = true;
            }
        }
        for id in accused {
            self.counters.silences += 1;
            self.suspect(step, &id, Check::Heartbeats);
        }
    }

    /// A member has announced itself anew: a sign of life, whichever way it came. Its silence
    /// here begins again, so that those who watch a lossy one do not accuse it one by one.
    pub(in crate::membership) fn sign_of_life(&mut self, now: Time, peer: &Peer) {
        let Some(at) = self.watch.edges.find(peer).filter(|at| self.watch.edges.is_judged(*at))
        else {
            return;
        };
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        let edge = &mut self.watch.edges[at];
        edge.phi.restart(now);
        let crossing = edge.phi.crossing(deviations, pause);
        self.watch.edges.judge_at(at, Some(crossing));
    }

    /// Nobody could be heard for a while: all silences begin anew.
    pub(in crate::membership) fn restart_watch(&mut self, now: Time) {
        let (pause, deviations) = (self.heartbeat_pause(), self.watch.deviations);
        for at in 0..self.watch.edges.len() {
            let edge = &mut self.watch.edges[at];
            edge.phi.restart(now);
            let crossing = edge.phi.crossing(deviations, pause);
            if self.watch.edges.is_judged(at) {
                self.watch.edges.judge_at(at, Some(crossing));
            }
        }
    }
}

/// How often one speaks whose silence nobody judges.
fn sparse(interval: Duration) -> Duration {
    let most = Duration::from_millis((*EVERY_MS.end()).into());
    (interval * SPARSE).min(most).max(interval)
}
