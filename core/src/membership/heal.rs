//! Healing and forgetting: the failed and lost seeds are tried again with back-off until they are
//! forgotten, so that two halves that declared each other dead become one cluster by themselves.

use std::{net::SocketAddr, time::Duration};

use rand::{Rng, seq::IndexedRandom};

use super::{Effect, Membership, Step, Time, time::Before};
use crate::member::{NodeId, Peer, State};

/// The pause between attempts grows to this many times the configured one, ...
const BACK_OFF_MAX: u32 = 8;
/// ... and is anything (full jitter, Brooker 2015) between this share of the configured one, ...
const SHORTEST: f64 = 0.25;
/// ... and this of the grown one: those who lost each other did so at the same time.
const LONGEST: f64 = 1.25;

/// When to try, and when to forget.
#[derive(Clone, Debug, Default)]
pub(super) struct Heal {
    next: Option<Time>,
    back_off: u32,
    /// Since when those are tried who were known before we began, the last time that we did.
    known_since: Time,
}

impl Heal {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next
    }
}

impl Membership {
    pub(super) fn start_healing(&mut self, step: &Step<'_>) {
        self.heal.back_off = 1;
        self.heal.known_since = step.now;
        self.plan_healing(step);
    }

    /// Somebody may be at these addresses, besides those known before.
    pub(super) fn know_of(&mut self, now: Time, mut addrs: Vec<SocketAddr>) {
        self.heal.known_since = now;
        let (most, before) = (addrs.len().max(self.settings.known.len()), &self.settings.known);
        addrs.extend(
            before.iter().filter(|addr| !addrs.contains(addr)).copied().collect::<Vec<_>>(),
        );
        addrs.truncate(most);
        self.settings.known = addrs;
    }

    /// Somebody failed: begin again with short pauses.
    pub(super) fn heal_soon(&mut self, step: &Step<'_>) {
        self.heal.back_off = 1;
        self.plan_healing(step);
    }

    fn plan_healing(&mut self, step: &Step<'_>) {
        let interval = self.settings.heal_interval;
        let longest = (interval * self.heal.back_off).mul_f64(LONGEST);
        let pause = self.rng.random_range(interval.mul_f64(SHORTEST)..=longest);
        self.heal.next = Some(step.now + pause);
    }

    pub(super) fn tick_heal(&mut self, step: &mut Step<'_>) {
        if self.heal.next.is_none_or(|at| at > step.now) {
            return;
        }
        self.forget_the_long_dead(step.now);
        self.begin_anew_if_alone(step);
        self.heal.back_off = (self.heal.back_off * 2).min(BACK_OFF_MAX);
        self.plan_healing(step);
        self.try_a_failed_member(step);
        self.try_a_lost_seed(step);
    }

    fn try_a_failed_member(&mut self, step: &mut Step<'_>) {
        let failed: Vec<(Peer, SocketAddr, bool)> = self
            .table
            .iter()
            .filter(|e| e.member.state == State::Failed)
            .map(|e| (e.member.peer(), e.member.addr, e.linked))
            .collect();
        match failed.choose(&mut self.rng).cloned() {
            Some((peer, addr, true)) => self.ask_to_join(step, &peer, addr),
            Some((peer, addr, false)) => {
                step.out.push(Effect::Dial { addr, expect: Some(peer.id) })
            }
            None => {}
        }
    }

    /// A seed that is no living member's address is either down or in another part of a cut cluster.
    fn try_a_lost_seed(&mut self, step: &mut Step<'_>) {
        let known = |seed: &SocketAddr| {
            self.table.iter().any(|e| e.member.addr == *seed && e.member.state.is_live())
        };
        // Where nobody has been for as long as the dead are remembered, nobody is expected.
        let lately = step.now.since(self.heal.known_since) < self.settings.dead_retention;
        let last_time = self.settings.known.iter().filter(|_| lately);
        // A newcomer tries them at its own pace.
        let seeds = self.settings.seeds.iter().filter(|_| !self.join.pending()).chain(last_time);
        let lost: Vec<SocketAddr> =
            seeds.copied().filter(|s| !known(s) && *s != self.own.addr).collect();
        if let Some(seed) = lost.choose(&mut self.rng) {
            step.out.push(Effect::Dial { addr: *seed, expect: None });
        }
    }

    pub(super) fn forget_the_long_dead(&mut self, now: Time) {
        let retention: Duration = self.settings.dead_retention;
        let expired = |died: Option<Before>| died.is_some_and(|died| died.ago(now) >= retention);
        let ids: Vec<NodeId> = self
            .table
            .iter()
            .filter(|e| expired(e.dead_since()))
            .map(|e| e.member.id.clone())
            .collect();
        for id in ids {
            self.forget(&id);
        }
    }

    pub(super) fn forget(&mut self, id: &NodeId) {
        if let Some(slot) = self.table.remove(id) {
            self.gossip.remove(slot);
            self.version += 1;
        }
    }
}
