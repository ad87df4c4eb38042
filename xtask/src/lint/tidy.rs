//! House rules that no other tool checks.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// The most lines a file may have before its tests.
const LINES_MAX: usize = 600;

/// Paths of somebody's machine; split, so that this file does not hold them.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

/// The only source that a dependency may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every file that is, or could be, committed; each finding is one line.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let files = files(root)?;
    let mut wrong = Vec::new();
    if !files.iter().any(|path| path == "Cargo.lock") {
        wrong.push("Cargo.lock: must be committed".into());
    }
    for path in &files {
        let Ok(bytes) = fs::read(root.join(path)) else { continue }; // deleted, not yet committed
        let Ok(text) = String::from_utf8(bytes) else { continue }; // no text
        for (number, line) in text.lines().enumerate() {
            for bad in MACHINE_PATHS.iter().filter(|bad| line.contains(*bad)) {
                wrong.push(format!(
                    "{path}:{}: holds a path of somebody's machine ({bad}…)",
                    number + 1
                ));
            }
        }
        if path == "Cargo.lock" {
            wrong.extend(foreign_sources(&text).map(|line| format!("{path}: {line}")));
        } else if path == "package-lock.json" {
            // npm would fetch from there, whatever the registry of whoever installs.
            let urls = text.lines().filter(|line| line.contains("\"resolved\":"));
            wrong.extend(urls.map(|line| format!("{path}: names a registry: {}", line.trim())));
        } else if path.ends_with(".toml") {
            wrong.extend(
                registry_settings(&text).map(|line| format!("{path}: names a registry: {line}")),
            );
        } else if path.ends_with(".rs") {
            let lines = code(&text).lines().count();
            if lines > LINES_MAX {
                wrong.push(format!(
                    "{path}: {lines} lines before the tests; at most {LINES_MAX} are allowed"
                ));
            }
            if path.starts_with("core/src/membership") {
                wrong.extend(
                    impurities(code(&text)).into_iter().map(|what| format!("{path}: {what}")),
                );
            }
        }
    }
    Ok(wrong)
}

fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("missing: git (the tidy check lists the files with it)")?;
    if !output.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// What comes before the tests.
fn code(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod ").map_or(text, |(code, _)| code)
}

fn foreign_sources(lock: &str) -> impl Iterator<Item = &str> {
    lock.lines().filter(|line| line.starts_with("source = ") && !line.contains(REGISTRY))
}

/// Settings that would send everybody's cargo to another registry. `deny.toml` may name the
/// usual one.
fn registry_settings(toml: &str) -> impl Iterator<Item = &str> {
    toml.lines().map(str::trim).filter(|line| {
        let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
        line.starts_with("[source.")
            || line.starts_with("[registries")
            || line.starts_with("[registry")
            || matches!(key, "registry" | "registry-index" | "replace-with")
    })
}

/// The protocol machine has no clock, no socket and no task.
fn impurities(code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for name in ["tokio", "s2n_quic", "SystemTime"] {
        if words(&code).any(|word| word == name) {
            found.push(format!("the pure machine must not use {name}"));
        }
    }
    // `Instant` is also a word of our own; only std's is the clock.
    let clock = |statement: &str| statement.contains("std::") && statement.contains("time::");
    if code
        .split(';')
        .any(|statement| clock(statement) && words(statement).any(|word| word == "Instant"))
    {
        found.push("the pure machine must not use std::time::Instant".into());
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_sockets_and_tasks_are_found() {
        assert_eq!(impurities("use std::time::{Duration, Instant};").len(), 1);
        assert_eq!(impurities("use std::{fmt, time::Instant};").len(), 1);
        assert_eq!(impurities("let t = std::time::SystemTime::now();").len(), 1);
        assert_eq!(impurities("use tokio::spawn;\nuse s2n_quic::Server;").len(), 2);
        assert!(
            impurities("use std::time::Duration;\nuse crate::member::Instance; // no tokio")
                .is_empty()
        );
    }

    #[test]
    fn other_registries_are_found() {
        assert_eq!(registry_settings("[source.crates-io]\nreplace-with = \"x\"\n").count(), 2);
        assert_eq!(
            registry_settings("unknown-registry = \"deny\"\nrepository = \"x\"\n").count(),
            0
        );
        let lock = format!("source = \"{REGISTRY}\"\nsource = \"git+https://example.org/x\"\n");
        assert_eq!(foreign_sources(&lock).count(), 1);
    }

    #[test]
    fn tests_do_not_count_as_lines() {
        assert_eq!(code("a\nb\n#[cfg(test)]\nmod tests {\n}").lines().count(), 2);
    }
}
