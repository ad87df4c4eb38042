//! Who plays: seven processes, the same worker in four languages.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cargo, languages};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Language {
    Rust,
    Node,
    Python,
    C,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Node => "node",
            Language::Python => "python",
            Language::C => "c",
        }
    }
}

/// One process of the cluster.
pub(crate) struct Role {
    pub(crate) id: &'static str,
    pub(crate) language: Language,
}

pub(crate) const DIRECTOR: Role = Role { id: "director", language: Language::Rust };
pub(crate) const WORKERS: [Role; 6] = [
    Role { id: "rust1", language: Language::Rust },
    VICTIM,
    Role { id: "node2", language: Language::Node },
    LEAVER,
    Role { id: "python2", language: Language::Python },
    Role { id: "c1", language: Language::C },
];
/// The worker that is killed and started again.
pub(crate) const VICTIM: Role = Role { id: "node1", language: Language::Node };
/// The worker that leaves.
pub(crate) const LEAVER: Role = Role { id: "python1", language: Language::Python };

/// A program with what comes before its own arguments, such as an interpreter with its script.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
}

impl Launch {
    pub(crate) fn program(program: PathBuf) -> Self {
        Self { program, args: Vec::new() }
    }

    /// As texts, for a program that starts it itself.
    pub(crate) fn words(&self) -> Vec<String> {
        let program = std::iter::once(self.program.as_os_str());
        let words = program.chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

/// Everything that is started, built.
pub(crate) struct Programs {
    director: Launch,
    secret: Launch,
    workers: BTreeMap<Language, Launch>,
    /// Where cargo puts what it builds; logs go beside it.
    pub(crate) built: PathBuf,
}

impl Programs {
    /// Does all set-up that a fresh machine needs, with its progress shown.
    pub(crate) fn build() -> Result<Self> {
        cargo::need_build_tools()?;
        let mut rust =
            cargo::build_programs("peerage-examples", &["director", "secret", "worker"])?;
        let mut take = |name: &str| -> Result<Launch> {
            rust.remove(name).map(Launch::program).with_context(|| format!("no {name} was built"))
        };
        let (director, secret, worker) = (take("director")?, take("secret")?, take("worker")?);
        let built = director.program.parent().map_or_else(cargo::root, Path::to_path_buf);
        let workers = BTreeMap::from([
            (Language::Rust, worker),
            (Language::Node, languages::node::worker()?),
            (Language::Python, languages::python::worker()?),
            (Language::C, languages::c::worker()?),
        ]);
        Ok(Self { director, secret, workers, built })
    }

    /// The command that starts a role.
    pub(crate) fn command(&self, role: &Role) -> Command {
        if role.id == DIRECTOR.id {
            self.director.command()
        } else {
            // `build` has a worker of each language.
            self.workers[&role.language].command()
        }
    }

    /// A new secret for one cluster.
    pub(crate) fn generate_secret(&self) -> Result<String> {
        let output = self
            .secret
            .command()
            .output()
            .with_context(|| format!("cannot run {}", self.secret.program.display()))?;
        if !output.status.success() {
            bail!("no secret was generated: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout).context("the secret is no text")?.trim().to_owned())
    }
}
