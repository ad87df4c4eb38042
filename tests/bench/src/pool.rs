//! Requests over one link, beside raw s2n-quic in the same run: how much of what the QUIC stack
//! can do is left to users of Peerage.
//!
//! Raw means: one connection, a cloned handle for each requester, a bidirectional stream for each
//! request, a task for each accepted stream, the same limits. Both run once on the runtime of the
//! requesters (`Cluster::start_on`) and once apart, on one of their own (`Cluster::start`): the
//! difference is what it costs not to depend on the program's. All take turns, round by round, so that
//! a machine that slows down slows all.
//!
//! * `contest`: requests of 128 bytes, answered at once or after 5 ms;
//! * `bulk`: requests of 10 MiB, beside one stream;
//! * `lease`: taking and giving back the link alone.

mod bulk;
mod contest;
mod lease;
mod raw;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use peerage_bench::{median, rounded};
use serde::Serialize;

use contest::{Contest, Peerage};

/// How many ask at once, and how long the handler takes.
const CONTESTS: [(usize, Duration); 4] = [
    (1, Duration::ZERO),
    (16, Duration::ZERO),
    (128, Duration::ZERO),
    (128, Duration::from_millis(5)),
];

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Requests,
    Bulk,
    Lease,
}

#[derive(Parser)]
struct Options {
    /// Rounds of each kind; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of a round.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    round_ms: u64,
    /// Only this.
    #[arg(long)]
    only: Option<Part>,
    /// Only so many requesters.
    #[arg(long)]
    requesters: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Peerage beside raw, in requests or in MiB a second.
#[derive(Serialize)]
struct Row {
    requesters: usize,
    handler_ms: u64,
    /// Of a request.
    bytes: usize,
    peerage: f64,
    raw: f64,
    /// Of Peerage to raw, both on the requesters' runtime.
    ratio: f64,
    /// The least and the greatest ratio of any one round. Where they lie far apart, the machine
    /// was busy with something else and the medians mean little.
    ratio_min: f64,
    ratio_max: f64,
    /// Of raw to Peerage in processor time for a request or a MiB, of both ends and their requesters:
    /// what the ratio would be if only that counted. It hardly depends on what else is running.
    ratio_cpu: f64,
    /// Both on runtimes of their own.
    peerage_apart: f64,
    raw_apart: f64,
    ratio_apart: f64,
    /// Of Peerage on its own runtime to raw on the requesters': what a program gives for a node that
    /// does not depend on it.
    ratio_across: f64,
}

/// What one round came to.
#[derive(Clone, Copy)]
struct Took {
    /// Requests or MiB.
    count: f64,
    seconds: f64,
    cpu_s: f64,
}

impl Took {
    /// Does it, and measures what it takes; it says how many requests or MiB it were.
    async fn by(work: impl Future<Output = Result<f64>>) -> Result<Self> {
        let (begun, used) = (Instant::now(), cpu_s());
        let count = work.await?;
        Ok(Self { count, seconds: begun.elapsed().as_secs_f64(), cpu_s: cpu_s() - used })
    }

    fn rate(self) -> f64 {
        self.count / self.seconds
    }
}

/// Processor time of this process; zero where nobody says.
fn cpu_s() -> f64 {
    #[cfg(unix)]
    return peerage_bench::usage::cpu_s();
    #[cfg(not(unix))]
    return 0.0;
}

/// What the rounds of all four came to.
#[derive(Default)]
struct Rounds {
    raw: Vec<Took>,
    peerage: Vec<Took>,
    raw_apart: Vec<Took>,
    peerage_apart: Vec<Took>,
}

impl Rounds {
    fn row(self, requesters: usize, handler: Duration, bytes: usize) -> Row {
        let pairs = || self.peerage.iter().zip(&self.raw);
        let ratios: Vec<f64> = pairs().map(|(ours, raw)| ours.rate() / raw.rate()).collect();
        let cpu = |took: &Took| took.cpu_s / took.count;
        let ratio_cpu = median(pairs().map(|(ours, raw)| cpu(raw) / cpu(ours)).collect());
        let rate = |all: &[Took]| median(all.iter().map(|took| took.rate()).collect());
        let (peerage, raw) = (rate(&self.peerage), rate(&self.raw));
        let (peerage_apart, raw_apart) = (rate(&self.peerage_apart), rate(&self.raw_apart));
        Row {
            requesters,
            handler_ms: handler.as_millis() as u64,
            bytes,
            peerage: peerage.round(),
            raw: raw.round(),
            ratio: rounded(peerage / raw, 3),
            ratio_min: rounded(ratios.iter().copied().fold(f64::INFINITY, f64::min), 3),
            ratio_max: rounded(ratios.iter().copied().fold(0.0, f64::max), 3),
            ratio_cpu: rounded(ratio_cpu, 3),
            peerage_apart: peerage_apart.round(),
            raw_apart: raw_apart.round(),
            ratio_apart: rounded(peerage_apart / raw_apart, 3),
            ratio_across: rounded(peerage_apart / raw, 3),
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let round = Duration::from_millis(options.round_ms);
    let wanted = |part| options.only.is_none_or(|only| only == part);

    let (mut requests, mut bulk) = (Vec::new(), Vec::new());
    if wanted(Part::Requests) || wanted(Part::Bulk) {
        let raw = raw::Raw::start().await?;
        let raw_apart = raw::Raw::start_apart().await?;
        let peerage = Peerage::start().await?;
        let peerage_apart = Peerage::start_apart().await?;
        if wanted(Part::Requests) {
            for (requesters, handler) in CONTESTS {
                if options.requesters.is_some_and(|only| only != requesters) {
                    continue;
                }
                let contest = Contest { requesters, handler, time: round };
                let mut rounds = Rounds::default();
                // The first warms up all: first packets, congestion windows, allocators.
                for number in 0..=options.rounds {
                    eprintln!("{contest:?}, round {number} of {}", options.rounds);
                    let took = (
                        Took::by(contest.of(&raw)).await?,
                        Took::by(contest.of(&peerage)).await?,
                        Took::by(contest.of(&raw_apart)).await?,
                        Took::by(contest.of(&peerage_apart)).await?,
                    );
                    rounds.add(number, took);
                }
                requests.push(rounds.row(requesters, handler, contest::PAYLOAD));
            }
        }
        if wanted(Part::Bulk) {
            for requesters in bulk::REQUESTERS {
                if options.requesters.is_some_and(|only| only != requesters) {
                    continue;
                }
                let mut rounds = Rounds::default();
                for number in 0..=options.rounds {
                    eprintln!("{requesters} of 10 MiB, round {number} of {}", options.rounds);
                    let took = (
                        Took::by(bulk::raw(&raw, requesters, round)).await?,
                        Took::by(bulk::requests(&peerage, requesters, round)).await?,
                        Took::by(bulk::raw(&raw_apart, requesters, round)).await?,
                        Took::by(bulk::requests(&peerage_apart, requesters, round)).await?,
                    );
                    rounds.add(number, took);
                }
                bulk.push(rounds.row(requesters, Duration::ZERO, bulk::PAYLOAD));
            }
        }
        peerage.stop().await?;
        peerage_apart.stop().await?;
    }
    let leases = if wanted(Part::Lease) { lease::rows(options.rounds).await? } else { Vec::new() };

    if options.json {
        println!("{}", serde_json::json!({"requests": requests, "bulk": bulk, "leases": leases}));
        return Ok(());
    }
    table("requests/s", &requests);
    table("MiB/s", &bulk);
    if !leases.is_empty() {
        println!("\nthreads   ns an operation of one processor   of one thread alone");
        for lease::Row { threads, ns, ratio } in leases {
            println!("{threads:>7}{ns:>32.0}{ratio:>24.2}");
        }
    }
    Ok(())
}

impl Rounds {
    /// Adds what raw and Peerage came to, on the requesters' runtime and apart, unless they only
    /// warmed up.
    fn add(&mut self, number: u32, took: (Took, Took, Took, Took)) {
        if number > 0 {
            self.raw.push(took.0);
            self.peerage.push(took.1);
            self.raw_apart.push(took.2);
            self.peerage_apart.push(took.3);
        }
    }
}

fn table(unit: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\n{unit}\nrequesters   handler   Peerage       raw   ratio   (rounds)   CPU   both apart:  Peerage       raw   ratio   across"
    );
    for row in rows {
        let Row { requesters, handler_ms, peerage, raw, ratio, ratio_cpu, .. } = row;
        let Row { peerage_apart, raw_apart, ratio_apart, ratio_across, .. } = row;
        let rounds = format!("{:.2}–{:.2}", row.ratio_min, row.ratio_max);
        println!(
            "{requesters:>10}{handler_ms:>7} ms{peerage:>10.0}{raw:>10.0}{ratio:>8.2}{rounds:>12}{ratio_cpu:>6.2}{peerage_apart:>23.0}{raw_apart:>10.0}{ratio_apart:>8.2}{ratio_across:>9.2}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_answer() {
        use contest::{Ask, Requester};
        let raw = raw::Raw::start().await.expect("raw starts");
        let raw_apart = raw::Raw::start_apart().await.expect("raw starts apart");
        let peerage = Peerage::start().await.expect("Peerage starts");
        let peerage_apart = Peerage::start_apart().await.expect("Peerage starts apart");
        let time = Duration::from_millis(50);
        for handler in [Duration::ZERO, Duration::from_millis(1)] {
            let contest = Contest { requesters: 4, handler, time };
            assert!(contest.of(&raw).await.expect("raw answers") > 0.0);
            assert!(contest.of(&raw_apart).await.expect("raw answers") > 0.0);
            assert!(contest.of(&peerage).await.expect("Peerage answers") > 0.0);
            assert!(contest.of(&peerage_apart).await.expect("Peerage answers") > 0.0);
        }
        let asked = bytes::Bytes::from_static(&[0, 1]);
        assert_eq!(raw.requester().ask("echo", asked.clone()).await.expect("an answer"), asked);
        assert!(bulk::raw(&raw, 2, time).await.expect("raw takes it") > 0.0);
        assert!(bulk::requests(&peerage, 2, time).await.expect("Peerage takes it") > 0.0);
        peerage.stop().await.expect("it stops");
        peerage_apart.stop().await.expect("it stops");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn links_are_leased() {
        let rows = lease::rows(1).await.expect("they are");
        assert!(rows.iter().all(|row| row.ns > 0.0));
    }
}
