//! `cargo xtask fuzz`: feeds decoders and whole machines with bytes that libFuzzer makes up, on the
//! stable compiler: coverage is counted by a pass that stable has, without the sanitizers that only
//! nightly offers, which `unsafe`-free code needs least.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// What `cargo fuzz` passes, sanitizers aside.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";
/// Every target, as the folders of the corpus are named.
const TARGETS: [&str; 3] = ["frame", "machine", "stream"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which to run; all, one after the other, if none is named.
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each runs.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Instead: take what runs have found into the corpus, and keep only as many inputs in it as
    /// reach everything that they all reach.
    #[arg(long)]
    minimize: bool,
}

pub(crate) fn command(options: &Options) -> Result<bool> {
    let root = cargo::root();
    let host = host()?;
    let folder = root.join("tests/fuzz");
    let target_dir = folder.join("target");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--target", &host, "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the fuzz targets do not build");
    let mut well = true;
    let chosen = TARGETS.iter().filter(|t| options.target.as_deref().is_none_or(|o| o == **t));
    for target in chosen {
        println!("fuzz {target}, {} s", options.seconds);
        let program = target_dir.join(&host).join("release").join(target);
        well &= run(program, target, options)?;
    }
    Ok(well)
}

fn run(program: PathBuf, target: &str, options: &Options) -> Result<bool> {
    let folder = cargo::root().join("tests/fuzz");
    let corpus = folder.join("corpus").join(target);
    // What a run finds stays out of the tree, and is read again by the next, ...
    let news = folder.join("target").join(format!("found-{target}"));
    std::fs::create_dir_all(&news)?;
    let mut command = Command::new(program);
    command.current_dir(&folder).args(["-timeout=10", "-rss_limit_mb=2048"]);
    if options.minimize {
        // ... until it is merged with the corpus into an empty folder, which then takes the
        // corpus's place.
        let small = folder.join("target").join(format!("corpus-{target}"));
        let _ = std::fs::remove_dir_all(&small);
        std::fs::create_dir_all(&small)?;
        command.args(["-set_cover_merge=1", "-max_len=512"]).args([&small, &corpus, &news]);
        ensure!(command.status()?.success(), "{target}: merging the corpus failed");
        std::fs::remove_dir_all(&corpus)?;
        std::fs::rename(&small, &corpus)?;
        std::fs::remove_dir_all(&news)?;
        return Ok(true);
    }
    let found = command
        .arg(format!("-max_total_time={}", options.seconds))
        .args(["-max_len=4096", "-print_final_stats=1"])
        // The first is where it writes what it finds.
        .args([&news, &corpus])
        .status()
        .with_context(|| format!("cannot run {target}"))?;
    if !found.success() {
        println!(
            "fuzz {target} FAILED: the input is in tests/fuzz/, named crash-…, timeout-… or oom-…"
        );
    }
    Ok(found.success())
}

fn host() -> Result<String> {
    let rustc = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&rustc.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}
