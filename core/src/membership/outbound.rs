//! Sending: every frame takes waiting gossip along, within the limits of its way.

use std::{borrow::Cow, net::SocketAddr};

use bytes::Bytes;

use super::{
    Class, DATAGRAM_BYTES_MAX, Effect, Membership, STREAM_BYTES_MAX, Step, Time, UPDATES_MAX,
    gossip::Priority, table::Slot,
};
use crate::{
    member::{Member, Peer, State},
    wire::{self, Frame, Record},
};

/// With so many links gossip goes over them; a member without one costs a handshake. Three links
/// to others that have three make one cluster of all.
const LINKED_ENOUGH: usize = 3;
/// How many times more members are gossiped to when many updates are urgent.
const URGENT_MAX: usize = 4;
/// How many bytes of records one frame of a sync carries.
const SYNC_BYTES_MAX: usize = 256 << 10;

impl Membership {
    /// Sends a frame with what gossip fits. A member that we do not hold alive is told so first,
    /// so that it can refute (Lifeguard's buddy system); so is a process under an id that we know
    /// as another process's, so that it announces itself above what the other left behind.
    pub(super) fn send(
        &mut self,
        step: &mut Step<'_>,
        to: &Peer,
        addr: SocketAddr,
        class: Class,
        frame: &Frame,
    ) {
        let room = match class {
            Class::Datagram => DATAGRAM_BYTES_MAX,
            Class::Stream => STREAM_BYTES_MAX,
        };
        let mut updates = Vec::new();
        let about = self.table.find(to.id.as_str());
        if let Some(e) = about.map(|slot| self.table.at(slot))
            && (matches!(e.member.state, State::Suspect | State::Failed)
                || e.member.instance != to.instance)
        {
            let about = wire::update(&e.record(step.now));
            if about.len() <= room {
                updates.push(about);
            }
        }
        // Of one held dead who is there after all we may have been cut off, and so of others: what
        // we hold of them is for a sync, which asks first.
        let held_dead = about.is_some_and(|slot| self.table.at(slot).member.state == State::Failed);
        if !held_dead || self.planted(super::planted::Bug::DeathsBelieved) {
            let used: usize = updates.iter().map(Bytes::len).sum();
            let sends_max = self.sends_max();
            updates.extend(self.gossip.take(room - used, sends_max, about));
        }
        // One more for the suspect itself would be one over the limit.
        updates.truncate(UPDATES_MAX);
        if self.planted(super::planted::Bug::MessagesUnlimited) {
            let all = self.table.iter().map(|e| wire::update(&e.record(step.now)));
            updates.extend(all.take(2 * UPDATES_MAX));
        }
        let bytes = wire::encode(frame, &updates);
        step.out.push(Effect::Send { to: to.clone(), addr, class, bytes });
    }

    /// Sends a frame on a stream with exactly these records, in several frames where they are
    /// too many for one; the frames after the first are plain records.
    pub(super) fn send_records(
        &mut self,
        step: &mut Step<'_>,
        to: &Peer,
        addr: SocketAddr,
        frame: Frame,
        records: &[Record],
    ) {
        let mut frame = frame;
        let mut updates = Vec::new();
        let mut size = 0;
        for record in records {
            let update = wire::update(record);
            if size + update.len() > SYNC_BYTES_MAX {
                self.send_exactly(step, to, addr, &frame, &updates);
                frame = Frame::Records { want: Vec::new() };
                updates.clear();
                size = 0;
            }
            size += update.len();
            updates.push(update);
        }
        self.send_exactly(step, to, addr, &frame, &updates);
    }

    fn send_exactly(
        &mut self,
        step: &mut Step<'_>,
        to: &Peer,
        addr: SocketAddr,
        frame: &Frame,
        updates: &[Bytes],
    ) {
        let bytes = wire::encode(frame, updates);
        step.out.push(Effect::Send { to: to.clone(), addr, class: Class::Stream, bytes });
    }

    /// Where a peer listens, as far as the table knows.
    pub(super) fn addr_of(&self, peer: &Peer) -> Option<SocketAddr> {
        self.table
            .get(&peer.id)
            .filter(|e| e.member.instance == peer.instance)
            .map(|e| e.member.addr)
    }

    /// The address to answer a frame of a peer, which came on a link: it matters only if that link
    /// has died meanwhile, and our own in its place reaches nobody.
    pub(super) fn back_to(&self, peer: &Peer) -> SocketAddr {
        self.addr_of(peer).unwrap_or(self.own.addr)
    }

    /// Queues an update and makes sure that a gossip tick is due.
    pub(super) fn spread(&mut self, step: &Step<'_>, record: &Record, priority: Priority) {
        let own = record.id == self.own.peer.id;
        let known = if own { Some(Slot::OWN) } else { self.table.find(record.id.as_str()) };
        let Some(slot) = known else { return };
        let mut bytes = wire::update(record);
        // With the longest names and all tags there is no room for all observers.
        let mut shorter = Cow::Borrowed(record);
        while bytes.len() > STREAM_BYTES_MAX && shorter.to_mut().observers.pop().is_some() {
            bytes = wire::update(&shorter);
        }
        if self.planted(super::planted::Bug::QueueUnbounded) {
            for n in 0..self.table.live_len() as u32 {
                let copy = Slot(1 << 30 | (slot.0 & 0xfff) << 12 | n & 0xfff);
                self.gossip.push(copy, Priority::Low, bytes.clone());
            }
        }
        self.gossip.push(slot, priority, bytes);
        if self.gossip_at.is_none() {
            self.gossip_at = Some(step.now.max(self.gossip_last + self.settings.gossip_interval));
        }
    }

    /// Queues our own record.
    pub(super) fn announce(&mut self, step: &Step<'_>, priority: Priority) {
        let record = self.own_record();
        self.spread(step, &record, priority);
    }

    pub(super) fn tick_gossip(&mut self, step: &mut Step<'_>) {
        if self.gossip_at.is_some_and(|at| at <= step.now) {
            self.gossip_last = step.now;
            for member in self.gossip_partners(step.now) {
                if self.gossip.is_empty() {
                    break;
                }
                self.gossip_to(step, &member);
            }
            if self.table.live_len() == 0 {
                // Nobody to tell: whoever comes gets the whole table.
                self.gossip = super::gossip::Gossip::default();
            }
            self.gossip_at =
                (!self.gossip.is_empty()).then(|| step.now + self.settings.gossip_interval);
            if self.gossip.ends_cut_short() {
                self.sync_after_storm(step);
            }
        }
        if self.leave_announced && !self.gossip.contains(Slot::OWN) {
            self.leave_announced = false;
            step.out.push(Effect::LeaveSpread);
        }
    }

    fn gossip_to(&mut self, step: &mut Step<'_>, member: &Member) {
        let class = if self.gossip.has_large() { Class::Stream } else { Class::Datagram };
        self.send(step, &member.peer(), member.addr, class, &Frame::Gossip);
    }

    fn gossip_partners(&mut self, now: Time) -> Vec<std::sync::Arc<Member>> {
        let linked = self.table.linked_len();
        let enough = linked >= LINKED_ENOUGH.min(self.table.live_len())
            || (linked > 0 && self.is_starving(now));
        // Many at once in danger, or back from it: with a few messages a tick each of them would
        // wait for its turn.
        let more = self.gossip.urgent_messages().clamp(1, URGENT_MAX);
        let count = self.settings.gossip_fanout * more;
        if enough {
            return self.table.pick_linked(&mut self.rng, count);
        }
        // One handshake at a time.
        let mut partners = self.table.pick_linked(&mut self.rng, count - 1);
        partners.extend(self.table.pick(&mut self.rng, 1, |e| !e.linked));
        partners
    }

    /// Each update is sent 3·⌈log2(N + 1)⌉ times at most.
    pub(super) fn sends_max(&self) -> u32 {
        let n = self.table.live_len() + 1;
        3 * (n + 1).next_power_of_two().trailing_zeros()
    }
}
