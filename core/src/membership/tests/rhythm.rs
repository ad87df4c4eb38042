//! How often heartbeats go out: whose silence somebody judges speaks in every interval, others now
//! and then.

use super::*;
use crate::wire::Want;

/// With so many others not everybody watches everybody.
const OTHERS: u16 = 40;

/// A peer with an edge of this kind, once all edges are laid.
fn neighbour(node: &Node, kind: impl Fn(bool, bool) -> bool) -> u16 {
    let rings = node.machine.table.rings();
    let (watched, watchers): (Vec<_>, Vec<_>) =
        (rings.watched().cloned().collect(), rings.watchers().cloned().collect());
    let mut all = 1..=OTHERS;
    all.find(|n| kind(watched.contains(&id(*n)), watchers.contains(&id(*n)))).unwrap()
}

/// Hears somebody in every interval, for so many seconds; all that happened.
fn hearing(node: &mut Node, n: u16, first: u64, seconds: u64, want: Want) -> Vec<(Time, Effect)> {
    let mut all = Vec::new();
    for seq in first..first + seconds {
        let beat = Frame::Heartbeat { seq, seen: u64::MAX, every_ms: 1000, want };
        let out = node.frame(n, beat, &[]);
        all.extend(out.into_iter().map(|e| (node.now, e)));
        all.extend(node.pass(1));
    }
    all
}

#[test]
fn who_is_watched_speaks_in_every_interval_and_who_only_watches_every_fifth() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let watcher = neighbour(&node, |watched, watches| watches && !watched);
    let often = heartbeats(&node.pass(60), watcher).len();
    assert!((59..=61).contains(&often), "{often}");
    let watched = neighbour(&node, |watched, watches| watched && !watches);
    let beats = heartbeats(&hearing(&mut node, watched, 1, 60, Want::Edge), watched);
    assert!((11..=13).contains(&beats.len()), "{}", beats.len());
}

#[test]
fn a_watcher_that_hears_nothing_says_so_in_every_interval() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let watched = neighbour(&node, |watched, watches| watched && !watches);
    hearing(&mut node, watched, 1, 20, Want::Edge);
    let silent = node.now;
    let beats = heartbeats(&node.pass(6), watched);
    assert!(beats.len() >= 4, "{beats:?}");
    // The last one that was heard came a second before.
    assert!(beats.iter().any(|(at, _)| at.since(silent) <= Duration::from_millis(700)));
}

#[test]
fn who_is_asked_to_speaks_in_every_interval_whatever_its_own_rings_say() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let watched = neighbour(&node, |watched, watches| watched && !watches);
    hearing(&mut node, watched, 1, 20, Want::Edge);
    let asked = node.now;
    let beats = heartbeats(&hearing(&mut node, watched, 21, 10, Want::Watch), watched);
    assert!(beats[0].0.since(asked) <= Duration::from_millis(1100), "{beats:?}");
    assert!(beats.len() >= 9, "{}", beats.len());
    let beats = heartbeats(&hearing(&mut node, watched, 31, 20, Want::Edge), watched);
    assert!(beats.len() <= 6, "{}", beats.len());
}

#[test]
fn a_rare_word_is_enough_to_know_that_all_are_seen() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let watcher = neighbour(&node, |watched, watches| watches && !watched);
    let seen = u64::MAX;
    let beat = Frame::Heartbeat { seq: 1, seen, every_ms: 5000, want: Want::Watch };
    node.frame(watcher, beat, &[]);
    let mut sent = 0;
    for seq in 2..=8 {
        let all = node.pass(5);
        assert!(heartbeats(&all, watcher).iter().all(|(_, class)| *class == Class::Datagram));
        let beats = all.iter().filter_map(|(_, e)| match e {
            Effect::Send { to, bytes, .. } if *to == peer(watcher) => wire::decode(bytes).ok(),
            _ => None,
        });
        for beat in beats {
            if let Frame::Heartbeat { seq, .. } = beat.frame {
                sent = seq;
            }
        }
        let beat = Frame::Heartbeat { seq, seen: sent, every_ms: 5000, want: Want::Watch };
        node.frame(watcher, beat, &[]);
    }
    // It hears nothing of us: it says so more often, and we try another way.
    for seq in 9..=14 {
        node.frame(
            watcher,
            Frame::Heartbeat { seq, seen: sent, every_ms: 5000, want: Want::Watch },
            &[],
        );
        node.pass(1);
    }
    let beats = heartbeats(&node.pass(2), watcher);
    assert!(beats.iter().all(|(_, class)| *class == Class::Stream), "{beats:?}");
}

#[test]
fn the_silence_of_one_that_said_it_was_its_last_word_means_nothing() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let watched = neighbour(&node, |watched, watches| watched && !watches);
    let accused = |all: &[(Time, Effect)]| suspicions(all).iter().any(|(_, m)| *m == id(watched));
    hearing(&mut node, watched, 1, 20, Want::Edge);
    hearing(&mut node, watched, 21, 1, Want::Nothing);
    assert!(!accused(&node.pass(20)));
    // It has room again, and is judged by what it does from there on.
    let all = hearing(&mut node, watched, 30, 20, Want::Edge);
    assert!(!accused(&all));
    let silent = node.now;
    let all = node.pass(5);
    assert!(accused(&all));
    let at = suspicions(&all)[0].0;
    assert!(at.since(silent) <= Duration::from_millis(2500), "{:?}", at.since(silent));
}

#[test]
fn who_has_no_room_for_an_edge_any_more_says_so() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let peers = |node: &Node| -> Vec<_> {
        node.machine.watch_edges(node.now).map(|e| e.peer.instance.0 as u16).collect()
    };
    // As many want edges that the rings do not call for as there is room for.
    for n in 1..=OTHERS {
        node.heartbeat(n, 1);
    }
    let before = peers(&node);
    assert_eq!(before.len(), node.machine.watch_edges_max());
    for n in OTHERS + 1..=OTHERS + 30 {
        node.gossip(1, record(n, 1, State::Alive));
    }
    let all: Vec<_> = node.pass(1).into_iter().map(|(_, effect)| effect).collect();
    let told = |n: u16| {
        sent(&all).iter().any(|(to, m)| {
            *to == peer(n) && matches!(m.frame, Frame::Heartbeat { want: Want::Nothing, .. })
        })
    };
    let after = peers(&node);
    let gone: Vec<_> = before.into_iter().filter(|n| !after.contains(n)).collect();
    assert!(!gone.is_empty());
    assert!(gone.iter().all(|n| told(*n)), "{gone:?}");
}
