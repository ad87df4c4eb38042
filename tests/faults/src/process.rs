//! One agent process: started where it shall run, told things, stopped, killed.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Sender,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    agent::SECRET_VARIABLE,
    network::Namespace,
    report::{Order, Report},
};

/// What came from an agent.
pub(crate) enum Input {
    /// It said something.
    Report(Report),
    /// It said something that is no report.
    Nonsense(String),
    /// Its standard output ended.
    Closed,
}

/// A process that does not outlive the one that started it.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    alive: bool,
}

impl Process {
    /// Starts an agent in a namespace, or here.
    pub(crate) fn agent(
        number: usize,
        mut command: Command,
        secret: &str,
        place: Option<&Namespace>,
        inputs: Sender<(usize, Input)>,
    ) -> Result<Self> {
        command.env(SECRET_VARIABLE, secret);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        tie(&mut command, place);
        let name = command.get_program().display().to_string();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("the agent has no standard output")?;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let input = match serde_json::from_str(&line) {
                    Ok(report) => Input::Report(report),
                    Err(error) => Input::Nonsense(format!("{line:?}: {error}")),
                };
                if inputs.send((number, input)).is_err() {
                    return;
                }
            }
            let _ = inputs.send((number, Input::Closed)); // nobody listens any more
        });
        Ok(Self { stdin: child.stdin.take(), child, alive: true })
    }

    /// Says something to it.
    pub(crate) fn tell(&mut self, order: &Order) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the agent takes no orders")?;
        let line = serde_json::to_string(order)? + "\n";
        stdin.write_all(line.as_bytes()).context("the agent does not listen")
    }

    /// Its process id.
    pub fn pid(&self) -> libc::pid_t {
        // The kernel's own type; std stores it unsigned.
        self.child.id().cast_signed()
    }

    /// How long its threads have waited for a processor so far, and how often they got one.
    pub fn waited(&self) -> Result<Waited> {
        let threads = format!("/proc/{}/task", self.pid());
        let mut all = Waited::default();
        for thread in fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))? {
            let path = thread?.path().join("schedstat");
            // Nanoseconds that it ran, and that it waited; how often it was given a processor.
            let Ok(text) = fs::read_to_string(&path) else { continue }; // it has just ended
            let fields: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
            let [_, waited, times] = fields[..] else { bail!("{path:?} says {text:?}") };
            all.time += Duration::from_nanos(waited);
            all.times += times;
        }
        Ok(all)
    }

    /// Whether it was started and not killed yet.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// SIGKILL: no destructor runs, no goodbye is said.
    pub fn kill(&mut self) -> Result<()> {
        self.alive = false;
        self.child.kill().context("cannot kill an agent")?;
        self.child.wait().context("cannot wait for an agent")?;
        Ok(())
    }

    /// SIGSTOP.
    pub fn stop(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: libc::c_int) -> Result<()> {
        // SAFETY: plain call; the child has not been waited for, so its id is still its own.
        let done = unsafe { libc::kill(self.pid(), signal) };
        ensure!(done == 0, "cannot signal an agent: {}", std::io::Error::last_os_error());
        Ok(())
    }
}

/// How long somebody has waited for a processor, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waited {
    time: Duration,
    times: u64,
}

impl Waited {
    /// How long on average each time since then.
    pub fn each_since(self, before: Self) -> Duration {
        let times = u32::try_from(self.times.saturating_sub(before.times)).unwrap_or(u32::MAX);
        self.time.saturating_sub(before.time) / times.max(1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for one that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent in Rust: our own program, told to be one.
pub fn own_agent() -> Result<Command> {
    let program = env::current_exe().context("this program has no file any more")?;
    let mut command = Command::new(program);
    command.arg("agent");
    Ok(command)
}

/// Makes a command's process die with the thread that starts it.
pub fn die_with_us(command: &mut Command) {
    tie(command, None);
}

/// Makes a command's process run in a namespace, and die with the thread that starts it.
pub(crate) fn tie(command: &mut Command, place: Option<&Namespace>) {
    let namespace: Option<RawFd> = place.map(|namespace| namespace.file().as_raw_fd());
    // SAFETY: between fork and exec only two system calls are made, both async-signal-safe, on
    // integers copied into the closure; the descriptor is open in the parent while it starts the
    // command, since `place` is borrowed by whoever does, and the child has a copy.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            match namespace {
                Some(fd) if libc::setns(fd, libc::CLONE_NEWNET) != 0 => {
                    Err(std::io::Error::last_os_error())
                }
                _ => Ok(()),
            }
        });
    }
}
