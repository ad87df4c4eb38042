//! The command line, and what the measurements share.

mod detection;
mod false_positives;
mod floor;
mod join;
mod steady;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use peerage::{Cluster, Secret};
use peerage_bench::{median, usage};

#[derive(Parser)]
#[command(name = "cluster", about = "Measures clusters over real QUIC")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All nodes start at once in one process: until everyone sees everyone.
    Join(Sizes),
    /// A process dies without a goodbye: until somebody suspects it, until all hold it failed.
    Detection(Sizes),
    /// What a quiet node costs.
    Steady(Steady),
    /// Whom nodes wrongly hold dead at loss and starvation, in a network namespace.
    FalsePositives(FalsePositives),
    /// Runs nodes for one of the others.
    #[command(hide = true)]
    Agent,
    /// One measurement of `join` or `steady`, in a process of its own.
    #[command(hide = true)]
    JoinOnce { nodes: usize },
    #[command(hide = true)]
    SteadyOnce { nodes: usize, quiet_s: u64, measured_s: u64 },
}

#[derive(Args)]
struct Sizes {
    /// Numbers of nodes.
    #[arg(long, value_delimiter = ',', required = true, value_parser = nodes)]
    nodes: Vec<usize>,
    /// How many times each; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Steady {
    #[command(flatten)]
    sizes: Sizes,
    /// Seconds of quiet before.
    #[arg(long, default_value_t = 60)]
    quiet_s: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    measured_s: u64,
}

#[derive(Args)]
struct FalsePositives {
    /// Number of nodes.
    #[arg(long, default_value = "50", value_parser = nodes)]
    nodes: usize,
    /// Seconds of each scenario.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many times each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (2..=2000).contains(&n) => Ok(n),
        _ => Err("must be a number from 2 to 2000".into()),
    }
}

pub(crate) fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    match Cli::parse().what {
        What::Join(sizes) => join::command(&sizes),
        What::Detection(sizes) => detection::command(&sizes),
        What::Steady(options) => steady::command(&options),
        What::FalsePositives(options) => false_positives::command(&options),
        What::Agent => peerage_faults::agent::main(),
        What::JoinOnce { nodes } => {
            peerage_faults::agent::log();
            join::once(nodes)
        }
        What::SteadyOnce { nodes, quiet_s, measured_s } => {
            peerage_faults::agent::log();
            steady::once(nodes, Duration::from_secs(quiet_s), Duration::from_secs(measured_s))
        }
    }
}

/// Nodes of one cluster in this process.
struct Nodes {
    secret: Secret,
    started: Vec<Cluster>,
}

impl Nodes {
    fn new() -> Self {
        Self { secret: Secret::generate(), started: Vec::new() }
    }

    /// Starts nodes back to back, all joining the first, until there are so many.
    async fn start(&mut self, nodes: usize) -> Result<()> {
        for number in self.started.len()..nodes {
            let mut builder =
                Cluster::builder("bench", format!("n{number}")).secret(self.secret.clone());
            if let Some(first) = self.started.first().map(Cluster::addr) {
                builder = builder.seed(first);
            }
            self.started.push(builder.start().await?);
        }
        Ok(())
    }
}

/// Waits until everyone sees everyone alive; whether that came to pass in time.
async fn converged(nodes: &[Cluster], patience: Duration, mut progress: impl FnMut(usize)) -> bool {
    let begun = std::time::Instant::now();
    let mut reported = begun;
    // Whoever lags is asked first, so that the many looks that fail cost little.
    let mut first = 0;
    let lags = |i: &usize| nodes[*i].stats().alive != nodes.len();
    loop {
        let turn = (0..nodes.len()).map(|i| (first + i) % nodes.len());
        let Some(lagging) = { turn }.find(lags) else { return true };
        first = lagging;
        if begun.elapsed() > patience {
            return false;
        }
        if reported.elapsed() > Duration::from_secs(2) {
            reported = std::time::Instant::now();
            progress(nodes[lagging].stats().alive);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Says on standard error what keeps it.
fn explain(nodes: &[Cluster]) {
    let whole = |node: &&Cluster| node.stats().alive == nodes.len();
    let (done, lagging): (Vec<_>, Vec<_>) = nodes.iter().partition(whole);
    eprintln!("  {} see everyone, {} do not", done.len(), lagging.len());
    for node in
        lagging.iter().take(3).chain(lagging.iter().rev().take(3)).chain(done.iter().take(1))
    {
        let known = node.members();
        let missing = nodes.iter().filter(|other| {
            let id = &other.local().id;
            known.iter().all(|member| member.id != *id || !member.state.is_live())
        });
        let missing: Vec<_> = missing.map(|other| other.local().id.to_string()).take(3).collect();
        eprintln!("  {}: lacks {missing:?}; {:?}", node.local().id, node.stats());
    }
}

/// Runs this program for one measurement, and reads the JSON that it prints.
fn in_own_process<T: serde::de::DeserializeOwned>(arguments: &[String]) -> Result<T> {
    use anyhow::{Context, ensure};
    let program = std::env::current_exe().context("this program has no file any more")?;
    let output = std::process::Command::new(program)
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run this program again")?;
    ensure!(output.status.success(), "{arguments:?} ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).with_context(|| format!("{arguments:?} printed {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_sees_everyone() {
        let mut nodes = Nodes::new();
        nodes.start(3).await.expect("they start");
        let nodes = nodes.started;
        assert!(converged(&nodes, Duration::from_secs(30), |_| {}).await);
        nodes[2].shutdown_now().await.expect("it stops");
        assert!(!converged(&nodes[..2], Duration::from_millis(20), |_| {}).await);
    }
}
