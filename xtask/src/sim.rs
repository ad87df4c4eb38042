//! `cargo xtask sim …`: the simulator, in release.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, test::Total};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the simulator.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    run(&options.args)
}

/// What the tests run of it, in release: random scenarios, and one with a thousand nodes.
const TESTS: [&[&str]; 2] =
    [&["--seeds", "300", "--nodes", "20"], &["scenarios", "crash-1-percent"]];

/// Runs them; each counts as one test.
pub(crate) fn tests() -> Result<Total> {
    let mut total = Total::default();
    for args in TESTS {
        eprintln!("sim {}", args.join(" "));
        // Standard output is left to the closing line.
        let ok = cargo::succeeds(simulator().args(args).stdout(std::io::stderr()))?;
        if ok {
            total.passed += 1;
        } else {
            total.failed += 1;
        }
    }
    Ok(total)
}

/// Runs the simulator with these arguments; its output is ours.
pub(crate) fn run(args: &[String]) -> Result<bool> {
    cargo::need_build_tools()?;
    cargo::succeeds(simulator().args(args))
}

fn simulator() -> Command {
    let mut command = cargo::cargo();
    // Thousands of tables lie all over the memory, so that most of a step is waiting for it; with
    // large pages the processor finds them sooner (glibc 2.35; others do not look at it).
    command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    command.args(["run", "--quiet", "--release", "--package", "peerage-sim", "--"]);
    command
}
