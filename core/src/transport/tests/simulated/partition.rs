//! Networks that are cut, in both directions and in one, and mended.

use super::*;

/// A request that waits while the network is cut ends when the link does, and others end for want of
/// one; whoever is on neither side notices nothing.
pub(super) fn cut(seed: u64) -> Footprint {
    let mut world = World::new(seed, 3, &Net::default());
    world.mesh();
    let (a, b) = (world.process(0).peer, world.process(1).peer);
    let before = world.links();
    let asked = [world.hang(0, 1), world.hang(1, 0)];
    let waited = world.rng.random_range(0..3000);
    world.pass(Duration::from_millis(waited));

    world.sim.partition("n0", "n1");
    let troubled = world.until("trouble", |world| {
        world.process(0).heard_of(&b).iter().any(|said| said == "trouble")
    });
    assert!(troubled < Duration::from_secs(1), "seed {seed}: {troubled:?}");
    for asked in asked {
        let error = world.end(asked).0.unwrap_err();
        assert_eq!(error.code(), Code::LinkLost, "seed {seed}: {error}");
    }
    let gone = world.until("it is gone", |world| !world.has_link(0, &b) && !world.has_link(1, &a));
    assert!(gone < DEAD, "seed {seed}: {gone:?}");
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        let deadline = Duration::from_secs(2);
        let asked = world.ask_within(from, to, "echo", deadline);
        let (answer, took) = world.end(asked);
        let error = answer.unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "seed {seed}: {error}");
        assert!(took <= deadline + Duration::from_millis(10), "seed {seed}: {took:?}");
        let asked = world.ask(from, 2, "echo");
        let (answer, took) = world.end(asked);
        assert!(answer.is_ok() && took < Duration::from_millis(50), "seed {seed}: {took:?}");
    }
    // Nothing is left of any of it, though nobody could say goodbye.
    world
        .until("they let go", |world| (0..2).all(|host| world.process(host).is_at_rest(1).is_ok()));

    world.sim.repair("n0", "n1");
    let asked = [world.ask(0, 1, "echo"), world.ask(1, 0, "echo")];
    for asked in asked {
        assert!(world.end(asked).0.is_ok(), "seed {seed}: the network is mended");
    }
    world.comes_to_rest();
    let kept = world.links().into_keys().filter(|link| before.contains_key(link)).count();
    assert_eq!(kept, 2, "seed {seed}: the links that were not cut");
    world.footprint()
}

#[test]
fn a_cut_ends_links_at_both_ends_and_mended_there_is_one() {
    each_seed(cut);
}

/// What one sends is lost; what the other sends arrives, for as long as it sends anything.
pub(super) fn cut_one_way(seed: u64) -> Footprint {
    let mut world = World::new(seed, 2, &Net::default());
    world.mesh();
    let (a, b) = (world.process(0).peer, world.process(1).peer);
    let asked = [world.hang(0, 1), world.hang(1, 0)];

    world.sim.partition_oneway("n0", "n1");
    let troubled = world.until("trouble", |world| {
        world.process(0).heard_of(&b).iter().any(|said| said == "trouble")
    });
    assert!(troubled < Duration::from_secs(1), "seed {seed}: {troubled:?}");
    for asked in asked {
        let error = world.end(asked).0.unwrap_err();
        assert_eq!(error.code(), Code::LinkLost, "seed {seed}: {error}");
    }
    let gone = world.until("it is gone", |world| !world.has_link(0, &b) && !world.has_link(1, &a));
    // The one hears the other until that has given up itself.
    assert!(gone < 2 * DEAD, "seed {seed}: {gone:?}");
    for (from, to) in [(0, 1), (1, 0)] {
        let asked = world.ask_within(from, to, "echo", Duration::from_secs(2));
        let error = world.end(asked).0.unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "seed {seed}: {error}");
    }
    world
        .until("they let go", |world| (0..2).all(|host| world.process(host).is_at_rest(0).is_ok()));

    world.sim.repair_oneway("n0", "n1");
    world.mesh();
    world.footprint()
}

#[test]
fn a_cut_of_one_direction_ends_links_at_both_ends() {
    each_seed(cut_one_way);
}

/// Long enough that they notice, too short to end anything.
#[test]
fn a_short_cut_is_survived() {
    each_seed(|seed| {
        let mut world = World::new(seed, 2, &Net::default());
        world.mesh();
        let before = world.links();
        let asked = world.ask(0, 1, "held");
        world.sim.partition("n0", "n1");
        world.pass(Duration::from_millis(1500));
        world.sim.repair("n0", "n1");
        world.process(1).handler.release.add_permits(1);
        assert_eq!(world.end(asked).0.unwrap(), "released", "seed {seed}");
        world.comes_to_rest();
        assert_eq!(world.links(), before, "seed {seed}");
    });
}
