//! Peerage beside raw s2n-quic: a program of its own (`tests/bench`), so that these commands need
//! neither cryptography nor an async runtime.

use anyhow::Result;

use super::Program;
use crate::cargo;

pub(super) fn run(options: &Program) -> Result<bool> {
    cargo::need_build_tools()?;
    let mut command = cargo::cargo();
    command.args(["run", "--release", "--package", "peerage-bench", "--bin", "pool", "--"]);
    command.args(["--rounds", &options.runs.to_string()]).args(&options.args);
    if options.json {
        command.arg("--json");
    }
    cargo::succeeds(&mut command)
}
