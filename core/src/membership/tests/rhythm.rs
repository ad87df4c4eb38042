//! How often heartbeats go out: whose silence somebody judges speaks in every interval, others now
//! and then.

use super::*;
use crate::wire::Want;

/// With so many others not everybody watches everybody.
const OTHERS: u16 = 40;

/// The last of an odd number of rings runs one way only: it has edges of which one end watches.
fn on_odd_rings() -> Node {
    Node::with(&Config { watch_rings: 3, ..Config::new("c", "n000") }, OTHERS)
}

/// With an id greater than all others.
fn the_greatest() -> Node {
    Node::with(&Config::new("c", "n999"), OTHERS)
}

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
    let mut node = on_odd_rings();
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
    let mut node = on_odd_rings();
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
    let mut node = on_odd_rings();
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
    let mut node = on_odd_rings();
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
    let mut node = on_odd_rings();
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

/// A neighbour that watches us and is watched.
fn mutual(node: &Node) -> u16 {
    neighbour(node, |watched, watches| watched && watches)
}

/// A node that answers a neighbour whose heartbeats it has heard, and that neighbour.
fn following() -> (Node, u16) {
    let mut node = the_greatest();
    node.pass(5);
    let peer = mutual(&node);
    hearing(&mut node, peer, 1, 5, Want::Watch);
    (node, peer)
}

#[test]
fn of_two_that_watch_each_other_the_greater_id_answers_each_heartbeat_at_once() {
    let (mut node, peer) = following();
    for seq in 6..66 {
        let beat = Frame::Heartbeat { seq, seen: u64::MAX, every_ms: 1000, want: Want::Watch };
        let at = node.now;
        let out: Vec<_> = node.frame(peer, beat, &[]).into_iter().map(|e| (at, e)).collect();
        assert_eq!(heartbeats(&out, peer).len(), 1, "its answer to heartbeat {seq}");
        assert!(heartbeats(&node.pass(1), peer).is_empty(), "unasked after heartbeat {seq}");
    }
}

#[test]
fn the_one_that_answers_speaks_unasked_where_it_hears_nothing() {
    let (mut node, peer) = following();
    let mut spoke = node.now - Duration::from_secs(1); // it answered the last one
    for (at, _) in heartbeats(&node.pass(8), peer) {
        let apart = at.since(spoke);
        assert!(apart <= Duration::from_millis(1210), "{apart:?}");
        spoke = at;
    }
    assert!(node.now.since(spoke) <= Duration::from_millis(1210));
}

#[test]
fn heartbeats_that_come_too_often_are_not_all_answered() {
    let (mut node, peer) = following();
    let mut all = Vec::new();
    for seq in 6..1006 {
        let beat = Frame::Heartbeat { seq, seen: u64::MAX, every_ms: 1000, want: Want::Watch };
        all.extend(node.frame(peer, beat, &[]).into_iter().map(|e| (node.now, e)));
        node.now = node.now + Duration::from_millis(10);
    }
    let answers = heartbeats(&all, peer).len();
    assert!((15..=21).contains(&answers), "{answers} answers in 10 s");
}

#[test]
fn of_two_that_watch_each_other_the_lesser_id_keeps_its_own_pace() {
    let mut node = Node::new(OTHERS);
    node.pass(5);
    let peer = mutual(&node);
    let beats = heartbeats(&hearing(&mut node, peer, 1, 60, Want::Watch), peer);
    assert!((59..=61).contains(&beats.len()), "{}", beats.len());
    let apart = beats.windows(2).map(|two| two[1].0.since(two[0].0));
    let allowed = Duration::from_millis(890)..=Duration::from_millis(1110);
    apart.for_each(|apart| assert!(allowed.contains(&apart), "{apart:?}"));
}

/// Hears all others in every interval for so many seconds, those in `deaf` without a word that they
/// hear us. How often each was pinged.
fn pings(node: &mut Node, first: u64, seconds: u64, deaf: &[u16]) -> Vec<u16> {
    let mut pinged = Vec::new();
    for seq in first..first + seconds {
        for n in 1..=FEW {
            let seen = if deaf.contains(&n) { 0 } else { u64::MAX };
            node.frame(n, Frame::Heartbeat { seq, seen, every_ms: 1000, want: Want::Watch }, &[]);
        }
        let all: Vec<_> = node.pass(1).into_iter().map(|(_, effect)| effect).collect();
        let pings = sent(&all).into_iter().filter(|(_, m)| matches!(m.frame, Frame::Ping { .. }));
        pinged.extend(pings.map(|(to, _)| to.instance.0 as u16));
    }
    pinged
}

/// With so many everybody watches everybody.
const FEW: u16 = 8;

#[test]
fn only_one_whose_heartbeats_do_not_say_that_it_hears_us_is_pinged() {
    let mut node = Node::new(FEW);
    pings(&mut node, 1, 60, &[]); // nothing is left to gossip
    assert_eq!(pings(&mut node, 61, 60, &[]), []);
    let pinged = pings(&mut node, 121, 60, &[3]);
    assert!((5..=9).contains(&pinged.len()) && pinged.iter().all(|n| *n == 3), "{pinged:?}");
}

#[test]
fn who_falls_silent_is_pinged_before_it_is_suspected() {
    let mut node = Node::new(FEW);
    pings(&mut node, 1, 60, &[]);
    let all: Vec<_> = node.pass(2).into_iter().map(|(_, effect)| effect).collect();
    let pinged = sent(&all).iter().filter(|(_, m)| matches!(m.frame, Frame::Ping { .. })).count();
    assert!(pinged >= 1);
}

#[test]
fn news_and_bad_health_of_our_own_want_a_ping_all_the_same() {
    let mut node = Node::new(FEW);
    pings(&mut node, 1, 60, &[]);
    let enough = |node: &Node| node.machine.is_answer_enough(node.now, &id(3));
    assert!(enough(&node));
    node.machine.health.worse(1);
    assert!(!enough(&node), "its answer makes our health better");
    node.machine.health.better();
    assert!(enough(&node));
    node.gossip(1, record(5, 2, State::Alive));
    assert!(!enough(&node), "it takes the news along");
}
