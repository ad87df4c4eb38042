//! Runs compiled test programs: each test in a process of its own, several at once.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use crate::{cargo, languages, test::Total};

/// Memory errors and definite leaks fail.
pub(super) const VALGRIND: [&str; 7] = [
    "valgrind",
    "--quiet",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--errors-for-leak-kinds=definite",
    "--error-exitcode=9",
    "--fair-sched=yes",
];
/// No test takes longer.
const LIMIT: Duration = Duration::from_secs(150);
/// Most of a test's time is waiting.
const AT_ONCE: usize = 4;

struct Job {
    name: String,
    program: PathBuf,
    test: String,
}

/// Runs every test of the programs, or those that are marked for a memory check, under a wrapper.
pub(super) fn all(
    kind: &str,
    programs: &[(&str, PathBuf)],
    wrapper: &[&str],
    memcheck: bool,
) -> Result<Total> {
    let mut jobs = Vec::new();
    for (name, program) in programs {
        for (test, marked) in list(program)? {
            if marked || !memcheck {
                let program = program.clone();
                jobs.push(Job { name: format!("C ({kind}) {name}::{test}"), program, test });
            }
        }
    }
    // The longest begin first: they are at the end of the lists.
    let jobs = Mutex::new(jobs);
    let total = Mutex::new(Total::default());
    // Let go of before the job begins.
    let next = || jobs.lock().pop();
    // A checked program is slow because it computes, not because it waits.
    let at_once = if wrapper.is_empty() { AT_ONCE } else { AT_ONCE / 2 };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let passed = run(&job, wrapper);
                    let mut total = total.lock();
                    total.passed += u64::from(passed);
                    total.failed += u64::from(!passed);
                }
            });
        }
    });
    Ok(total.into_inner())
}

/// The tests of a program, each with whether it is quick enough to be checked for memory errors.
fn list(program: &Path) -> Result<Vec<(String, bool)>> {
    let output = command(program, &[], "--list").output().context("cannot run a test program")?;
    if !output.status.success() {
        bail!("{} does not list its tests", program.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| match line.split_once(' ') {
        Some((name, mark)) => (name.to_owned(), mark == "memcheck"),
        None => (line.to_owned(), false),
    };
    Ok(text.lines().map(line).collect())
}

fn run(job: &Job, wrapper: &[&str]) -> bool {
    let begun = Instant::now();
    let outcome = command(&job.program, wrapper, &job.test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("it cannot be started")
        .and_then(|child| finish(child, LIMIT));
    let took = begun.elapsed().as_secs_f32();
    let (passed, output) = match outcome {
        Ok((true, output)) => (true, output),
        Ok((false, output)) => (false, output),
        Err(error) => (false, format!("{error:#}")),
    };
    if passed {
        eprintln!("test {} ... ok ({took:.1} s)", job.name);
        // Figures that a test measured.
        output.lines().filter(|line| line.ends_with("/s")).for_each(|line| eprintln!("  {line}"));
    } else {
        eprintln!("test {} ... FAILED ({took:.1} s)\n{output}", job.name);
    }
    passed
}

fn command(program: &Path, wrapper: &[&str], test: &str) -> Command {
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.arg(test).env("PEERAGE_ROOT", cargo::root());
    command.env(languages::CERTIFICATES, languages::certificates_folder());
    command
}

/// Waits for a process, which is killed when it takes too long: whether it succeeded, and what it
/// said.
pub(super) fn finish(mut child: Child, limit: Duration) -> Result<(bool, String)> {
    fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                // What was read up to an error is still of use.
                let _ = pipe.read_to_end(&mut text);
            }
            text
        })
    }
    let readers = [reader(child.stdout.take()), reader(child.stderr.take())];
    let until = Instant::now() + limit;
    let mut note = String::new();
    let success = loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            if !status.success() {
                note = format!("{status}\n");
            }
            break status.success();
        }
        if Instant::now() > until {
            child.kill().context("cannot kill it")?;
            child.wait().context("cannot wait for it")?;
            note = format!("killed after {limit:?}\n");
            break false;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut output = note;
    for reader in readers {
        output += &String::from_utf8_lossy(&reader.join().unwrap_or_default());
    }
    Ok((success, output))
}
