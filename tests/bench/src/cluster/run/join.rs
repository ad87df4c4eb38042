//! A mass join: all nodes start back to back in one process and join the first.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Nodes, Sizes, converged, in_own_process, median, usage};

/// Past that it does not converge.
const PATIENCE: Duration = Duration::from_secs(300);
/// From so late on it is worth a look what is amiss.
const LATE: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Row {
    n: usize,
    /// From the first start until everyone saw everyone; none if that did not come to pass.
    converged_ms: Option<f64>,
    /// Processor time until then, of all nodes together.
    cpu_s: f64,
}

pub(crate) fn command(sizes: &Sizes) -> Result<()> {
    let mut rows = Vec::new();
    for &n in &sizes.nodes {
        let mut runs: Vec<Row> = Vec::new();
        for run in 1..=sizes.runs {
            // A process for each run: the next must not find what the last one left to allocate.
            let row: Row = in_own_process(&["join-once".into(), n.to_string()])?;
            eprintln!(
                "{n} nodes, run {run} of {}: {:?} ms, {:.2} s of CPU",
                sizes.runs, row.converged_ms, row.cpu_s
            );
            runs.push(row);
        }
        let times: Option<Vec<f64>> = runs.iter().map(|row| row.converged_ms).collect();
        rows.push(Row {
            n,
            converged_ms: times.map(|times| median(times).round()),
            cpu_s: (median(runs.iter().map(|row| row.cpu_s).collect()) * 100.0).round() / 100.0,
        });
    }
    if sizes.json {
        println!("{}", serde_json::json!({"rows": rows}));
    } else {
        println!("{:>6}{:>16}{:>12}", "nodes", "converged, ms", "CPU, s");
        for Row { n, converged_ms, cpu_s } in rows {
            let time = converged_ms.map_or_else(|| "never".into(), |ms| format!("{ms:.0}"));
            println!("{n:>6}{time:>16}{cpu_s:>12.2}");
        }
    }
    Ok(())
}

/// One run; prints one JSON object.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn once(n: usize) -> Result<()> {
    let (begun, cpu) = (Instant::now(), usage::cpu_s());
    let mut nodes = Nodes::new();
    nodes.start(n).await?;
    let nodes = nodes.started;
    eprintln!("  started {n} after {} ms", begun.elapsed().as_millis());
    let mut explained = n > 300; // they take longer in any case
    let there = converged(&nodes, PATIENCE, |seen| {
        eprintln!("  {} s: some see {seen} of {n}", begun.elapsed().as_secs());
        if begun.elapsed() > LATE && !std::mem::replace(&mut explained, true) {
            super::explain(&nodes);
        }
    })
    .await;
    if !there {
        super::explain(&nodes);
    }
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    let mean = |of: fn(&peerage::Stats) -> u64| {
        nodes.iter().map(|node| of(&node.stats())).sum::<u64>() / nodes.len().max(1) as u64
    };
    // A handshake is most of what a join costs.
    eprintln!(
        "  a node on average: {} dials, {} of them without a link; {} links accepted, {} evicted; \
         {} probes, {} for others, {} suspicions of its own",
        mean(|s| s.transport.dials),
        mean(|s| s.transport.dial_failures),
        mean(|s| s.transport.accepted),
        mean(|s| s.transport.evicted),
        mean(|s| s.membership.probes),
        mean(|s| s.membership.probes_relayed),
        mean(|s| s.membership.probes_failed + s.membership.silences),
    );
    let row = Row { n, converged_ms: there.then_some(ms), cpu_s: usage::cpu_s() - cpu };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}
