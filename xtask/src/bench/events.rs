//! Events from the core into each language.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::languages;

pub(super) fn run(json: bool) -> Result<bool> {
    let mut figures = Map::new();
    for (language, command) in
        [("node", languages::node::bench()?), ("python", languages::python::bench()?)]
    {
        figures.extend(measured(language, command)?);
    }
    if json {
        println!("{}", Value::Object(figures));
    } else {
        for (name, value) in &figures {
            println!("{name:<12}{value:>12} events/s");
        }
    }
    Ok(true)
}

/// The figures that a script prints as its last line.
fn measured(language: &str, mut command: Command) -> Result<Map<String, Value>> {
    eprintln!("measuring events into {language} …");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run the benchmark of {language}"))?;
    if !output.status.success() {
        bail!("the benchmark of {language} ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{language} printed no figures: {last:?}"))
}
