//! What a node does not take upon itself while it gets too little of the machine: whatever costs a
//! handshake makes it worse, for others on the same machine as well.

use super::*;

const LATE: Duration = Duration::from_millis(400);

/// A node linked to 1 to 20, which knows 30 members.
fn node() -> Node {
    let mut node = Node::new(30);
    node.pass(3); // edges are planned
    unlink(&mut node, 21..=30);
    node
}

fn unlink(node: &mut Node, which: std::ops::RangeInclusive<u16>) {
    for n in which {
        node.input(Input::LinkDown { peer: peer(n), broken: false });
    }
}

fn asked_for(n: u16) -> Frame {
    Frame::PingReq { seq: 7, target: peer(n), addr: addr(n) }
}

/// Whom pings went to.
fn pinged(out: &[Effect]) -> Vec<u16> {
    let pings = sent(out).into_iter().filter(|(_, m)| matches!(m.frame, Frame::Ping { .. }));
    pings.map(|(to, _)| to.instance.0 as u16).collect()
}

#[test]
fn what_it_did_not_get_to_is_nobodys_fault() {
    let mut node = Node::new(5);
    node.pass(2);
    node.pass_hearing(1, 1, 12);
    node.heartbeat(1, 13);
    node.gossip(2, Record { observers: vec![saw(90)], ..record(3, 1, State::Suspect) });
    let deadline = |node: &Node| {
        let suspicion = &node.machine.entry(&id(3)).unwrap().suspicion;
        suspicion.as_ref().expect("it is suspect").deadline
    };
    node.now = node.now + LATE;
    let silence = |node: &Node| {
        let edge = node.machine.watch_edges(node.now).find(|e| e.peer == peer(1)).unwrap();
        edge.phi.expect("it was heard")
    };
    let (until, before) = (deadline(&node), silence(&node));
    node.input(Input::Starved(LATE));
    assert_eq!(deadline(&node), until + LATE, "a suspect has that much more time");
    assert!(silence(&node) < before, "silences begin anew: {} of {before}", silence(&node));
}

#[test]
fn it_helps_to_probe_only_whom_it_has_a_link_to() {
    let mut node = node();
    assert_eq!(pinged(&node.frame(1, asked_for(25), &[])), [25]);
    node.input(Input::Starved(LATE));
    assert!(pinged(&node.frame(1, asked_for(26), &[])).is_empty());
    assert_eq!(pinged(&node.frame(1, asked_for(12), &[])), [12]);
    node.pass(5);
    assert_eq!(pinged(&node.frame(1, asked_for(26), &[])), [26]);
}

#[test]
fn a_suspicion_of_others_makes_it_probe_only_whom_it_has_a_link_to() {
    let suspected = |n| Record { observers: vec![saw(90)], ..record(n, 1, State::Suspect) };
    let mut node = node();
    node.input(Input::Starved(LATE));
    for n in 21..=30 {
        assert!(pinged(&node.gossip(3, suspected(n))).is_empty());
    }
    assert_eq!(pinged(&node.gossip(3, suspected(12))), [12]);
}

#[test]
fn a_dial_that_takes_long_says_nothing_of_the_member() {
    let probed = |starved: bool| {
        let mut node = node();
        unlink(&mut node, 1..=30);
        let mut pings = 0;
        for _ in 0..80 {
            if starved {
                node.input(Input::Starved(LATE));
            }
            node.now = node.now + Duration::from_millis(100);
            pings += pinged(&node.input(Input::Tick)).len();
        }
        pings
    };
    assert!(probed(false) > 0);
    assert_eq!(probed(true), 0);
}

#[test]
fn it_gossips_only_to_whom_it_has_a_link_to() {
    let strangers = |starved: bool| {
        let mut node = node();
        unlink(&mut node, 3..=20);
        let mut strangers = 0;
        for incarnation in 2..30 {
            if starved {
                node.input(Input::Starved(LATE));
            }
            node.gossip(1, record(1, incarnation, State::Alive));
            node.now = node.now + Duration::from_millis(200);
            let out = node.input(Input::Tick);
            let gossip = sent(&out).into_iter().filter(|(_, m)| matches!(m.frame, Frame::Gossip));
            strangers += gossip.filter(|(to, _)| to.instance.0 > 2).count();
        }
        strangers
    };
    assert!(strangers(false) > 0);
    assert_eq!(strangers(true), 0);
}

#[test]
fn what_belongs_together_is_counted_once() {
    let mut node = Node::new(3);
    for (after_ms, starved) in [(0, 1), (200, 1), (1900, 1), (2000, 2), (10, 2), (5000, 3)] {
        node.now = node.now + Duration::from_millis(after_ms);
        node.input(Input::Starved(LATE));
        assert_eq!(node.machine.counters().starved, starved, "{after_ms} ms later");
    }
}
