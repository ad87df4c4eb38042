//! Processes that vanish without a word, and those that come in their place.

use super::*;

pub(super) fn come_back(seed: u64) -> Footprint {
    let mut world = World::new(seed, 3, &Net::default());
    world.mesh();
    let before = world.process(1).peer;
    let asked = world.hang(0, 1);
    let waited = world.rng.random_range(0..1000);
    world.pass(Duration::from_millis(waited));

    world.bounce(1);
    let after = world.process(1).peer;
    assert!(before.id == after.id && before.instance != after.instance);
    // The next process tells those who wait for the one before at their next packet, which is due
    // every 100 ms.
    let (answer, took) = world.end(asked);
    let error = answer.unwrap_err();
    assert_eq!(error.code(), Code::LinkLost, "seed {seed}: {error}");
    assert!(took < Duration::from_millis(300), "seed {seed}: {took:?}");
    let (peer, addr) = (before.clone(), world.hosts[1].addr);
    let asked = world.begin(0, |from| async move {
        from.transport.request(&peer, addr, "echo", Bytes::new(), LONG).await
    });
    let error = world.end(asked).0.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "seed {seed}: not to another process");
    let gone = world
        .until("its links are gone", |world| [0, 2].iter().all(|n| !world.has_link(*n, &before)));
    assert!(gone < DEAD, "seed {seed}: {gone:?}");
    world.mesh();
    for host in [0, 2] {
        let heard = world.process(host).heard_of(&before);
        assert!(
            heard.last().is_some_and(|said| said.starts_with("down")),
            "seed {seed}: {heard:?}"
        );
        let heard = world.process(host).heard_of(&after);
        assert_eq!(heard.first().map(String::as_str), Some("up"), "seed {seed}");
    }
    world.footprint()
}

#[test]
fn a_process_that_comes_in_the_place_of_another_has_one_link_to_each() {
    each_seed(come_back);
}

pub(super) fn stay_away(seed: u64) -> Footprint {
    let mut world = World::new(seed, 3, &Net::default());
    world.mesh();
    let gone = world.process(1);
    let (peer, addr) = (gone.peer.clone(), gone.addr);
    drop(gone);
    let asked = world.hang(2, 1);
    world.crash(1);
    let error = world.end(asked).0.unwrap_err();
    assert_eq!(error.code(), Code::LinkLost, "seed {seed}: {error}");
    let took = world
        .until("its links are gone", |world| [0, 2].iter().all(|n| !world.has_link(*n, &peer)));
    assert!(took < DEAD, "seed {seed}: {took:?}");
    for _ in 0..3 {
        let peer = peer.clone();
        let asked = world.begin(0, move |from| async move {
            from.transport.request(&peer, addr, "echo", Bytes::new(), LONG).await
        });
        let (answer, took) = world.end(asked);
        assert_eq!(answer.unwrap_err().code(), Code::Unreachable, "seed {seed}");
        assert!(took < Duration::from_secs(11), "a wait and a dial: seed {seed}: {took:?}");
    }
    world.comes_to_rest(); // the two that are left
    world.bounce(1);
    world.mesh();
    world.footprint()
}

#[test]
fn a_process_that_stays_away_leaves_nothing_behind() {
    each_seed(stay_away);
}
