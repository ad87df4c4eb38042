//! How far an incarnation may leap.
//!
//! Whoever lies about a member could claim so high an incarnation of it that its own word counts for
//! nothing any more. So hearsay is believed only so far above what was known, and a member's own word,
//! which comes over its own link, always: also where it takes back what others had made believe.

use super::{Entry, Membership, Step};
use crate::{
    member::Peer,
    wire::{Frame, Record, Skimmed},
};

/// Nobody changes as often as this between two records that reach us: 136 years at one change a second.
pub(super) const LEAP_MAX: u64 = 1 << 32;

/// The same of somebody whom we do not know: it may have refuted 65,536 of the widest lies before.
pub(super) const STRANGER_MAX: u64 = 1 << 48;

impl Membership {
    /// Whether a record of another member may be believed. If not, a member that we know is told what we
    /// hold of it, once a second: where it is far above that, it says so itself.
    pub(super) fn is_within_reach(
        &mut self,
        step: &mut Step<'_>,
        record: &Record,
        from: Option<&Peer>,
    ) -> bool {
        let known = self.table.get(&record.id);
        let reach = known.map_or(STRANGER_MAX, |e| e.member.incarnation.saturating_add(LEAP_MAX));
        if record.incarnation <= reach || is_own_word(record, from) {
            return true;
        }
        // Perhaps of a member that believed it: no reason to close the link.
        self.counters.frames_bad += 1;
        let held = known.map(|e| (e.member.peer(), e.member.addr, e.record(step.now)));
        if let Some((peer, addr, held)) = held
            && self.sync.may_tell(step.now, &peer.id)
        {
            self.send_records(step, &peer, addr, Frame::Gossip, &[held]);
        }
        false
    }

    /// Whether what somebody holds of ourselves, or of another process under our id, is so high that we
    /// could not announce ourselves above it and be believed.
    pub(super) fn is_out_of_our_reach(&self, record: &Record) -> bool {
        let own = &self.own;
        if record.instance == own.peer.instance {
            record.incarnation > own.incarnation.saturating_add(LEAP_MAX)
        } else {
            // Of a predecessor we know nothing, as little as those who never heard of it.
            record.incarnation >= STRANGER_MAX.max(own.incarnation)
        }
    }

    /// Whether somebody holds of this process what is so far from the truth that only our own word mends it.
    pub(super) fn is_far_from_us(&self, incarnation: u64) -> bool {
        incarnation.abs_diff(self.own.incarnation) > LEAP_MAX
    }

    /// Whether a member takes back by its own word what others said of it, as far as its frame shows before it
    /// is taken apart.
    pub(super) fn is_taken_back(&self, heard: &Skimmed<'_>, from: &Peer) -> bool {
        heard.instance == from.instance
            && heard.id == from.id.as_str()
            && self.table.get(&from.id).is_some_and(|known| {
                is_lied_about(known, heard.instance == known.member.instance, heard.incarnation)
            })
    }

    /// The same of the record.
    pub(super) fn takes_back(known: &Entry, record: &Record, from: Option<&Peer>) -> bool {
        let same = record.instance == known.member.instance;
        is_own_word(record, from) && is_lied_about(known, same, record.incarnation)
    }
}

/// Whether it came over the link of whom it is about.
fn is_own_word(record: &Record, from: Option<&Peer>) -> bool {
    from.is_some_and(|from| record.peer() == *from)
}

/// Whether what is known cannot be true, by the member's own word: it never goes back, least of all so far.
/// Another process under its id takes back what is said of one that is gone.
fn is_lied_about(known: &Entry, same_process: bool, own_word: u64) -> bool {
    known.member.incarnation > own_word.saturating_add(LEAP_MAX)
        && (same_process || !known.member.state.is_live())
}
