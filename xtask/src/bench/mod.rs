//! `cargo xtask bench …`: figures, for people or as one JSON object.

mod demo;
mod events;
mod pool;
mod sim;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Run the demo several times: medians of its figures.
    Demo {
        /// How many times.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        runs: u32,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Events from the core into JavaScript and Python.
    Events {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Requests over one link beside raw s2n-quic.
    Pool {
        /// Rounds of each kind.
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Simulated cluster time for a second of CPU.
    Sim {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// More arguments of the simulator's `bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

pub(crate) fn command(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Demo { runs, json } => demo::run(*runs, *json),
        Bench::Events { json } => events::run(*json),
        Bench::Pool { runs, json } => pool::run(*runs, *json),
        Bench::Sim { json, args } => sim::run(*json, args),
    }
}
