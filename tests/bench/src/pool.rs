//! Requests over one link, beside raw s2n-quic in the same run: how much of what the QUIC stack
//! can do is left to users of Peerage.
//!
//! Raw means: one connection, a cloned handle for each requester, a bidirectional stream for each
//! request, a task for each accepted stream, the same limits. It runs once on the runtime of the
//! requesters and once on one of its own, as Peerage does: the difference is what it costs not to
//! depend on the program's. All take turns, round by round, so that a machine that slows down
//! slows all.

mod contest;
mod raw;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use contest::Peerage;

/// Bytes of a request and of its answer.
const PAYLOAD: usize = 128;
/// How many ask at once.
const REQUESTERS: [usize; 3] = [1, 16, 128];

#[derive(Parser)]
struct Options {
    /// Rounds of each kind; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of a round.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    round_ms: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    requesters: usize,
    peerage_rps: f64,
    raw_rps: f64,
    /// Raw on a runtime of its own.
    apart_rps: f64,
    /// Of Peerage to raw on the requesters' runtime.
    ratio: f64,
    /// The least and the greatest ratio of any one round. Where they lie far apart, the machine
    /// was busy with something else and the medians mean little.
    ratio_min: f64,
    ratio_max: f64,
    /// Of Peerage to raw on a runtime of its own.
    ratio_apart: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let round = Duration::from_millis(options.round_ms);
    let raw = raw::Raw::start().await?;
    let apart = raw::Raw::start_apart().await?;
    let peerage = Peerage::start().await?;

    let mut rows = Vec::new();
    for requesters in REQUESTERS {
        // Warms up all: first packets, congestion windows, allocators.
        let warm_up = round / 4;
        contest::round(&raw, requesters, warm_up).await?;
        contest::round(&apart, requesters, warm_up).await?;
        contest::round(&peerage, requesters, warm_up).await?;
        let (mut raw_rps, mut apart_rps, mut peerage_rps) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=options.rounds {
            eprintln!("{requesters} requesters, round {number} of {}", options.rounds);
            raw_rps.push(contest::round(&raw, requesters, round).await?);
            peerage_rps.push(contest::round(&peerage, requesters, round).await?);
            apart_rps.push(contest::round(&apart, requesters, round).await?);
        }
        let ratios: Vec<f64> =
            peerage_rps.iter().zip(&raw_rps).map(|(ours, raw)| ours / raw).collect();
        let (raw_rps, peerage_rps) = (median(raw_rps), median(peerage_rps));
        let apart_rps = median(apart_rps);
        rows.push(Row {
            requesters,
            peerage_rps: peerage_rps.round(),
            raw_rps: raw_rps.round(),
            apart_rps: apart_rps.round(),
            ratio: thousandths(peerage_rps / raw_rps),
            ratio_min: thousandths(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
            ratio_max: thousandths(ratios.iter().copied().fold(0.0, f64::max)),
            ratio_apart: thousandths(peerage_rps / apart_rps),
        });
    }
    peerage.stop().await?;

    if options.json {
        println!("{}", serde_json::json!({"rows": rows}));
    } else {
        println!("requesters   Peerage req/s   raw req/s   ratio   (rounds)   raw apart   ratio");
        for row in rows {
            let Row { requesters, peerage_rps, raw_rps, apart_rps, ratio, ratio_apart, .. } = row;
            let rounds = format!("{:.2}–{:.2}", row.ratio_min, row.ratio_max);
            println!(
                "{requesters:>10}{peerage_rps:>16.0}{raw_rps:>12.0}{ratio:>8.2}{rounds:>12}{apart_rps:>11.0}{ratio_apart:>8.2}"
            );
        }
    }
    Ok(())
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }

    #[tokio::test]
    async fn both_answer() {
        use contest::{Ask, Requester};
        let round = Duration::from_millis(50);
        let raw = raw::Raw::start().await.expect("raw starts");
        assert!(contest::round(&raw, 4, round).await.expect("raw answers") > 0.0);
        let apart = raw::Raw::start_apart().await.expect("raw starts apart");
        assert!(contest::round(&apart, 4, round).await.expect("raw answers") > 0.0);
        let peerage = Peerage::start().await.expect("Peerage starts");
        assert!(contest::round(&peerage, 4, round).await.expect("Peerage answers") > 0.0);
        assert!(
            raw.requester().ask(bytes::Bytes::from_static(b"x")).await.expect("an answer")
                == b"x"[..]
        );
        peerage.stop().await.expect("it stops");
    }
}
