//! Whoever claims incarnations that nobody has freezes no member out, whomever it tells of them.

use super::*;
use crate::{
    membership::leaps::{LEAP_MAX, STRANGER_MAX},
    wire::INCARNATION_MAX,
};

const STATES: [State; 4] = [State::Alive, State::Suspect, State::Failed, State::Left];

/// What was sent to a member about one.
fn told(out: &[Effect], to: u16, about: u16) -> Vec<Record> {
    let to_it = sent(out).into_iter().filter(|(receiver, _)| *receiver == peer(to));
    to_it.flat_map(|(_, message)| message.updates).filter(|r| r.id == id(about)).collect()
}

fn incarnation(node: &Node, of: u16) -> u64 {
    node.machine.entry(&id(of)).unwrap().member.incarnation
}

/// Nobody believes that a member has come from where it stands to the end of all incarnations: its own
/// word is heard as before.
#[test]
fn the_highest_incarnation_freezes_nobody_out() {
    let mut node = Node::new(3);
    let mut bad = 0;
    for claimed in [LEAP_MAX + 2, LEAP_MAX + 3, INCARNATION_MAX - 1, INCARNATION_MAX] {
        for state in STATES {
            let forged = Record { addr: addr(77), ..record(2, claimed, state) };
            let out = node.gossip(1, forged);
            assert!(events(&out).is_empty() && !closes(&out, 1), "{claimed} {state}");
            bad += 1;
            assert_eq!(node.machine.counters().frames_bad, bad);
        }
    }
    for claimed in [STRANGER_MAX + 1, INCARNATION_MAX] {
        for state in STATES {
            assert!(events(&node.gossip(1, record(9, claimed, state))).is_empty());
        }
    }
    assert!(node.machine.entry(&id(9)).is_none());
    assert_eq!(node.machine.entry(&id(2)).unwrap().member.addr, addr(2));
    let its_own = Record { addr: addr(78), ..record(2, 2, State::Alive) };
    assert_eq!(events(&node.gossip(2, its_own)), ["MemberUpdated"]);
    assert_eq!(events(&node.gossip(2, record(2, 2, State::Left))), ["MemberLeft"]);
}

/// Told to the member itself, it would announce itself where nobody believes it.
#[test]
fn who_is_told_of_itself_what_nobody_believes_stays_where_it_is() {
    let mut node = Node::new(3);
    let own = node.machine.own_record();
    for claimed in [own.incarnation + LEAP_MAX + 1, INCARNATION_MAX - 1, INCARNATION_MAX] {
        for state in STATES {
            let bad = node.machine.counters().frames_bad;
            let out = node.gossip(1, record(0, claimed, state));
            assert_eq!(node.machine.own_record(), own, "{claimed} {state}");
            assert_eq!(node.machine.counters().frames_bad, bad + 1);
            // Whoever may believe that hears our own word.
            assert_eq!(told(&out, 1, 0), std::slice::from_ref(&own), "{claimed} {state}");
        }
        let table = Frame::Records { want: Vec::new() };
        let out = node.frame(1, table, &[record(0, claimed, State::Failed)]);
        assert_eq!(told(&out, 1, 0), std::slice::from_ref(&own), "{claimed} from a table");
        // Nor of a process before it: ours would be above what strangers believe.
        let namesake = Record { instance: Instance(99), ..record(0, claimed, State::Failed) };
        if claimed >= STRANGER_MAX {
            node.gossip(1, namesake);
            assert_eq!(node.machine.own_record(), own, "{claimed} of a namesake");
        }
    }
    let namesake = Record { instance: Instance(99), ..record(0, STRANGER_MAX - 1, State::Failed) };
    node.gossip(1, namesake);
    assert_eq!(node.machine.own_record().incarnation, STRANGER_MAX);
}

/// What others may believe is refuted, however high it is.
#[test]
fn the_highest_incarnation_that_is_believed_is_refuted() {
    let mut node = Node::new(3);
    let mut claimed = LEAP_MAX;
    for step in 1..=5 {
        node.gossip(1, record(0, claimed, State::Failed));
        assert_eq!(node.machine.own_record().incarnation, claimed + 1, "step {step}");
        // And whoever refutes that is believed.
        let refuted = record(2, claimed + 1, State::Alive);
        node.gossip(1, record(2, claimed, State::Suspect));
        node.gossip(2, refuted);
        assert_eq!(node.machine.entry(&id(2)).unwrap().rank(), (claimed + 1, State::Alive));
        claimed += LEAP_MAX;
    }
}

/// Who heard nothing of a lie hears of its refutation only, which is one above what it believes of others'
/// word. It asks the member, by telling it what it holds, and believes that.
#[test]
fn who_missed_the_widest_lie_believes_who_refuted_it() {
    let mut victim = Node::new(3);
    let own = victim.machine.own_record().incarnation;
    victim.gossip(1, record(0, own + LEAP_MAX, State::Suspect));
    let refuted = victim.machine.own_record();
    assert_eq!(refuted.incarnation, own + LEAP_MAX + 1);
    let out = victim.gossip(2, record(0, own, State::Alive));
    assert_eq!(told(&out, 2, 0), std::slice::from_ref(&refuted), "who is so far behind is told");

    let mut other = Node::new(3);
    let far = Record { incarnation: 1 + LEAP_MAX + 1, ..record(2, 1, State::Alive) };
    let out = other.gossip(1, far.clone());
    assert_eq!(told(&out, 2, 2), [record(2, 1, State::Alive)], "what it holds");
    assert!(told(&other.gossip(3, far.clone()), 2, 2).is_empty(), "once a second");
    assert_eq!(incarnation(&other, 2), 1);
    other.gossip(2, far.clone());
    assert_eq!(incarnation(&other, 2), far.incarnation);
    // So is one that nobody here knows, by anybody's word.
    other.gossip(1, Record { incarnation: far.incarnation, ..record(9, 1, State::Alive) });
    assert_eq!(incarnation(&other, 9), far.incarnation);
}

/// Whoever did not know a member believes more of it. Its own word takes that back.
#[test]
fn a_members_own_word_takes_back_what_was_said_of_it() {
    let mut node = Node::new(3);
    assert_eq!(events(&node.gossip(1, record(9, STRANGER_MAX, State::Alive))), ["MemberJoined"]);
    node.gossip(2, record(9, 3, State::Alive));
    assert_eq!(incarnation(&node, 9), STRANGER_MAX, "another's word");
    let its_own = Record { addr: addr(78), ..record(9, 3, State::Alive) };
    assert_eq!(events(&node.gossip(9, its_own)), ["MemberUpdated"]);
    assert_eq!(incarnation(&node, 9), 3);
    // What is not so far off may have been overtaken on its way.
    node.gossip(9, record(9, 7, State::Alive));
    node.gossip(9, record(9, 5, State::Alive));
    assert_eq!(incarnation(&node, 9), 7);

    // One that was never there, so that who comes under its id is not taken for older.
    node.gossip(1, record(8, STRANGER_MAX, State::Alive));
    node.bury(8, STRANGER_MAX);
    let comes = Record { instance: Instance(88), ..record(8, 1, State::Alive) };
    let from = Peer { instance: Instance(88), ..peer(8) };
    let bytes = wire::encode(&Frame::Gossip, &[wire::update(&comes)]);
    let out = node.input(Input::Frame { from, bytes });
    assert_eq!(events(&out), ["MemberJoined"]);
    assert_eq!((incarnation(&node, 8), node.state(8)), (1, State::Alive));
}

/// Who gets there step by step finds nothing above it, and others' word of it counts for nothing until it is
/// forgotten. Its own brings it back.
#[test]
fn the_end_of_all_incarnations_is_the_end_of_nobody() {
    let mut node = Node::new(3);
    let out = &mut Vec::new();
    let there = record(2, INCARNATION_MAX - 1, State::Alive);
    node.machine.believe(&Step { now: node.now, out }, &there);
    node.bury(2, INCARNATION_MAX);
    node.gossip(1, record(2, 2, State::Alive));
    assert_eq!(node.state(2), State::Failed);
    node.gossip(2, record(2, 2, State::Alive));
    assert_eq!(node.state(2), State::Alive);
}
