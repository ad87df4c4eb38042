//! The table of links as a state machine: which there are, which may be made, and which must go.
//!
//! It knows no socket, no lock, no task and no clock: the pool keeps it behind its lock, and
//! `model` plays with it.

#[cfg(test)]
mod model;

#[cfg(test)]
use std::hash::{BuildHasherDefault, DefaultHasher};

use tokio::time::Instant;

use super::DialKey;
use crate::member::Peer;

/// Ordered by chance, as a map should be of what peers can choose; in tests always alike.
#[cfg(not(test))]
type HashMap<K, V> = hashbrown::HashMap<K, V>;
#[cfg(test)]
type HashMap<K, V> = hashbrown::HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// How many dials may be under way at once.
pub(super) const DIALS_MAX: usize = 64;
/// How many links there may be above the limit where they are no request's: of peers, since a full
/// node must still be able to answer newcomers, and of membership, which has to join and to probe
/// when requests use all there are.
pub(in crate::transport) const RESERVE: usize = 16;
/// How many processes of one node may have a link: one that was restarted, and some that dispute
/// its name. Their number is the peer's to make up, so one more takes the place of another.
pub(super) const PROCESSES_MAX: usize = 4;
/// With so many of our requests and streams on each link to a peer, another one is made, if it may
/// have another: one link's windows and its sender are what they share.
pub(super) const LOADED: usize = 64;

/// Which of two links for the same slot stays: the greater, at both ends alike. The generation,
/// whether the smaller of the two dialed it, and the dialer's serial number.
pub(in crate::transport) type Rank = (u64, bool, u64);

/// What the table asks of a link.
pub(in crate::transport) trait Entry: Clone {
    fn peer(&self) -> &Peer;
    /// Which of several links to its peer it is, from 0.
    fn slot(&self) -> u16;
    fn rank(&self) -> Rank;
    /// Whether these are the same link.
    fn is(&self, other: &Self) -> bool;
    /// How much of ours is under way on it.
    fn load(&self) -> usize;
    /// Whether the peer does not answer on it.
    fn in_trouble(&self) -> bool;
    /// Whether nothing is under way on it, nor about to be.
    fn may_go(&self) -> bool;
    fn last_use(&self) -> Instant;
}

/// How many links there may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Limits {
    pub(in crate::transport) total: usize,
    pub(in crate::transport) per_peer: usize,
}

/// Links `L`, and dials `D` under way.
pub(super) struct Table<L, D> {
    limits: Limits,
    peers: HashMap<Peer, Slots<L>>,
    /// How many links that is.
    len: usize,
    /// Those that others have taken the place of, with something still under way.
    retired: Vec<L>,
    dials: HashMap<DialKey, D>,
    /// Links of peers that were let in and are not here yet.
    admitted: usize,
    pub(super) closed: bool,
}

/// The links to one peer.
struct Slots<L> {
    /// At least one, in the order of their slots.
    links: Vec<L>,
    /// One of them stays although it is unused.
    pinned: bool,
}

/// Why there is no room for another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum NoRoom {
    /// Too many dials are under way.
    Dials,
    /// All links are in use.
    Links,
    /// There are so many links to the peer, which are as many as there may be.
    Slots(usize),
}

/// What became of a new link.
#[derive(Debug)]
pub(in crate::transport) enum Installed<L> {
    /// It has its slot, and whether it is the first link to its peer.
    Up(bool),
    /// It has its slot, which this one had before.
    Instead(L),
    /// This one keeps its slot.
    Surplus(L),
    /// The table is closed.
    Closed,
}

/// A link that has been taken out.
#[derive(Debug)]
pub(super) struct Gone<L> {
    pub(super) link: L,
    /// There is no other to its peer.
    pub(super) last: bool,
}

/// How many links there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::transport) struct Counts {
    pub(in crate::transport) total: usize,
    pub(in crate::transport) pinned: usize,
    /// In use by us.
    pub(in crate::transport) leased: usize,
    /// Neither pinned nor in use, in either direction.
    pub(in crate::transport) idle: usize,
}

impl<L: Entry, D> Table<L, D> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: HashMap::default(),
            len: 0,
            retired: Vec::new(),
            dials: HashMap::default(),
            admitted: 0,
            closed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All links that have their slot.
    pub(super) fn links(&self) -> impl Iterator<Item = &L> {
        self.peers.values().flat_map(|slots| &slots.links)
    }

    /// Those that others have taken the place of.
    pub(super) fn retired(&self) -> &[L] {
        &self.retired
    }

    /// The links to a process.
    pub(super) fn of(&self, peer: &Peer) -> &[L] {
        self.peers.get(peer).map_or(&[], |slots| &slots.links)
    }

    pub(super) fn holds(&self, link: &L) -> bool {
        self.of(link.peer()).iter().any(|held| held.is(link))
    }

    /// Whether a pin keeps this link. It keeps the first of its peer.
    pub(super) fn is_pinned(&self, link: &L) -> bool {
        self.peers.get(link.peer()).is_some_and(|slots| slots.pins(link))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { total: self.len, ..Counts::default() };
        for slots in self.peers.values() {
            for link in &slots.links {
                let (pinned, leased) = (slots.pins(link), link.load() > 0);
                counts.pinned += usize::from(pinned);
                counts.leased += usize::from(leased);
                counts.idle += usize::from(!pinned && !leased && link.may_go());
            }
        }
        counts
    }

    /// The link of a peer's that has the least to do, and the slot of another one that its load
    /// asks for.
    pub(super) fn least_loaded(&self, peer: &Peer) -> Option<(&L, Option<u16>)> {
        let links = self.of(peer);
        if let ([link], 1) = (links, self.limits.per_peer) {
            return Some((link, None));
        }
        let least = links.iter().min_by_key(|link| (link.in_trouble(), link.load()))?;
        let another = if least.load() >= LOADED { self.another_slot(peer).ok() } else { None };
        Some((least, another))
    }

    /// The first slot of a peer's without a link, if it may have another one.
    pub(super) fn another_slot(&self, peer: &Peer) -> Result<u16, NoRoom> {
        let links = self.of(peer);
        let mut slots = 0..self.limits.per_peer as u16;
        let free = slots.find(|slot| links.iter().all(|link| link.slot() != *slot));
        free.ok_or(NoRoom::Slots(links.len()))
    }

    /// Keeps one link of a peer's although it is unused, or stops to. Whether there is any.
    pub(super) fn pin(&mut self, peer: &Peer, pinned: bool) -> bool {
        let slots = self.peers.get_mut(peer);
        slots.map(|slots| slots.pinned = pinned).is_some()
    }

    pub(super) fn dials(&self) -> impl Iterator<Item = &D> {
        self.dials.values()
    }

    pub(super) fn dial(&self, key: &DialKey) -> Option<&D> {
        self.dials.get(key)
    }

    pub(super) fn dial_mut(&mut self, key: &DialKey) -> Option<&mut D> {
        self.dials.get_mut(key)
    }

    /// Notes a dial, and takes out the link that has to go for it. Membership's may go beyond the
    /// limit by [`RESERVE`].
    pub(super) fn begin_dial(
        &mut self,
        key: DialKey,
        dial: D,
        of_membership: bool,
    ) -> Result<Option<Gone<L>>, NoRoom> {
        debug_assert!(!self.dials.contains_key(&key), "one dial for all who wait");
        if self.dials.len() >= DIALS_MAX {
            return Err(NoRoom::Dials);
        }
        let evicted = self.make_room(of_membership)?;
        self.dials.insert(key, dial);
        Ok(evicted)
    }

    pub(super) fn end_dial(&mut self, key: &DialKey) -> Option<D> {
        self.dials.remove(key)
    }

    /// Lets a link of a peer's in, and takes out what has to go for it. It counts as here from now
    /// on, until [`Table::arrived`].
    pub(super) fn admit(&mut self, peer: &Peer, slot: u16) -> Result<Option<Gone<L>>, NoRoom> {
        if usize::from(slot) >= self.limits.per_peer {
            return Err(NoRoom::Slots(self.of(peer).len()));
        }
        let evicted = if self.of(peer).iter().any(|link| link.slot() == slot) {
            None // it takes the place of one
        } else if let Some(displaced) = self.process_to_go(peer)? {
            self.remove(&displaced)
        } else {
            self.make_room(true)?
        };
        self.admitted += 1;
        Ok(evicted)
    }

    /// One that was let in is here now, or will never be.
    pub(super) fn arrived(&mut self) {
        self.admitted = self.admitted.saturating_sub(1);
    }

    /// Puts a link that passed the hello into its slot, or leaves it out for a better one. Both
    /// ends decide alike.
    pub(super) fn install(&mut self, link: &L) -> Installed<L> {
        if self.closed {
            return Installed::Closed;
        }
        let slots = self.peers.entry(link.peer().clone());
        let slots = slots.or_insert_with(|| Slots { links: Vec::new(), pinned: false });
        match slots.links.binary_search_by_key(&link.slot(), L::slot) {
            Ok(at) => {
                let held = slots.links[at].clone();
                // A link in trouble is not worth keeping for the sake of its rank.
                if held.rank() > link.rank() && !held.in_trouble() {
                    self.retired.push(link.clone());
                    return Installed::Surplus(held);
                }
                slots.links[at] = link.clone();
                self.retired.push(held.clone());
                Installed::Instead(held)
            }
            Err(at) => {
                let first = slots.links.is_empty();
                slots.links.insert(at, link.clone());
                self.len += 1;
                Installed::Up(first)
            }
        }
    }

    /// Takes a link out, if it is in.
    pub(super) fn remove(&mut self, link: &L) -> Option<Gone<L>> {
        let slots = self.peers.get_mut(link.peer())?;
        let at = slots.links.iter().position(|held| held.is(link))?;
        slots.links.remove(at);
        let last = slots.links.is_empty();
        if last {
            self.peers.remove(link.peer());
        }
        self.len -= 1;
        Some(Gone { link: link.clone(), last })
    }

    /// Takes a link out if nothing uses or pins it.
    pub(super) fn remove_unused(&mut self, link: &L) -> Option<Gone<L>> {
        if link.may_go() && !self.is_pinned(link) { self.remove(link) } else { None }
    }

    /// Takes out the unused link that was used longest ago, if there are more than there may be.
    pub(super) fn remove_surplus(&mut self) -> Option<Gone<L>> {
        if self.len > self.limits.total { self.evict() } else { None }
    }

    /// Takes out the link that has been unused for longest, if any may go.
    fn evict(&mut self) -> Option<Gone<L>> {
        let idle = self
            .peers
            .values()
            .flat_map(|slots| slots.links.iter().filter(|link| link.may_go() && !slots.pins(link)));
        let victim = idle.min_by_key(|link| link.last_use())?.clone();
        self.remove(&victim)
    }

    /// A link that has lost its slot has ended.
    pub(super) fn forget_retired(&mut self, link: &L) {
        self.retired.retain(|other| !other.is(link));
    }

    /// Takes everything out and lets no more in.
    pub(super) fn close(&mut self) -> (Vec<L>, Vec<L>) {
        self.closed = true;
        self.len = 0;
        let links = self.peers.drain().flat_map(|(_, slots)| slots.links).collect();
        (links, std::mem::take(&mut self.retired))
    }

    /// Makes room for one more link.
    fn make_room(&mut self, beyond: bool) -> Result<Option<Gone<L>>, NoRoom> {
        let taken = self.len + self.dials.len() + self.admitted;
        if taken < self.limits.total {
            return Ok(None);
        }
        match self.evict() {
            Some(gone) => Ok(Some(gone)),
            None if beyond && taken < self.limits.total + RESERVE => Ok(None),
            None => Err(NoRoom::Links),
        }
    }

    /// The link of a process of this node's that has to go, if there are as many as there may be
    /// and this is one more. What the peer has under way on it does not keep it, or its processes
    /// would be as many as it likes; what we have does.
    fn process_to_go(&self, peer: &Peer) -> Result<Option<L>, NoRoom> {
        let of_node = || self.peers.iter().filter(|(held, _)| held.id == peer.id);
        if self.peers.contains_key(peer) || of_node().count() < PROCESSES_MAX {
            return Ok(None);
        }
        let links = of_node().flat_map(|(_, slots)| {
            slots.links.iter().filter(|link| link.load() == 0 && !slots.pins(link))
        });
        links.min_by_key(|link| link.last_use()).cloned().map(Some).ok_or(NoRoom::Links)
    }
}

impl<L: Entry> Slots<L> {
    fn pins(&self, link: &L) -> bool {
        self.pinned && self.links[0].is(link)
    }
}
