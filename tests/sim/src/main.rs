//! The simulator's commands: random runs, scenario files, soak, figures.

mod scenarios;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use peerage::membership::Bug;
use peerage_sim::{MS, bench, campaign, detect, random::Scenario};
use serde::Serialize;

#[derive(Parser)]
#[command(name = "sim", bin_name = "cargo xtask sim")]
#[command(about = "Peerage's membership in virtual time; without a command, random scenarios")]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

/// Random scenarios with every rule checked after every step.
#[derive(clap::Args)]
struct Run {
    /// How many seeds, from --first on.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this seed.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// How many nodes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=2000))]
    nodes: u64,
    /// How many threads; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print everything that happens; for one seed.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// The last line is one JSON object.
    #[arg(long)]
    json: bool,
    /// All nodes have a bug, to see what violations look like.
    #[arg(long, hide = true)]
    planted: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run one scenario file.
    Scenario {
        /// A file, or the name of one in tests/scenarios.
        name: String,
        /// Only this seed instead of the file's.
        #[arg(long)]
        seed: Option<u64>,
        /// So many nodes instead of as many as the file says.
        #[arg(long)]
        nodes: Option<usize>,
        /// Print everything that happens.
        #[arg(long)]
        verbose: bool,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run all scenario files, or some of them.
    Scenarios {
        /// Names in tests/scenarios; all if none is given.
        names: Vec<String>,
        /// With as many nodes as the ordinary tests.
        #[arg(long)]
        small: bool,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Run random scenarios of many sizes, and all scenario files small, until stopped.
    Soak {
        /// Stop after so many minutes.
        #[arg(long)]
        minutes: Option<f64>,
        /// The first seed; another one each time if not given.
        #[arg(long)]
        first: Option<u64>,
        /// How many threads; as many as there are processors if not given.
        #[arg(long)]
        jobs: Option<usize>,
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
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..=20_000))]
        nodes: u64,
        /// Seconds of cluster time within which all start.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
        start_within: u64,
        /// Seconds of cluster time to measure at once.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// How many times, one after the other; the figure is the median.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
        runs: u64,
        /// The last line is one JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let well = match cli.command {
        None => run(&cli.run),
        Some(Command::Scenario { name, seed, nodes, verbose, json }) => {
            scenarios::one(&name, seed, nodes, verbose, json)
        }
        Some(Command::Scenarios { names, small, json }) => scenarios::many(&names, small, json),
        Some(Command::Soak { minutes, first, jobs, json }) => soak(minutes, first, jobs, json),
        Some(Command::Detection { nodes, seeds, json }) => detection(&nodes, seeds, json),
        Some(Command::Bench { nodes, start_within, seconds, runs, json }) => {
            steady(nodes as usize, start_within, runs as usize, seconds, json)
        }
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The last line for programs.
#[derive(Serialize)]
struct Counted {
    seeds: u64,
    nodes: u64,
    violations: usize,
}

pub(crate) fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("error: {error}"),
    }
}

fn run(options: &Run) -> bool {
    let Run { seeds, first, seed, nodes, json, .. } = *options;
    let range = seed.map_or(first..first.saturating_add(seeds), |s| s..s + 1);
    let bug = options.planted.then_some(Bug::SuspicionRaises);
    if options.verbose {
        Scenario { bug, ..Scenario::random(range.start, nodes as usize) }.run(true);
    }
    let mut tally = campaign::Tally::default();
    let (total, mut shown) = (range.end - range.start, Instant::now());
    let jobs = options.jobs.unwrap_or_else(campaign::jobs);
    campaign::seeds(range, nodes as usize, bug, jobs, |scenario, outcome| {
        tally.add(scenario.seed, outcome);
        if !outcome.violations.is_empty() {
            print!("{}", campaign::report(scenario, outcome));
        }
        if shown.elapsed() > Duration::from_secs(5) {
            shown = Instant::now();
            eprintln!("{} of {total} seeds, {} failed", tally.runs, tally.failed);
        }
        true
    });
    eprintln!("{}", campaign::summary(&tally, nodes as usize));
    if json {
        print_json(&Counted { seeds: tally.runs, nodes, violations: tally.violations });
    }
    tally.failed == 0
}

/// Sizes that a soak goes through: the small ones find most, and are run the most.
const SOAK: [(usize, u64); 6] = [(3, 200), (5, 100), (10, 100), (20, 40), (50, 20), (100, 4)];

fn soak(minutes: Option<f64>, first: Option<u64>, jobs: Option<usize>, json: bool) -> bool {
    let begun = Instant::now();
    let elapsed = || begun.elapsed().as_secs_f64() / 60.0;
    let over = || minutes.is_some_and(|m| elapsed() >= m);
    let jobs = jobs.unwrap_or_else(campaign::jobs);
    let mut seed = first.unwrap_or_else(|| u64::from(rand::random::<u32>()) << 20);
    let (mut all, mut failed) = (0, 0);
    eprintln!("soaking from seed {seed} on, {jobs} at once");
    while !over() {
        let round = seed;
        for (nodes, count) in SOAK {
            let mut tally = campaign::Tally::default();
            campaign::seeds(round..round + count, nodes, None, jobs, |scenario, outcome| {
                tally.add(scenario.seed, outcome);
                if !outcome.violations.is_empty() {
                    print!("{}", campaign::report(scenario, outcome));
                }
                !over()
            });
            (all, failed) = (all + tally.runs, failed + tally.failed);
            eprintln!("{:>6.1} min: {}", elapsed(), campaign::summary(&tally, nodes));
            seed = seed.max(round + count);
            if over() {
                break;
            }
        }
        if !over() {
            let (runs, wrong) = scenarios::soaked(round, &over);
            (all, failed) = (all + runs, failed + wrong);
            eprintln!("{:>6.1} min: {runs} scenario files, {wrong} failed", elapsed());
        }
    }
    eprintln!("{all} scenarios, {failed} failed");
    if json {
        print_json(&serde_json::json!({"scenarios": all, "failed": failed, "next": seed}));
    }
    failed == 0
}

fn steady(nodes: usize, start_within: u64, runs: usize, seconds: u64, json: bool) -> bool {
    let m = bench::steady(nodes, start_within, runs, seconds, &mut |line| eprintln!("{line}"));
    let ratio = m.virtual_s / m.cpu_s;
    if json {
        let round = |f: f64| (f * 1000.0).round() / 1000.0;
        let (joined_s, joined_cpu_s) = m.joined.unzip();
        print_json(&serde_json::json!({"nodes": nodes, "joined_s": joined_s,
            "joined_cpu_s": joined_cpu_s.map(round), "virtual_s": m.virtual_s,
            "cpu_s": round(m.cpu_s), "ratio": round(ratio), "steps": m.steps,
            "trace": format!("{:016x}", m.trace)}));
    } else {
        println!(
            "{nodes} nodes: {} s of cluster time in {:.2} s of CPU, {ratio:.1} times as fast ({} steps)",
            m.virtual_s, m.cpu_s, m.steps
        );
        if let Some((s, cpu_s)) = m.joined {
            println!("all saw all {s} s after the last had started, after {cpu_s:.0} s of CPU");
        }
    }
    m.joined.is_some()
}

fn detection(nodes: &[usize], seeds: u64, json: bool) -> bool {
    let mut rows = Vec::new();
    for n in nodes {
        let Some(death) = detect::deaths(*n, 0..seeds) else {
            eprintln!("{n} nodes: a death was not noticed");
            return false;
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
        print_json(&serde_json::json!({ "rows": rows }));
    }
    true
}
