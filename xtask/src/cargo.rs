//! Running cargo so that its progress shows, and saying what is missing on this machine.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // At run time where cargo says it, so that a moved checkout still works.
    let here =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that runs us, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command with its output shown; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    Ok(status.success())
}

/// Whether a command can be run at all and succeeds, in silence.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// Says in one line what of cargo and a C compiler is missing.
pub(crate) fn need_build_tools() -> Result<()> {
    let mut missing = Vec::new();
    if !works(cargo().arg("--version")) {
        missing.push(
            "cargo (install a Rust toolchain, for example from https://rustup.rs)".to_owned(),
        );
    }
    // The name and the override that the `cc` crate takes, which builds the cryptography.
    let compiler = env::var_os("CC").unwrap_or_else(|| OsString::from("cc"));
    let name = compiler.to_string_lossy().into_owned();
    let mut words = name.split_whitespace();
    let found = cfg!(windows)
        || words
            .next()
            .is_some_and(|program| works(Command::new(program).args(words).arg("--version")));
    if !found {
        missing
            .push(format!("a C compiler (`{name}` does not run; install gcc or clang, or set CC)"));
    }
    if missing.is_empty() { Ok(()) } else { bail!("missing: {}", missing.join(", and ")) }
}

/// What cargo says of a target that it built.
#[derive(Deserialize)]
struct Built {
    target: Target,
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Everything of ours that is built in the release profile. Always together, so that all of them
/// ask the same features of their dependencies: built one by one, each would have a core of its
/// own compiled, for minutes.
const RELEASED: [&str; 4] = ["peerage-examples", "peerage-ffi", "peerage-node", "peerage-python"];

/// Builds in the release profile, cargo's progress on standard error.
fn build(package: &str) -> Result<Vec<Built>> {
    let mut command = cargo();
    command.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    if RELEASED.contains(&package) {
        command.args(RELEASED.iter().flat_map(|package| ["--package", *package]));
    } else {
        command.args(["--package", package]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let out = child.stdout.take().context("cargo has no standard output")?;
    let mut built = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line.context("cannot read what cargo says")?;
        // Other kinds of messages lack these fields.
        built.extend(serde_json::from_str::<Built>(&line));
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("{package} could not be built (see above)");
    }
    Ok(built)
}

/// Builds programs, and says where they are.
pub(crate) fn build_programs(
    package: &str,
    programs: &[&str],
) -> Result<BTreeMap<String, PathBuf>> {
    let found: BTreeMap<_, _> = build(package)?
        .into_iter()
        .filter_map(|built| Some((built.target.name, built.executable?)))
        .collect();
    for program in programs {
        if !found.contains_key(*program) {
            bail!("cargo built {package} but named no executable for {program}");
        }
    }
    Ok(found)
}

/// Builds a package's libraries of every type that it has, and says where they are.
pub(crate) fn build_libraries(package: &str, library: &str) -> Result<Vec<PathBuf>> {
    let built = build(package)?.into_iter().filter(|built| built.target.name == library);
    let files: Vec<_> = built.flat_map(|built| built.filenames).collect();
    if files.is_empty() {
        bail!("cargo built {package} but named no {library}");
    }
    Ok(files)
}

/// Builds a package's shared library, and says where it is.
pub(crate) fn build_library(package: &str, library: &str) -> Result<PathBuf> {
    let shared =
        |path: &PathBuf| path.extension().is_some_and(|of| of == env::consts::DLL_EXTENSION);
    let found = build_libraries(package, library)?.into_iter().find(shared);
    found.with_context(|| format!("cargo built {package} but named no shared {library}"))
}
