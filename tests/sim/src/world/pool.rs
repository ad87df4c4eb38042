//! Where links lie: each in a place that is its own while it lives, and known at either end.

use std::hash::Hasher;

use bytes::Bytes;

use super::warm::ask_for;
use crate::S;

/// So long a link that a peer has opened is kept in any case until it has its answer.
const YOUNG: u64 = S;

/// The hash of a number that is random already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a link is called: a number that no other ever has, and its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LinkId {
    serial: u64,
    place: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Nothing is here if it is zero.
    serial: u64,
    /// The dialer and the acceptor.
    pub(super) ends: [u32; 2],
    /// When each end last heard something.
    pub(super) heard: [u64; 2],
    pub(super) used: u64,
    pub(super) made: u64,
    /// Rises whenever the path breaks or heals.
    pub(super) epoch: u32,
    pub(super) up: [bool; 2],
    pub(super) troubled: [bool; 2],
    /// Which end does not evict it.
    pub(super) pinned: [bool; 2],
    pub(super) broken: bool,
    /// The acceptor has said something on a stream.
    pub(super) answered: bool,
    /// Something was lost, so that it will be looked at whether it still lives.
    pub(super) doubted: bool,
    /// Stream frames that wait for the path to heal: by which end, and what.
    #[allow(clippy::box_collection)] // one word in a link that is to fit a line of the cache
    pub(super) held: Option<Box<Vec<(usize, Bytes)>>>,
}

impl Link {
    pub(super) fn new(ends: [usize; 2], now: u64) -> Self {
        Self {
            serial: 0,
            ends: ends.map(|p| p as u32),
            heard: [now; 2],
            used: now,
            made: now,
            epoch: 0,
            up: [true, true],
            troubled: [false, false],
            pinned: [false, false],
            broken: false,
            answered: false,
            doubted: false,
            held: None,
        }
    }

    /// The process at one end.
    pub(super) fn at(&self, end: usize) -> usize {
        self.ends[end] as usize
    }

    /// Whether this end may close it for another one, at this time: what a peer came for is served first.
    pub(super) fn may_go(&self, end: usize, now: u64) -> bool {
        let served = end == 0 || self.answered || now - self.made >= YOUNG;
        served && !self.pinned[end]
    }

    /// Which end a process is.
    pub(super) fn end_of(&self, p: usize) -> usize {
        usize::from(self.at(1) == p)
    }
}

/// All links.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    all: Vec<Link>,
    free: Vec<u32>,
}

impl Links {
    pub(super) fn get(&self, id: LinkId) -> Option<&Link> {
        Some(&self.all[id.place as usize]).filter(|l| l.serial == id.serial)
    }

    pub(super) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        Some(&mut self.all[id.place as usize]).filter(|l| l.serial == id.serial)
    }

    /// `serial` is not zero, and higher than any before.
    pub(super) fn insert(&mut self, serial: u64, link: Link) -> LinkId {
        let link = Link { serial, ..link };
        let place = match self.free.pop() {
            Some(place) => {
                self.all[place as usize] = link;
                place
            }
            None => {
                self.all.push(link);
                self.all.len() as u32 - 1
            }
        };
        LinkId { serial, place }
    }

    pub(super) fn remove(&mut self, id: LinkId) {
        if let Some(link) = self.get_mut(id) {
            (link.serial, link.held) = (0, None);
            self.free.push(id.place);
        }
    }

    /// Asks for the memory of one.
    pub(super) fn warm(&self, id: LinkId) {
        ask_for(std::ptr::from_ref(&self.all[id.place as usize]).cast(), size_of::<Link>());
    }

    /// In the order in which they were made.
    pub(super) fn ids(&self) -> Vec<LinkId> {
        let all = self.all.iter().enumerate().filter(|(_, l)| l.serial != 0);
        let mut ids: Vec<_> =
            all.map(|(n, l)| LinkId { serial: l.serial, place: n as u32 }).collect();
        ids.sort_unstable();
        ids
    }
}

/// The links of one process, in order of the processes at the other end. There are a few dozen.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    others: Vec<u32>,
    links: Vec<LinkId>,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn get(&self, other: usize) -> Option<LinkId> {
        self.others.binary_search(&(other as u32)).ok().map(|at| self.links[at])
    }

    pub(super) fn insert(&mut self, other: usize, link: LinkId) {
        match self.others.binary_search(&(other as u32)) {
            Ok(at) => self.links[at] = link,
            Err(at) => {
                self.others.insert(at, other as u32);
                self.links.insert(at, link);
            }
        }
    }

    pub(super) fn remove(&mut self, other: usize) {
        if let Ok(at) = self.others.binary_search(&(other as u32)) {
            self.others.remove(at);
            self.links.remove(at);
        }
    }

    pub(super) fn links(&self) -> &[LinkId] {
        &self.links
    }

    /// Asks for the memory.
    pub(super) fn warm(&self) {
        ask_for(self.others.as_ptr().cast(), size_of_val(self.others.as_slice()));
        ask_for(self.links.as_ptr().cast(), size_of_val(self.links.as_slice()));
    }
}
