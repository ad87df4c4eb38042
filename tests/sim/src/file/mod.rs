//! Scenario files: what happens to a cluster, and what is to be true, as data that people read
//! and write. `docs/SIMULATOR.md` says how.

mod expect;
mod plan;
mod run;
mod select;
mod span;
mod steps;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::{
    run::{Report, Starts, Took},
    select::Select,
    span::Span,
    steps::Step,
};
use crate::network;

/// The most nodes that a file may ask for; addresses are made for as many.
const HOSTS_MAX: usize = 10_000;

/// One file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name, without directory and `.toml`.
    #[serde(skip)]
    pub name: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// How many nodes start.
    pub nodes: usize,
    /// With how many the ordinary tests run it; with `nodes` if not given.
    pub small: Option<usize>,
    /// How many hosts are spare, for nodes that join later: a share of the nodes or a number.
    #[serde(default)]
    pub newcomers: Select,
    /// Each is a run of its own.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Within what time the nodes start. The rest begins when everybody has seen everybody and
    /// their edges stand.
    #[serde(default)]
    pub start_within: Span,
    /// How long packets are under way.
    #[serde(default)]
    pub latency: Latency,
    /// What happens.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// What is to be true.
    pub expect: Expect,
}

fn one_seed() -> Vec<u64> {
    vec![1]
}

/// What is to be true besides the rules of membership.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Of whom it may be said that they failed although they run; of nobody else, by anybody.
    #[serde(default)]
    pub may_fail: Select,
    /// Whose word on that does not count: who is cut off can know no better.
    #[serde(default)]
    pub unheeded: Select,
    /// Those who crash or leave are gone everywhere so long after each step that made them.
    pub gone_within: Option<Span>,
    /// Those who stood still are alive everywhere so long after they resume.
    pub back_within: Option<Span>,
    /// Everybody sees everybody so long after the last restart.
    pub restarted_within: Option<Span>,
    /// Everybody sees everybody so long after the last newcomer started.
    pub joined_within: Option<Span>,
    /// Everybody sees everybody so long after the last cut or disturbance ended.
    pub one_within: Option<Span>,
}

/// A distribution of delays one way.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// A data centre.
    #[default]
    Near,
    /// Anything between the two is as likely.
    Uniform([Span; 2]),
    /// Most near the median, some many times as long.
    LogNormal {
        /// Half take less.
        median: Span,
        /// The deviation of the logarithm.
        sigma: f64,
        /// Longer ones are cut to this.
        most: Span,
    },
    /// A least, and on top of it waiting in a queue.
    Exponential {
        /// Least.
        least: Span,
        /// The mean of what comes on top.
        mean: Span,
        /// Longer ones are cut to this.
        most: Span,
    },
}

impl Latency {
    fn checked(self) -> Result<network::Latency, String> {
        match self {
            Latency::Near => Ok(network::Latency::default()),
            Latency::Uniform([least, most]) if least.0 > most.0 => {
                Err(format!("the least latency, {least}, is above the most, {most}"))
            }
            Latency::Uniform([least, most]) => {
                Ok(network::Latency::Uniform { least: least.0, most: most.0 })
            }
            Latency::LogNormal { sigma, .. } if !(0.0..=5.0).contains(&sigma) => {
                Err(format!("sigma is {sigma}; it must be between 0 and 5"))
            }
            Latency::LogNormal { median, sigma, most } => {
                Ok(network::Latency::LogNormal { median: median.0, sigma, most: most.0 })
            }
            Latency::Exponential { least, mean, most } => {
                Ok(network::Latency::Exponential { least: least.0, mean: mean.0, most: most.0 })
            }
        }
    }
}

impl File {
    /// Reads a file and checks it as a whole.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into());
        Self::parse(&name, &text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The same of what a file holds.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut file: File = toml::from_str(text).map_err(|e| e.to_string().trim().to_owned())?;
        name.clone_into(&mut file.name);
        file.checked(file.nodes)?;
        if let Some(small) = file.small {
            file.checked(small)?;
        }
        Ok(file)
    }

    /// Whether it can be run with so many nodes.
    fn checked(&self, nodes: usize) -> Result<(), String> {
        if !(2..=HOSTS_MAX).contains(&nodes) {
            return Err(format!("nodes is {nodes}; it must be between 2 and {HOSTS_MAX}"));
        }
        if self.seeds.is_empty() {
            return Err("seeds is empty; it must name at least one".into());
        }
        self.latency.checked()?;
        let plan = self.plan(nodes, self.seeds[0])?;
        expect::checks(&self.expect, &plan)?;
        if plan.hosts > HOSTS_MAX {
            return Err(format!("{} hosts in all; {HOSTS_MAX} is the most", plan.hosts));
        }
        Ok(())
    }
}

/// The files of a directory in order of their names.
pub fn all(directory: &Path) -> Result<Vec<File>, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("{}: cannot be read: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    paths.iter().map(|path| File::load(path)).collect()
}

/// Where the scenarios of this project are, at run time where cargo says it, so that a moved
/// checkout still works.
pub fn directory() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).join("../scenarios")
}

/// A file by its path, or by its name among those of this project.
pub fn find(name: &str) -> Result<File, String> {
    let path = Path::new(name);
    if path.exists() {
        return File::load(path);
    }
    let known = directory().join(format!("{name}.toml"));
    if known.exists() {
        return File::load(&known);
    }
    let names: Vec<String> = all(&directory())?.into_iter().map(|f| f.name).collect();
    Err(format!("there is no scenario `{name}`; it must be a file or one of {}", names.join(", ")))
}
