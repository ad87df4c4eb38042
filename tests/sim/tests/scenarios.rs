//! The special cases, each by itself.
#![allow(clippy::unwrap_used)] // a test may

use peerage::{EventKind, State};
use peerage_sim::{
    MS, S,
    detect::deaths,
    faults::Fault,
    scenario::{bound, config, converge, seeds, start_all},
    world::World,
};
use rand::{SeedableRng, rngs::StdRng};

/// A cluster in which everybody sees everybody, at 10 s; two hosts are spare.
fn cluster(nodes: usize) -> World {
    let mut world = World::new(7, nodes + 2, config(), true);
    world.keep_events = true;
    for (at, fault) in start_all(nodes, S, &mut StdRng::seed_from_u64(7)) {
        world.plan(at, fault);
    }
    world.run_until(10 * S);
    assert_eq!(world.differences(), [""; 0]);
    world
}

fn apply(world: &mut World, fault: Fault) {
    fault.apply(world);
}

fn well(world: &mut World, within: u64) -> u64 {
    let took = converge(world, within);
    assert_eq!(world.violations, [""; 0]);
    took.unwrap()
}

/// How many events of a kind were seen about a name, over all processes.
fn count(world: &World, name: &str, about: usize) -> usize {
    let id = format!("n{about:04}");
    let all = world.processes.iter().flat_map(|p| &p.events);
    all.filter(|(_, e)| e.name() == name && e.member().is_some_and(|m| m.id.as_str() == id)).count()
}

fn others(nodes: usize, host: usize) -> Vec<usize> {
    seeds(nodes).into_iter().filter(|s| *s != host).collect()
}

#[test]
fn twenty_join_at_once() {
    let mut world = World::new(3, 20, config(), true);
    for (at, fault) in start_all(20, 0, &mut StdRng::seed_from_u64(3)) {
        world.plan(at, fault);
    }
    world.run_until(1);
    let took = well(&mut world, 10 * S);
    assert!(took <= 3 * S, "{took} µs");
}

#[test]
fn two_halves_that_declared_each_other_dead_become_one_again() {
    let mut world = cluster(10);
    apply(&mut world, Fault::Split((0..5).collect()));
    world.run_until(world.now() + 120 * S);
    for p in world.members() {
        let failed = p.machine.entries().filter(|e| e.member.state == State::Failed).count();
        assert_eq!(failed, 5, "{}", p.peer.id);
    }
    apply(&mut world, Fault::Heal);
    let took = well(&mut world, 30 * S);
    assert!(took <= 30 * S);
}

#[test]
fn two_that_declared_each_other_dead_find_each_other_again() {
    let mut world = cluster(2);
    apply(&mut world, Fault::CutPair(0, 1));
    world.run_until(world.now() + 60 * S);
    assert_eq!((count(&world, "MemberFailed", 0), count(&world, "MemberFailed", 1)), (1, 1));
    apply(&mut world, Fault::Heal);
    well(&mut world, 30 * S);
    assert_eq!((count(&world, "MemberJoined", 0), count(&world, "MemberJoined", 1)), (2, 2));
}

/// Cut off or paused for longer than the dead are remembered, while one dies and one begins anew:
/// whoever comes back must not bring back who was forgotten, nor what the other was before.
#[test]
fn nobody_who_was_away_for_long_brings_the_forgotten_back() {
    for (retention, sync, nodes, away, paused) in [
        (60 * S, 30 * S, 8, 110 * S, false),
        (60 * S, 30 * S, 8, 200 * S, false),
        (60 * S, 30 * S, 8, 110 * S, true),
        (60 * S, 30 * S, 8, 200 * S, true),
        // Not yet forgotten, but soon.
        (60 * S, 30 * S, 8, 40 * S, true),
        (60 * S, 30 * S, 8, 55 * S, true),
        // More than one judges at once.
        (60 * S, 30 * S, 60, 110 * S, false),
        (60 * S, 30 * S, 60, 200 * S, false),
        // Not long enough to begin anew, and tables are seldom compared.
        (60 * S, 3600 * S, 60, 28 * S, true),
        // As short as can be configured.
        (10 * S, 30 * S, 8, 45 * S, true),
        (10 * S, 30 * S, 8, 60 * S, true),
        (10 * S, 30 * S, 8, 45 * S, false),
        (10 * S, 30 * S, 8, 60 * S, false),
        (10 * S, 3600 * S, 60, 60 * S, false),
        (10 * S, 3600 * S, 60, 4 * S, true),
    ] {
        let mut config = config();
        config.dead_retention = std::time::Duration::from_micros(retention);
        config.sync_interval = std::time::Duration::from_micros(sync);
        let place = format!(
            "{retention} µs, compared after {sync}, {nodes} nodes, away {away}, paused: {paused}"
        );
        let mut world = World::new(11, nodes, config, true);
        world.keep_events = true;
        for (at, fault) in start_all(nodes, S, &mut StdRng::seed_from_u64(11)) {
            world.plan(at, fault);
        }
        world.run_until(10 * S);
        let begun = world.now();
        if paused {
            apply(&mut world, Fault::Pause(7, away));
        } else {
            apply(&mut world, Fault::Split(vec![7]));
        }
        apply(&mut world, Fault::Crash(5));
        apply(&mut world, Fault::Restart { host: 6, moved: false, seeds: seeds(nodes) });
        world.run_until(begun + away);
        let forgotten = world
            .members()
            .filter(|p| p.host != 7)
            .all(|p| p.machine.entries().all(|e| e.member.id.as_str() != "n0005"));
        assert_eq!(forgotten, away > retention, "{place}");
        apply(&mut world, Fault::Heal);
        let took = well(&mut world, 60 * S);
        world.run_until(world.now() + 60 * S);
        assert_eq!(world.differences(), [""; 0], "{took} µs, {place}");
        // All others saw it come, and the one that began anew just before it was suspected.
        assert_eq!(count(&world, "MemberJoined", 5), nodes, "{place}");
        // The other: all at first, all but two when it began anew, and the one that was away.
        assert_eq!(count(&world, "MemberJoined", 6), 2 * nodes - 3, "{place}");
    }
}

/// Three that are cut off from many judge them one after the other, and must be done before the others
/// forget whom they lost meanwhile. In proportion, ten thousand have a day.
#[test]
fn a_few_that_were_cut_off_together_bring_nobody_back() {
    const NODES: usize = 150;
    let retention = NODES as u64 * 8640 * MS;
    let mut config = config();
    config.dead_retention = std::time::Duration::from_micros(retention);
    let mut world = World::new(5, NODES, config, true);
    world.keep_events = true;
    for (at, fault) in start_all(NODES, 5 * S, &mut StdRng::seed_from_u64(5)) {
        world.plan(at, fault);
    }
    world.run_until(30 * S);
    let begun = world.now();
    apply(&mut world, Fault::Split(vec![7, 70, 100]));
    apply(&mut world, Fault::Crash(5));
    world.run_until(begun + retention);
    for host in [7, 70, 100] {
        let live = world.on(host).unwrap().machine.entries().filter(|e| e.member.state.is_live());
        assert_eq!(live.count(), 2, "n{host:04} has not judged all of them");
    }
    apply(&mut world, Fault::Heal);
    well(&mut world, 120 * S);
    assert_eq!(count(&world, "MemberJoined", 5), NODES - 1);
}

#[test]
fn a_crash_is_failed_everywhere_and_once() {
    let mut world = cluster(10);
    apply(&mut world, Fault::Crash(4));
    let begun = world.now();
    world.run_until(begun + 9 * S);
    for p in world.members() {
        let id = peerage::NodeId::new("n0004").unwrap();
        assert_eq!(p.machine.entry(&id).unwrap().member.state, State::Failed, "{}", p.peer.id);
    }
    well(&mut world, 60 * S);
    assert_eq!(count(&world, "MemberFailed", 4), 9);
    assert_eq!(count(&world, "MemberRecovered", 4), 0);
}

#[test]
fn a_restart_on_the_same_address_replaces_the_old_process() {
    for down in [0, 10 * MS, 2 * S, 30 * S] {
        let mut world = cluster(5);
        apply(&mut world, Fault::Crash(1));
        world.run_until(world.now() + down);
        apply(&mut world, Fault::Restart { host: 1, moved: false, seeds: others(5, 1) });
        well(&mut world, 10 * S);
        assert_eq!(count(&world, "MemberFailed", 1), 4, "down for {down} µs");
        assert_eq!(count(&world, "MemberJoined", 1), 8, "down for {down} µs");
    }
}

#[test]
fn a_restart_on_another_address_is_admitted_once_the_old_one_is_silent() {
    let mut world = cluster(5);
    apply(&mut world, Fault::Restart { host: 4, moved: true, seeds: seeds(5) });
    well(&mut world, 10 * S);
    assert_eq!(count(&world, "MemberJoined", 4), 8);
    let addr = world.on(4).unwrap().addr;
    for p in world.members().filter(|p| p.host != 4) {
        let id = &world.on(4).unwrap().peer.id;
        assert_eq!(p.machine.entry(id).unwrap().member.addr, addr);
    }
}

#[test]
fn a_newcomer_under_a_living_name_is_refused() {
    let mut world = cluster(5);
    apply(&mut world, Fault::Namesake { host: 5, of: 3, seeds: seeds(5) });
    world.run_until(world.now() + 5 * S);
    let newcomer = world.processes.last().unwrap();
    assert!(newcomer.refused && !newcomer.running && !newcomer.joined);
    let conflict = |e: &(u64, EventKind)| matches!(e.1, EventKind::NameConflict { .. });
    assert!(newcomer.events.iter().any(conflict));
    assert!(world.on(3).is_some());
    well(&mut world, 5 * S);
    assert_eq!(count(&world, "MemberFailed", 3), 0);
}

#[test]
fn of_two_living_namesakes_the_older_stays() {
    let mut world = cluster(6);
    // Host 5 alone on one side; a process under its name starts on the other.
    apply(&mut world, Fault::Split(vec![5]));
    world.run_until(world.now() + 30 * S);
    apply(&mut world, Fault::Namesake { host: 6, of: 5, seeds: seeds(6) });
    apply(&mut world, Fault::Split(vec![5]));
    world.run_until(world.now() + 10 * S);
    assert!(world.on(6).is_some_and(|p| p.joined));
    apply(&mut world, Fault::Heal);
    let within = bound(&config(), 6);
    well(&mut world, within);
    assert!(world.on(5).is_some(), "the older stays");
    assert!(world.on(6).is_none(), "the younger goes");
}

#[test]
fn a_leave_is_never_a_failure() {
    for loss in [0.0, 0.3] {
        let mut world = cluster(10);
        apply(&mut world, Fault::Loss(loss));
        apply(&mut world, Fault::Leave(2));
        apply(&mut world, Fault::Leave(7));
        well(&mut world, 10 * S);
        world.run_until(world.now() + 30 * S);
        assert_eq!(world.violations, [""; 0]);
        for gone in [2, 7] {
            assert_eq!(count(&world, "MemberFailed", gone), 0, "loss {loss}");
            assert!(count(&world, "MemberLeft", gone) >= 8, "loss {loss}");
        }
    }
}

#[test]
fn tags_reach_everybody() {
    let mut world = cluster(10);
    apply(&mut world, Fault::Tags(3));
    well(&mut world, 5 * S);
    assert_eq!(count(&world, "MemberUpdated", 3), 9);
}

#[test]
fn who_is_reachable_through_others_only_is_not_failed() {
    let mut world = cluster(5);
    apply(&mut world, Fault::CutPair(0, 1));
    world.forbid_wrong_failures(true);
    world.run_until(world.now() + 120 * S);
    assert_eq!(world.violations, [""; 0]);
}

#[test]
fn a_tenth_of_all_packets_lost_fails_nobody() {
    let mut world = cluster(20);
    apply(&mut world, Fault::Loss(0.1));
    world.forbid_wrong_failures(true);
    world.run_until(world.now() + 300 * S);
    assert_eq!(world.violations, [""; 0]);
}

#[test]
fn a_death_is_suspected_within_two_seconds_and_known_to_all_within_four() {
    for nodes in [10, 50, 100] {
        let death = deaths(nodes, 0..5).unwrap();
        assert!(death.first_suspect <= 2 * S, "{nodes} nodes: {death:?}");
        assert!(death.failed_everywhere <= 4 * S, "{nodes} nodes: {death:?}");
        assert_eq!(death.wrong, 0, "{nodes} nodes");
    }
}

#[test]
fn edges_stand_and_move_with_the_members() {
    for nodes in [4, 11, 12, 40] {
        let mut world = cluster(nodes);
        world.run_until(world.now() + 20 * S);
        assert_eq!(world.edges_amiss(), [""; 0], "{nodes} nodes");
        apply(&mut world, Fault::Crash(1));
        apply(&mut world, Fault::Leave(2));
        world.run_until(world.now() + 60 * S);
        assert_eq!(world.edges_amiss(), [""; 0], "{nodes} nodes, two gone");
        well(&mut world, S);
    }
}

#[test]
fn who_stood_still_accuses_nobody_and_is_alive_again_soon() {
    for seconds in [1, 3, 5, 30] {
        let mut world = cluster(12);
        world.run_until(30 * S);
        apply(&mut world, Fault::Pause(4, seconds * S));
        world.run_until(world.now() + seconds * S);
        well(&mut world, 5 * S);
        world.run_until(world.now() + 30 * S);
        assert_eq!(world.violations, [""; 0]);
        for other in (0..12).filter(|h| *h != 4) {
            assert_eq!(count(&world, "MemberSuspected", other), 0, "{seconds} s, n{other}");
        }
    }
}

#[test]
fn a_quarter_that_stood_still_takes_nobody_along() {
    let mut world = cluster(40);
    world.run_until(30 * S);
    for host in 0..10 {
        apply(&mut world, Fault::Pause(host, 8 * S));
    }
    world.run_until(world.now() + 8 * S);
    let took = well(&mut world, 10 * S);
    assert!(took <= 5 * S, "{took} µs");
    for other in 10..40 {
        assert_eq!(count(&world, "MemberFailed", other), 0, "n{other}");
    }
}

#[test]
fn one_blackholed_pair_does_not_flap() {
    let mut world = cluster(12);
    world.run_until(30 * S);
    apply(&mut world, Fault::CutPair(3, 4));
    world.forbid_wrong_failures(true);
    world.run_until(world.now() + 300 * S);
    assert_eq!(world.violations, [""; 0]);
    // Each may accuse the other once before it has learnt better, and eleven hear of it.
    for host in [3, 4] {
        let times = count(&world, "MemberSuspected", host);
        assert!(times <= 11, "n{host} was suspected {times} times");
    }
}

#[test]
fn many_packets_lost_everywhere_fail_nobody() {
    for share in [0.2, 0.4] {
        let mut world = cluster(20);
        apply(&mut world, Fault::Loss(share));
        world.forbid_wrong_failures(true);
        world.run_until(world.now() + 120 * S);
        assert_eq!(world.violations, [""; 0], "loss {share}");
    }
}

#[test]
fn a_pause_that_goes_unnoticed_would_accuse_others() {
    let accused = |bug| {
        let mut world = World::new(7, 12, config(), true);
        (world.keep_events, world.bug) = (true, bug);
        for (at, fault) in start_all(12, S, &mut StdRng::seed_from_u64(7)) {
            world.plan(at, fault);
        }
        world.run_until(30 * S);
        apply(&mut world, Fault::Pause(4, 5 * S));
        world.run_until(60 * S);
        (0..12).filter(|h| *h != 4).map(|h| count(&world, "MemberSuspected", h)).sum::<usize>()
    };
    assert_eq!(accused(None), 0);
    assert!(accused(Some(peerage::membership::Bug::PausesUnnoticed)) > 0);
}

/// One of many comes or goes: its neighbours' edges move, and nobody else's.
#[test]
fn one_death_and_one_birth_move_few_edges() {
    const NODES: usize = 200;
    let most = 2 * u64::from(config().watch_rings);
    let mut world = World::new(7, NODES + 1, config(), true);
    for (at, fault) in start_all(NODES, 5 * S, &mut StdRng::seed_from_u64(7)) {
        world.plan(at, fault);
    }
    world.run_until(120 * S);
    assert_eq!(world.differences(), [""; 0]);
    assert_eq!(world.edges_amiss(), [""; 0]);
    for fault in [Fault::Crash(100), Fault::Start { host: NODES, seeds: seeds(NODES) }] {
        let (let_go, dialed) = world.moves();
        let what = format!("{fault:?}");
        apply(&mut world, fault);
        world.run_until(world.now() + 90 * S);
        well(&mut world, S);
        assert_eq!(world.edges_amiss(), [""; 0]);
        let now = world.moves();
        let (let_go, dialed) = (now.0 - let_go, now.1 - dialed);
        println!("{what}: {let_go} let go, {dialed} dialed");
        assert!((1..=most).contains(&let_go), "{what}: {let_go} let go");
        assert!((1..=most).contains(&dialed), "{what}: {dialed} dialed");
    }
}
