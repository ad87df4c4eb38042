//! `cargo xtask sim …`: the simulator, in release.

use anyhow::Result;

use crate::cargo;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the simulator (`cargo xtask sim --help` shows them).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    run(&options.args)
}

/// Runs the simulator with these arguments; its output is ours.
pub(crate) fn run(args: &[String]) -> Result<bool> {
    cargo::need_build_tools()?;
    cargo::succeeds(
        cargo::cargo().args(["run", "--release", "--package", "peerage-sim", "--"]).args(args),
    )
}
