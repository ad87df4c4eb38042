//! The command line, and the process at the other end.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use peerage_bench::rounded;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Runtime};

use crate::{heartbeat, idle};

#[derive(Parser)]
#[command(name = "link", about = "Measures one link")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How late heartbeats are, with and without a stream that takes all there is.
    Heartbeat(Rounds),
    /// Memory and processor time of a link that nobody uses.
    Idle(Rounds),
    /// The other end of `heartbeat`.
    #[command(hide = true)]
    HeartbeatPeer,
    /// One measurement of `idle`, in a process of its own.
    #[command(hide = true)]
    IdleOnce {
        #[arg(action = clap::ArgAction::Set)]
        dials: bool,
        links: usize,
        seconds: u64,
    },
    /// The other ends of `idle`.
    #[command(hide = true)]
    IdlePeers { links: usize },
}

#[derive(Args)]
pub(crate) struct Rounds {
    /// How many times; figures are medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Seconds of each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Links, where there are many.
    #[arg(long, default_value_t = 200, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=500))]
    pub(crate) links: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    match Cli::parse().what {
        What::Heartbeat(rounds) => heartbeat::command(&rounds),
        What::Idle(rounds) => idle::command(&rounds),
        What::HeartbeatPeer => heartbeat::peer(),
        What::IdleOnce { dials, links, seconds } => {
            println!("{}", serde_json::to_string(&idle::once(dials, links, seconds)?)?);
            Ok(())
        }
        What::IdlePeers { links } => idle::peers(links),
    }
}

/// A runtime like the one that all nodes of a process share, on which no program's tasks run.
pub(crate) fn runtime() -> Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

/// This program once more, which speaks in lines of JSON and ends when nobody listens to it.
pub(crate) struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Other {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let program = std::env::current_exe().context("this program has no file any more")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run this program again")?;
        let lines = BufReader::new(child.stdout.take().context("it has no output")?);
        Ok(Self { child, lines })
    }

    pub(crate) fn tell(&mut self, what: &impl Serialize) -> Result<()> {
        let input = self.child.stdin.as_mut().context("it has no input")?;
        writeln!(input, "{}", serde_json::to_string(what)?)?;
        Ok(())
    }

    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        ensure!(self.lines.read_line(&mut line)? > 0, "the other process has ended");
        serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if self.child.wait().is_err() {
            eprintln!("the other process cannot be waited for");
        }
    }
}

/// For the other process: says something.
pub(crate) fn say(what: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

/// For the other process: what it is told; nothing when it is to end.
pub(crate) fn told<T: DeserializeOwned>() -> Result<Option<T>> {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// In milliseconds.
pub(crate) fn millis(nanos: u64) -> f64 {
    rounded(nanos as f64 / 1e6, 3)
}
