//! The workspace's own commands: `cargo xtask demo|test|lint|generate|bench|sim|fuzz`.

mod bench;
mod cargo;
mod debian;
mod demo;
mod fuzz;
mod generate;
mod languages;
mod lint;
mod sim;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Peerage's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run seven processes in four languages as one cluster; kill, restart and retire some; check that all notice.
    Demo(demo::Options),
    /// Run every test of the workspace and count them.
    Test(test::Options),
    /// Make what is generated from `core/description` anew.
    Generate(generate::Options),
    /// Formatting, clippy, documentation, dependencies, house rules.
    Lint,
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Feed decoders and whole machines with bytes that a fuzzer makes up.
    Fuzz(fuzz::Options),
    /// Run the deterministic simulator; everything after `sim` is passed on.
    #[command(disable_help_flag = true)]
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(options) => demo::command(&options),
        Command::Test(options) => test::command(&options),
        Command::Generate(options) => generate::command(&options),
        Command::Lint => lint::command(),
        Command::Bench(bench) => bench::command(&bench),
        Command::Fuzz(options) => fuzz::command(&options),
        Command::Sim(options) => sim::command(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
