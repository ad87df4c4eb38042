//! The fault tests: real processes, real QUIC, default settings, each process in a network
//! namespace of its own. `cargo xtask test faults` runs them; what this prints is what `cargo
//! test` would, so that they are counted alike.
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod cluster;
#[cfg(target_os = "linux")]
mod languages;
#[cfg(target_os = "linux")]
mod scenarios;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("running 0 tests");
    println!("test result: ok. 0 passed; 0 failed; 1 ignored; there are no namespaces here");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
mod run {
    use std::{
        collections::VecDeque,
        env,
        os::unix::process::CommandExt,
        panic::{AssertUnwindSafe, catch_unwind},
        process::{Command, ExitCode, Stdio},
        sync::mpsc,
        thread,
        time::Instant,
    };

    use anyhow::{Error, Result, anyhow};
    use clap::Parser;
    use parking_lot::Mutex;

    use super::scenarios::{SCENARIOS, Scenario};

    /// Where a machine can make namespaces and is to run every test, a skipped one has failed.
    const REQUIRED_VARIABLE: &str = "PEERAGE_FAULTS_REQUIRED";

    #[derive(Parser)]
    #[command(name = "faults", about = "Real processes, real QUIC, real faults")]
    struct Options {
        /// Only those whose name contains one of these.
        names: Vec<String>,
        /// How many at once: most of the time they wait.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
        at_once: u8,
    }

    pub(super) fn main() -> ExitCode {
        // An agent is this program again.
        if env::args().nth(1).as_deref() == Some("agent") {
            return match peerage_faults::agent::main() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("agent: {error:#}");
                    ExitCode::FAILURE
                }
            };
        }
        let options = Options::parse();
        let wanted = |scenario: &&Scenario| {
            options.names.is_empty()
                || options.names.iter().any(|name| scenario.name.contains(name))
        };
        let chosen: VecDeque<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
        if let Some(obstacle) = peerage_faults::network::obstacle() {
            let obstacle = as_root_of_our_own().unwrap_or(obstacle);
            println!("running {} tests", chosen.len());
            return skip(&chosen, &obstacle);
        }
        println!("running {} tests", chosen.len());
        let failed = all(chosen, options.at_once);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Who is not root may still be root in a namespace of its own. Begins this program there again and
    /// does not come back; else says why not, if that is worth saying.
    fn as_root_of_our_own() -> Option<String> {
        const TRIED: &str = "PEERAGE_FAULTS_TRIED";
        const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--net"];
        let works = || {
            let mut command = Command::new("unshare");
            command.args(UNSHARE).arg("true").stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if env::var_os(TRIED).is_some() || !works() {
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(UNSHARE).arg("--").args(env::current_exe()).args(env::args_os().skip(1));
        Some(format!("cannot begin again as root: {}", command.env(TRIED, "1").exec()))
    }

    fn skip(chosen: &VecDeque<&Scenario>, obstacle: &str) -> ExitCode {
        let required = env::var_os(REQUIRED_VARIABLE).is_some_and(|value| value != "0");
        let (word, ok) = if required { ("FAILED", false) } else { ("ignored", true) };
        for scenario in chosen {
            println!("test {} ... {word}, no networks can be made here", scenario.name);
        }
        println!("no networks can be made here: {obstacle}");
        println!("(it takes root, CAP_NET_ADMIN or user namespaces, and the programs ip and nft)");
        let n = chosen.len();
        let (failed, ignored) = if ok { (0, n) } else { (n, 0) };
        let word = if ok { "ok" } else { "FAILED" };
        println!("test result: {word}. 0 passed; {failed} failed; {ignored} ignored");
        if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs them and says how each went; how many failed.
    fn all(chosen: VecDeque<&Scenario>, at_once: u8) -> usize {
        let begun = Instant::now();
        let n = chosen.len();
        let (alone, others) = chosen.into_iter().partition(|scenario| scenario.alone);
        let mut failures = run(alone, 1);
        failures.extend(run(others, at_once));
        for (name, error) in &failures {
            println!("\n---- {name} ----\n{error:#}");
        }
        println!(
            "\ntest result: {}. {} passed; {} failed; 0 ignored; finished in {:.0}s",
            if failures.is_empty() { "ok" } else { "FAILED" },
            n - failures.len(),
            failures.len(),
            begun.elapsed().as_secs_f64()
        );
        failures.len()
    }

    /// Runs some, so many at once; what went wrong.
    fn run(chosen: VecDeque<&Scenario>, at_once: u8) -> Vec<(&'static str, Error)> {
        let waiting = Mutex::new(chosen);
        // Let go of before the scenario begins.
        let next = || waiting.lock().pop_front();
        let (give, take) = mpsc::channel();
        let mut failures = Vec::new();
        thread::scope(|scope| {
            for _ in 0..at_once {
                let give = give.clone();
                // A thread outlives the processes that it starts: they die with it.
                scope.spawn(move || {
                    while let Some(scenario) = next() {
                        let begun = Instant::now();
                        let outcome = one(scenario);
                        let _ = give.send((scenario.name, outcome, begun.elapsed()));
                    }
                });
            }
            drop(give);
            for (name, outcome, took) in take {
                match outcome {
                    Ok(said) => println!("test {name} ... ok ({:.1} s) {said}", took.as_secs_f64()),
                    Err(error) => {
                        println!("test {name} ... FAILED ({:.1} s)", took.as_secs_f64());
                        failures.push((name, error));
                    }
                }
            }
        });
        failures
    }

    fn one(scenario: &Scenario) -> Result<String> {
        catch_unwind(AssertUnwindSafe(scenario.run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            Err(anyhow!("panicked: {text}"))
        })
    }
}
