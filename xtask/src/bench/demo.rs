//! The demo, several times over.

use anyhow::Result;

use crate::demo::{self, Summary, screen::Screen};

pub(super) fn run(runs: u32, json: bool) -> Result<bool> {
    let programs = demo::Programs::build()?;
    let mut summaries = Vec::new();
    for run in 1..=runs {
        let summary = demo::tell(&programs, Screen::Quiet)?;
        eprintln!("run {run} of {runs}: {}", serde_json::to_string(&summary)?);
        summaries.push(summary);
    }
    let ok = summaries.iter().all(|summary| summary.ok);
    let figures: Vec<(&str, u64, u64)> = FIGURES
        .iter()
        .map(|(name, figure)| {
            let values: Vec<u64> = summaries.iter().map(figure).collect();
            (*name, median(values.clone()), values.into_iter().max().unwrap_or(0))
        })
        .collect();
    if json {
        let object =
            |pick: fn(&(&str, u64, u64)) -> u64| -> serde_json::Map<String, serde_json::Value> {
                figures.iter().map(|row| (row.0.to_owned(), pick(row).into())).collect()
            };
        let medians = object(|row| row.1);
        let maxima = object(|row| row.2);
        println!(
            "{}",
            serde_json::json!({"ok": ok, "runs": runs, "median": medians, "max": maxima})
        );
    } else {
        println!("{:<24}{:>10}{:>10}", format!("{runs} runs"), "median", "max");
        for (name, median, max) in &figures {
            println!("{name:<24}{median:>10}{max:>10}");
        }
    }
    Ok(ok)
}

type Figure = fn(&Summary) -> u64;

const FIGURES: [(&str, Figure); 8] = [
    ("converged_ms", |s| s.converged_ms),
    ("suspected_ms", |s| s.suspected_ms),
    ("failed_everywhere_ms", |s| s.failed_everywhere_ms),
    ("rejoined_ms", |s| s.rejoined_ms),
    ("left_everywhere_ms", |s| s.left_everywhere_ms),
    ("requests_sent", |s| s.requests_sent),
    ("requests_failed_over", |s| s.requests_failed_over),
    ("requests_lost", |s| s.requests_lost),
];

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0,
        n if n % 2 == 1 => values[middle],
        _ => values[middle - 1].midpoint(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0);
        assert_eq!(median(vec![3, 1, 2]), 2);
        assert_eq!(median(vec![4, 1, 2, 3]), 2);
    }
}
