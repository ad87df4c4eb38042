//! Death without a goodbye: a process with one node gets SIGKILL while all the others, spread over
//! a few processes, watch. It is then started again under its id and address, for the next death.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use peerage_faults::{
    fleet::{AgentId, Fleet},
    report::{Start, now_us},
};
use serde::Serialize;

use super::{Sizes, median};

/// Over how many processes the survivors are spread.
const HOMES: usize = 4;
/// Longer than any of it should take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After everyone sees everyone: until watchers know how regular the heartbeats are.
const SETTLE: Duration = Duration::from_secs(7);
/// How many survivors are started at once.
const BATCH: usize = 25;
const VICTIM: &str = "victim";

#[derive(Serialize)]
struct Row {
    n: usize,
    /// From SIGKILL to the first suspicion anywhere.
    first_suspect_ms: f64,
    /// From SIGKILL until the last survivor held it failed.
    failed_everywhere_ms: f64,
    first_suspect_max_ms: f64,
    failed_everywhere_max_ms: f64,
    /// Declarations of failure about anybody else, or about the victim while it lived.
    wrong: usize,
}

/// One death.
struct Death {
    first_suspect_ms: f64,
    failed_everywhere_ms: f64,
    wrong: usize,
}

pub(crate) fn command(sizes: &Sizes) -> Result<()> {
    let mut rows = Vec::new();
    for &n in &sizes.nodes {
        let deaths = deaths(n, sizes.runs).with_context(|| format!("at {n} nodes"))?;
        let figures = |pick: fn(&Death) -> f64| deaths.iter().map(pick).collect::<Vec<_>>();
        let (first, last) =
            (figures(|death| death.first_suspect_ms), figures(|death| death.failed_everywhere_ms));
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max).round();
        rows.push(Row {
            n,
            first_suspect_max_ms: most(&first),
            failed_everywhere_max_ms: most(&last),
            first_suspect_ms: median(first).round(),
            failed_everywhere_ms: median(last).round(),
            wrong: deaths.iter().map(|death| death.wrong).sum(),
        });
    }
    if sizes.json {
        println!("{}", serde_json::json!({"rows": rows}));
    } else {
        println!("{:>6}{:>26}{:>26}{:>8}", "nodes", "first suspicion, ms", "failed, ms", "wrong");
        for row in rows {
            let figure = |median: f64, most: f64| format!("{median:.0} (at most {most:.0})");
            println!(
                "{:>6}{:>26}{:>26}{:>8}",
                row.n,
                figure(row.first_suspect_ms, row.first_suspect_max_ms),
                figure(row.failed_everywhere_ms, row.failed_everywhere_max_ms),
                row.wrong
            );
        }
    }
    Ok(())
}

fn deaths(n: usize, runs: u32) -> Result<Vec<Death>> {
    let mut fleet = Fleet::new();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let homes: Vec<AgentId> =
        (0..HOMES.min(n - 1)).map(|_| fleet.agent(None)).collect::<Result<_>>()?;
    let survivors: Vec<String> = (1..n).map(|i| format!("n{i}")).collect();
    let first = Start { id: survivors[0].clone(), listen: any, seeds: Vec::new() };
    let seed = fleet.start(homes[0], first)?;
    // In batches: a mass join is measured elsewhere.
    for (batch, ids) in survivors[1..].chunks(BATCH).enumerate() {
        for (i, id) in ids.iter().enumerate() {
            let start = Start { id: id.clone(), listen: any, seeds: vec![seed] };
            fleet.order(homes[i % homes.len()], start)?;
        }
        let there = 1 + batch * BATCH + ids.len();
        fleet.all_see(survivors[..there].iter().map(String::as_str), there, PATIENCE)?;
    }
    let mut victim_at = any;
    let mut deaths = Vec::new();
    for run in 1..=runs {
        let agent = fleet.agent(None)?;
        let start = Start { id: VICTIM.into(), listen: victim_at, seeds: vec![seed] };
        victim_at = fleet.start(agent, start)?;
        let everybody = survivors.iter().map(String::as_str).chain([VICTIM]);
        let took = fleet.all_see(everybody, n, PATIENCE)?;
        eprintln!("{n} nodes see one another after {} ms", took.as_millis());
        // Deaths at all phases of the second in which heartbeats and probes are sent.
        fleet.forget();
        fleet.pass(SETTLE + Duration::from_millis(u64::from(run) * 618 % 1000))?;
        let early = wrong(&fleet, false);

        let killed_at = now_us();
        fleet.kill(VICTIM)?;
        let count = survivors.len();
        let failed = fleet.wait(PATIENCE, "all survivors hold the victim failed", |fleet| {
            fleet.who_saw("MemberFailed", VICTIM).len() == count
        });
        let seen = fleet.who_saw("MemberFailed", VICTIM);
        failed.with_context(|| format!("{} of {count} do", seen.len()))?;
        let since = |at: u64| at.saturating_sub(killed_at) as f64 / 1000.0;
        let last = seen.values().max().copied().unwrap_or(0);
        // Who is told of the failure before it heard of the suspicion sees no suspicion.
        let suspected = fleet.who_saw("MemberSuspected", VICTIM);
        let first = suspected.values().min().copied();
        ensure!(first.is_some(), "it was declared failed and suspected by nobody");
        let death = Death {
            first_suspect_ms: since(first.unwrap_or(last)),
            failed_everywhere_ms: since(last),
            wrong: early + wrong(&fleet, true),
        };
        eprintln!(
            "  death {run} of {runs}: suspected after {:.0} ms, failed everywhere after {:.0} ms, \
             {} wrong",
            death.first_suspect_ms, death.failed_everywhere_ms, death.wrong
        );
        deaths.push(death);
    }
    // Their threads read what is left; nothing of the next size shall wait for that.
    drop(fleet);
    thread::sleep(Duration::from_millis(100));
    Ok(deaths)
}

/// Declarations of failure that are wrong. A dead victim may be declared.
fn wrong(fleet: &Fleet, victim_is_dead: bool) -> usize {
    let right = |seen: &&peerage_faults::report::Seen| {
        seen.replaced || victim_is_dead && seen.member.as_deref() == Some(VICTIM)
    };
    let wrong = fleet.of_kind("MemberFailed").filter(|seen| !right(seen));
    wrong.inspect(|seen| eprintln!("  wrong: {seen:?}")).count()
}
