//! C: the library in `bindings-ffi/dist`, its tests and examples, the compiler's warnings.

pub(crate) mod examples;
mod run;

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, debian, demo::cast::Launch, lint::heading, test::Total};

/// Every C source is compiled with these, and warnings are errors.
const FLAGS: [&str; 6] = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
/// What the static library needs of the system.
const SYSTEM: [&str; 4] = ["-pthread", "-ldl", "-lm", "-lgcc_s"];
const PROGRAMS: [&str; 7] =
    ["arguments", "surface", "streams", "members", "events", "lifecycle", "scenarios"];

/// How a program is linked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Shared,
    /// With the sanitizers, where the compiler has them.
    Static,
}

/// Builds the library and puts it where C programs find it; a second run takes seconds.
pub(crate) fn prepare() -> Result<()> {
    cargo::need_build_tools()?;
    eprintln!("C: building the library (bindings-ffi/dist)");
    let built = cargo::build_libraries("peerage-ffi", "peerage_ffi")?;
    let dist = dist();
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    let mut copied = 0;
    for library in built {
        let Some(ending) = library.extension().and_then(OsStr::to_str) else { continue };
        if ["so", "dylib", "a"].contains(&ending) {
            copy(&library, &dist.join(format!("libpeerage.{ending}")))?;
            copied += 1;
        }
    }
    ensure!(copied == 2, "cargo built peerage-ffi but named {copied} libraries instead of 2");
    Ok(())
}

/// The worker of the examples.
pub(crate) fn worker() -> Result<Launch> {
    let worker = examples::build()?.remove("worker").context("the worker was not built")?;
    Ok(Launch::program(worker))
}

/// Everything that C is tested with: each test in a process of its own, with the shared library,
/// with the static one under the sanitizers, and the quick ones under valgrind.
pub(crate) fn test() -> Result<Total> {
    prepare()?;
    super::certificates()?;
    let mut total = Total::default();
    let sanitizers = has_sanitizers();
    for link in [Link::Shared, Link::Static] {
        let name = match (link, sanitizers) {
            (Link::Shared, _) => "shared",
            (Link::Static, true) => "static, sanitizers",
            (Link::Static, false) => "static",
        };
        eprintln!("C: tests ({name})");
        let programs = compile_tests(link, link == Link::Static && sanitizers)?;
        total += run::all(name, &programs, &[], false)?;
    }
    if !sanitizers {
        eprintln!("skipped: the compiler has no address and undefined-behaviour sanitizers");
        total.skipped += 1;
    }
    debian::provide(&[debian::VALGRIND]);
    if cargo::works(Command::new("valgrind").arg("--version")) {
        eprintln!("C: tests (valgrind)");
        let programs = compile_tests(Link::Shared, false)?;
        total += run::all("valgrind", &programs, &run::VALGRIND, true)?;
    } else {
        eprintln!("skipped: valgrind is not installed (Debian: `apt-get install valgrind`)");
        total.skipped += 1;
    }
    eprintln!("C: examples");
    total += examples::test()?;
    Ok(total)
}

/// The sources without a warning, the header as C11 and as C++17.
pub(crate) fn lint() -> Result<bool> {
    cargo::need_build_tools()?;
    heading("C");
    let mut ok = true;
    for source in sources()? {
        let mut compile = compiler();
        compile.args(FLAGS).args(includes()).args(["-fsyntax-only"]).arg(&source);
        ok &= cargo::succeeds(&mut compile)?;
    }
    let header = folder().join("include/peerage.h");
    ok &= cargo::succeeds(compiler().args(FLAGS).args(["-fsyntax-only", "-x", "c"]).arg(&header))?;
    let cxx = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if cargo::works(Command::new(&cxx).arg("--version")) {
        let flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];
        let mut compile = Command::new(&cxx);
        compile.args(flags).args(["-fsyntax-only", "-x", "c++"]).arg(&header);
        ok &= cargo::succeeds(&mut compile)?;
    } else {
        eprintln!("skipped: the header as C++ (there is no C++ compiler; set CXX)");
    }
    Ok(ok)
}

fn folder() -> PathBuf {
    cargo::root().join("bindings-ffi")
}

fn dist() -> PathBuf {
    folder().join("dist")
}

/// Where compiled programs go.
fn programs_folder() -> PathBuf {
    cargo::root().join(".peerage/c")
}

fn compiler() -> Command {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words).current_dir(cargo::root());
    command
}

fn includes() -> Vec<String> {
    ["bindings-ffi/include", "bindings-ffi/tests"].map(|folder| format!("-I{folder}")).into()
}

/// Every C source of ours, by its path from the root.
fn sources() -> Result<Vec<PathBuf>> {
    let root = cargo::root();
    let mut sources = Vec::new();
    for folder in ["bindings-ffi/tests", "examples/c"] {
        let entries = fs::read_dir(root.join(folder)).with_context(|| folder.to_owned())?;
        for entry in entries {
            let name = entry.with_context(|| folder.to_owned())?.file_name();
            if Path::new(&name).extension() == Some(OsStr::new("c")) {
                sources.push(Path::new(folder).join(name));
            }
        }
    }
    sources.sort();
    Ok(sources)
}

/// Copies a large file if it has changed.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let changed = |path: &Path| -> Result<_> {
        let data = fs::metadata(path)?;
        Ok((data.len(), data.modified()?))
    };
    if let (Ok((size, built)), Ok((present, copied))) = (changed(from), changed(to))
        && size == present
        && built <= copied
    {
        return Ok(());
    }
    // Not in place: a program may be running with it.
    let new = to.with_extension("new");
    fs::copy(from, &new).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::rename(&new, to).with_context(|| format!("cannot write {}", to.display()))
}

fn has_sanitizers() -> bool {
    let folder = programs_folder();
    let source = folder.join("probe.c");
    fs::create_dir_all(&folder).is_ok()
        && fs::write(&source, "int main(void) { return 0; }\n").is_ok()
        && cargo::works(
            compiler().args(SANITIZERS).arg("-o").arg(folder.join("probe")).arg(&source),
        )
        && cargo::works(&mut Command::new(folder.join("probe")))
}

/// The test programs, linked in one way; each with its name.
fn compile_tests(link: Link, sanitizers: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    let root = cargo::root();
    PROGRAMS
        .iter()
        .map(|name| {
            let source = root.join("bindings-ffi/tests").join(name).with_extension("c");
            let kind = if link == Link::Shared { "shared" } else { "static" };
            let program = programs_folder().join(kind).join(name);
            compile(&source, &program, link, sanitizers)?;
            Ok((*name, program))
        })
        .collect()
}

fn compile(source: &Path, program: &Path, link: Link, sanitizers: bool) -> Result<()> {
    if let Some(folder) = program.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut compile = compiler();
    compile.args(FLAGS).args(includes()).arg("-g");
    if sanitizers {
        compile.args(SANITIZERS);
    }
    compile.arg("-o").arg(program).arg(source);
    match link {
        Link::Shared => {
            let path = dist().display().to_string();
            compile.args([format!("-L{path}"), format!("-Wl,-rpath,{path}")]);
            compile.args(["-lpeerage", "-pthread"]);
        }
        Link::Static => {
            compile.arg(dist().join("libpeerage.a"));
            compile.args(if cfg!(target_os = "linux") { &SYSTEM[..] } else { &SYSTEM[..1] });
        }
    }
    if !cargo::succeeds(&mut compile)? {
        bail!("{} could not be compiled (see above)", source.display());
    }
    Ok(())
}
