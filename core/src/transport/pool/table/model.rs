//! The table played with at random, beside a model that knows what must hold.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::member::{Instance, NodeId};

const TOTAL: usize = 6;
const PER_PEER: usize = 3;

/// A link that is nothing but what the table sees of it.
#[derive(Debug)]
struct Inner {
    peer: Peer,
    slot: u16,
    rank: Rank,
    leases: Cell<usize>,
    serving: Cell<bool>,
    trouble: Cell<bool>,
    used: Cell<Instant>,
}

#[derive(Clone, Debug)]
struct Fake(Rc<Inner>);

impl Entry for Fake {
    fn peer(&self) -> &Peer {
        &self.0.peer
    }
    fn slot(&self) -> u16 {
        self.0.slot
    }
    fn rank(&self) -> Rank {
        self.0.rank
    }
    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
    fn load(&self) -> usize {
        self.0.leases.get()
    }
    fn in_trouble(&self) -> bool {
        self.0.trouble.get()
    }
    fn may_go(&self) -> bool {
        self.0.leases.get() == 0 && !self.0.serving.get()
    }
    fn last_use(&self) -> Instant {
        self.0.used.get()
    }
}

#[derive(Clone, Debug)]
enum Op {
    BeginDial { peer: usize, slot: u16, of_membership: bool },
    EndDial { which: Index, made: bool },
    Admit { peer: usize, slot: u16 },
    Arrive { which: Index, made: bool },
    Lease { peer: usize },
    Release { which: Index },
    Serve { which: Index, on: bool },
    Trouble { which: Index, on: bool },
    Pin { peer: usize, on: bool },
    Break { which: Index },
    Unused { which: Index },
    Surplus,
    Forget { which: Index },
}

fn op() -> impl Strategy<Value = Op> {
    let (peer, slot, which) = (0..9_usize, 0..4_u16, any::<Index>().boxed());
    prop_oneof![
        4 => (peer.clone(), slot.clone(), any::<bool>())
            .prop_map(|(peer, slot, of_membership)| Op::BeginDial { peer, slot, of_membership }),
        4 => (which.clone(), any::<bool>()).prop_map(|(which, made)| Op::EndDial { which, made }),
        4 => (peer.clone(), slot).prop_map(|(peer, slot)| Op::Admit { peer, slot }),
        4 => (which.clone(), any::<bool>()).prop_map(|(which, made)| Op::Arrive { which, made }),
        6 => peer.clone().prop_map(|peer| Op::Lease { peer }),
        4 => which.clone().prop_map(|which| Op::Release { which }),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, on)| Op::Serve { which, on }),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, on)| Op::Trouble { which, on }),
        2 => (peer, any::<bool>()).prop_map(|(peer, on)| Op::Pin { peer, on }),
        2 => which.clone().prop_map(|which| Op::Break { which }),
        2 => which.clone().prop_map(|which| Op::Unused { which }),
        1 => Just(Op::Surplus),
        2 => which.clone().prop_map(|which| Op::Forget { which }),
    ]
}

/// Nine processes; the last four are of one node, one more than it may have here beside the fifth.
fn peer(n: usize) -> Peer {
    let id = NodeId::new(format!("n{}", n.min(4))).unwrap();
    Peer { id, instance: Instance(n as u64) }
}

fn key(n: usize, slot: u16) -> DialKey {
    let addr = SocketAddr::from(([127, 0, 0, 1], n as u16));
    DialKey { addr, expect: Some(peer(n).id), slot }
}

struct Played {
    table: Table<Fake, usize>,
    now: Instant,
    serial: u64,
    /// Dials under way, and links that were let in.
    dials: Vec<(usize, u16)>,
    admitted: Vec<(usize, u16)>,
    /// What should be in the table, by process and slot.
    links: BTreeMap<(usize, u16), Fake>,
    pinned: BTreeSet<usize>,
    leased: Vec<Fake>,
    retired: Vec<Fake>,
    /// How many of those let in were to take a place that was taken.
    beyond: usize,
}

impl Played {
    fn new() -> Self {
        Self {
            table: Table::new(Limits { total: TOTAL, per_peer: PER_PEER }),
            now: Instant::now(),
            serial: 0,
            dials: Vec::new(),
            admitted: Vec::new(),
            links: BTreeMap::new(),
            pinned: BTreeSet::new(),
            leased: Vec::new(),
            retired: Vec::new(),
            beyond: 0,
        }
    }

    fn number(&self, link: &Fake) -> usize {
        link.0.peer.instance.0 as usize
    }

    fn first_of(&self, n: usize) -> Option<&Fake> {
        self.links.range((n, 0)..(n + 1, 0)).next().map(|(_, link)| link)
    }

    fn is_pinned(&self, link: &Fake) -> bool {
        let n = self.number(link);
        self.pinned.contains(&n) && self.first_of(n).is_some_and(|first| first.is(link))
    }

    /// What may be evicted, the longest unused first.
    fn evictable(&self) -> Vec<Fake> {
        let mut idle: Vec<_> = self
            .links
            .values()
            .filter(|link| link.may_go() && !self.is_pinned(link))
            .cloned()
            .collect();
        idle.sort_by_key(Entry::last_use);
        idle
    }

    fn taken(&self) -> usize {
        self.links.len() + self.dials.len() + self.admitted.len()
    }

    /// A link was taken out: the one that had to.
    fn gone(&mut self, gone: Option<Gone<Fake>>, expected: Option<Fake>) {
        match (gone, expected) {
            (None, None) => {}
            (Some(gone), Some(expected)) => {
                assert_eq!(
                    gone.link.last_use(),
                    expected.last_use(),
                    "{:?} instead of {expected:?}",
                    gone.link
                );
                self.forget(&gone.link);
                assert_eq!(gone.last, self.first_of(self.number(&gone.link)).is_none());
            }
            (gone, expected) => panic!("{gone:?} went, and {expected:?} had to"),
        }
    }

    fn forget(&mut self, link: &Fake) {
        let n = self.number(link);
        assert!(self.links.remove(&(n, link.0.slot)).expect("it was there").is(link));
        if self.first_of(n).is_none() {
            self.pinned.remove(&n);
        }
    }

    /// What making room has to come to: what goes, or why nothing can.
    fn room(&self, beyond: bool) -> Result<Option<Fake>, NoRoom> {
        if self.taken() < TOTAL {
            return Ok(None);
        }
        match self.evictable().into_iter().next() {
            Some(victim) => Ok(Some(victim)),
            None if beyond && self.taken() < TOTAL + RESERVE => Ok(None),
            None => Err(NoRoom::Links),
        }
    }

    fn install(&mut self, n: usize, slot: u16) {
        self.serial += 1;
        let link = Fake(Rc::new(Inner {
            peer: peer(n),
            slot,
            rank: (0, self.serial.is_multiple_of(3), self.serial),
            leases: Cell::new(0),
            serving: Cell::new(false),
            trouble: Cell::new(false),
            used: Cell::new(self.now),
        }));
        let held = self.links.get(&(n, slot)).cloned();
        let first = self.first_of(n).is_none();
        match (self.table.install(&link), held) {
            (Installed::Up(said), None) => {
                assert_eq!(said, first);
                self.links.insert((n, slot), link);
            }
            (Installed::Surplus(kept), Some(held)) => {
                assert!(kept.is(&held) && held.rank() > link.rank() && !held.in_trouble());
                self.retired.push(link);
            }
            (Installed::Instead(old), Some(held)) => {
                assert!(old.is(&held) && (held.rank() < link.rank() || held.in_trouble()));
                self.links.insert((n, slot), link);
                self.retired.push(held);
            }
            (installed, held) => panic!("{installed:?}, where {held:?} was"),
        }
    }

    fn play(&mut self, op: Op) {
        self.now += Duration::from_millis(1);
        let all: Vec<_> = self.links.values().cloned().collect();
        let one = |which: Index| (!all.is_empty()).then(|| which.get(&all).clone());
        match op {
            Op::BeginDial { peer: n, slot, of_membership } => {
                if self.dials.contains(&(n, slot)) || usize::from(slot) >= PER_PEER {
                    return;
                }
                let room = self.room(of_membership);
                let begun = self.table.begin_dial(key(n, slot), n, of_membership);
                match (begun, room) {
                    (Ok(gone), Ok(victim)) => {
                        self.gone(gone, victim);
                        self.dials.push((n, slot));
                    }
                    (begun, room) => assert_eq!(begun.unwrap_err(), room.unwrap_err()),
                }
            }
            Op::EndDial { which, made } => {
                if self.dials.is_empty() {
                    return;
                }
                let (n, slot) = self.dials.remove(which.index(self.dials.len()));
                if made {
                    self.install(n, slot);
                }
                assert_eq!(self.table.end_dial(&key(n, slot)), Some(n));
                assert!(self.table.dial(&key(n, slot)).is_none());
            }
            Op::Admit { peer: n, slot } => {
                let replaces = self.links.contains_key(&(n, slot));
                let expected = if usize::from(slot) >= PER_PEER {
                    Err(NoRoom::Slots(self.table.of(&peer(n)).len()))
                } else if replaces {
                    Ok(None)
                } else if self.is_a_process_too_many(n) {
                    self.displaced(n).map(Some).ok_or(NoRoom::Links)
                } else {
                    self.room(true)
                };
                match (self.table.admit(&peer(n), slot), expected) {
                    (Ok(gone), Ok(victim)) => {
                        self.gone(gone, victim);
                        self.beyond += usize::from(replaces);
                        self.admitted.push((n, slot));
                    }
                    (admitted, expected) => {
                        assert_eq!(admitted.unwrap_err(), expected.unwrap_err());
                    }
                }
            }
            Op::Arrive { which, made } => {
                if self.admitted.is_empty() {
                    return;
                }
                let (n, slot) = self.admitted.remove(which.index(self.admitted.len()));
                if made {
                    self.install(n, slot);
                }
                self.table.arrived();
            }
            Op::Lease { peer: n } => {
                let of_peer: Vec<_> =
                    self.links.values().filter(|link| self.number(link) == n).cloned().collect();
                let Some((link, another)) = self.table.least_loaded(&peer(n)) else {
                    return assert!(of_peer.is_empty());
                };
                let rank = |link: &Fake| (link.in_trouble(), link.load());
                assert_eq!(Some(rank(link)), of_peer.iter().map(rank).min());
                let wanted = link.load() >= LOADED && of_peer.len() < PER_PEER;
                assert_eq!(another.is_some(), wanted);
                if let Some(slot) = another {
                    assert!(!self.links.contains_key(&(n, slot)));
                }
                // So many at once that a few of these fill a link.
                for _ in 0..LOADED / 4 {
                    link.0.leases.set(link.0.leases.get() + 1);
                    self.leased.push(link.clone());
                }
            }
            Op::Release { which } => {
                if self.leased.is_empty() {
                    return;
                }
                for _ in 0..(LOADED / 4).min(self.leased.len()) {
                    let link = self.leased.swap_remove(which.index(self.leased.len()));
                    link.0.leases.set(link.0.leases.get() - 1);
                    link.0.used.set(self.now);
                    self.now += Duration::from_millis(1);
                }
            }
            Op::Serve { which, on } => {
                if let Some(link) = one(which) {
                    link.0.serving.set(on);
                }
            }
            Op::Trouble { which, on } => {
                if let Some(link) = one(which) {
                    link.0.trouble.set(on);
                }
            }
            Op::Pin { peer: n, on } => {
                let there = self.first_of(n).is_some();
                assert_eq!(self.table.pin(&peer(n), on), there);
                if there && on {
                    self.pinned.insert(n);
                } else {
                    self.pinned.remove(&n);
                }
            }
            Op::Break { which } => {
                if let Some(link) = one(which) {
                    let gone = self.table.remove(&link);
                    self.gone(gone, Some(link.clone()));
                    assert!(self.table.remove(&link).is_none(), "only once");
                }
            }
            Op::Unused { which } => {
                if let Some(link) = one(which) {
                    let may = link.may_go() && !self.is_pinned(&link);
                    let gone = self.table.remove_unused(&link);
                    self.gone(gone, may.then_some(link));
                }
            }
            Op::Surplus => {
                let expected = if self.links.len() > TOTAL {
                    self.evictable().into_iter().next()
                } else {
                    None
                };
                let gone = self.table.remove_surplus();
                self.gone(gone, expected);
            }
            Op::Forget { which } => {
                if !self.retired.is_empty() {
                    let link = self.retired.swap_remove(which.index(self.retired.len()));
                    self.table.forget_retired(&link);
                }
            }
        }
    }

    /// The links to all processes of the same node.
    fn of_node(&self, n: usize) -> impl Iterator<Item = &Fake> {
        self.links.values().filter(move |link| link.0.peer.id == peer(n).id)
    }

    fn is_a_process_too_many(&self, n: usize) -> bool {
        let processes: BTreeSet<_> = self.of_node(n).map(|link| self.number(link)).collect();
        self.first_of(n).is_none() && processes.len() >= PROCESSES_MAX
    }

    /// The link that another process of the same node displaces: none that we use or keep.
    fn displaced(&self, n: usize) -> Option<Fake> {
        let free = self.of_node(n).filter(|link| link.load() == 0 && !self.is_pinned(link));
        free.min_by_key(|link| link.last_use()).cloned()
    }

    fn check(&self) {
        let links: Vec<_> = self.table.links().collect();
        assert_eq!((links.len(), self.table.len()), (self.links.len(), self.links.len()));
        for link in &links {
            let held = &self.links[&(self.number(link), link.0.slot)];
            assert!(held.is(link), "one link in a slot");
            assert!(self.table.holds(link));
            assert_eq!(self.table.is_pinned(link), self.is_pinned(link));
        }
        for n in 0..9 {
            let of_peer = self.table.of(&peer(n));
            assert!(of_peer.len() <= PER_PEER);
            assert!(of_peer.is_sorted_by_key(|link| link.0.slot));
        }
        // What is in use is still there, or has broken, displaced or lost its slot.
        assert!(self.links.len() <= TOTAL + RESERVE + self.beyond);
        assert_eq!(self.table.dials().count(), self.dials.len());
        assert_eq!(self.table.retired().len(), self.retired.len());
        let count = |is: &dyn Fn(&Fake) -> bool| self.links.values().filter(|l| is(l)).count();
        let counts = Counts {
            total: self.links.len(),
            pinned: count(&|link| self.is_pinned(link)),
            leased: count(&|link| link.load() > 0),
            idle: self.evictable().len(),
        };
        assert_eq!(self.table.counts(), counts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_table_is_as_it_should_be(
        ops in proptest::collection::vec(op(), 1..400)
    ) {
        let mut played = Played::new();
        for op in ops {
            played.play(op);
            played.check();
        }
        let (links, retired) = played.table.close();
        prop_assert_eq!((links.len(), retired.len()), (played.links.len(), played.retired.len()));
        prop_assert_eq!(played.table.len(), 0);
        let late = Fake(Rc::new(Inner {
            peer: peer(0),
            slot: 0,
            rank: (9, true, 9),
            leases: Cell::new(0),
            serving: Cell::new(false),
            trouble: Cell::new(false),
            used: Cell::new(played.now),
        }));
        prop_assert!(matches!(played.table.install(&late), Installed::Closed));
    }

    /// Both ends of the same connections, which they hear of in different orders, keep the same.
    #[test]
    fn both_ends_keep_the_same_link_in_each_slot(
        wires in proptest::collection::vec((0..PER_PEER as u16, 0..3_u64, any::<bool>()), 1..12),
        order in any::<u64>(),
    ) {
        let now = Instant::now();
        let end = |other: usize| {
            let links = wires.iter().enumerate().map(|(n, &(slot, generation, by_smaller))| {
                Fake(Rc::new(Inner {
                    peer: peer(other),
                    slot,
                    rank: (generation, by_smaller, n as u64),
                    leases: Cell::new(0),
                    serving: Cell::new(false),
                    trouble: Cell::new(false),
                    used: Cell::new(now),
                }))
            });
            links.collect::<Vec<_>>()
        };
        let kept = |links: Vec<Fake>, order: u64| {
            let limits = Limits { total: 50, per_peer: PER_PEER };
            let mut table: Table<Fake, ()> = Table::new(limits);
            let mut at: Vec<_> = (0..links.len()).collect();
            at.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
            for n in at {
                table.install(&links[n]);
            }
            table.links().map(|link| (link.0.slot, link.0.rank)).collect::<BTreeSet<_>>()
        };
        let (ours, theirs) = (kept(end(1), order), kept(end(2), order.rotate_left(32)));
        prop_assert_eq!(&ours, &theirs);
        let slots: BTreeSet<_> = wires.iter().map(|wire| wire.0).collect();
        prop_assert_eq!(ours.len(), slots.len());
    }
}

#[test]
fn so_many_dials_at_once() {
    let limits = Limits { total: 1000, per_peer: 1 };
    let mut table: Table<Fake, usize> = Table::new(limits);
    for n in 0..DIALS_MAX {
        assert!(table.begin_dial(key(n, 0), n, false).is_ok());
    }
    assert_eq!(table.begin_dial(key(DIALS_MAX, 0), 0, true).unwrap_err(), NoRoom::Dials);
    table.end_dial(&key(0, 0));
    assert!(table.begin_dial(key(DIALS_MAX, 0), 0, false).is_ok());
}
