//! Laying out generated text.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The width that every generated comment is wrapped to.
const WIDTH: usize = 100;

/// A text as comment lines, each begun with `prefix` (indentation included).
pub(super) fn comment(prefix: &str, text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let width = prefix.chars().count() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && width > WIDTH {
            lines += &format!("{prefix}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{prefix}{line}\n")
}

/// `probe_interval` → `probeInterval`.
#[allow(dead_code)] // Node's generator comes next
pub(super) fn camel(snake: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in snake.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// `MemberJoined` → `member_joined`.
#[allow(dead_code)]
pub(super) fn snake(pascal: &str) -> String {
    let mut out = String::new();
    for c in pascal.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Rust source as rustfmt lays it out.
pub(super) fn rustfmt(source: &str) -> Result<String> {
    let mut child = Command::new("rustfmt")
        .current_dir(cargo::root())
        .args(["--edition", "2024", "--emit", "stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("missing: rustfmt (install with `rustup component add rustfmt`)")?;
    child
        .stdin
        .take()
        .context("rustfmt has no standard input")?
        .write_all(source.as_bytes())
        .context("cannot write to rustfmt")?;
    let output = child.wait_with_output().context("cannot wait for rustfmt")?;
    if !output.status.success() {
        bail!("rustfmt does not take the generated source:\n{source}");
    }
    String::from_utf8(output.stdout).context("rustfmt printed no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_case() {
        assert_eq!(camel("probe_interval"), "probeInterval");
        assert_eq!(camel("ca"), "ca");
        assert_eq!(snake("LocalHealthChanged"), "local_health_changed");
    }

    #[test]
    fn comments_are_wrapped() {
        let text = comment("/// ", &"word ".repeat(30));
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("/// word") && line.len() <= WIDTH));
    }
}
