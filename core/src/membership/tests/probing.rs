//! Probes: through whom, how long, and what is made of them.

use super::*;

#[test]
fn a_silent_member_is_probed_through_others_whose_ack_counts_and_a_strangers_does_not() {
    let mut node = Node::new(6);
    let ask = |to: &Peer, m: &Message| match &m.frame {
        Frame::PingReq { seq, target, .. } => Some((*seq, to.clone(), target.clone())),
        _ => None,
    };
    let (seq, helper, target) = node.until(ask);
    let helper_n = helper.instance.0 as u16;
    assert_ne!(helper, target);
    let under_way = node.machine.probes_len();
    // 99 is nobody: it was neither probed nor asked.
    node.frame(99, Frame::Ack { seq }, &[]);
    assert_eq!(node.machine.probes_len(), under_way);
    node.frame(helper_n, Frame::Ack { seq }, &[]);
    assert_eq!(node.machine.probes_len(), under_way - 1);
}

#[test]
fn whoever_answers_nobody_is_told_first_that_it_is_suspect() {
    let mut node = Node::new(3);
    let (at, out) = loop {
        node.now = node.machine.deadline().unwrap().max(node.now);
        let out = node.tick_without(Some(1));
        let suspected = |e: &Effect| matches!(e, Effect::Event(k) if k.name() == "MemberSuspected");
        if let Some(at) = out.iter().position(suspected) {
            break (at, out);
        }
    };
    let accuses = |e: &Effect| match e {
        Effect::Send { to, class, bytes, .. } => {
            let updates = wire::decode(bytes).unwrap().updates;
            let about = updates.into_iter().find(|r| r.id == id(1) && r.state == State::Suspect)?;
            Some((to.clone(), *class, about))
        }
        _ => None,
    };
    let told = out[at..].iter().find_map(accuses).expect("it is told at once");
    assert_eq!((&told.0, told.1), (&peer(1), Class::Stream), "where loss is no excuse");
    assert_eq!(told.2.observers.iter().map(|o| &o.observer).collect::<Vec<_>>(), [&id(0)]);
    assert_eq!(told.2.incarnation, 1);
}

/// Nobody is there to be asked, so the silence is as likely ours.
#[test]
fn a_probe_that_failed_without_helpers_costs_trust() {
    let mut node = Node::new(1);
    let failed = node.machine.counters().probes_failed;
    while node.machine.counters().probes_failed == failed {
        node.now = node.machine.deadline().unwrap().max(node.now);
        node.tick_without(Some(1));
    }
    assert_eq!(node.machine.health_score(), 1);
}

#[test]
fn a_ping_for_a_process_before_us_is_not_answered() {
    let mut node = Node::new(3);
    let before = Peer { id: id(0), instance: Instance(77) };
    let ping = |target| Frame::Ping { seq: 1, target, reliable: false };
    let acks = |out: &[Effect]| {
        sent(out).iter().filter(|(_, m)| matches!(m.frame, Frame::Ack { .. })).count()
    };
    assert_eq!(acks(&node.frame(1, ping(before), &[])), 0);
    assert_eq!(acks(&node.frame(1, ping(peer(0)), &[])), 1);
}

#[test]
fn who_refutes_while_it_is_probed_has_answered() {
    for refutes in [false, true] {
        let mut node = Node::new(3);
        // The suspicion prompts a probe, which goes unanswered.
        node.gossip(3, Record { observers: vec![saw(3)], ..record(1, 1, State::Suspect) });
        if refutes {
            node.gossip(3, record(1, 2, State::Alive));
        }
        let until = node.now + Duration::from_millis(1600);
        let mut all = Vec::new();
        while let Some(at) = node.machine.deadline().filter(|at| *at <= until) {
            node.now = at.max(node.now);
            let out = node.input(Input::Tick);
            for (to, message) in sent(&out).into_iter().filter(|(to, _)| *to != peer(1)) {
                if let Frame::Ping { seq, .. } = message.frame {
                    node.frame(to.instance.0 as u16, Frame::Ack { seq }, &[]);
                }
            }
            all.extend(sent(&out));
        }
        let accused = all.iter().any(|(_, m)| {
            let by_us =
                |r: &Record| r.id == id(1) && r.observers.iter().any(|o| o.observer == id(0));
            m.updates.iter().any(by_us)
        });
        assert_eq!(accused, !refutes);
    }
}

#[test]
fn who_can_answer_again_before_a_stretched_wait_is_over_is_not_accused() {
    // In this health an answer may take 4.5 s, and one through others 9 s more.
    for (answers_after, accused) in [(0, false), (9, false), (20, true)] {
        let mut node = Node::new(3);
        node.machine.health.worse(8);
        let begun = node.now;
        node.input(Input::LinkTrouble { peer: peer(1) });
        let mut when = None;
        while node.now.since(begun) < Duration::from_secs(15) && when.is_none() {
            node.now = node.machine.deadline().unwrap().max(node.now);
            let mut out = node.input(Input::Tick);
            for n in [2, 3] {
                // Or it would be we who hear nobody.
                out.extend(node.heartbeat(n, 1 + node.now.since(begun).as_secs()));
            }
            let answers = node.now.since(begun) >= Duration::from_secs(answers_after);
            for (to, message) in sent(&out).into_iter().filter(|(to, _)| answers || *to != peer(1))
            {
                if let Frame::Ping { seq, .. } = message.frame {
                    node.frame(to.instance.0 as u16, Frame::Ack { seq }, &[]);
                }
            }
            when = events(&out).contains(&"MemberSuspected").then(|| node.now.since(begun));
        }
        assert_eq!(when.is_some(), accused, "{answers_after} s: {when:?}");
        let stretched = |after: Duration| (12.0..=13.6).contains(&after.as_secs_f64());
        assert!(when.is_none_or(stretched), "{when:?}");
    }
}

#[test]
fn who_stood_still_while_it_probed_asks_again_before_it_judges() {
    for answers in [true, false] {
        let mut node = Node::new(3);
        node.input(Input::LinkTrouble { peer: peer(1) });
        node.until(|to, m| match m.frame {
            Frame::Ping { reliable: true, .. } if *to == peer(1) => Some(()),
            _ => None,
        });
        node.now = node.now + Duration::from_secs(10);
        let resumed = node.now;
        let (mut asked, mut accused) = (false, false);
        while node.now.since(resumed) < Duration::from_secs(15) && !accused {
            let mut out = node.input(Input::Tick);
            for n in [2, 3] {
                out.extend(node.heartbeat(n, 1 + node.now.since(resumed).as_secs()));
            }
            accused = events(&out).contains(&"MemberSuspected");
            for (to, message) in sent(&out).into_iter().filter(|(to, _)| answers || *to != peer(1))
            {
                if let Frame::Ping { seq, .. } = message.frame {
                    asked |= to == peer(1);
                    node.frame(to.instance.0 as u16, Frame::Ack { seq }, &[]);
                }
            }
            node.now = node.machine.deadline().unwrap().max(node.now);
        }
        assert_eq!((asked, accused), (answers, !answers));
    }
}

/// Lifeguard's three: what makes us doubt ourselves, and what gives us trust again.
#[test]
fn silent_helpers_and_refutations_cost_trust_and_answers_give_it_back() {
    // Of three helpers so many say that they had no answer, one of them twice.
    for (say_so, score) in [(0, 3), (1, 2), (3, 0)] {
        let mut node = Node::new(6);
        node.input(Input::LinkTrouble { peer: peer(1) });
        let mut helpers = Vec::new();
        let failed = node.machine.counters().probes_failed;
        while node.machine.counters().probes_failed == failed {
            node.now = node.machine.deadline().unwrap().max(node.now);
            let out = node.input(Input::Tick);
            for (to, message) in sent(&out) {
                match message.frame {
                    Frame::PingReq { seq, target, .. } if target == peer(1) => {
                        helpers.push((to, seq));
                    }
                    Frame::Ping { seq, .. } if to != peer(1) => {
                        node.frame(to.instance.0 as u16, Frame::Ack { seq }, &[]);
                    }
                    _ => {}
                }
            }
            for (to, seq) in helpers.iter().take(say_so).chain(helpers.first()).take(say_so + 1) {
                if say_so > 0 {
                    node.frame(to.instance.0 as u16, Frame::Nack { seq: *seq }, &[]);
                }
            }
        }
        assert_eq!(helpers.len(), 3);
        assert_eq!(node.machine.health_score(), score, "{say_so} say so");
    }

    let mut node = Node::new(3);
    node.gossip(1, record(0, 1, State::Suspect));
    assert_eq!(node.machine.health_score(), 1, "it had to refute something");
    node.machine.health.worse(1);
    node.input(Input::LinkTrouble { peer: peer(1) });
    let out = node.input(Input::LinkTrouble { peer: peer(2) });
    assert!(!sent(&out).is_empty());
    let ping = |out: &[Effect]| {
        sent(out).into_iter().find_map(|(_, m)| match m.frame {
            Frame::Ping { seq, .. } => Some(seq),
            _ => None,
        })
    };
    node.frame(2, Frame::Ack { seq: ping(&out).unwrap() }, &[]);
    assert_eq!(node.machine.health_score(), 1, "one was answered");
}

#[test]
fn a_link_that_broke_is_a_question_and_no_accusation() {
    for broken in [true, false] {
        let mut node = Node::new(3);
        node.pass(5);
        let out = node.input(Input::LinkDown { peer: peer(1), broken });
        let asked = sent(&out).iter().any(|(to, m)| {
            *to == peer(1) && matches!(&m.frame, Frame::Ping { target, .. } if *target == peer(1))
        });
        assert_eq!((asked, node.state(1)), (broken, State::Alive));
        assert!(!events(&out).contains(&"MemberSuspected"));
        // It answers, so nothing comes of it.
        let all = node.pass(2);
        let out: Vec<_> = all.into_iter().map(|(_, effect)| effect).collect();
        assert!(!events(&out).contains(&"MemberSuspected"), "{:?}", events(&out));
    }
}

/// Whom it pings and compares tables with among those that it has no link to, by the time.
fn called_upon(all: &[(Time, Effect)], linked: u16) -> [Vec<(Time, u16)>; 2] {
    let of = |wanted: fn(&Frame) -> bool| {
        let to = |(at, effect): &(Time, Effect)| {
            let (to, message) = sent(std::slice::from_ref(effect)).pop()?;
            let to = to.instance.0 as u16;
            (to > linked && wanted(&message.frame)).then_some((*at, to))
        };
        all.iter().filter_map(to).collect()
    };
    [of(|f| matches!(f, Frame::Ping { .. })), of(|f| matches!(f, Frame::Digest { .. }))]
}

/// Node 0 has links to all others but these, which it knows.
fn with_strangers(linked: u16, strangers: u16) -> Node {
    let mut node = Node::new(linked);
    let all: Vec<_> =
        (linked + 1..=linked + strangers).map(|n| record(n, 1, State::Alive)).collect();
    node.frame(1, Frame::Records { want: Vec::new() }, &all);
    node
}

#[test]
fn who_is_probed_without_a_link_is_compared_tables_with_over_the_same_one() {
    let mut node = with_strangers(12, 80);
    node.pass(60); // what it does after a join
    // Those on its rings it pings besides, since they do not answer its dials.
    let [pinged, compared] = called_upon(&node.pass(1200), 12);
    assert!((38..=48).contains(&compared.len()), "{} in 20 min", compared.len());
    assert!(compared.iter().all(|one| pinged.contains(one)), "{compared:?}");
    // All have their turn.
    let different: BTreeSet<_> = compared.iter().map(|(_, n)| *n).collect();
    assert_eq!(different.len(), compared.len());
}

#[test]
fn tables_are_compared_as_rarely_as_configured_and_strangers_are_probed_all_the_same() {
    let sync_interval = Duration::from_secs(300);
    let dead_retention = Duration::from_secs(3600);
    let config = Config { sync_interval, dead_retention, ..Config::new("c", "n000") };
    let mut node = Node::with(&config, 12);
    let all: Vec<_> = (13..=92).map(|n| record(n, 1, State::Alive)).collect();
    node.frame(1, Frame::Records { want: Vec::new() }, &all);
    node.pass(300);
    let all = node.pass(3000);
    let digests = sent(&all.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>());
    let digests = digests.iter().filter(|(_, m)| matches!(m.frame, Frame::Digest { .. })).count();
    assert!((9..=12).contains(&digests), "{digests} in 50 min");
    let [pinged, _] = called_upon(&all, 12);
    assert!(pinged.len() >= 95, "{} in 50 min", pinged.len());
}

#[test]
fn nodes_that_start_together_do_not_all_call_upon_the_same_one() {
    let first = |n: u16| {
        let config = Config::new("c", format!("n{n:03}"));
        let mut node = Node::with(&config, 1);
        let all: Vec<_> =
            (2..=200).filter(|o| *o != n).map(|o| record(o, 1, State::Alive)).collect();
        node.frame(1, Frame::Records { want: Vec::new() }, &all);
        let [pinged, _] = called_upon(&node.pass(60), 1);
        pinged[0].1
    };
    let different: BTreeSet<_> = (10..50).map(first).collect();
    assert!(different.len() >= 35, "{different:?}");
}
