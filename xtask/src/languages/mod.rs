//! What each language's binding needs: set-up on a fresh machine, its tests, its lint, and its
//! programs.

pub(crate) mod c;
pub(crate) mod node;
pub(crate) mod python;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Where the runners of the scenarios find certificates.
const CERTIFICATES: &str = "PEERAGE_CERTIFICATES";

/// The folder of that.
fn certificates_folder() -> PathBuf {
    cargo::root().join(".peerage/certificates")
}

/// Makes certificates for the runners of the scenarios, of an authority of this run's own.
fn certificates() -> Result<PathBuf> {
    const PROGRAM: &str = "certificates";
    let programs = cargo::build_programs("peerage-conformance", &[PROGRAM])?;
    let program = programs.get(PROGRAM).context("cargo built no program for certificates")?;
    let folder = certificates_folder();
    let mut make = std::process::Command::new(program);
    ensure!(cargo::succeeds(make.arg(&folder))?, "no certificates were made");
    Ok(folder)
}
