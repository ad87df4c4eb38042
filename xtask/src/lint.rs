//! `cargo xtask lint`: everything that must hold besides the tests.

mod tidy;

use std::{env, process::Command};

use anyhow::{Result, bail};

use crate::{cargo, generate};

pub(crate) fn command() -> Result<bool> {
    cargo::need_build_tools()?;
    need_components()?;
    let root = cargo::root();
    let mut failed = Vec::new();
    let mut step = |name: &'static str, ok: Result<bool>| -> Result<()> {
        if !ok? {
            failed.push(name);
        }
        Ok(())
    };

    heading("tidy");
    let wrong = tidy::check(&root)?;
    wrong.iter().for_each(|line| eprintln!("{line}"));
    step("tidy", Ok(wrong.is_empty()))?;

    heading("generated files");
    step("generate", generate::is_current())?;

    heading("fmt");
    step("fmt", cargo::succeeds(cargo::cargo().args(["fmt", "--all", "--", "--check"])))?;

    heading("clippy");
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    step("clippy", cargo::succeeds(cargo::cargo().args(clippy)))?;

    heading("doc");
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    let mut doc = cargo::cargo();
    doc.args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", format!("{flags} --deny warnings"));
    step("doc", cargo::succeeds(&mut doc))?;

    heading("deny");
    step("deny", dependencies())?;

    if failed.is_empty() {
        eprintln!("lint: all is well");
        Ok(true)
    } else {
        eprintln!("lint: failed: {}", failed.join(", "));
        Ok(false)
    }
}

fn heading(name: &str) {
    eprintln!("── {name}");
}

fn need_components() -> Result<()> {
    let missing: Vec<_> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| !cargo::works(cargo::cargo().args([subcommand, "--version"])))
        .map(|(_, component)| component)
        .collect();
    if !missing.is_empty() {
        bail!("missing: {0} (install with `rustup component add {0}`)", missing.join(" "));
    }
    Ok(())
}

/// Licences, sources and bans are checked wherever cargo-deny is installed; advisories where
/// their database can be fetched as well.
fn dependencies() -> Result<bool> {
    let deny = || -> Command {
        let mut command = cargo::cargo();
        command.arg("deny");
        command
    };
    if !cargo::works(deny().arg("--version")) {
        eprintln!("skipped: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(true);
    }
    if cargo::works(deny().args(["fetch", "db"])) {
        return cargo::succeeds(deny().args(["check"]));
    }
    eprintln!("skipped: advisories (their database cannot be fetched from here)");
    cargo::succeeds(deny().args(["check", "bans", "licenses", "sources"]))
}
