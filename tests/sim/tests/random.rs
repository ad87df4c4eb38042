//! Random scenarios: every rule after every step, and one cluster again at the end.
#![allow(clippy::unwrap_used)] // a test may

use peerage_sim::{campaign, random::Scenario};

fn seeds(nodes: usize, seeds: std::ops::Range<u64>) {
    let mut failed = Vec::new();
    for seed in seeds {
        let scenario = Scenario::random(seed, nodes);
        let outcome = scenario.run(false);
        if !outcome.violations.is_empty() {
            failed.push(campaign::report(&scenario, &outcome));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn three_nodes() {
    seeds(3, 0..200);
}

#[test]
fn ten_nodes() {
    seeds(10, 0..100);
}

#[test]
fn a_hundred_nodes() {
    seeds(100, 0..3);
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    for seed in 0..5 {
        let [a, b] = [0, 1].map(|_| Scenario::random(seed, 10).run(false));
        assert_eq!((a.trace, a.steps, a.converged), (b.trace, b.steps, b.converged));
        assert_ne!(a.trace, Scenario::random(seed + 100, 10).run(false).trace);
    }
}
