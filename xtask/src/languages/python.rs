//! Python: a virtual environment in the tree, the native module beside the Python face, pytest,
//! ruff, mypy and its stubtest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cargo, debian, demo::cast::Launch, test::Total};

/// The oldest Python that the module loads into.
const OLDEST: (u32, u32) = (3, 10);
/// What is installed into the environment.
const REQUIREMENTS: &str = "bindings-python/requirements.txt";
/// What the environment was last made for.
const STAMP: &str = "peerage-stamp.txt";

/// Everything that tests, lint and examples need: done once, seconds after that.
pub(crate) fn prepare() -> Result<()> {
    cargo::need_build_tools()?;
    environment()?;
    native_module()
}

/// The interpreter that finds `peerage`; [`prepare`] comes first.
pub(crate) fn interpreter() -> PathBuf {
    let folder = folder();
    if cfg!(windows) { folder.join("Scripts/python.exe") } else { folder.join("bin/python") }
}

/// The worker of the examples.
pub(crate) fn worker() -> Result<Launch> {
    prepare()?;
    let script = cargo::root().join("examples/python/worker.py");
    Ok(Launch { program: interpreter(), args: vec![script.into()] })
}

/// The agent of the fault tests.
pub(crate) fn faults_agent() -> Result<Launch> {
    prepare()?;
    let script = cargo::root().join("tests/faults/programs/agent.py");
    Ok(Launch { program: interpreter(), args: vec![script.into()] })
}

/// The benchmark of events.
pub(crate) fn bench() -> Result<Command> {
    prepare()?;
    let mut command = python();
    command.arg("bindings-python/bench/events.py");
    Ok(command)
}

/// Runs the binding's tests and counts them.
pub(crate) fn test() -> Result<Total> {
    prepare()?;
    let report = folder().join("tests.xml");
    // A report of an earlier run must not pass for one of this.
    if let Err(error) = fs::remove_file(&report)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", report.display()));
    }
    let mut pytest = python();
    pytest.env(super::CERTIFICATES, super::certificates()?);
    pytest.args(["-m", "pytest", "--junit-xml"]).arg(&report);
    let success = shown(&mut pytest)?;
    let text = fs::read_to_string(&report).unwrap_or_default();
    let mut total = counts(&text).unwrap_or_default();
    if !success && total.failed == 0 {
        total.failed = 1;
    }
    Ok(total)
}

/// Layout, lint and types; the native module is there, since stubs are compared with it.
pub(crate) fn lint() -> Result<bool> {
    prepare()?;
    let mut ok = true;
    let mut step = |name: &str, args: &[&str]| -> Result<()> {
        eprintln!("── python: {name}");
        ok &= shown(python().arg("-m").args(args))?;
        Ok(())
    };
    step("ruff check", &["ruff", "check", "--no-cache", "."])?;
    step("ruff format", &["ruff", "format", "--no-cache", "--check", "."])?;
    let cache = folder().join("mypy").display().to_string();
    let checked = ["bindings-python", "examples/python", "tests/faults/programs"];
    step("mypy", &[&["mypy", "--cache-dir", &cache], &checked[..]].concat())?;
    let config = ["--mypy-config-file", "pyproject.toml"];
    let allowed = ["--allowlist", "bindings-python/stubtest.txt"];
    step("stubtest", &[&["mypy.stubtest", "peerage"], &config[..], &allowed].concat())?;
    Ok(ok)
}

/// The environment's Python, in the root of the workspace.
fn python() -> Command {
    let mut command = Command::new(interpreter());
    // Nothing is written beside the sources.
    command.current_dir(cargo::root()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a command; standard output stays free for what `cargo xtask` itself has to say.
fn shown(command: &mut Command) -> Result<bool> {
    cargo::succeeds(command.stdout(io::stderr()))
}

fn folder() -> PathBuf {
    cargo::root().join(".peerage/python")
}

/// Makes the environment unless it is there, for this Python and these packages.
fn environment() -> Result<()> {
    let (program, version) = find_python()?;
    let root = cargo::root();
    let requirements = fs::read_to_string(root.join(REQUIREMENTS))
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    // An environment cannot be moved: its place counts as well.
    let wanted = format!("{version}\n{}\n{requirements}", folder().display());
    let stamp = folder().join(STAMP);
    let current = fs::read_to_string(&stamp).is_ok_and(|text| text == wanted);
    if current && cargo::works(python().arg("--version")) {
        return Ok(());
    }
    eprintln!("python: an environment with {version}, in .peerage/python");
    if !cargo::works(Command::new(&program).args(["-m", "ensurepip", "--version"])) {
        debian::install(&["python3-venv"]);
    }
    let mut make = Command::new(&program);
    make.args(["-m", "venv", "--clear"]).arg(folder());
    if !shown(&mut make)? {
        bail!("missing: Python's venv module (on Debian: apt install python3-venv)");
    }
    let mut install = python();
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
        .args(["--requirement", REQUIREMENTS]);
    if !shown(&mut install)? {
        bail!("the packages of {REQUIREMENTS} could not be installed (see above)");
    }
    // The sources themselves are what is imported.
    let sources = root.join("bindings-python/python");
    let find = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = python().args(["-c", find]).output().context("cannot run Python")?;
    let packages = String::from_utf8_lossy(&packages.stdout).trim().to_owned();
    let path = Path::new(&packages).join("peerage.pth");
    fs::write(&path, format!("{}\n", sources.display()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// The first Python on the path that is new enough, and its version.
fn find_python() -> Result<(String, String)> {
    let mut found = Vec::new();
    for program in ["python3", "python"] {
        let Ok(output) = Command::new(program).arg("--version").output() else { continue };
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match version(&text) {
            Some(version) if version >= OLDEST => return Ok((program.into(), text)),
            _ => found.push(format!("{program} is {text:?}")),
        }
    }
    let found = if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) };
    bail!("missing: Python {}.{} or newer, as python3 or python{found}", OLDEST.0, OLDEST.1)
}

/// `Python 3.11.7` → 3, 11
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("Python ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Builds the native module and lays it beside the Python sources.
fn native_module() -> Result<()> {
    let library = cargo::build_library("peerage-python", "peerage_python")?;
    let name = if cfg!(windows) { "_native.pyd" } else { "_native.abi3.so" };
    let module = cargo::root().join("bindings-python/python/peerage").join(name);
    let modified = |path: &Path| fs::metadata(path).and_then(|m| Ok((m.len(), m.modified()?))).ok();
    if let (Some(built), Some(there)) = (modified(&library), modified(&module))
        && built.0 == there.0
        && built.1 <= there.1
    {
        return Ok(());
    }
    // Beside it and then over it: a process may have the old one loaded.
    let new = module.with_extension("new");
    fs::copy(&library, &new)
        .and_then(|_| fs::rename(&new, &module))
        .with_context(|| format!("cannot copy {} to {}", library.display(), module.display()))
}

/// The counts of a report in the JUnit format.
fn counts(report: &str) -> Option<Total> {
    let suite = &report[report.find("<testsuite ")?..];
    let suite = &suite[..suite.find('>')?];
    let number = |name: &str| -> Option<u64> {
        let (_, rest) = suite.split_once(&format!(" {name}=\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    let (failed, skipped) = (number("failures")? + number("errors")?, number("skipped")?);
    let passed = number("tests")?.checked_sub(failed + skipped)?;
    Some(Total { passed, failed, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_counted() {
        let report = r#"<?xml version="1.0"?><testsuites name="pytest tests"><testsuite
            name="pytest" errors="1" failures="2" skipped="3" tests="10" time="1.5">"#
            .replace('\n', " ");
        assert_eq!(counts(&report), Some(Total { passed: 4, failed: 3, skipped: 3 }));
        assert_eq!(counts(""), None);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("Python 3.11.7"), Some((3, 11)));
        assert_eq!(version("Python 3.15.0rc1"), Some((3, 15)));
        assert_eq!(version("3.11"), None);
    }
}
