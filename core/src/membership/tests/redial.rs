//! When a peer is dialed again that an edge or the healing wants: with back-off and full jitter, so
//! that those who lost it together do not come back together.

use super::*;

/// How many lose the same peer at the same time.
const NODES: u64 = 200;
/// For how long the peer is tried.
const TRIED: u64 = 300;

/// A node with this id and this randomness, which knows the others and has a link to each.
fn node(me: u16, seed: u64, others: std::ops::RangeInclusive<u16>) -> Node {
    let settings = Settings::new(peer(me), addr(me), &Config::new("c", id(me).to_string()));
    let mut node = Node { machine: Membership::new(settings, seed), now: Time(0) };
    node.input(Input::Start);
    let first = *others.start();
    let all: Vec<_> = others.clone().map(|n| record(n, 1, State::Alive)).collect();
    node.frame(first, Frame::Records { want: Vec::new() }, &all);
    for n in others {
        node.input(Input::LinkUp { peer: peer(n), addr: addr(n), dialed: None });
    }
    node.pass(5); // edges stand
    node
}

fn is_dial(effect: &Effect, n: u16) -> bool {
    matches!(effect, Effect::Dial { addr: to, .. } if *to == addr(n))
}

/// How long after `since` the member was dialed.
fn dials(all: &[(Time, Effect)], n: u16, since: Time) -> Vec<Duration> {
    all.iter().filter(|(_, e)| is_dial(e, n)).map(|(at, _)| at.since(since)).collect()
}

/// The link to a member ends, and so many seconds pass.
fn lose(node: &mut Node, n: u16, seconds: u64) -> Vec<(Time, Effect)> {
    let out = node.input(Input::LinkDown { peer: peer(n), broken: false });
    let mut all: Vec<_> = out.into_iter().map(|e| (node.now, e)).collect();
    all.extend(node.pass(seconds));
    all
}

/// The dials of each node to 50, which all lose at the same time. It answers pings all the same.
fn lost_by_all(me: u16) -> Vec<Vec<Duration>> {
    let lost = |seed| {
        let mut node = node(me, seed, 50..=51);
        let since = node.now;
        let all = lose(&mut node, 50, TRIED);
        assert_eq!(node.state(50), State::Alive);
        dials(&all, 50, since)
    };
    (1..=NODES).map(lost).collect()
}

/// The most of these within 100 ms.
fn most_together(times: &[Duration]) -> usize {
    let within = |from: &Duration| {
        let until = *from + Duration::from_millis(100);
        times.iter().filter(|at| (*from..until).contains(*at)).count()
    };
    times.iter().map(within).max().unwrap()
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn who_lost_the_same_peer_at_the_same_time_does_not_dial_it_again_at_the_same_time() {
    // The end with the smaller id dials at once; what is spread is what comes after.
    let all = lost_by_all(1);
    assert!(all.iter().all(|dials| dials[0] == Duration::ZERO));
    for nth in 1..8 {
        let times: Vec<_> = all.iter().map(|dials| dials[nth]).collect();
        let together = most_together(&times);
        assert!(together <= NODES as usize / 5, "retry {nth}: {together} within 100 ms");
    }
    let later: Vec<_> = all.iter().flat_map(|dials| &dials[2..]).copied().collect();
    let together = most_together(&later);
    assert!(together <= NODES as usize / 10, "{together} within 100 ms");
    // The end with the greater id leaves it to the other for a while, each for another.
    let times: Vec<_> = lost_by_all(60).iter().map(|dials| dials[0]).collect();
    assert!(times.iter().all(|at| (seconds(2)..=seconds(3)).contains(at)), "{times:?}");
    let together = most_together(&times);
    assert!(together <= NODES as usize / 5, "{together} within 100 ms");
}

#[test]
fn the_waits_between_dials_lie_anywhere_between_a_second_and_a_bound_that_doubles() {
    let all = lost_by_all(1);
    for nth in 0..8 {
        let most = seconds(2 << nth.min(4));
        let waits = all.iter().map(|dials| dials[nth + 1] - dials[nth]);
        let (shortest, longest) = (waits.clone().min().unwrap(), waits.max().unwrap());
        assert!(longest <= most, "wait {nth}: {longest:?}");
        assert!(shortest >= seconds(1), "wait {nth}: {shortest:?}");
        let spread = most - seconds(1);
        assert!(longest >= seconds(1) + spread.mul_f64(0.95), "wait {nth}: {longest:?}");
        assert!(shortest <= seconds(1) + spread.mul_f64(0.05), "wait {nth}: {shortest:?}");
    }
}

/// The dials of a node whose links to the peer end as soon as they are up, and whether the peer is
/// heard on them first.
fn ends_at_once(heard: bool) -> Vec<Duration> {
    let mut node = node(1, 1, 50..=51);
    let since = node.now;
    let mut dialed = Vec::new();
    let mut out = node.input(Input::LinkDown { peer: peer(50), broken: false });
    while node.now.since(since) < seconds(60) {
        let all: Vec<_> = out.drain(..).map(|e| (node.now, e)).collect();
        let now = dials(&all, 50, since);
        if !now.is_empty() {
            dialed.extend(now);
            node.input(Input::LinkUp { peer: peer(50), addr: addr(50), dialed: Some(addr(50)) });
            if heard {
                node.heartbeat(50, dialed.len() as u64);
            }
            out = node.input(Input::LinkDown { peer: peer(50), broken: false });
        }
        let next = node.pass_to_next();
        out.extend(next);
    }
    dialed
}

#[test]
fn a_link_that_ends_as_soon_as_it_is_up_is_not_dialed_again_at_once() {
    for heard in [false, true] {
        let dialed = ends_at_once(heard);
        assert!(dialed.windows(2).all(|d| d[1] - d[0] >= seconds(1)), "{heard}: {dialed:?}");
        let most = if heard { 60 } else { 20 };
        assert!((5..=most).contains(&dialed.len()), "{heard}: {dialed:?}");
    }
}

#[test]
fn edges_that_wait_for_their_next_dial_hold_up_no_other() {
    let mut node = node(1, 1, 50..=60);
    for n in 50..=57 {
        node.input(Input::LinkDown { peer: peer(n), broken: false });
    }
    node.pass(60);
    let since = node.now;
    let all = lose(&mut node, 60, 5);
    let dialed = dials(&all, 60, since);
    assert!(dialed.first().is_some_and(|after| *after < seconds(1)), "{dialed:?}");
}

#[test]
fn the_failed_are_tried_again_by_each_at_another_time() {
    let retention = Config::new("c", "n").dead_retention;
    let interval = Config::new("c", "n").heal_interval;
    assert!(retention > seconds(TRIED));
    let tried = |seed| {
        let mut node = node(1, seed, 50..=54);
        node.input(Input::LinkDown { peer: peer(50), broken: false });
        node.bury(50, 1);
        // Somebody fails: the pauses begin anew, at the same time everywhere.
        let since = node.now;
        let mut out = Vec::new();
        node.machine.heal_soon(&Step { now: since, out: &mut out });
        dials(&node.pass(TRIED), 50, since)
    };
    let all: Vec<_> = (1..=NODES).map(tried).collect();
    let mut before = vec![Duration::ZERO; all.len()];
    for nth in 0..8 {
        let times: Vec<_> = all.iter().map(|dials| dials[nth]).collect();
        let together = most_together(&times);
        assert!(together <= NODES as usize / 10, "try {nth}: {together} within 100 ms");
        let most = (interval * (1 << nth.min(3))).mul_f64(1.25);
        let least = interval / 4;
        let waits = times.iter().zip(&before).map(|(at, before)| *at - *before);
        let (shortest, longest) = (waits.clone().min().unwrap(), waits.max().unwrap());
        assert!((least..=most).contains(&shortest), "try {nth}: {shortest:?}");
        assert!((least..=most).contains(&longest), "try {nth}: {longest:?}");
        let spread = most - least;
        assert!(longest >= least + spread.mul_f64(0.95), "try {nth}: {longest:?}");
        assert!(shortest <= least + spread.mul_f64(0.05), "try {nth}: {shortest:?}");
        before = times;
    }
}

#[test]
fn those_known_from_last_time_are_tried_by_each_at_another_time() {
    let tried = |seed| {
        let mut settings = Settings::new(peer(0), addr(0), &Config::new("c", "n000"));
        settings.known = vec![addr(50)];
        settings.heal_interval = seconds(600); // which tries them as well
        let mut node = Node { machine: Membership::new(settings, seed), now: Time(0) };
        assert_eq!(node.input(Input::Start).iter().filter(|e| is_dial(e, 50)).count(), 1);
        dials(&node.pass(10), 50, Time(0))
    };
    let all: Vec<_> = (1..=NODES).map(tried).collect();
    for nth in 0..8 {
        let times: Vec<_> = all.iter().map(|dials| dials[nth]).collect();
        let together = most_together(&times);
        assert!(together <= NODES as usize * 3 / 10, "try {nth}: {together} within 100 ms");
    }
    let waits = all.iter().flat_map(|dials| dials.windows(2).take(8).map(|d| d[1] - d[0]));
    for wait in waits {
        assert!(
            (Duration::from_millis(250)..=Duration::from_millis(750)).contains(&wait),
            "{wait:?}"
        );
    }
}
