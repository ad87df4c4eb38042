//! Single exchanges; whole clusters are the simulator's (`tests/sim`).

mod edges;
mod evidence;
mod health;
mod hostile;
mod joining;
mod leaps;
mod probing;
mod redial;
mod rhythm;
mod starving;

use super::*;
use crate::{Config, wire::Message};

fn id(n: u16) -> NodeId {
    NodeId::new(format!("n{n:03}")).unwrap()
}

fn peer(n: u16) -> Peer {
    Peer { id: id(n), instance: Instance(u64::from(n)) }
}

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7000 + n))
}

fn record(n: u16, incarnation: u64, state: State) -> Record {
    Record {
        id: id(n),
        instance: Instance(u64::from(n)),
        incarnation,
        state,
        addr: addr(n),
        tags: Arc::default(),
        observers: Vec::new(),
        unresponsive: false,
        dead_for_ms: 0,
    }
}

/// What a node that could not reach a member saw.
fn saw(n: u16) -> crate::Observation {
    let direction = crate::Direction::Unknown;
    crate::Observation { observer: id(n), phi: None, missed_probes: 1, direction, health_score: 0 }
}

/// Node 0, which knows nodes 1 to `others`.
struct Node {
    machine: Membership,
    now: Time,
}

impl Node {
    fn new(others: u16) -> Self {
        Self::with(&Config::new("c", "n000"), others)
    }

    /// Under the name and on as many rings as are configured.
    fn with(config: &Config, others: u16) -> Self {
        let me = Peer { id: NodeId::new(config.node_id.clone()).unwrap(), ..peer(0) };
        let settings = Settings::new(me, addr(0), config);
        let mut node = Self { machine: Membership::new(settings, 1), now: Time(0) };
        node.input(Input::Start);
        let all: Vec<_> = (1..=others).map(|n| record(n, 1, State::Alive)).collect();
        node.frame(1, Frame::Records { want: Vec::new() }, &all);
        for n in 1..=others {
            node.input(Input::LinkUp { peer: peer(n), addr: addr(n), dialed: None });
        }
        node
    }

    fn input(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        out
    }

    fn frame(&mut self, from: u16, frame: Frame, records: &[Record]) -> Vec<Effect> {
        let updates: Vec<_> = records.iter().map(wire::update).collect();
        let bytes = wire::encode(&frame, &updates);
        self.input(Input::Frame { from: peer(from), bytes })
    }

    fn gossip(&mut self, from: u16, record: Record) -> Vec<Effect> {
        self.frame(from, Frame::Gossip, &[record])
    }

    /// Lets every deadline come until the test finds what it waits for.
    fn until<T>(&mut self, mut found: impl FnMut(&Peer, &Message) -> Option<T>) -> T {
        for _ in 0..10_000 {
            self.now = self.machine.deadline().unwrap();
            let out = self.input(Input::Tick);
            if let Some(t) = sent(&out).into_iter().find_map(|(to, m)| found(&to, &m)) {
                return t;
            }
        }
        panic!("it never came");
    }

    /// Lets the next deadline come, and answers the pings that go out. What happened.
    fn pass_to_next(&mut self) -> Vec<Effect> {
        self.now = self.machine.deadline().unwrap().max(self.now);
        self.tick()
    }

    /// Lets what is due happen, and answers the pings that go out. What happened.
    fn tick(&mut self) -> Vec<Effect> {
        self.tick_without(None)
    }

    /// The same where this member answers none.
    fn tick_without(&mut self, dumb: Option<u16>) -> Vec<Effect> {
        let mut out = self.input(Input::Tick);
        for (to, message) in sent(&out) {
            let to = to.instance.0 as u16;
            if let Frame::Ping { seq, .. } = message.frame
                && Some(to) != dumb
            {
                out.extend(self.frame(to, Frame::Ack { seq }, &[]));
            }
        }
        out
    }

    /// Lets so many seconds pass, in which every ping is answered. What happened, and when.
    fn pass(&mut self, seconds: u64) -> Vec<(Time, Effect)> {
        self.pass_without(None, Duration::from_secs(seconds))
    }

    /// Lets so much time pass, in which every ping is answered but those to this member. What
    /// happened, and when.
    fn pass_without(&mut self, dumb: Option<u16>, time: Duration) -> Vec<(Time, Effect)> {
        let until = self.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            all.extend(self.tick_without(dumb).into_iter().map(|e| (at, e)));
        }
        self.now = until;
        all
    }

    /// The same, and each second this member's heartbeat is heard, from this number on.
    fn pass_hearing(&mut self, n: u16, first: u64, seconds: u64) {
        for seq in first..first + seconds {
            self.heartbeat(n, seq);
            self.pass(1);
        }
    }

    fn heartbeat(&mut self, n: u16, seq: u64) -> Vec<Effect> {
        let want = wire::Want::Watch;
        self.frame(n, Frame::Heartbeat { seq, seen: 0, every_ms: 1000, want }, &[])
    }

    /// Hears of a suspicion, and a second later that it was right.
    fn bury(&mut self, n: u16, incarnation: u64) {
        let observers: Vec<_> = (90..93).map(saw).collect();
        for state in [State::Suspect, State::Failed] {
            let observers = observers.clone();
            self.gossip(3, Record { observers, ..record(n, incarnation, state) });
            self.pass(1);
        }
        assert_eq!(self.state(n), State::Failed);
    }

    fn state(&self, n: u16) -> State {
        self.machine.entry(&id(n)).unwrap().member.state
    }
}

fn sent(out: &[Effect]) -> Vec<(Peer, Message)> {
    out.iter()
        .filter_map(|e| match e {
            Effect::Send { to, bytes, .. } => Some((to.clone(), wire::decode(bytes).unwrap())),
            _ => None,
        })
        .collect()
}

fn closes(out: &[Effect], n: u16) -> bool {
    out.iter().any(|e| matches!(e, Effect::Close { peer: to, .. } if *to == peer(n)))
}

fn events(out: &[Effect]) -> Vec<&'static str> {
    out.iter()
        .filter_map(|e| match e {
            Effect::Event(kind) if !matches!(kind, EventKind::LocalHealthChanged { .. }) => {
                Some(kind.name())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn a_suspicion_about_ourselves_is_refuted_above_it() {
    let mut node = Node::new(3);
    node.gossip(1, record(0, 5, State::Suspect));
    let own = node.machine.own_record();
    assert_eq!((own.incarnation, own.state), (6, State::Alive));
    let told = node.until(|_, m| m.updates.iter().find(|r| r.id == id(0)).cloned());
    assert_eq!((told.incarnation, told.state), (6, State::Alive));
}

#[test]
fn a_stale_record_is_ignored() {
    let mut node = Node::new(3);
    node.gossip(1, record(2, 4, State::Alive));
    assert!(events(&node.gossip(1, record(2, 3, State::Suspect))).is_empty());
    assert_eq!(node.state(2), State::Alive);
    assert_eq!(events(&node.gossip(1, record(2, 4, State::Suspect))), ["MemberSuspected"]);
    assert!(events(&node.gossip(1, record(2, 4, State::Alive))).is_empty());
    assert_eq!(events(&node.gossip(1, record(2, 5, State::Alive))), ["MemberRecovered"]);
}

#[test]
fn who_left_is_never_failed_nor_back() {
    let mut node = Node::new(3);
    assert_eq!(events(&node.gossip(1, record(2, 1, State::Left))), ["MemberLeft"]);
    for state in [State::Alive, State::Suspect, State::Failed] {
        assert!(events(&node.gossip(1, record(2, 1, state))).is_empty());
    }
    assert_eq!(node.state(2), State::Left);
}

#[test]
fn more_than_twenty_updates_are_split() {
    let mut node = Node::new(50);
    let mut sizes = Vec::new();
    for _ in 0..20 {
        sizes.push(node.until(|_, m| Some(m.updates.len())));
    }
    assert!(sizes.iter().all(|n| *n <= UPDATES_MAX), "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() > UPDATES_MAX);
}

/// A node that was cut off holds others dead who are not. What it queued about them must not
/// reach those who would believe it; a sync tells of it, which asks first.
#[test]
fn deaths_are_not_spread_once_one_who_was_held_dead_is_there() {
    let mut node = Node::new(4);
    for n in [2, 3] {
        node.bury(n, 1);
    }
    node.gossip(1, record(4, 1, State::Left));
    let ping = Frame::Ping { seq: 1, target: peer(0), reliable: false };
    let answered = sent(&node.frame(2, ping, &[]));
    let about: Vec<_> = answered.iter().flat_map(|(_, m)| &m.updates).map(|r| &r.id).collect();
    assert_eq!(about, [&id(2)], "it hears of its own death only");
    node.gossip(2, record(2, 2, State::Alive));
    assert_eq!(node.state(3), State::Failed);
    let told = |all: &[(Time, Effect)], n: u16, state: State| {
        let out: Vec<_> = all.iter().map(|(_, effect)| effect.clone()).collect();
        let told = sent(&out).into_iter().filter(|(to, _)| *to != peer(n));
        told.flat_map(|(_, m)| m.updates).any(|r| r.id == id(n) && r.state == state)
    };
    let all = node.pass(5);
    assert!(!told(&all, 3, State::Failed), "it is not certain any more");
    assert!(told(&all, 4, State::Left), "that is");
    assert!(told(&all, 2, State::Alive));
}

#[test]
fn a_verdict_that_nobody_confirmed_is_not_spread() {
    let mut node = Node::new(5);
    let mut out = Vec::new();
    let mut step = Step { now: node.now, out: &mut out };
    node.machine.suspect(&mut step, &id(3), account::Check::Probe);
    node.machine.suspect(&mut step, &id(4), account::Check::Probe);
    node.gossip(1, Record { observers: vec![saw(1)], ..record(4, 1, State::Suspect) });
    let all = node.pass(15);
    assert_eq!((node.state(3), node.state(4)), (State::Failed, State::Failed));
    let out: Vec<_> = all.into_iter().map(|(_, effect)| effect).collect();
    let told = |n: u16| {
        let others = sent(&out).into_iter().filter(|(to, _)| *to != peer(n));
        others.flat_map(|(_, m)| m.updates).any(|r| r.id == id(n) && r.state == State::Failed)
    };
    assert_eq!((told(3), told(4)), (false, true));
}

#[test]
fn who_missed_our_refutation_is_told_of_it() {
    let mut node = Node::new(3);
    node.gossip(1, record(0, 1, State::Suspect));
    let ours = node.machine.own_record();
    assert_eq!(ours.rank(), (2, State::Alive));
    let told = |out: &[Effect]| {
        sent(out).iter().any(|(to, m)| *to == peer(2) && m.updates.iter().any(|r| r == &ours))
    };
    assert!(told(&node.gossip(2, record(0, 1, State::Suspect))));
    assert!(!told(&node.gossip(2, record(0, 2, State::Alive))), "it knows");
}

#[test]
fn who_missed_the_refutation_of_another_is_told_of_it() {
    let mut node = Node::new(3);
    node.gossip(1, record(2, 1, State::Suspect));
    node.gossip(1, record(2, 2, State::Alive));
    let old = vec![record(2, 1, State::Suspect); 100];
    let told = sent(&node.frame(3, Frame::Gossip, &old));
    let [(to, message)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((to, &message.updates[..]), (&peer(3), &[record(2, 2, State::Alive)][..]));
    let told = sent(&node.gossip(3, record(2, 2, State::Suspect)));
    assert!(told.iter().all(|(to, _)| *to != peer(3)), "it knows");
}

#[test]
fn what_is_said_against_the_process_before_says_nothing_of_its_successor() {
    for state in [State::Suspect, State::Failed, State::Left] {
        let mut node = Node::new(3);
        // It began anew without hearing of the one before it, at the same incarnation.
        let successor = Peer { id: id(4), instance: Instance(77) };
        node.gossip(1, Record { instance: successor.instance, ..record(4, 1, State::Alive) });
        node.input(Input::LinkUp { peer: successor.clone(), addr: addr(4), dialed: None });
        let before = Record { observers: vec![saw(90)], ..record(4, 1, state) };
        let out = node.gossip(2, before.clone());
        assert_eq!(node.state(4), State::Alive, "{state:?}");
        assert_eq!(node.machine.entry(&id(4)).unwrap().member.instance, successor.instance);
        assert!(!out.iter().any(|e| matches!(e, Effect::Event(_))), "{out:?}");
        // It hears of it, and announces itself above it.
        let told = sent(&out).into_iter().find(|(to, _)| *to == successor).expect("it is told");
        assert!(told.1.updates.contains(&before));
    }
}

#[test]
fn a_process_under_a_known_id_is_told_what_its_predecessor_left_behind() {
    let mut node = Node::new(3);
    node.bury(2, 4);
    let reborn = Peer { id: id(2), instance: Instance(222) };
    let bytes = wire::encode(&Frame::Ping { seq: 1, target: peer(0), reliable: false }, &[]);
    let out = node.input(Input::Frame { from: reborn, bytes });
    let told = sent(&out).into_iter().flat_map(|(_, m)| m.updates).find(|r| r.id == id(2));
    assert_eq!(told.map(|r| r.rank()), Some((4, State::Failed)));
}

#[test]
fn who_died_too_long_ago_is_not_remembered_and_who_is_remembered_does_not_come_back() {
    for (n, frame) in [(8, Frame::Gossip), (9, Frame::Records { want: Vec::new() })] {
        let mut node = Node::new(3);
        let retention: u64 = 20_000;
        node.machine.settings.dead_retention = Duration::from_millis(retention);
        let dead = |dead_for_ms| Record { dead_for_ms, ..record(n, 5, State::Failed) };
        let out = node.frame(1, frame.clone(), &[dead(retention)]);
        assert!(node.machine.entry(&id(n)).is_none(), "others have forgotten it");
        assert_eq!(events(&out), [""; 0]);
        let out = node.frame(1, frame.clone(), &[dead(retention / 2)]);
        assert_eq!((node.state(n), events(&out)), (State::Failed, vec![]));
        // What was said of it while it lived, and by it.
        for incarnation in [4, 5] {
            let old = record(n, incarnation, State::Alive);
            let out = node.frame(1, frame.clone(), &[old]);
            assert_eq!((node.state(n), events(&out)), (State::Failed, vec![]));
        }
        // Until it is forgotten here too, half of the time later.
        node.now = node.now + Duration::from_millis(retention / 2) - Duration::from_secs(1);
        node.machine.forget_the_long_dead(node.now);
        assert!(node.machine.entry(&id(n)).is_some());
        node.machine.forget_the_long_dead(node.now + Duration::from_secs(1));
        assert!(node.machine.entry(&id(n)).is_none());
    }
}

#[test]
fn who_stood_still_for_longer_than_the_dead_are_remembered_begins_anew() {
    let mut node = Node::new(5);
    node.pass(3);
    let retention = node.machine.settings.dead_retention;
    node.now = node.machine.deadline().unwrap() + retention;
    let out = node.input(Input::Tick);
    assert_eq!(node.machine.entries().count(), 0);
    // Nobody hears of it but who listens here, and would miss the end of those who died meanwhile.
    assert_eq!(events(&out), ["MemberFailed"; 5]);
    assert_eq!(sent(&out), []);
    assert!(out.iter().any(|e| matches!(e, Effect::Joined)), "there is no seed to ask");
    // What waited on the links meanwhile is as old as what was forgotten: they go.
    let closed = out.iter().filter(|e| matches!(e, Effect::Close { .. })).count();
    assert_eq!(closed, 5);
    node.gossip(1, record(2, 1, State::Alive));
    assert_eq!(node.machine.entries().count(), 0);
    node.input(Input::LinkDown { peer: peer(1), broken: false });
    node.input(Input::LinkUp { peer: peer(1), addr: addr(1), dialed: None });
    assert_eq!(events(&node.gossip(1, record(2, 1, State::Alive))), ["MemberJoined"]);
}

#[test]
fn of_two_with_one_id_the_older_stays() {
    let mut node = Node::new(3);
    node.now = Time(10_000_000);
    let other = Peer { id: id(0), instance: Instance(9) };
    let conflict = |uptime_ms| wire::encode(&Frame::Conflict { uptime_ms }, &[]);
    let out = node.input(Input::Frame { from: other.clone(), bytes: conflict(9_000) });
    assert!(!out.iter().any(|e| matches!(e, Effect::Stop)));
    let answer = sent(&out).into_iter().find(|(to, _)| *to == other).unwrap().1;
    assert_eq!(answer.frame, Frame::Conflict { uptime_ms: 10_000 });
    let out = node.input(Input::Frame { from: other, bytes: conflict(11_000) });
    assert_eq!(events(&out), ["NameConflict"]);
    assert!(out.iter().any(|e| matches!(e, Effect::Stop)));
}

#[test]
fn a_tag_change_that_arrives_with_a_suspicion_is_still_told() {
    let mut node = Node::new(3);
    let tags = Arc::new([("k".to_owned(), "v".to_owned())].into());
    let out = node.gossip(1, Record { tags, ..record(2, 2, State::Suspect) });
    assert_eq!(events(&out), ["MemberUpdated", "MemberSuspected"]);
}

/// When and how heartbeats went to a member.
fn heartbeats(all: &[(Time, Effect)], n: u16) -> Vec<(Time, Class)> {
    let to = |(at, effect): &(Time, Effect)| match effect {
        Effect::Send { to, class, bytes, .. } if *to == peer(n) => {
            let beat = matches!(wire::decode(bytes).unwrap().frame, Frame::Heartbeat { .. });
            beat.then_some((*at, *class))
        }
        _ => None,
    };
    all.iter().filter_map(to).collect()
}

fn suspicions(all: &[(Time, Effect)]) -> Vec<(Time, NodeId)> {
    let told = |(at, effect): &(Time, Effect)| match effect {
        Effect::Event(EventKind::MemberSuspected { member, .. }) => Some((*at, member.id.clone())),
        _ => None,
    };
    all.iter().filter_map(told).collect()
}

#[test]
fn heartbeats_come_every_second_and_by_stream_to_one_who_does_not_see_them() {
    let mut node = Node::new(3);
    let all = node.pass(20);
    let beats = heartbeats(&all, 1);
    assert!((18..=20).contains(&beats.len()), "{}", beats.len());
    for pair in beats.windows(2) {
        let interval = pair[1].0.since(pair[0].0).as_millis();
        assert!((890..=1110).contains(&interval), "{interval} ms");
    }
    assert!(beats[..3].iter().all(|(_, class)| *class == Class::Datagram));
    assert!(beats[3..].iter().all(|(_, class)| *class == Class::Stream));
}

#[test]
fn who_was_never_heard_is_not_judged_by_its_silence() {
    let mut node = Node::new(3);
    assert!(suspicions(&node.pass(60)).is_empty());
}

#[test]
fn a_silence_accuses_once_and_again_only_after_the_member_was_heard() {
    let mut node = Node::new(5);
    node.pass(2);
    node.pass_hearing(1, 1, 12);
    let last = node.now - Duration::from_secs(1);
    let first = suspicions(&node.pass(4));
    assert_eq!(first.len(), 1, "{first:?}");
    let after = first[0].0.since(last).as_millis();
    assert!((2500..2700).contains(&after), "{after} ms");
    assert_eq!(first[0].1, id(1));

    assert_eq!(events(&node.gossip(2, record(1, 2, State::Alive))), ["MemberRecovered"]);
    assert!(suspicions(&node.pass(60)).is_empty(), "refuted, and not heard since");
    node.heartbeat(1, 100);
    assert_eq!(suspicions(&node.pass(30)).len(), 1);
}

#[test]
fn a_pause_of_ours_begins_all_silences_anew() {
    let mut node = Node::new(5);
    node.pass(2);
    node.pass_hearing(1, 1, 12);
    node.now = node.now + Duration::from_secs(30);
    let out = node.input(Input::Tick);
    assert!(events(&out).is_empty());
    assert!(suspicions(&node.pass(2)).is_empty());
    assert_eq!(suspicions(&node.pass(2)).len(), 1);
}

#[test]
fn a_refutation_is_a_sign_of_life_to_all_who_watch() {
    let mut node = Node::new(3);
    node.pass(1);
    (1..=20).for_each(|seq| {
        node.heartbeat(1, seq);
        node.heartbeat(2, seq);
        node.pass(1);
    });
    // Node 1 falls silent; somebody else accuses it first, and it refutes.
    node.pass_hearing(2, 21, 1);
    node.gossip(3, Record { observers: vec![saw(3)], ..record(1, 1, State::Suspect) });
    node.gossip(3, record(1, 2, State::Alive));
    let refuted = node.now;
    let mut all = Vec::new();
    for seq in 22..26 {
        node.heartbeat(2, seq);
        all.extend(suspicions(&node.pass(1)));
    }
    let of_one: Vec<_> = all.iter().filter(|(_, who)| *who == id(1)).collect();
    assert_eq!(of_one.len(), 1);
    assert!(of_one[0].0.since(refuted) >= Duration::from_secs(2), "{of_one:?}");
}

#[test]
fn a_death_declared_by_others_is_a_suspicion_first() {
    let mut node = Node::new(20);
    let failed = |observers: std::ops::Range<u16>| Record {
        observers: observers.map(saw).collect(),
        ..record(5, 1, State::Failed)
    };
    node.gossip(7, failed(7..10));
    assert_eq!(node.state(5), State::Suspect);
    node.gossip(8, failed(7..10));
    assert_eq!(node.state(5), State::Suspect, "it had no second to refute");
    node.pass(1);
    node.gossip(9, failed(7..10));
    assert_eq!(node.state(5), State::Failed);
    // One observer alone convinces nobody who has not seen for himself.
    node.gossip(7, Record { observers: vec![saw(7)], ..record(6, 1, State::Failed) });
    node.pass(2);
    node.gossip(8, Record { observers: vec![saw(7)], ..record(6, 1, State::Failed) });
    assert_eq!(node.state(6), State::Suspect);
    // But it refutes.
    node.gossip(6, record(6, 2, State::Alive));
    assert_eq!(node.state(6), State::Alive);
}

#[test]
fn who_hears_nobody_waits_before_it_takes_all_for_dead() {
    let mut node = Node::new(20);
    for seq in 1..=10 {
        (1..=20).for_each(|n| drop(node.heartbeat(n, seq)));
        node.pass(1);
    }
    let cut_off = node.now;
    let deaf = |node: &mut Node, until: Time| {
        let mut all = Vec::new();
        while let Some(at) = node.machine.deadline().filter(|at| *at <= until) {
            node.now = at.max(node.now);
            all.extend(node.input(Input::Tick).into_iter().map(|e| (at, e)));
        }
        node.now = until;
        suspicions(&all)
    };
    assert_eq!(deaf(&mut node, cut_off + Duration::from_secs(25)), []);
    // It hears one again, and gives the others the time that it could not hear them.
    node.heartbeat(3, 11);
    assert_eq!(deaf(&mut node, cut_off + Duration::from_secs(26)), []);
    let after = deaf(&mut node, cut_off + Duration::from_secs(70));
    assert!(after.len() >= 5, "{after:?}");
}

#[test]
fn an_edge_for_the_sake_of_a_peer_whose_last_word_is_lost_goes() {
    let mut node = Node::new(60);
    node.pass(5);
    let edges = |node: &Node| -> Vec<NodeId> {
        node.machine.watch_edges(node.now).map(|e| e.peer.id).collect()
    };
    let stranger = (1..=60).find(|n| !edges(&node).contains(&id(*n))).unwrap();
    node.heartbeat(stranger, 1);
    assert!(edges(&node).contains(&id(stranger)));
    // It took the edge up and said so once, in a datagram that did not arrive.
    node.pass(10);
    assert!(!edges(&node).contains(&id(stranger)));
}

#[test]
fn a_heartbeat_of_one_held_dead_is_answered_with_what_is_held() {
    let mut node = Node::new(3);
    node.bury(1, 1);
    let told = sent(&node.heartbeat(1, 1)).into_iter().flat_map(|(_, m)| m.updates);
    assert!(told.into_iter().any(|r| r.id == id(1) && r.state == State::Failed));
}

#[test]
fn a_heartbeat_looks_so_on_the_wire() {
    let frame = Frame::Heartbeat { seq: 300, seen: 5, every_ms: 1000, want: wire::Want::Watch };
    let bytes = wire::encode(&frame, &[]);
    assert_eq!(bytes[..], [13, 6, 0, 0, 0, 0xac, 0x02, 5, 0xe8, 0x07, 2]);
    assert_eq!(wire::decode(&bytes).unwrap().frame, frame);
}
