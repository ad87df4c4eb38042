//! What a newcomer does until it is in, and right after.

use super::*;

/// Node 0, which has begun to join through node 1.
fn newcomer() -> Node {
    let config = Config { seeds: vec![addr(1)], ..Config::new("c", "n000") };
    let settings = Settings::new(peer(0), addr(0), &config);
    let mut node = Node { machine: Membership::new(settings, 1), now: Time(0) };
    node.input(Input::Start);
    node
}

fn dialed(out: &[Effect]) -> Vec<SocketAddr> {
    let to = |e: &Effect| match e {
        Effect::Dial { addr, .. } => Some(*addr),
        _ => None,
    };
    out.iter().filter_map(to).collect()
}

#[test]
fn a_newcomer_among_full_nodes_does_not_dial_ever_more_of_them() {
    let mut node = newcomer();
    let others: Vec<_> = (5..13).map(addr).collect();
    for again in 0..20 {
        let full = (0..20).map(|_| node.input(Input::Full { others: others.clone() }));
        let turned: usize = full.map(|out| dialed(&out).len()).sum();
        assert_eq!(turned, 6, "round {again}");
        node.pass(1); // the seed is tried again, no later than at first, so others may be as well
    }
}

#[test]
fn seeds_that_do_not_answer_are_tried_less_and_less_often() {
    let mut node = newcomer();
    let all = node.pass(600);
    let tried: Vec<_> =
        all.iter().filter(|(_, e)| !dialed(std::slice::from_ref(e)).is_empty()).collect();
    let times: Vec<_> = std::iter::once(Time(0)).chain(tried.iter().map(|(at, _)| *at)).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let most = [750, 1000, 1500, 2500, 4500];
    for (nth, wait) in waits.iter().enumerate() {
        let most = Duration::from_millis(most[nth.min(4)]);
        assert!((Duration::from_millis(500)..=most).contains(wait), "{nth}: {wait:?}");
    }
    // By chance: spread over all of that, 2.5 s in the mean.
    let later = &waits[4..];
    assert!((180..300).contains(&later.len()), "{}", later.len());
    assert!(later.iter().any(|wait| *wait < Duration::from_secs(1)));
    assert!(later.iter().any(|wait| *wait > Duration::from_secs(4)));
}

#[test]
fn a_newcomer_turns_to_two_of_those_whom_a_full_seed_names() {
    let mut node = newcomer();
    let others: Vec<_> = (5..13).map(addr).collect();
    let turned = dialed(&node.input(Input::Full { others: others.clone() }));
    assert_eq!(turned.len(), 2);
    assert!(turned.iter().all(|addr| others.contains(addr)));
    // Never to itself, and not any more once it is in.
    assert!(dialed(&node.input(Input::Full { others: vec![addr(0)] })).is_empty());
    node.input(Input::LinkUp { peer: peer(5), addr: addr(5), dialed: Some(turned[0]) });
    node.frame(5, Frame::Welcome, &[record(5, 1, State::Alive)]);
    assert!(dialed(&node.input(Input::Full { others })).is_empty());
}

#[test]
fn what_a_newcomer_is_told_first_it_does_not_tell_on() {
    let mut node = newcomer();
    node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: Some(addr(1)) });
    let cluster: Vec<_> = (1..100).map(|n| record(n, 1, State::Alive)).collect();
    node.frame(1, Frame::Welcome, &cluster);
    assert_eq!(node.machine.gossip_len(), 1, "only itself");
    // What another cluster holds, which a second seed belongs to, is news to the first.
    node.input(Input::LinkUp { peer: peer(150), addr: addr(150), dialed: Some(addr(150)) });
    node.frame(150, Frame::Welcome, &[record(200, 1, State::Alive)]);
    assert_eq!(node.machine.gossip_len(), 2);
}

#[test]
fn hearsay_before_it_is_in_makes_nobody_less_of_a_newcomer() {
    let mut node = newcomer();
    for n in 50..60 {
        node.gossip(2, record(n, 1, State::Alive));
    }
    let out = node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: Some(addr(1)) });
    let asks = |(_, m): &(Peer, Message)| matches!(m.frame, Frame::Join { fresh: true });
    assert!(sent(&out).iter().any(asks), "it asks for the whole table");
    let cluster: Vec<_> = (1..100).map(|n| record(n, 1, State::Alive)).collect();
    node.frame(1, Frame::Welcome, &cluster);
    assert_eq!(node.machine.gossip_len(), 1, "only itself");
}

#[test]
fn who_joined_through_a_newcomer_is_news() {
    let mut node = newcomer();
    node.frame(9, Frame::Join { fresh: true }, &[record(9, 1, State::Alive)]);
    let out = node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: Some(addr(1)) });
    let asks = |(_, m): &(Peer, Message)| matches!(m.frame, Frame::Join { fresh: false });
    assert!(sent(&out).iter().any(asks), "it compares tables");
    node.frame(1, Frame::Welcome, &[record(1, 1, State::Alive)]);
    assert!(node.machine.gossip_len() >= 2);
}

/// How often this node asks another whether they hold the same.
fn comparisons(all: &[(Time, Effect)]) -> usize {
    let compares = |effect: &Effect| match effect {
        Effect::Send { bytes, .. } => {
            matches!(wire::decode(bytes).unwrap().frame, Frame::Digest { .. })
        }
        _ => false,
    };
    all.iter().filter(|(_, effect)| compares(effect)).count()
}

#[test]
fn after_a_mass_of_news_tables_are_compared_soon() {
    // Few news are repeated in full, so that nobody misses them; many are not.
    for (news, compared) in [(10, 0), (200, 2)] {
        let mut node = Node::new(12);
        node.pass(2);
        for from in 1..=12 {
            for n in 100..100 + news {
                node.gossip(from, record(n, 1, State::Alive));
            }
        }
        assert_eq!(comparisons(&node.pass(8)), compared, "{news}");
    }
}

#[test]
fn after_a_join_tables_are_compared_again_though_one_other_had_the_same() {
    let mut node = newcomer();
    node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: Some(addr(1)) });
    node.frame(1, Frame::Welcome, &[record(1, 1, State::Alive)]);
    // After some 0.5, 1.2, 2.4 and 4.8 s: who has the same may lack the same.
    assert_eq!(comparisons(&node.pass(12)), 4);
}

#[test]
fn tables_are_compared_before_the_dead_are_forgotten() {
    for (retention, compared) in [(40, 9..=11), (24 * 3600, 0..=0)] {
        let (sync_interval, dead_retention) =
            (Duration::from_secs(3600), Duration::from_secs(retention));
        let config = Config { sync_interval, dead_retention, ..Config::new("c", "n000") };
        let mut node = Node::with(&config, 3);
        node.pass(5);
        let times = comparisons(&node.pass(100));
        assert!(compared.contains(&times), "{times} with {retention} s");
    }
}

#[test]
fn equal_tables_cost_one_message_and_differing_ones_so_many_a_second() {
    let mut node = Node::new(3);
    let hash = node.machine.table.hash(&node.machine.own_summary());
    let asked = |node: &mut Node, hash| {
        let out = node.frame(1, Frame::Digest { hash }, &[]);
        sent(&out).iter().filter(|(_, m)| matches!(m.frame, Frame::Summaries { .. })).count()
    };
    assert!(wire::encode(&Frame::Digest { hash: u64::MAX }, &[]).len() <= 32, "it is small");
    assert!(sent(&node.frame(1, Frame::Digest { hash }, &[])).is_empty(), "nothing to say");
    assert_eq!(asked(&mut node, hash), 0);
    let before = node.machine.counters();
    let answers: usize = (0..20).map(|_| asked(&mut node, hash ^ 1)).sum();
    let after = node.machine.counters();
    assert_eq!((after.syncs - before.syncs, after.syncs_refused - before.syncs_refused), (16, 4));
    assert_eq!(answers, 16);
    node.now = node.now + Duration::from_secs(1);
    assert_eq!(asked(&mut node, hash ^ 1), 1, "another second");
}

/// What somebody who asks to be let in is told.
fn welcomes(out: &[Effect], n: u16) -> Vec<Message> {
    let to = sent(out).into_iter().filter(|(to, m)| *to == peer(n) && m.frame == Frame::Welcome);
    to.map(|(_, message)| message).collect()
}

#[test]
fn who_finds_no_room_in_the_table_is_not_welcomed() {
    let config = Config { members_max: 4, ..Config::new("c", "n000") };
    let mut node = Node::with(&config, 3);
    for fresh in [true, false] {
        let out = node.frame(9, Frame::Join { fresh }, &[record(9, 1, State::Alive)]);
        assert!(sent(&out).iter().all(|(to, _)| *to != peer(9)), "fresh: {fresh}");
        assert!(node.machine.entry(&id(9)).is_none());
    }
    assert_eq!(node.machine.counters().members_refused, 2);
    // A member is welcome all the same.
    let out = node.frame(2, Frame::Join { fresh: true }, &[record(2, 1, State::Alive)]);
    assert_eq!(welcomes(&out, 2).len(), 1);
    // Once one is dead it gives way.
    node.bury(1, 1);
    let out = node.frame(9, Frame::Join { fresh: true }, &[record(9, 1, State::Alive)]);
    let [welcome] = &welcomes(&out, 9)[..] else { panic!("{out:?}") };
    let told: Vec<_> = welcome.updates.iter().map(|r| r.id.clone()).collect();
    assert_eq!(told, [id(0), id(2), id(3)]);
    assert_eq!(node.state(9), State::Alive);
    assert_eq!(node.machine.counters().members_refused, 2);
}

#[test]
fn who_was_let_in_gets_so_many_whole_tables_a_second() {
    let mut node = Node::new(50);
    let ask = |node: &mut Node, n| {
        let out = node.frame(n, Frame::Join { fresh: true }, &[record(n, 1, State::Alive)]);
        welcomes(&out, n).len()
    };
    assert_eq!(ask(&mut node, 99), 1);
    node.pass(1);
    let (all, before) = ((0..100).map(|_| ask(&mut node, 99)).sum::<usize>(), node.now);
    assert_eq!((all, node.now), (16, before));
    assert_eq!(node.machine.counters().syncs_refused, 84);
    // So it is with one who is held dead; a newcomer's is none of these.
    node.bury(3, 1);
    let all: usize = (0..100).map(|_| ask(&mut node, 3)).sum();
    assert_eq!((all, ask(&mut node, 98)), (16, 1));
    // The first may have been lost.
    node.now = node.now + Duration::from_secs(1);
    assert_eq!(ask(&mut node, 99), 1);
}
