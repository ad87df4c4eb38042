//! Whom nodes wrongly hold dead: one process with many nodes, each at a loopback address of its
//! own, in a network namespace of ours, where packets are dropped or one node is starved.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use peerage_faults::{
    fleet::{AgentId, Fleet},
    network::{Drops, Namespace},
    report::Start,
};
use serde::Serialize;

use super::{FalsePositives, median};

const PATIENCE: Duration = Duration::from_secs(60);
/// After everyone sees everyone: until watchers know how regular the heartbeats are.
const SETTLE: Duration = Duration::from_secs(7);
/// Over how many processes the others are spread.
const HOMES: usize = 4;
/// How many nodes are started at once.
const BATCH: usize = 25;
/// The one to which something is done, where it is done to one.
const ODD: &str = "odd";
/// A starved node is stopped for so long, ...
const STOPPED: Duration = Duration::from_secs(3);
/// ... and runs for so long.
const RUNNING: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// 20 % of what one node sends and gets are lost.
    One20,
    /// 20 % of all are lost.
    All20,
    /// One node is stopped for 3 s and runs for 0.3 s, in turn.
    Starved,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::One20 => "one20",
            Self::All20 => "all20",
            Self::Starved => "starved",
        }
    }

    /// Whether the odd node is neither stopped nor starved, so that it must not be held dead.
    fn odd_is_innocent(self) -> bool {
        !matches!(self, Self::Starved)
    }
}

#[derive(Serialize)]
struct Row {
    scenario: &'static str,
    n: usize,
    /// Declarations of failure about members neither stopped nor starved, in all runs together,
    /// each observer's counted.
    wrong: usize,
    /// Suspicions that any node began to hold about such members: the median of the runs.
    suspected: f64,
    runs: u32,
}

struct Run {
    wrong: usize,
    suspected: usize,
}

pub(crate) fn command(options: &FalsePositives) -> Result<()> {
    let n = options.nodes;
    let mut rows = Vec::new();
    for scenario in [Scenario::One20, Scenario::All20, Scenario::Starved] {
        let mut runs = Vec::new();
        for number in 1..=options.runs {
            let time = Duration::from_secs(options.seconds);
            let run = run(scenario, n, time).with_context(|| scenario.name())?;
            eprintln!(
                "{}, run {number} of {}: {} wrong, {} suspicions",
                scenario.name(),
                options.runs,
                run.wrong,
                run.suspected
            );
            runs.push(run);
        }
        rows.push(Row {
            scenario: scenario.name(),
            n,
            wrong: runs.iter().map(|run| run.wrong).sum(),
            suspected: median(runs.iter().map(|run| run.suspected as f64).collect()),
            runs: options.runs,
        });
    }
    if options.json {
        println!("{}", serde_json::json!({"rows": rows}));
    } else {
        println!("{:>10}{:>8}{:>8}{:>12}", "scenario", "nodes", "wrong", "suspected");
        for row in rows {
            println!("{:>10}{:>8}{:>8}{:>12}", row.scenario, row.n, row.wrong, row.suspected);
        }
    }
    Ok(())
}

fn run(scenario: Scenario, n: usize, time: Duration) -> Result<Run> {
    let namespace = Namespace::new().context("this needs network namespaces (run it as root)")?;
    let mut fleet = Fleet::new();
    let (odd_at, ids) = (ip(0), (1..n).map(|i| format!("n{i}")).collect::<Vec<_>>());
    let homes: Vec<AgentId> =
        (0..HOMES.min(n - 1)).map(|_| fleet.agent(Some(&namespace))).collect::<Result<_>>()?;
    let start = |id: &str, i: usize, seeds: Vec<SocketAddr>| Start {
        id: id.to_owned(),
        listen: SocketAddr::from((ip(i), 0)),
        seeds,
    };
    let seed = fleet.start(homes[0], start(&ids[0], 1, Vec::new()))?;
    let alone = fleet.agent(Some(&namespace))?;
    fleet.start(alone, start(ODD, 0, vec![seed]))?;
    for (batch, some) in ids[1..].chunks(BATCH).enumerate() {
        for (i, id) in some.iter().enumerate() {
            let number = 2 + batch * BATCH + i;
            fleet.order(homes[number % homes.len()], start(id, number, vec![seed]))?;
        }
        let there = 1 + batch * BATCH + some.len();
        fleet.all_see(ids[..there].iter().map(String::as_str), there + 1, PATIENCE)?;
    }
    fleet.pass(SETTLE)?;
    fleet.forget();
    match scenario {
        Scenario::One20 => namespace.drop_arriving(&[Drops::LossAt(odd_at, 20)])?,
        Scenario::All20 => namespace.drop_arriving(&[Drops::Loss(20)])?,
        Scenario::Starved => {}
    }
    match scenario {
        Scenario::Starved => {
            let until = Instant::now() + time;
            while Instant::now() < until {
                fleet.process(alone).stop()?;
                fleet.pass(STOPPED)?;
                fleet.process(alone).resume()?;
                fleet.pass(RUNNING)?;
            }
        }
        _ => fleet.pass(time)?,
    }
    let innocent = |seen: &&peerage_faults::report::Seen| {
        scenario.odd_is_innocent() || seen.member.as_deref() != Some(ODD)
    };
    let wrong = fleet.of_kind("MemberFailed").filter(innocent);
    let wrong = wrong.inspect(|seen| eprintln!("  wrong: {seen:?}")).count();
    let suspected = fleet.of_kind("MemberSuspected").filter(innocent).count();
    Ok(Run { wrong, suspected })
}

/// A loopback address for each node: rules tell nodes apart by it.
fn ip(node: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(node + 1).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}
