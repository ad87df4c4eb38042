//! `cargo xtask generate`: what every language has of configuration fields, errors, events and
//! records is made from one description, `core/description/*.toml`, and committed. The lint fails
//! when a committed copy differs.

mod c;
mod core;
mod description;
mod node;
mod pages;
mod python;
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
    let mut changed = stale(&root)?;
    write(&root, &changed)?;
    // Made from what was just written.
    let header = stale_header(&root)?;
    write(&root, header.as_slice())?;
    changed.extend(header);
    if changed.is_empty() {
        println!("everything is as it is described");
    }
    Ok(true)
}

fn write(root: &Path, outputs: &[Output]) -> Result<()> {
    for output in outputs {
        let path = root.join(output.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
        }
        fs::write(&path, &output.content).with_context(|| format!("cannot write {path:?}"))?;
        println!("{}", output.path);
    }
    Ok(())
}

/// Whether every committed file is as it is described; names those that are not.
pub(crate) fn is_current() -> Result<bool> {
    let root = cargo::root();
    let mut stale = stale(&root)?;
    stale.extend(stale_header(&root)?);
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
    outputs.extend(c::outputs(&description)?);
    outputs.extend(node::outputs(&description)?);
    outputs.extend(pages::outputs(root, &description)?);
    outputs.extend(python::outputs(&description)?);
    outputs.retain(|output| differs(root, output));
    Ok(outputs)
}

/// C's header, if it is not that of the Rust sources in the tree.
fn stale_header(root: &Path) -> Result<Option<Output>> {
    Ok(Some(c::header(root)?).filter(|output| differs(root, output)))
}

fn differs(root: &Path, output: &Output) -> bool {
    fs::read_to_string(root.join(output.path)).ok().as_deref() != Some(&output.content)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_committed_is_what_is_described() {
        assert!(super::is_current().expect("the description can be read"));
    }
}
