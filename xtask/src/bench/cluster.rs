//! Clusters over real QUIC: a program of its own (`tests/bench`), so that these commands need
//! neither cryptography nor an async runtime.

use anyhow::Result;

use crate::cargo;

/// Runs one of the program's measurements; its output is ours.
pub(super) fn run(what: &str, json: bool, arguments: &[String]) -> Result<bool> {
    cargo::need_build_tools()?;
    let mut command = cargo::cargo();
    command.args(["run", "--release", "--package", "peerage-bench", "--bin", "cluster", "--"]);
    command.arg(what).args(arguments);
    if json {
        command.arg("--json");
    }
    cargo::succeeds(&mut command)
}
