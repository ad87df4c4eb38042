//! What no honest peer sends.

use super::*;
use crate::wire::INCARNATION_MAX;

#[test]
fn an_interval_that_no_configuration_allows() {
    let mut node = Node::new(3);
    let lie =
        Frame::Heartbeat { seq: u64::MAX, seen: u64::MAX, every_ms: 1, want: wire::Want::Watch };
    assert!(closes(&node.frame(1, lie, &[]), 1));
    assert_eq!(node.machine.counters().frames_bad, 1);
}

#[test]
fn numbers_at_their_end_do_no_harm() {
    let mut node = Node::new(3);
    let far =
        Frame::Heartbeat { seq: u64::MAX, seen: u64::MAX, every_ms: 1000, want: wire::Want::Watch };
    node.frame(1, far, &[]);
    node.pass(10);
}

#[test]
fn bytes_that_are_no_frame_cost_the_link() {
    let mut node = Node::new(3);
    for bytes in [&b""[..], b"\x01", b"\x01\xff\xff\xff\xff", b"\x02\x00\x00\x00\x00"] {
        let out = node.input(Input::Frame { from: peer(1), bytes: bytes.to_vec().into() });
        assert!(closes(&out, 1), "{bytes:?}");
    }
    assert_eq!(node.machine.counters().frames_bad, 4);
    // A kind of a later version is no offence.
    let out = node.input(Input::Frame { from: peer(1), bytes: b"\xfa\0\0\0\0"[..].into() });
    assert!(!closes(&out, 1));
}

#[test]
fn a_frame_with_one_bad_update_is_dropped_whole() {
    let mut node = Node::new(3);
    let good = record(9, 1, State::Alive);
    let far = Record { incarnation: INCARNATION_MAX + 1, ..record(2, 1, State::Failed) };
    let out = node.frame(1, Frame::Gossip, &[good, far]);
    assert!(closes(&out, 1));
    assert!(node.machine.entry(&id(9)).is_none());
    assert_eq!(node.machine.entry(&id(2)).unwrap().rank(), (1, State::Alive));
}

/// A gossip frame with one record, whose fields are what they are.
fn raw(state: u8, tags: &[u8]) -> bytes::Bytes {
    let head = postcard::to_allocvec(&(id(9), Instance(9), 1u64, state, addr(9))).unwrap();
    let tail = postcard::to_allocvec(&(0u8, 0u64, false)).unwrap(); // no observers
    let record = [&head, tags, &tail].concat();
    let length = u16::try_from(record.len()).unwrap().to_le_bytes();
    [&[1, 0, 0, 0, 0][..], &length, &record].concat().into()
}

#[test]
fn a_record_of_a_million_tags() {
    let claimed = |tags: u32| postcard::to_allocvec(&tags).unwrap();
    let tag = |n: u32| postcard::to_allocvec(&(format!("{n}"), "")).unwrap();
    let many = |n: u32, upto: u32| [claimed(n), (0..upto).flat_map(tag).collect()].concat();
    let mut node = Node::new(3);
    // As many as a record has room for, more than are allowed, and nothing after the claim.
    for tags in [many(1_000_000, 8_000), many(65, 65), many(1_000_000, 0), many(u32::MAX, 64)] {
        let out = node.input(Input::Frame { from: peer(1), bytes: raw(0, &tags) });
        assert!(closes(&out, 1) && events(&out).is_empty(), "{} bytes", tags.len());
        assert!(node.machine.entry(&id(9)).is_none());
    }
    assert_eq!(node.machine.counters().frames_bad, 4);
    // A million of which each is well, in as many records as a frame may hold.
    let one = raw(0, &many(64, 64));
    let all = [&one[..5], &one[5..].repeat((1 << 20) / one.len())].concat();
    let out = node.input(Input::Frame { from: peer(1), bytes: all.into() });
    assert!(!closes(&out, 1));
    assert_eq!((events(&out), node.machine.entries().count()), (vec!["MemberJoined"], 4));
}

#[test]
fn a_state_that_there_is_not() {
    for (state, bad) in [(0, false), (3, false), (4, true), (9, true), (127, true)] {
        let mut node = Node::new(3);
        let out = node.input(Input::Frame { from: peer(1), bytes: raw(state, &[0]) });
        assert_eq!(closes(&out, 1), bad, "state {state}");
        assert_eq!(node.machine.counters().frames_bad, u64::from(bad), "state {state}");
        assert_eq!(node.machine.entry(&id(9)).is_none(), bad, "state {state}");
    }
}

#[test]
fn a_frame_that_is_too_long() {
    let mut node = Node::new(3);
    // Of a kind that nobody knows, which is no offence in itself.
    let frame = |body: u32| {
        let head = [&[0xfa][..], &body.to_le_bytes()].concat();
        bytes::Bytes::from([head, vec![0; body as usize]].concat())
    };
    let longest = wire::FRAME_BYTES_MAX - 5;
    let out = node.input(Input::Frame { from: peer(1), bytes: frame(longest as u32) });
    assert!(!closes(&out, 1));
    let out = node.input(Input::Frame { from: peer(1), bytes: frame(longest as u32 + 1) });
    assert!(closes(&out, 1));
    assert_eq!(node.machine.counters().frames_bad, 1);
}

/// Why a link is closed, in words of ours.
fn closed_for(out: &[Effect]) -> Vec<&'static str> {
    let reason = |e: &Effect| match e {
        Effect::Close { reason, .. } => Some(*reason),
        _ => None,
    };
    out.iter().filter_map(reason).collect()
}

#[test]
fn what_was_wrong_is_the_reason_why_a_link_is_closed() {
    let mut node = Node::new(3);
    for (bytes, reason) in [
        (&b"\x01"[..], "a truncated frame"),
        (b"\x02\x00\x00\x00\x00", "a malformed ping"),
        (b"\x0d\x00\x00\x00\x00", "a malformed heartbeat"),
        (b"\x01\x00\x00\x00\x00\x01\x00\xff", "a malformed record"),
    ] {
        let out = node.input(Input::Frame { from: peer(1), bytes: bytes.to_vec().into() });
        assert_eq!(closed_for(&out), [reason], "{bytes:?}");
    }
    let far = Record { incarnation: INCARNATION_MAX + 1, ..record(2, 1, State::Failed) };
    assert_eq!(closed_for(&node.gossip(1, far)), ["a record beyond its limits"]);
    let long = bytes::Bytes::from(vec![1; wire::FRAME_BYTES_MAX + 1]);
    let out = node.input(Input::Frame { from: peer(1), bytes: long });
    assert_eq!(closed_for(&out), ["a frame that is too long"]);
}

/// A node that asks to be let in through node 1, and is not yet.
fn asking() -> Node {
    let config = Config { seeds: vec![addr(1)], ..Config::new("c", "n000") };
    let settings = Settings::new(peer(0), addr(0), &config);
    let mut node = Node { machine: Membership::new(settings, 1), now: Time(0) };
    node.input(Input::Start);
    node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: Some(addr(1)) });
    assert!(!node.machine.is_joined());
    node
}

fn stops(out: &[Effect]) -> bool {
    out.iter().any(|e| matches!(e, Effect::Stop))
}

/// Another process under our id.
fn namesake() -> Record {
    Record { instance: Instance(77), addr: addr(77), ..record(0, 1, State::Alive) }
}

#[test]
fn who_was_not_asked_can_neither_refuse_a_newcomer_nor_welcome_it() {
    let mut node = asking();
    // It dialed us, so it is no seed.
    node.input(Input::LinkUp { peer: peer(2), addr: addr(2), dialed: None });
    for records in [&[][..], &[namesake()], &[record(0, 1, State::Alive)]] {
        let out = node.frame(2, Frame::Refused, records);
        assert!(out.is_empty(), "{out:?}");
    }
    let out = node.frame(2, Frame::Welcome, &[record(9, 1, State::Alive)]);
    assert!(out.is_empty() && !node.machine.is_joined(), "{out:?}");
    assert!(node.machine.entry(&id(9)).is_none());
    node.frame(1, Frame::Welcome, &[record(1, 1, State::Alive)]);
    assert!(node.machine.is_joined());
    // It was asked once, and has answered.
    let out = node.frame(1, Frame::Welcome, &[record(9, 1, State::Alive)]);
    assert!(out.is_empty() && node.machine.entry(&id(9)).is_none(), "{out:?}");
}

#[test]
fn a_refusal_names_who_has_the_id_or_nobody() {
    // Ourselves, or somebody else: that is no reason.
    for records in [vec![record(0, 1, State::Alive)], vec![record(9, 1, State::Alive)]] {
        let mut node = asking();
        assert!(!stops(&node.frame(1, Frame::Refused, &records)), "{records:?}");
    }
    // The other may just have gone, when there is nothing left to show.
    for records in [vec![], vec![record(9, 1, State::Alive), namesake()]] {
        let mut node = asking();
        assert!(stops(&node.frame(1, Frame::Refused, &records)), "{records:?}");
    }
    // A member asks whom it tries to find again; what they say is settled by age.
    let mut node = Node::new(3);
    assert!(sent(&node.frame(1, Frame::Refused, &[namesake()])).is_empty());
    node.bury(2, 1);
    node.input(Input::LinkUp { peer: peer(2), addr: addr(2), dialed: Some(addr(2)) });
    let out = node.frame(2, Frame::Refused, &[namesake()]);
    let claims = sent(&out).into_iter().filter(|(_, m)| matches!(m.frame, Frame::Conflict { .. }));
    assert_eq!((claims.count(), stops(&out)), (1, false));
}

#[test]
fn whom_we_asked_is_remembered_within_a_limit() {
    let mut node = asking();
    for n in 100..300 {
        node.input(Input::LinkUp { peer: peer(n), addr: addr(n), dialed: Some(addr(n)) });
    }
    node.frame(171, Frame::Welcome, &[record(171, 1, State::Alive)]);
    assert!(!node.machine.is_joined(), "forgotten");
    node.frame(172, Frame::Welcome, &[record(172, 1, State::Alive)]);
    assert!(node.machine.is_joined());
}

#[test]
fn a_conflict_over_an_id_that_is_not_its_own_costs_the_link() {
    let mut node = Node::new(3);
    let before = node.machine.own_record();
    let out = node.frame(1, Frame::Conflict { uptime_ms: u64::MAX }, &[]);
    assert_eq!(closed_for(&out), ["a conflict over an id that is not its own"]);
    let out = node.input(Input::Frame {
        from: peer(0),
        bytes: wire::encode(&Frame::Conflict { uptime_ms: u64::MAX }, &[]),
    });
    assert!(!stops(&out), "from ourselves");
    assert_eq!((node.machine.counters().frames_bad, node.machine.own_record()), (2, before));
}

#[test]
fn a_join_in_another_name_costs_the_link() {
    let mut node = Node::new(3);
    let out = node.frame(1, Frame::Join { fresh: true }, &[record(7, 1, State::Alive)]);
    assert!(closes(&out, 1));
    assert!(node.machine.entry(&id(7)).is_none());
}

#[test]
fn a_frame_full_of_old_accusations_gets_one_answer() {
    let mut node = Node::new(3);
    node.gossip(1, record(0, 1, State::Suspect));
    let old = vec![record(0, 1, State::Suspect); 1000];
    let answers = sent(&node.frame(1, Frame::Gossip, &old)).len();
    assert_eq!(answers, 1);
}

/// A table that holds a living member for dead makes us tell and probe it: once, not as often as
/// one who means ill repeats it, in a frame or in many.
#[test]
fn a_table_full_of_one_death_is_told_of_once_a_second() {
    let mut node = Node::new(3);
    let deaths = vec![record(2, 1, State::Failed); 1000];
    let mut say = || {
        let out = sent(&node.frame(1, Frame::Records { want: Vec::new() }, &deaths));
        let of_it = |(to, m): &&(Peer, Message)| *to == peer(2) && m.updates == deaths[..1];
        let told = out.iter().filter(of_it).count();
        node.now = node.now + Duration::from_millis(100);
        (told, out.len())
    };
    assert_eq!(say(), (1, 2), "told and probed");
    let more: usize = (1..30).map(|_| say().0).sum();
    assert!((1..=3).contains(&more), "{more} in three seconds");
    assert_ne!(node.state(2), State::Failed, "nobody asked it for longer than that");
}

#[test]
fn a_member_wanted_many_times_is_sent_once() {
    let mut node = Node::new(3);
    let want = vec![[id(0), id(2)]; 100].concat();
    let answers = sent(&node.frame(1, Frame::Records { want }, &[]));
    let records: usize = answers.iter().map(|(_, m)| m.updates.len()).sum();
    assert_eq!(records, 2);
}

#[test]
fn a_summary_repeated_is_answered_once() {
    let mut node = Node::new(3);
    let about = |n: u16, incarnation| wire::Summary {
        id: id(n),
        instance: Instance(u64::from(n)),
        incarnation,
        state: State::Alive,
    };
    // Older than what we have of ourselves and of node 2; newer than what we have of node 3.
    let list = vec![[about(0, 0), about(1, 1), about(2, 0), about(3, 2)]; 100].concat();
    let answers = sent(&node.frame(1, Frame::Summaries { after: None, upto: None, list }, &[]));
    let [(_, Message { frame: Frame::Records { want }, updates, .. })] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((&want[..], updates.len()), (&[id(3)][..], 2));
}

#[test]
fn the_longest_record_still_goes_round() {
    let mut node = Node::new(3);
    let long = |n: usize| NodeId::new(format!("{n:0>128}")).unwrap();
    let seen = |n| crate::Observation {
        observer: long(n),
        phi: Some(1000.0),
        missed_probes: u32::MAX,
        direction: crate::Direction::Both,
        health_score: 8,
    };
    let tags = (0..64).map(|n| (format!("{n:0>16}"), "v".repeat(16))).collect();
    let record = Record {
        id: long(99),
        tags: Arc::new(tags),
        observers: (0..12).map(seen).collect(),
        ..record(9, 1 << 32, State::Suspect)
    };
    node.gossip(1, record.clone());
    let told = node.until(|_, m| {
        let large = m.updates.iter().find(|r| r.id == record.id)?;
        Some(large.clone())
    });
    assert_eq!(told.tags, record.tags);
    assert!((8..12).contains(&told.observers.len()), "{}", told.observers.len());
}
