//! One link, for membership and idle: a program of its own (`tests/bench`), as for `pool`.

use anyhow::Result;

use super::Program;
use crate::cargo;

pub(super) fn run(what: &str, options: &Program) -> Result<bool> {
    cargo::need_build_tools()?;
    let mut command = cargo::cargo();
    command.args(["run", "--release", "--package", "peerage-bench", "--bin", "link", "--", what]);
    command.args(["--runs", &options.runs.to_string()]).args(&options.args);
    if options.json {
        command.arg("--json");
    }
    cargo::succeeds(&mut command)
}
