//! `cargo xtask test`: every test, and one line that counts them.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{cargo, debian, demo, languages, sim};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print the counts as one JSON object instead.
    #[arg(long)]
    json: bool,
    /// Only these; all of them if none is named.
    suites: Vec<Suite>,
}

/// The tests of one language, or of all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Suite {
    /// Everything that `cargo test` runs.
    Rust,
    /// The Node binding.
    Node,
    /// The Python binding.
    Python,
    /// The C binding.
    C,
    /// One cluster of all languages.
    Mixed,
    /// The simulator at sizes that `cargo test` has no time for.
    Sim,
    /// Real processes and real faults, in network namespaces.
    Faults,
}

impl Suite {
    fn run(self) -> Result<Total> {
        match self {
            Suite::Rust => rust(),
            Suite::Node => languages::node::test(),
            Suite::Python => languages::python::test(),
            Suite::C => languages::c::test(),
            Suite::Mixed => demo::tests(&demo::Programs::build()?),
            Suite::Sim => sim::tests(),
            Suite::Faults => faults(),
        }
    }
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    cargo::need_build_tools()?;
    let all = Suite::value_variants();
    let suites = if options.suites.is_empty() { all } else { &options.suites };
    let mut total = Total::default();
    let mut lines = Vec::new();
    for suite in suites {
        // A suite that cannot be run has failed; the others run all the same.
        let counted = suite.run().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Total { failed: 1, ..Total::default() }
        });
        lines.push(format!("{:<8}{counted}", format!("{suite:?}").to_lowercase()));
        total += counted;
    }
    let ok = total.failed == 0 && total.passed > 0;
    if !ok && total.failed == 0 {
        eprintln!("error: there was no test to run");
    }
    eprintln!("\n{}", lines.join("\n"));
    if options.json {
        let Total { passed, failed, skipped } = total;
        println!(
            "{}",
            serde_json::json!({"ok": ok, "passed": passed, "failed": failed, "skipped": skipped})
        );
    } else {
        println!("{total}");
    }
    Ok(ok)
}

/// Runs cargo's tests.
fn rust() -> Result<Total> {
    counted(cargo::cargo().args(["test", "--workspace", "--no-fail-fast"]))
}

/// Runs the fault tests, which print like cargo's. They are told how to start their agents in
/// other languages.
fn faults() -> Result<Total> {
    let mut agents = serde_json::Map::new();
    if cfg!(target_os = "linux") {
        debian::provide(&[debian::NFT, debian::IP]);
        agents.insert("node".into(), languages::node::faults_agent()?.words().into());
        agents.insert("python".into(), languages::python::faults_agent()?.words().into());
    }
    counted(
        cargo::cargo()
            .args(["run", "--package", "peerage-faults", "--bin", "faults"])
            .env("PEERAGE_FAULTS_AGENTS", serde_json::Value::from(agents).to_string()),
    )
}

/// Runs tests and counts them. Standard output is left to the closing line.
fn counted(command: &mut Command) -> Result<Total> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let out = child.stdout.take().context("cargo has no standard output")?;
    let mut count = Count::default();
    for line in BufReader::new(out).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        let line = String::from_utf8_lossy(&line);
        count.line(&line);
        eprintln!("{line}");
    }
    let success = child.wait().context("cannot wait for cargo")?.success();
    Ok(count.total(success))
}

/// Reads what libtest prints.
#[derive(Default)]
struct Count {
    total: Total,
    /// Test programs that have begun and not ended yet.
    running: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Total {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl std::ops::AddAssign for Total {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Count {
    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("running ") {
            if rest
                .strip_suffix(" tests")
                .or(rest.strip_suffix(" test"))
                .is_some_and(|n| n.parse::<u64>().is_ok())
            {
                self.running += 1;
            }
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.running = self.running.saturating_sub(1);
            // "ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
            for part in rest.split(['.', ';']) {
                let Some((number, word)) = part.trim().split_once(' ') else { continue };
                let Ok(number) = number.parse::<u64>() else { continue };
                match word {
                    "passed" => self.total.passed += number,
                    "failed" => self.total.failed += number,
                    "ignored" => self.total.skipped += number,
                    _ => {}
                }
            }
        }
    }

    /// A test program that began and never came to its result crashed, and whatever else made
    /// cargo fail (a compile error, say) counts as one failure as well.
    fn total(self, success: bool) -> Total {
        let mut total = self.total;
        total.failed += self.running;
        if !success && total.failed == 0 {
            total.failed = 1;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str, success: bool) -> Total {
        let mut count = Count::default();
        text.lines().for_each(|line| count.line(line));
        count.total(success)
    }

    #[test]
    fn results_of_all_programs_add_up() {
        let text = "\nrunning 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
            running 1 test\n\
            test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.23s";
        let total = count(text, false);
        assert_eq!(total, Total { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(total.to_string(), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_crash_and_a_compile_error_are_failures() {
        assert_eq!(count("running 3 tests\ntest a ... ok", false).failed, 1);
        assert_eq!(count("", false).to_string(), "0 passed, 1 failed");
    }

    #[test]
    fn a_test_that_prints_running_is_no_test_program() {
        assert_eq!(count("running late\nrunning some tests", true).failed, 0);
    }
}
