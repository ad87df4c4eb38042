//! `scenario` and `scenarios`: files, told as they go.

use peerage_sim::{
    S,
    bench::cpu_s,
    file::{self, File, Report, Starts},
};
use serde::Serialize;

use crate::print_json;

/// One run, for programs. Times are in seconds of virtual time.
#[derive(Serialize)]
struct Row {
    scenario: String,
    nodes: usize,
    seed: u64,
    violations: usize,
    took: Vec<Became>,
    suspicions: u64,
    virtual_s: f64,
    cpu_s: f64,
}

#[derive(Serialize)]
struct Became {
    what: &'static str,
    took_s: Option<f64>,
    within_s: f64,
}

#[derive(Serialize)]
struct Rows {
    rows: Vec<Row>,
    violations: usize,
}

/// One file; whether all went well.
pub(crate) fn one(
    name: &str,
    seed: Option<u64>,
    nodes: Option<usize>,
    verbose: bool,
    json: bool,
) -> bool {
    let mut file = match file::find(name) {
        Ok(file) => file,
        Err(error) => return refuse(&error),
    };
    file.seeds = seed.map_or(file.seeds, |seed| vec![seed]);
    let nodes = nodes.unwrap_or(file.nodes);
    finish(run(&file, nodes, &mut Starts::default(), verbose), json)
}

/// Several files; whether all went well.
pub(crate) fn many(names: &[String], small: bool, json: bool) -> bool {
    let files = match names {
        [] => file::all(&file::directory()),
        names => names.iter().map(|name| file::find(name)).collect(),
    };
    let files = match files {
        Ok(files) if files.is_empty() => return refuse("there are no scenario files"),
        Ok(files) => files,
        Err(error) => return refuse(&error),
    };
    let size = |file: &File| if small { file.small.unwrap_or(file.nodes) } else { file.nodes };
    // Those of one size share their start.
    let mut files: Vec<(usize, File)> = files.into_iter().map(|f| (size(&f), f)).collect();
    files.sort_by_key(|(nodes, _)| *nodes);
    let (mut rows, mut starts) = (Vec::new(), Starts::default());
    for (nodes, file) in &files {
        starts.keep(*nodes);
        rows.extend(run(file, *nodes, &mut starts, false));
    }
    finish(rows, json)
}

fn run(file: &File, nodes: usize, starts: &mut Starts, verbose: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for seed in &file.seeds {
        eprintln!("{} ({nodes} nodes, seed {seed}): {}", file.name, file.about);
        let before = cpu_s();
        let report = file.run(starts, nodes, *seed, verbose);
        let cpu = ((cpu_s() - before) * 100.0).round() / 100.0;
        let row = match report {
            Ok(report) => tell(file, &report, cpu),
            Err(error) => {
                println!("{}: {error}", file.name);
                println!("  replay: {}", file.replay(nodes, *seed));
                Row {
                    scenario: file.name.clone(),
                    nodes,
                    seed: *seed,
                    violations: 1,
                    took: Vec::new(),
                    suspicions: 0,
                    virtual_s: 0.0,
                    cpu_s: cpu,
                }
            }
        };
        rows.push(row);
    }
    rows
}

fn tell(file: &File, report: &Report, cpu: f64) -> Row {
    let took: Vec<Became> = report
        .took
        .iter()
        .map(|t| Became { what: t.what, took_s: t.took.map(seconds), within_s: seconds(t.within) })
        .collect();
    for t in &took {
        match t.took_s {
            Some(took) => println!("  {}: {took:.2} s, of {} s", t.what, t.within_s),
            None => println!("  {}: not within {} s", t.what, t.within_s),
        }
    }
    println!(
        "  {} violations, {} suspicions told, {:.0} s lived in {cpu:.1} s of CPU",
        report.violations.len(),
        report.suspicions,
        seconds(report.lived)
    );
    for violation in &report.violations {
        println!("  {violation}");
    }
    if !report.violations.is_empty() {
        println!("  replay: {}", file.replay(report.nodes, report.seed));
    }
    Row {
        scenario: report.name.clone(),
        nodes: report.nodes,
        seed: report.seed,
        violations: report.violations.len(),
        took,
        suspicions: report.suspicions,
        virtual_s: seconds(report.lived),
        cpu_s: cpu,
    }
}

fn seconds(time: u64) -> f64 {
    time as f64 / S as f64
}

fn finish(rows: Vec<Row>, json: bool) -> bool {
    let violations = rows.iter().map(|row| row.violations).sum();
    let failed = rows.iter().filter(|row| row.violations > 0).count();
    let cpu: f64 = rows.iter().map(|row| row.cpu_s).sum();
    eprintln!("{} runs, {failed} failed, {cpu:.0} s of CPU", rows.len());
    if json {
        print_json(&Rows { rows, violations });
    }
    violations == 0
}

fn refuse(error: &str) -> bool {
    eprintln!("error: {error}");
    false
}
