//! What is true of the whole world: the rules after each step, the fingerprint of the run, and
//! whether everybody sees exactly those who are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use peerage::{
    NodeId, State,
    member::{Peer, Tags},
    membership::Effect,
};

use super::{Process, VIOLATIONS_MAX, World};
use crate::{S, rules::Observed};

impl World {
    pub(super) fn check(&mut self, p: usize, frame: Option<(Peer, Bytes)>, effects: &[Effect]) {
        let Some(mut rules) = self.rules.take() else { return };
        let touched = self.processes[p].machine.take_touched();
        let process = &self.processes[p];
        let must_live = |peer: &Peer| {
            let alive = |q: &Process| q.peer == *peer && q.running && !q.leaving;
            let must_live = |q: &Process| alive(q) && !self.may_fail[q.host];
            !self.unheeded[process.host] && self.processes.iter().any(must_live)
        };
        let observed = Observed {
            machine: &process.machine,
            peer: &process.peer,
            touched: &touched,
            frame: frame.as_ref().map(|(from, bytes)| (from, &bytes[..])),
            effects,
            now: self.now,
            jumped: self.jumped,
            ended: &|peer| {
                let p = self.by_instance.get(&peer.instance.0)?;
                self.processes[*p].ended
            },
            retention: self.config.dead_retention.as_micros() as u64,
        };
        let mut found = Vec::new();
        rules.after_step(p, &observed, &must_live, &mut found);
        if !found.is_empty() {
            let name = process.peer.id.clone();
            for what in found {
                self.violation(format!("{name}: {what}"));
            }
        }
        self.rules = Some(rules);
    }

    /// Notes that something is wrong, and at which step.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let (seconds, step) = (self.now as f64 / S as f64, self.steps);
            self.violations.push(format!("step {step}, at {seconds:.3} s: {what}"));
        }
    }

    /// Takes a step into the fingerprint of the run.
    pub(super) fn note(&mut self, p: usize, effects: &[Effect]) {
        let mut mix = |n: u64| {
            self.trace = (self.trace ^ n).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        };
        mix(self.now);
        mix(p as u64);
        for effect in effects {
            match effect {
                Effect::Send { bytes, .. } => {
                    let (words, rest) = bytes.as_chunks::<8>();
                    words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
                    if !rest.is_empty() {
                        let mut word = [0; 8];
                        word[..rest.len()].copy_from_slice(rest);
                        mix(u64::from_le_bytes(word));
                    }
                }
                Effect::Dial { addr, .. } => mix(u64::from(addr.port()) << 8 | 1),
                Effect::Event(kind) => kind.name().bytes().for_each(|b| mix(b.into())),
                Effect::Close { .. } => mix(2),
                Effect::Pin { pinned, .. } => mix(6 + u64::from(*pinned)),
                Effect::Joined => mix(3),
                Effect::LeaveSpread => mix(4),
                Effect::Stop => mix(5),
            }
        }
    }

    /// It still asks to be let in, where nobody listens any more: all its seeds were replaced by
    /// processes elsewhere. No protocol can help it.
    pub(super) fn forlorn(&self, p: &Process) -> bool {
        !p.joined && !p.seeds.iter().any(|s| self.at.contains_key(s))
    }

    /// Whether everybody sees exactly those who are there (rule 4).
    pub fn is_one(&self) -> bool {
        self.differences_upto(1).is_empty()
    }

    /// Why not; empty if so.
    pub fn differences(&self) -> Vec<String> {
        self.differences_upto(usize::MAX)
    }

    fn differences_upto(&self, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut there = There::new();
        for p in self.members().filter(|p| !self.forlorn(p)) {
            if there.insert(&p.peer.id, (p, p.machine.own_record().tags)).is_some() {
                found.push(format!("two processes named {} run", p.peer.id));
            }
            if !p.joined {
                found.push(format!("{} has not joined", p.peer.id));
            }
        }
        for p in self.members().filter(|p| !self.forlorn(p)) {
            if found.len() >= most {
                break;
            }
            compare(p, &there, &mut found);
        }
        found.truncate(most);
        found
    }
}

/// Those who are there, with what they announce about themselves.
type There<'a> = BTreeMap<&'a NodeId, (&'a Process, Tags)>;

/// What one process sees otherwise than it is.
fn compare(p: &Process, there: &There<'_>, found: &mut Vec<String>) {
    let me = &p.peer.id;
    let unseen = |id: &NodeId| format!("{me} does not know {id}");
    let mut others = there.values().filter(|(q, _)| q.peer.id != *me).peekable();
    // Both are in order of the ids.
    for e in p.machine.entries() {
        let id = &e.member.id;
        while let Some((q, _)) = others.next_if(|(q, _)| q.peer.id < *id) {
            found.push(unseen(&q.peer.id));
        }
        match others.next_if(|(q, _)| q.peer.id == *id) {
            Some((q, tags)) => {
                let well = e.member.state == State::Alive
                    && e.member.instance == q.peer.instance
                    && e.member.tags == *tags;
                if !well {
                    let seen = (e.member.state, e.rank());
                    found.push(format!("{me} sees {id} as {seen:?}"));
                }
            }
            None if e.member.state.is_live() => {
                found.push(format!("{me} sees {id} who is gone"));
            }
            None => {}
        }
    }
    found.extend(others.map(|(q, _)| unseen(&q.peer.id)));
}
