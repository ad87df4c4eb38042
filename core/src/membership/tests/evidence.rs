//! Evidence: what events and accounts say of who observed what.

use super::*;
use crate::{Direction, Observation};

fn seen_by(all: &[(Time, Effect)], name: &str) -> Vec<Observation> {
    let of = |(_, effect): &(Time, Effect)| match effect {
        Effect::Event(kind) if kind.name() == name => match kind {
            EventKind::MemberSuspected { observers, .. }
            | EventKind::MemberFailed { observers, .. }
            | EventKind::HealthCheckFailed { observers, .. } => Some(observers.to_vec()),
            _ => None,
        },
        _ => None,
    };
    all.iter().filter_map(of).flatten().collect()
}

#[test]
fn a_silence_is_told_once_with_its_phi_and_direction_and_again_after_the_member_was_heard() {
    let mut node = Node::new(5);
    node.pass(2);
    node.pass_hearing(1, 1, 12);
    let all = node.pass(30);
    for name in ["HealthCheckFailed", "MemberSuspected"] {
        let seen = seen_by(&all, name);
        assert_eq!(seen.len(), 1, "{name}: {seen:?}");
        let [saw] = &seen[..] else { unreachable!() };
        assert_eq!(saw.observer, id(0));
        assert!(saw.phi.is_some_and(|phi| (8.0..9.0).contains(&phi)), "{saw:?}");
        // Its heartbeats had echoed nothing of ours either.
        assert_eq!((saw.direction, saw.health_score), (Direction::Both, 0));
    }
    node.gossip(2, record(1, 9, State::Alive));
    assert!(seen_by(&node.pass(30), "HealthCheckFailed").is_empty(), "it was not heard since");
    node.heartbeat(1, 100);
    assert_eq!(seen_by(&node.pass(30), "HealthCheckFailed").len(), 1);
}

#[test]
fn who_hears_us_and_is_not_heard_is_told_so() {
    let mut node = Node::new(5);
    node.pass(2);
    for seq in 1..13 {
        let want = wire::Want::Watch;
        node.frame(1, Frame::Heartbeat { seq, seen: u64::MAX, every_ms: 1000, want }, &[]);
        node.pass(1);
    }
    let seen = seen_by(&node.pass(10), "MemberSuspected");
    assert!(seen.iter().any(|saw| saw.observer == id(0)), "{seen:?}");
    for saw in seen.iter().filter(|saw| saw.observer == id(0)) {
        assert_eq!(saw.direction, Direction::FromMember, "{saw:?}");
    }
}

#[test]
fn a_member_that_hears_nothing_of_us_is_seen_to() {
    let mut node = Node::new(5);
    // It beats, but echoes nothing of ours.
    for seq in 1..8 {
        node.pass(1);
        let bytes = wire::encode(
            &Frame::Heartbeat { seq, seen: 0, every_ms: 1000, want: wire::Want::Watch },
            &[],
        );
        node.input(Input::Frame { from: peer(1), bytes });
    }
    let edge = node.machine.watch_edges(node.now).find(|e| e.peer == peer(1)).unwrap();
    assert_eq!(edge.direction, Direction::ToMember);
    let told = node.machine.explain(node.now, &id(1)).unwrap();
    assert!(told.unseen >= 5, "{told:?}");
}

/// Lets time pass in which node 1 answers no ping and the others do. What happened.
fn pass_without_answer(node: &mut Node, ms: u64) -> Vec<(Time, Effect)> {
    node.pass_without(Some(1), Duration::from_millis(ms))
}

/// A node that has heard node 1, and been seen by it, for a while.
fn node_that_hears_1() -> Node {
    let mut node = Node::new(5);
    node.pass(2);
    for seq in 1..13 {
        beat_of_1(&mut node, seq);
        node.pass(1);
    }
    node
}

fn beat_of_1(node: &mut Node, seq: u64) {
    let want = wire::Want::Watch;
    node.frame(1, Frame::Heartbeat { seq, seen: u64::MAX, every_ms: 1000, want }, &[]);
}

#[test]
fn a_probe_without_an_answer_says_which_way_fails_before_a_silence_does() {
    for (beats, fails) in [(true, Direction::ToMember), (false, Direction::FromMember)] {
        let mut node = node_that_hears_1();
        node.input(Input::LinkTrouble { peer: peer(1) });
        let mut all = Vec::new();
        for seq in 14..17 {
            all.extend(pass_without_answer(&mut node, 600));
            if beats {
                beat_of_1(&mut node, seq);
            }
        }
        let seen = seen_by(&all, "MemberSuspected");
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!((seen[0].missed_probes, seen[0].direction), (1, fails), "{seen:?}");
    }
}

#[test]
fn what_came_while_an_answer_could_still_come_says_nothing() {
    let mut node = node_that_hears_1();
    node.input(Input::LinkTrouble { peer: peer(1) });
    pass_without_answer(&mut node, 100);
    beat_of_1(&mut node, 14);
    let seen = seen_by(&pass_without_answer(&mut node, 1450), "MemberSuspected");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].direction, Direction::Unknown, "{seen:?}");
}

#[test]
fn over_a_link_that_is_gone_no_heartbeat_is_missed() {
    let mut node = node_that_hears_1();
    node.input(Input::LinkDown { peer: peer(1), broken: true });
    let seen = seen_by(&pass_without_answer(&mut node, 1600), "MemberSuspected");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].direction, Direction::Unknown, "{seen:?}");
}

#[test]
fn probes_that_nobody_answers_are_counted_and_told_once() {
    let mut node = Node::new(2);
    let mut all = Vec::new();
    for _ in 0..400 {
        node.now = node.machine.deadline().unwrap();
        let now = node.now;
        let out = node.input(Input::Tick);
        // Node 2 answers, node 1 does not.
        for (to, m) in sent(&out) {
            if let (2, Frame::Ping { seq, .. }) = (to.instance.0, m.frame) {
                node.frame(2, Frame::Ack { seq }, &[]);
            }
        }
        all.extend(out.into_iter().map(|e| (now, e)));
    }
    let seen = seen_by(&all, "HealthCheckFailed");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].missed_probes, seen[0].phi), (1, None));
    let failed = seen_by(&all, "MemberFailed");
    assert!(failed.iter().any(|o| o.observer == id(0)), "{failed:?}");
}

#[test]
fn an_account_has_what_happened_in_its_order_and_no_more_than_its_length() {
    let mut node = Node::new(3);
    node.now = Time(5_000_000);
    let saw = Observation {
        observer: id(2),
        phi: Some(9.5),
        missed_probes: 3,
        direction: Direction::Both,
        health_score: 1,
    };
    let suspect = Record { observers: vec![saw.clone()], ..record(1, 1, State::Suspect) };
    node.gossip(2, suspect);
    node.now = Time(6_000_000);
    node.gossip(2, record(1, 2, State::Alive));
    let told = node.machine.explain(node.now, &id(1)).unwrap();
    let names: Vec<_> = told.history.iter().map(|h| (h.what, h.incarnation)).collect();
    let expected = [("MemberJoined", 1), ("MemberSuspected", 1), ("MemberRecovered", 2)];
    assert_eq!(names, expected);
    assert_eq!(told.history[1].observers[..], [saw]);
    assert_eq!(told.history[1].ago, Duration::from_secs(1));
    assert_eq!((told.state, told.refute_within), (State::Alive, None));

    for n in 3..100 {
        let state = if n % 2 == 0 { State::Alive } else { State::Suspect };
        node.gossip(2, record(1, n, state));
    }
    let told = node.machine.explain(node.now, &id(1)).unwrap();
    assert_eq!(told.history.len(), crate::evidence::HISTORY_MAX);
    assert_eq!(told.history.last().map(|h| h.what), Some("MemberSuspected"));
    assert!(told.refute_within.is_some());
    assert!(node.machine.explain(node.now, &id(77)).is_none());
}

#[test]
fn observations_survive_the_way() {
    let mut node = Node::new(4);
    let saw = Observation {
        observer: id(3),
        phi: Some(12.34),
        missed_probes: 300,
        direction: Direction::ToMember,
        health_score: 8,
    };
    let suspect = Record { observers: vec![saw.clone()], ..record(1, 1, State::Suspect) };
    node.gossip(3, suspect);
    let told = node.until(|_, m| m.updates.iter().find(|r| r.id == id(1)).cloned());
    let got = told.observers.iter().find(|o| o.observer == id(3)).unwrap();
    assert_eq!(*got, Observation { phi: Some(12.3), ..saw });
}

#[test]
fn an_unresponsive_program_is_announced_and_is_no_suspect() {
    let mut node = Node::new(3);
    node.input(Input::Unresponsive(true));
    assert!(node.machine.own_record().unresponsive);
    let told = node.until(|_, m| m.updates.iter().find(|r| r.id == id(0)).cloned());
    assert!(told.unresponsive && told.state == State::Alive);

    let there = Record { unresponsive: true, ..record(1, 2, State::Alive) };
    assert_eq!(events(&node.gossip(1, there)), ["MemberUpdated"]);
    assert!(node.machine.entry(&id(1)).unwrap().member.unresponsive);
}
