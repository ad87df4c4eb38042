//! Node: the native half by cargo, the TypeScript half by npm's packages, the tests by `node`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{cargo, demo::cast::Launch, lint::heading, test::Total};

/// The oldest version that the binding supports.
const NODE_MIN: u32 = 20;
/// The binding's folder.
const FOLDER: &str = "bindings-node";

/// Everything that the tests and the examples need. Where nothing has changed it takes seconds.
pub(crate) fn prepare() -> Result<()> {
    need_node()?;
    install_packages()?;
    let library = cargo::build_library("peerage-node", "peerage_node")?;
    let dist = cargo::root().join(FOLDER).join("dist");
    place(&library, &dist.join("peerage.node"))?;
    if !cargo::succeeds(node().args([tool("typescript/bin/tsc"), "-p".into(), FOLDER.into()]))? {
        bail!("the TypeScript of {FOLDER} does not compile (see above)");
    }
    Ok(())
}

/// The worker of the examples.
pub(crate) fn worker() -> Result<Launch> {
    prepare()?;
    let script = cargo::root().join("examples/node/worker.mjs");
    Ok(Launch { program: "node".into(), args: vec![script.into()] })
}

/// The agent of the fault tests.
pub(crate) fn faults_agent() -> Result<Launch> {
    prepare()?;
    let script = cargo::root().join("tests/faults/programs/agent.mjs");
    Ok(Launch { program: "node".into(), args: vec![script.into()] })
}

/// The benchmark of events.
pub(crate) fn bench() -> Result<Command> {
    prepare()?;
    let mut command = node();
    command.args(["--expose-gc", "bindings-node/bench/events.mjs"]);
    Ok(command)
}

/// Runs the tests with their output on standard error.
pub(crate) fn test() -> Result<Total> {
    prepare()?;
    let mut child = node()
        .env(super::CERTIFICATES, super::certificates()?)
        .args(["--test", "--test-reporter=spec"])
        .args(tests()?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run node")?;
    let out = child.stdout.take().context("node has no standard output")?;
    let mut total = Total::default();
    for line in BufReader::new(out).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        let line = String::from_utf8_lossy(&line);
        count(&line, &mut total);
        eprintln!("{line}");
    }
    let success = child.wait().context("cannot wait for node")?.success();
    if total.failed == 0 && (!success || total.passed == 0) {
        total.failed = 1;
    }
    Ok(total)
}

/// tsc (by [`prepare`]), eslint and prettier.
pub(crate) fn lint() -> Result<bool> {
    heading("tsc");
    if let Err(error) = prepare() {
        eprintln!("{error:#}");
        return Ok(false);
    }
    heading("eslint");
    let eslint = cargo::succeeds(node().args([
        tool("eslint/bin/eslint.js"),
        "--max-warnings=0".into(),
        ".".into(),
    ]))?;
    heading("prettier");
    let prettier = [tool("prettier/bin/prettier.cjs"), "--check".into(), ".".into()];
    let prettier = cargo::succeeds(node().args(prettier))?;
    Ok(eslint && prettier)
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.current_dir(cargo::root());
    command
}

/// A program of an installed package.
fn tool(path: &str) -> String {
    format!("node_modules/{path}")
}

fn npm() -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(cargo::root());
    command
}

/// Says in one line what is missing.
fn need_node() -> Result<()> {
    let wanted = format!("Node.js {NODE_MIN} or newer (from https://nodejs.org)");
    let Ok(output) = node().arg("--version").stderr(Stdio::inherit()).output() else {
        bail!("missing: {wanted}");
    };
    let version = String::from_utf8_lossy(&output.stdout);
    let version = version.trim();
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MIN) {
        bail!("missing: {wanted}; here is {version}");
    }
    if !cargo::works(npm().arg("--version")) {
        bail!("missing: npm (it comes with Node.js; some systems package it apart)");
    }
    Ok(())
}

/// npm keeps a copy of the lock file with what it has installed.
fn install_packages() -> Result<()> {
    let root = cargo::root();
    let changed = |path: &str| fs::metadata(root.join(path)).and_then(|data| data.modified()).ok();
    let installed = changed("node_modules/.package-lock.json");
    if installed.is_some() && installed >= changed("package-lock.json") {
        return Ok(());
    }
    eprintln!("installing npm packages");
    let done =
        cargo::succeeds(npm().args(["ci", "--no-audit", "--no-fund"]).stdout(std::io::stderr()))?;
    if !done {
        bail!("npm could not install the packages of package-lock.json (see above)");
    }
    Ok(())
}

/// Copies the library beside the TypeScript, unless it is there already.
fn place(library: &Path, at: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {path:?}"));
    if at.exists() && read(library)? == read(at)? {
        return Ok(());
    }
    let folder = at.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
    // Written aside and renamed: a process that has the old one loaded goes on with it.
    let aside = at.with_extension("new");
    fs::copy(library, &aside).with_context(|| format!("cannot write {aside:?}"))?;
    fs::rename(&aside, at).with_context(|| format!("cannot write {at:?}"))
}

/// The test files by name: Node 20 takes no patterns.
fn tests() -> Result<Vec<PathBuf>> {
    let folder = Path::new(FOLDER).join("tests");
    let mut tests = Vec::new();
    for entry in fs::read_dir(cargo::root().join(&folder)).context("cannot list the tests")? {
        let name = entry.context("cannot list the tests")?.file_name();
        if name.to_string_lossy().ends_with(".test.mjs") {
            tests.push(folder.join(name));
        }
    }
    tests.sort();
    Ok(tests)
}

/// Reads the summary of node's reporter: lines such as `ℹ pass 12`.
fn count(line: &str, total: &mut Total) {
    let mut words = line.split_whitespace();
    let (Some("ℹ"), Some(what), Some(number), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return;
    };
    let Ok(number) = number.parse::<u64>() else { return };
    match what {
        "pass" => total.passed += number,
        "fail" | "cancelled" => total.failed += number,
        "skipped" | "todo" => total.skipped += number,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_counted() {
        let mut total = Total::default();
        let text = "✔ a test (1.5ms)\nℹ tests 7\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\n\
                    ℹ skipped 1\nℹ todo 1\nℹ duration_ms 12.5\nℹ passing by 5";
        text.lines().for_each(|line| count(line, &mut total));
        assert_eq!(total, Total { passed: 3, failed: 2, skipped: 2 });
    }
}
