//! When edges are laid and taken up: a few at a time, and an old one only once those in its place
//! stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use super::*;
use crate::wire::Want;

/// Who is there from the beginning, ...
const OLD: RangeInclusive<u16> = 1..=40;
/// ... and who joins, all at once: nearly every edge leads elsewhere then.
const NEW: RangeInclusive<u16> = 100..=500;

/// A node with its peers, as they behave.
struct Network {
    node: Node,
    /// Dials lead to a link, so long after.
    up_after: Option<Duration>,
    /// Who is never heard, ...
    silent: BTreeSet<u16>,
    /// ... and who is not there at all.
    gone: BTreeSet<u16>,
    coming: BTreeMap<Time, Vec<u16>>,
    beats: u64,
}

impl Network {
    /// All of the old are linked and heard, and the edges to them stand.
    fn new() -> Self {
        let up_after = Some(Duration::from_millis(20));
        let (silent, gone, coming) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut network = Self { node: Node::new(40), up_after, silent, gone, coming, beats: 0 };
        network.pass(20);
        assert!(network.standing().is_superset(&network.called_for()));
        network
    }

    /// Lets so many seconds pass; each second every peer with an edge is heard. It wants the edge
    /// as long as the rings call for it.
    fn pass(&mut self, seconds: u64) -> Vec<(Time, Effect)> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.beats += 1;
            let called_for = self.called_for();
            for n in self.edges() {
                if !self.silent.contains(&n) && self.node.machine.table.is_linked(&id(n)) {
                    let wanted = called_for.contains(&n);
                    let want = if wanted { Want::Edge } else { Want::Nothing };
                    let (seq, seen) = (self.beats, u64::MAX);
                    let beat = Frame::Heartbeat { seq, seen, every_ms: 1000, want };
                    let out = self.node.frame(n, beat, &[]);
                    self.heed(out, &mut all);
                }
            }
            let until = self.node.now + Duration::from_secs(1);
            while let Some(at) = self.next().filter(|at| *at <= until) {
                self.node.now = at.max(self.node.now);
                for n in self.coming.remove(&at).unwrap_or_default() {
                    let dialed = Some(addr(n));
                    let out =
                        self.node.input(Input::LinkUp { peer: peer(n), addr: addr(n), dialed });
                    self.heed(out, &mut all);
                }
                let out = self.node.tick();
                self.heed(out, &mut all);
            }
            self.node.now = until;
        }
        all
    }

    fn next(&self) -> Option<Time> {
        self.node.machine.deadline().into_iter().chain(self.coming.keys().next().copied()).min()
    }

    fn heed(&mut self, out: Vec<Effect>, all: &mut Vec<(Time, Effect)>) {
        for effect in out {
            if let (Effect::Dial { addr, .. }, Some(after)) = (&effect, self.up_after)
                && !self.gone.contains(&(addr.port() - 7000))
            {
                let up = self.node.now + after;
                self.coming.entry(up).or_default().push(addr.port() - 7000);
            }
            all.push((self.node.now, effect));
        }
    }

    /// Members come, all at once and without a link.
    fn meet(&mut self, all: RangeInclusive<u16>) {
        let records: Vec<_> = all.map(|n| record(n, 1, State::Alive)).collect();
        self.node.frame(1, Frame::Records { want: Vec::new() }, &records);
    }

    fn edges(&self) -> BTreeSet<u16> {
        self.node.machine.watch_edges(self.node.now).map(|e| e.peer.instance.0 as u16).collect()
    }

    /// The edges in use.
    fn standing(&self) -> BTreeSet<u16> {
        let all = self.node.machine.watch_edges(self.node.now).filter(|e| e.heard.is_some());
        let all = all.filter(|e| self.node.machine.table.is_linked(&e.peer.id));
        all.map(|e| e.peer.instance.0 as u16).collect()
    }

    /// Whom the rings call for.
    fn called_for(&self) -> BTreeSet<u16> {
        let rings = self.node.machine.table.rings();
        let all: BTreeSet<_> = rings.watched().chain(rings.watchers()).collect();
        OLD.chain(NEW).filter(|n| all.contains(&id(*n))).collect()
    }
}

fn dials(all: &[(Time, Effect)]) -> Vec<Time> {
    all.iter().filter(|(_, e)| matches!(e, Effect::Dial { .. })).map(|(at, _)| *at).collect()
}

/// The edges that were taken up, and when.
fn taken_up(all: &[(Time, Effect)]) -> Vec<(Time, u16)> {
    let unpinned = |(at, e): &(Time, Effect)| match e {
        Effect::Pin { peer, pinned: false } => Some((*at, peer.instance.0 as u16)),
        _ => None,
    };
    all.iter().filter_map(unpinned).collect()
}

/// The most of these within 100 ms.
fn most_together(times: &[Time]) -> usize {
    let within = |from: &Time| {
        let until = *from + Duration::from_millis(100);
        times.iter().filter(|at| (*from..until).contains(*at)).count()
    };
    times.iter().map(within).max().unwrap_or_default()
}

#[test]
fn a_mass_join_moves_edges_two_in_a_tenth_of_a_second() {
    let mut network = Network::new();
    let before = network.edges();
    network.meet(NEW);
    let all = network.pass(60);
    assert_eq!(network.edges(), network.called_for());
    let (dialed, gone) = (dials(&all), taken_up(&all));
    assert!(dialed.len() >= 8, "{} dialed", dialed.len());
    assert!(gone.len() >= 8, "{} of {} taken up", gone.len(), before.len());
    // Each was laid once, and each went once.
    assert!(dialed.len() <= network.edges().len(), "{} dialed", dialed.len());
    assert!(gone.len() <= before.len());
    assert_eq!(most_together(&dialed), 2);
    assert_eq!(most_together(&gone.iter().map(|(at, _)| *at).collect::<Vec<_>>()), 2);
}

#[test]
fn no_more_than_six_dials_wait_for_their_outcome() {
    let mut network = Network::new();
    network.up_after = None;
    network.meet(NEW);
    let dialed = dials(&network.pass(6));
    let waiting = |at: &Time| {
        let since = *at - Duration::from_secs(2);
        dialed.iter().filter(|d| **d > since && **d <= *at).count()
    };
    let most = dialed.iter().map(waiting).max().unwrap_or_default();
    assert_eq!(most, 6);
}

#[test]
fn a_mass_loss_of_links_is_made_good_two_in_a_tenth_of_a_second() {
    let mut network = Network::new();
    let lost: Vec<_> = network.edges().into_iter().collect();
    let mut all = Vec::new();
    for n in &lost {
        let out = network.node.input(Input::LinkDown { peer: peer(*n), broken: false });
        network.heed(out, &mut all);
    }
    all.extend(network.pass(10));
    let dialed = dials(&all);
    assert_eq!((dialed.len(), most_together(&dialed)), (lost.len(), 2));
    assert_eq!(network.standing(), lost.into_iter().collect());
}

#[test]
fn a_mass_death_moves_edges_two_in_a_tenth_of_a_second_and_none_of_the_survivors() {
    let mut network = Network::new();
    let before = network.called_for();
    // Every other neighbour dies at once: their links end, and others have seen it.
    let dead: Vec<u16> = before.iter().copied().step_by(2).collect();
    network.gone = dead.iter().copied().collect();
    network.silent = network.gone.clone();
    let teller = *before.difference(&network.gone).next().unwrap();
    let mut all = Vec::new();
    for n in &dead {
        let out = network.node.input(Input::LinkDown { peer: peer(*n), broken: true });
        network.heed(out, &mut all);
    }
    for state in [State::Suspect, State::Failed] {
        let observers: Vec<_> = (90..93).map(saw).collect();
        let told = |n: &u16| Record { observers: observers.clone(), ..record(*n, 1, state) };
        let records: Vec<_> = dead.iter().map(told).collect();
        let out = network.node.frame(teller, Frame::Gossip, &records);
        network.heed(out, &mut all);
        all.extend(network.pass(2));
    }
    all.extend(network.pass(30));
    assert!(dead.iter().all(|n| network.node.state(*n) == State::Failed));
    assert_eq!(network.edges(), network.called_for());
    assert!(network.standing().is_superset(&network.called_for()));
    let new = network.called_for().difference(&before).count();
    assert!(dead.len() >= 4 && new >= 4, "{} dead, {new} new", dead.len());
    assert!(most_together(&dials(&all)) <= 2);
    // Those of the dead are for nothing and go at once.
    let gone: BTreeSet<u16> = taken_up(&all).into_iter().map(|(_, n)| n).collect();
    assert_eq!(gone, network.gone);
}

#[test]
fn an_old_edge_stays_until_all_that_take_its_place_are_heard() {
    let mut network = Network::new();
    let watched: BTreeSet<u16> = OLD.filter(|n| network.node.machine.is_watched(&id(*n))).collect();
    network.silent = NEW.collect();
    network.meet(NEW);
    // The links of the new are up, but none has said a word; the old are judged like before.
    let all = network.pass(25);
    assert!(network.called_for().iter().all(|n| network.node.machine.table.is_linked(&id(*n))));
    let gone: BTreeSet<u16> = taken_up(&all).into_iter().map(|(_, n)| n).collect();
    assert!(gone.is_disjoint(&watched), "{gone:?} of {watched:?}");
    let still = watched.difference(&network.called_for()).count();
    assert!(still >= 5, "{still} are watched without being called for");
    // One is not enough, all are.
    let mut new: Vec<u16> = network.called_for().into_iter().filter(|n| NEW.contains(n)).collect();
    let last = new.pop().unwrap();
    network.silent = [last].into();
    let all = network.pass(2);
    assert_eq!(taken_up(&all), []);
    network.silent.clear();
    network.pass(5);
    assert_eq!(network.edges(), network.called_for());
}

#[test]
fn an_old_edge_does_not_wait_for_ever() {
    let mut network = Network::new();
    network.silent = NEW.collect();
    network.meet(NEW);
    let all = network.pass(28);
    let before = taken_up(&all).len();
    let all = network.pass(10);
    assert!(taken_up(&all).len() >= 5, "{before} before, then {:?}", taken_up(&all));
    assert_eq!(network.edges(), network.called_for());
}
