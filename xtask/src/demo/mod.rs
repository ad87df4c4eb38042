//! `cargo xtask demo`: seven processes in four languages as one cluster, on loopback. One is
//! killed and started again, one leaves, and the demo succeeds only if everybody noticed and no request was lost.

pub(crate) mod cast;
mod mixed;
mod process;
mod report;
pub(crate) mod screen;
mod story;
mod table;
mod world;

use std::io::IsTerminal;

use anyhow::Result;

pub(crate) use cast::Programs;
pub(crate) use mixed::tests;
pub(crate) use report::Summary;
use screen::Screen;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print one JSON object as the last line of standard output; the rest goes to standard error.
    #[arg(long)]
    json: bool,
    /// Plain lines even on a terminal.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    let programs = Programs::build()?;
    let screen = match options {
        Options { json: true, .. } => Screen::lines_to_stderr(),
        Options { plain: false, .. } if std::io::stdout().is_terminal() => Screen::live()?,
        _ => Screen::lines_to_stdout(),
    };
    let summary = tell(&programs, screen)?;
    if options.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("\n{summary}");
    }
    Ok(summary.ok)
}

/// Runs the story once. An error is about the demo itself; what the cluster did wrong is in the
/// summary.
pub(crate) fn tell(programs: &Programs, screen: Screen) -> Result<Summary> {
    story::Story::new(programs, screen)?.tell()
}
