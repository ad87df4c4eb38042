//! Planted bugs: the checkers are shown what a broken machine would do, and must say so.
#![allow(clippy::unwrap_used)] // a test may

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use peerage::{
    EventKind, Member, NodeId, State,
    member::Instance,
    membership::Class,
    wire::{self, Frame, Record},
};
use peerage_sim::{
    rules,
    rules::{Held, Rules},
};

fn id(n: usize) -> NodeId {
    NodeId::new(format!("n{n}")).unwrap()
}

fn member(n: usize, instance: u64, incarnation: u64, state: State) -> Arc<Member> {
    Arc::new(Member {
        id: id(n),
        instance: Instance(instance),
        incarnation,
        state,
        addr: ([10, 0, 0, 1], 7000).into(),
        tags: Arc::default(),
        rtt: None,
        unresponsive: false,
    })
}

/// What the table checker says to a sequence of states of one member at one observer.
fn table(announced: u64, held: &[(u64, State)]) -> Vec<String> {
    let (mut rules, mut found) = (Rules::default(), Vec::new());
    rules.own(&id(1), announced, State::Alive, &mut found);
    for (incarnation, state) in held {
        let name = id(1);
        let now =
            Held { id: name, instance: Instance(1), incarnation: *incarnation, state: *state };
        rules.table(0, [now].into_iter(), &mut found);
    }
    found
}

fn events(kinds: Vec<EventKind>) -> Vec<String> {
    let (mut rules, mut found) = (Rules::default(), Vec::new());
    for kind in &kinds {
        rules.event(0, kind, &mut found);
    }
    found
}

fn joined(incarnation: u64) -> EventKind {
    EventKind::MemberJoined { member: member(1, 1, incarnation, State::Alive) }
}

fn suspected(incarnation: u64) -> EventKind {
    let member = member(1, 1, incarnation, State::Suspect);
    EventKind::MemberSuspected { member, observers: Arc::from([]) }
}

fn failed(incarnation: u64) -> EventKind {
    let member = member(1, 1, incarnation, State::Failed);
    EventKind::MemberFailed { member, observers: Arc::from([]), replaced: false }
}

fn unwell() -> EventKind {
    let member = member(1, 1, 1, State::Alive);
    EventKind::HealthCheckFailed { member, observers: Arc::from([]) }
}

fn left() -> EventKind {
    EventKind::MemberLeft { member: member(1, 1, 1, State::Left) }
}

#[test]
fn an_honest_life_passes() {
    assert_eq!(table(2, &[(1, State::Alive), (1, State::Suspect), (2, State::Alive)]), [""; 0]);
    let recovered = EventKind::MemberRecovered { member: member(1, 1, 2, State::Alive) };
    let kinds = vec![joined(1), suspected(1), recovered, left()];
    assert_eq!(events(kinds), [""; 0]);
}

#[test]
fn a_suspicion_that_raises_the_incarnation() {
    let found = table(1, &[(1, State::Alive), (2, State::Suspect)]);
    assert!(found[0].starts_with("rule 1"), "{found:?}");
}

#[test]
fn a_resurrection_at_equal_incarnation() {
    let found = table(1, &[(1, State::Failed), (1, State::Alive)]);
    assert!(found[0].starts_with("rule 2"), "{found:?}");
}

#[test]
fn one_who_left_becomes_failed() {
    let found = table(1, &[(1, State::Left), (1, State::Failed)]);
    assert!(found[0].starts_with("rule 2"), "{found:?}");
}

#[test]
fn a_node_that_believes_its_own_death() {
    let (mut rules, mut found) = (Rules::default(), Vec::new());
    rules.own(&id(1), 1, State::Failed, &mut found);
    assert!(found[0].starts_with("rule 3"), "{found:?}");
}

#[test]
fn an_alarm_about_one_who_left() {
    for alarm in [suspected(1), failed(1), joined(1)] {
        let found = events(vec![joined(1), left(), alarm]);
        assert!(found.iter().any(|f| f.starts_with("rule 6")), "{found:?}");
    }
}

#[test]
fn events_twice_for_one_cause() {
    assert_eq!(events(vec![joined(1), joined(1)]).len(), 1);
    assert_eq!(events(vec![joined(1), suspected(1), suspected(1)]).len(), 1);
    assert_eq!(events(vec![joined(1), failed(1), failed(1)]).len(), 1);
    assert_eq!(events(vec![suspected(1)]).len(), 1);
    assert_eq!(events(vec![joined(1), unwell(), unwell()]).len(), 1);
    assert_eq!(events(vec![joined(1), unwell(), failed(1), joined(1), unwell()]), [""; 0]);
}

#[test]
fn messages_beyond_their_limits() {
    let update = |n: usize, tag: usize| -> Bytes {
        let tags = BTreeMap::from([("t".to_owned(), "x".repeat(tag))]);
        let record = Record {
            id: id(n),
            instance: Instance(1),
            incarnation: 1,
            state: State::Alive,
            addr: ([10, 0, 0, 1], 7000).into(),
            tags: Arc::new(tags),
            observers: Vec::new(),
            unresponsive: false,
            dead_for_ms: 0,
        };
        wire::encode_record(&record).into()
    };
    let check = |class, count: usize, tag| {
        let updates: Vec<_> = (0..count).map(|n| update(n, tag)).collect();
        let mut found = Vec::new();
        rules::frame(class, &wire::encode(&Frame::Gossip, &updates), &mut found);
        found.len()
    };
    assert_eq!(check(Class::Stream, 20, 10), 0);
    assert_eq!(check(Class::Stream, 21, 10), 1);
    assert_eq!(check(Class::Stream, 5, 1000), 1);
    assert_eq!(check(Class::Datagram, 2, 1000), 1);
}
