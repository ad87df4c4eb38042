//! `cargo xtask bench …`: figures, for people or as one JSON object.

mod cluster;
mod demo;
mod events;
mod link;
mod pool;
mod sim;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// All nodes start at once in one process, over real QUIC: until everyone sees everyone.
    Join(Sizes),
    /// A process dies without a goodbye: until somebody suspects it, until all hold it failed.
    Detection(Sizes),
    /// What a quiet node costs: bytes, packets, CPU, memory, links.
    Steady(Sizes),
    /// Whom 50 nodes wrongly hold dead at loss and starvation; needs network namespaces.
    FalsePositives {
        /// How many times each.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        runs: u32,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// More arguments of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
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
    /// Requests over one link beside raw s2n-quic, and taking that link from the pool.
    Pool(Program),
    /// How late heartbeats are while a stream takes all that the link has.
    Heartbeat(Program),
    /// Memory and processor time of a link that nobody uses.
    Idle(Program),
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

#[derive(clap::Args)]
pub(crate) struct Program {
    /// How many times each; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// More arguments of the program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Sizes {
    /// Numbers of nodes, with commas between.
    #[arg(long)]
    nodes: String,
    /// How many times each; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// More arguments of the program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Sizes {
    fn run(&self, what: &str) -> Result<bool> {
        let mut args = vec!["--nodes".to_owned(), self.nodes.clone()];
        args.extend(["--runs".to_owned(), self.runs.to_string()]);
        args.extend_from_slice(&self.args);
        cluster::run(what, self.json, &args)
    }
}

pub(crate) fn command(bench: &Bench) -> Result<bool> {
    match bench {
        Bench::Join(sizes) => sizes.run("join"),
        Bench::Detection(sizes) => sizes.run("detection"),
        Bench::Steady(sizes) => sizes.run("steady"),
        Bench::FalsePositives { runs, json, args } => {
            let mut all = vec!["--runs".to_owned(), runs.to_string()];
            all.extend_from_slice(args);
            cluster::run("false-positives", *json, &all)
        }
        Bench::Demo { runs, json } => demo::run(*runs, *json),
        Bench::Events { json } => events::run(*json),
        Bench::Pool(options) => pool::run(options),
        Bench::Heartbeat(options) => link::run("heartbeat", options),
        Bench::Idle(options) => link::run("idle", options),
        Bench::Sim { json, args } => sim::run(*json, args),
    }
}
