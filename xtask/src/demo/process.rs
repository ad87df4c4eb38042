//! The processes of the demo: started, listened to, and never left behind.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::SyncSender,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};

use super::world::Line;

/// Something that a process did. `generation` tells a restarted process from the one before it.
pub(super) struct Input {
    pub(super) id: String,
    pub(super) generation: u32,
    /// When it reached the demo.
    pub(super) at: Instant,
    pub(super) what: What,
}

pub(super) enum What {
    Line(Line),
    /// Standard output has ended: the process is gone.
    Closed,
}

/// One child process. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    pub(super) generation: u32,
    pub(super) log: PathBuf,
}

/// What to start.
pub(super) struct Start<'a> {
    pub(super) command: Command,
    pub(super) id: &'a str,
    pub(super) args: &'a [String],
    pub(super) secret: &'a str,
    pub(super) generation: u32,
    /// Where standard error goes.
    pub(super) log: PathBuf,
}

impl Process {
    pub(super) fn start(start: Start<'_>, inputs: SyncSender<Input>) -> Result<Self> {
        let Start { mut command, id, args, secret, generation, log } = start;
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = command
            .args(["--id", id])
            .args(args)
            // By the environment: every user of this machine can read arguments.
            .env("PEERAGE_SECRET", secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let process = Self { child, stdin, generation, log };
        let stdout = stdout.context("the process has no standard output")?;
        let id = id.to_owned();
        thread::spawn(move || {
            let say = |what| {
                inputs.send(Input { id: id.clone(), generation, at: Instant::now(), what }).is_ok()
            };
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Kinds of lines that the demo does not know are none of its business.
                if let Ok(line) = serde_json::from_str(&line)
                    && !say(What::Line(line))
                {
                    return;
                }
            }
            say(What::Closed);
        });
        Ok(process)
    }

    /// Says a line to it.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("it was told to leave already")?;
        stdin.write_all(format!("{line}\n").as_bytes()).context("it does not listen")
    }

    /// Tells it to leave the cluster and end. One that is gone already shows that by its exit.
    pub(super) fn tell_to_leave(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write_all(b"leave\n");
        }
    }

    /// SIGKILL, where there are signals.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill a process of ours")?;
        self.child.wait().context("cannot wait for a process of ours")?;
        Ok(())
    }

    /// How it ended, once it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of its log.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for one that has been waited for, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
