//! `peerage-sim run` and `peerage-sim bench`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use peerage_sim::{MS, bench, detect, scenario::Scenario};

#[derive(Parser)]
#[command(name = "peerage-sim", about = "Peerage's membership in virtual time")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run random scenarios with every rule checked after every step.
    Run {
        /// How many seeds, from --first on.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Only this seed.
        #[arg(long)]
        seed: Option<u64>,
        /// How many nodes.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=2000))]
        nodes: u64,
        /// Print everything that happens.
        #[arg(long)]
        verbose: bool,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Measure how fast a death without a goodbye is noticed, in virtual time.
    Detection {
        /// How many nodes; several cluster sizes may be given.
        #[arg(long, value_delimiter = ',', default_value = "10,50,100,200")]
        nodes: Vec<usize>,
        /// How many deaths at each size.
        #[arg(long, default_value_t = 5)]
        seeds: u64,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Measure how much cluster time a second of CPU simulates.
    Bench {
        /// How many nodes.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..=5000))]
        nodes: u64,
        /// Seconds of cluster time to measure.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { seeds, first, seed, nodes, verbose, json } => {
            let range = seed.map_or(first..first + seeds, |s| s..s + 1);
            run(range, nodes as usize, verbose, json)
        }
        Command::Detection { nodes, seeds, json } => detection(&nodes, seeds, json),
        Command::Bench { nodes, seconds, json } => {
            let m = bench::steady(nodes as usize, seconds, &mut |line| eprintln!("{line}"));
            let ratio = m.virtual_s / m.cpu_s;
            if json {
                let round = |f: f64| (f * 1000.0).round() / 1000.0;
                println!(
                    "{}",
                    serde_json::json!({"nodes": nodes, "virtual_s": m.virtual_s,
                        "cpu_s": round(m.cpu_s), "ratio": round(ratio), "steps": m.steps})
                );
            } else {
                println!(
                    "{nodes} nodes: {} s of cluster time in {:.2} s of CPU, {ratio:.1} times as fast ({} steps)",
                    m.virtual_s, m.cpu_s, m.steps
                );
            }
            ExitCode::SUCCESS
        }
    }
}

fn detection(nodes: &[usize], seeds: u64, json: bool) -> ExitCode {
    let mut rows = Vec::new();
    for n in nodes {
        let Some(death) = detect::deaths(*n, 0..seeds) else {
            eprintln!("{n} nodes: a death was not noticed");
            return ExitCode::FAILURE;
        };
        let (first, all) = (death.first_suspect / MS, death.failed_everywhere / MS);
        eprintln!(
            "{n} nodes: suspected after {first} ms, failed everywhere after {all} ms, {} wrong",
            death.wrong
        );
        rows.push(serde_json::json!({"n": n, "first_suspect_ms": first,
            "failed_everywhere_ms": all, "wrong": death.wrong}));
    }
    if json {
        println!("{}", serde_json::json!({ "rows": rows }));
    }
    ExitCode::SUCCESS
}

fn run(range: std::ops::Range<u64>, nodes: usize, verbose: bool, json: bool) -> ExitCode {
    let seeds = range.end - range.start;
    let (mut violations, mut failed, mut slowest) = (0, 0, 0);
    for seed in range {
        let scenario = Scenario::random(seed, nodes);
        let outcome = scenario.run(verbose);
        slowest = slowest.max(outcome.converged.unwrap_or_default());
        if !outcome.violations.is_empty() {
            failed += 1;
            violations += outcome.violations.len();
            println!(
                "seed {seed} failed; replay: cargo xtask sim run --seed {seed} --nodes {nodes}"
            );
            for (at, fault) in scenario
                .plan
                .iter()
                .filter(|(_, f)| !matches!(f, peerage_sim::faults::Fault::Start { .. }))
            {
                println!("    {:>9.3} s {fault:?}", *at as f64 / 1e6);
            }
            for violation in &outcome.violations {
                println!("  {violation}");
            }
        }
    }
    eprintln!(
        "{seeds} seeds with {nodes} nodes, {failed} failed; slowest to become one again: {:.1} s",
        slowest as f64 / 1e6
    );
    if json {
        println!(
            "{}",
            serde_json::json!({"seeds": seeds, "nodes": nodes, "violations": violations})
        );
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
