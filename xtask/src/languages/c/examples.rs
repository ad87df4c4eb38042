//! C's examples do what they say, among Rust's.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{Link, compile, prepare, programs_folder, run::finish};
use crate::{cargo, test::Total};

const NAMES: [&str; 2] = ["quickstart", "worker"];
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "the secret of a test, for a test";

/// Builds the examples, with the shared library; where they are.
pub(crate) fn build() -> Result<BTreeMap<&'static str, PathBuf>> {
    prepare()?;
    let mut built = BTreeMap::new();
    for name in NAMES {
        let program = programs_folder().join("examples").join(name);
        let source = cargo::root().join("examples/c").join(name).with_extension("c");
        compile(&source, &program, Link::Shared, false)?;
        built.insert(name, program);
    }
    Ok(built)
}

pub(super) fn test() -> Result<Total> {
    let examples = build()?;
    let mut total = Total::default();
    for (name, outcome) in [
        ("quickstart", quickstart(&examples["quickstart"])),
        ("worker", worker(&examples["worker"])),
    ] {
        match outcome {
            Ok(()) => {
                eprintln!("test C (examples) {name} ... ok");
                total.passed += 1;
            }
            Err(error) => {
                eprintln!("test C (examples) {name} ... FAILED\n{error:#}");
                total.failed += 1;
            }
        }
    }
    Ok(total)
}

/// It prints what the Rust one prints.
fn quickstart(program: &Path) -> Result<()> {
    let child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("it cannot be started")?;
    let (success, text) = finish(child, PATIENCE)?;
    ensure!(success, "{text}");
    let expected = "bob heard: hello bob, this is alice\n\
                    alice saw: MemberJoined bob {\"role\": \"guest\"}\n";
    ensure!(text.starts_with(expected), "{text}");
    ensure!(text.contains("alice saw: MemberLeft bob"), "{text}");
    ensure!(!text.contains("MemberFailed"), "{text}");
    Ok(())
}

/// A Rust director finds it, asks it and checks its answers; it reports what it sees, and leaves
/// when it is told to.
fn worker(program: &Path) -> Result<()> {
    let director = cargo::build_programs("peerage-examples", &["director"])?;
    let mut director = Node::start(&director["director"], "director", &["--rate", "200"])?;
    let ready = director.line(|line| line["type"] == "ready")?;
    let addr = ready["addr"].as_str().context("it has no address")?.to_owned();
    let tag = "note=\"quoted\" größe 雪";
    let arguments = ["--seed", &addr, "--tag", "role=worker", "--tag", tag];
    let mut worker = Node::start(program, "c1", &arguments)?;
    let ready = worker.line(|line| line["type"] == "ready")?;
    ensure!(ready["id"] == "c1" && ready["addr"].is_string(), "{ready}");
    let view = worker.line(|line| line["type"] == "view" && line["members"][1].is_object())?;
    let (ours, theirs) = (&view["members"][0], &view["members"][1]);
    ensure!(ours["id"] == "c1" && theirs["id"] == "director", "{view}");
    ensure!(ours["state"] == "alive" && ours["rtt_us"].is_null(), "{view}");
    ensure!(ours["unresponsive"] == false, "{view}");
    ensure!(ours["tags"]["note"] == "\"quoted\" größe 雪", "{view}");
    ensure!(ours["tags"]["role"] == "worker", "{view}");
    ensure!(ours["instance"].as_str().is_some_and(|hex| hex.len() == 16), "{view}");
    ensure!(ours["incarnation"].is_u64(), "{view}");
    // An answer counts only if the checksum is right.
    director.line(|line| line["by_worker"]["c1"].as_u64().is_some_and(|count| count >= 50))?;
    director.line(|line| line["kind"] == "MemberJoined" && line["member"] == "c1")?;
    director.leave()?;
    let event = worker.line(|line| line["type"] == "event" && line["kind"] == "MemberLeft")?;
    ensure!(event["member"] == "director" && event["at_ms"].is_u64(), "{event}");
    worker.leave()?;

    // The end of standard input is a word to leave as well, in the middle of a join too.
    let nobody = ["--seed", "127.0.0.1:9"];
    let mut alone = Node::start(program, "c2", &nobody)?;
    alone.line(|line| line["type"] == "ready")?;
    drop(alone.child.stdin.take());
    alone.ended()
}

/// A process that reports in lines of JSON. It ends with this, whatever happens.
struct Node {
    child: Child,
    lines: Receiver<Value>,
    /// Every line so far, since the order of lines of different kinds is nobody's promise.
    seen: Vec<Value>,
}

impl Node {
    fn start(program: &Path, id: &str, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["--id", id, "--cluster", "test"])
            .args(arguments)
            .env("PEERAGE_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let out = child.stdout.take().context("it has no standard output")?;
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Value::String(format!("no JSON ({error}): {line}")));
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, seen: Vec::new() })
    }

    /// Waits for a line, unless it came before.
    fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let until = Instant::now() + PATIENCE;
        if let Some(line) = self.seen.iter().find(|line| wanted(line)) {
            return Ok(line.clone());
        }
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Value::String(wrong)) => bail!(wrong),
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the line never comes; the last one is {:?}", self.seen.last())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the process has ended; its last line is {:?}", self.seen.last())
                }
            }
        }
    }

    fn leave(&mut self) -> Result<()> {
        let mut input = self.child.stdin.take().context("it has no standard input")?;
        writeln!(input, "leave").context("cannot tell it to leave")?;
        self.ended()
    }

    fn ended(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for it")? {
                ensure!(status.success(), "it ends with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
