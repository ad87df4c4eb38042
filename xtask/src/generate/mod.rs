//! `cargo xtask generate`: what every language has of configuration fields, errors, events and
//! records is made from one description, `core/description/*.toml`, and committed. The lint fails
//! when a committed copy differs.

mod core;
mod description;
mod pages;
mod text;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::cargo;
use description::Description;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a committed file differs from what would be written.
    #[arg(long)]
    check: bool,
}

/// A file that is generated: its path from the root, and what it holds.
struct Output {
    path: &'static str,
    content: String,
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    if options.check {
        return is_current();
    }
    let root = cargo::root();
    let stale = stale(&root)?;
    for output in &stale {
        let path = root.join(output.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
        }
        fs::write(&path, &output.content).with_context(|| format!("cannot write {path:?}"))?;
        println!("{}", output.path);
    }
    if stale.is_empty() {
        println!("everything is as it is described");
    }
    Ok(true)
}

/// Whether every committed file is as it is described; names those that are not.
pub(crate) fn is_current() -> Result<bool> {
    let stale = stale(&cargo::root())?;
    for output in &stale {
        eprintln!("{}: differs from its description; run `cargo xtask generate`", output.path);
    }
    Ok(stale.is_empty())
}

/// What is not, or not like that, in the tree.
fn stale(root: &Path) -> Result<Vec<Output>> {
    let description = Description::read(&root.join("core/description"))?;
    let mut outputs = Vec::new();
    outputs.extend(core::outputs(&description)?);
    outputs.extend(pages::outputs(root, &description)?);
    outputs.retain(|output| {
        fs::read_to_string(root.join(output.path)).ok().as_deref() != Some(&output.content)
    });
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_committed_is_what_is_described() {
        assert!(super::is_current().expect("the description can be read"));
    }
}
