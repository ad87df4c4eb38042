//! Many seeds, on as many processors as there are.

use std::{
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use peerage::membership::Bug;

use crate::{
    S,
    random::{Outcome, Scenario},
};

/// How many threads run seeds unless told otherwise.
pub fn jobs() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many runs there were.
    pub runs: u64,
    /// How many of them had violations.
    pub failed: u64,
    /// How many violations there were.
    pub violations: usize,
    /// How many times a machine was called.
    pub steps: u64,
    /// The slowest to become one again, in microseconds, and its seed.
    pub slowest: (u64, u64),
}

impl Tally {
    /// Counts one run.
    pub fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.steps += outcome.steps;
        self.violations += outcome.violations.len();
        self.failed += u64::from(!outcome.violations.is_empty());
        self.slowest = self.slowest.max((outcome.converged.unwrap_or_default(), seed));
    }
}

/// Runs these seeds, with a bug or without, each on a thread of its own among so many, and tells
/// of each as it ends; no further ones begin once `tell` has said no.
pub fn seeds(
    range: Range<u64>,
    nodes: usize,
    bug: Option<Bug>,
    jobs: usize,
    mut tell: impl FnMut(&Scenario, &Outcome) -> bool,
) {
    let next = AtomicU64::new(range.start);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (next, send, end) = (&next, send.clone(), range.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    let scenario = Scenario { bug, ..Scenario::random(seed, nodes) };
                    let outcome = scenario.run(false);
                    if send.send((scenario, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (scenario, outcome) in receive {
            if !tell(&scenario, &outcome) {
                next.store(range.end, Relaxed);
            }
        }
    });
}

/// What went wrong in a random scenario, and how to see it again.
pub fn report(scenario: &Scenario, outcome: &Outcome) -> String {
    let Scenario { seed, nodes, .. } = scenario;
    let mut text = format!("seed {seed} failed\n");
    for violation in &outcome.violations {
        text += &format!("  {violation}\n");
    }
    text += "  what happened:\n";
    for line in scenario.account() {
        text += &format!("    {line}\n");
    }
    text + &format!("  replay: cargo xtask sim --seed {seed} --nodes {nodes}\n")
}

/// One line for people.
pub fn summary(tally: &Tally, nodes: usize) -> String {
    let Tally { runs, failed, slowest: (time, seed), .. } = tally;
    let seconds = *time as f64 / S as f64;
    format!(
        "{runs} seeds with {nodes} nodes, {failed} failed; slowest to become one again: \
         {seconds:.1} s (seed {seed})"
    )
}
