//! The story, told by itself: every step waits for what it wants to see, and no longer than its
//! deadline.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::mpsc::{self, Receiver, SyncSender},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Summary,
    cast::{DIRECTOR, LEAVER, Programs, Role, VICTIM, WORKERS},
    process::{Input, Process, Start},
    screen::Screen,
    world::{World, millis},
};

/// How long requests are watched flowing between the chapters.
const FLOW: Duration = Duration::from_secs(2);
/// How many requests the others must have answered since the kill.
const FLOWED_ON: u64 = 20;
/// The screen is refreshed at least this often.
const REFRESH: Duration = Duration::from_millis(50);

/// How long each step may take before the demo has failed.
mod limit {
    use std::time::Duration;

    pub(super) const READY: Duration = Duration::from_secs(15);
    pub(super) const CONVERGE: Duration = Duration::from_secs(30);
    pub(super) const FLOW: Duration = Duration::from_secs(15);
    pub(super) const SUSPECT: Duration = Duration::from_secs(15);
    pub(super) const FAIL: Duration = Duration::from_secs(40);
    pub(super) const REJOIN: Duration = Duration::from_secs(30);
    pub(super) const LEAVE: Duration = Duration::from_secs(20);
    pub(super) const EXIT: Duration = Duration::from_secs(20);
}

pub(super) struct Story<'a> {
    programs: &'a Programs,
    screen: Screen,
    pub(super) world: World,
    processes: BTreeMap<String, Process>,
    inputs: Receiver<Input>,
    sender: SyncSender<Input>,
    secret: String,
    logs: PathBuf,
    summary: Summary,
}

impl<'a> Story<'a> {
    pub(super) fn new(programs: &'a Programs, screen: Screen) -> Result<Self> {
        // Full, it holds up the readers, and by their pipes the processes.
        let (sender, inputs) = mpsc::sync_channel(4096);
        let logs = programs.built.join("demo-logs");
        if logs.exists() {
            fs::remove_dir_all(&logs)
                .with_context(|| format!("cannot clear {}", logs.display()))?;
        }
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self {
            programs,
            screen,
            world: World::new(),
            processes: BTreeMap::new(),
            inputs,
            sender,
            secret: programs.generate_secret()?,
            logs,
            summary: Summary::default(),
        })
    }

    pub(super) fn tell(mut self) -> Result<Summary> {
        let told = self.chapters();
        let requests = &self.world.requests;
        self.summary.requests_sent = requests.sent;
        self.summary.requests_failed_over = requests.failed_over;
        self.summary.requests_lost = requests.lost;
        if let Err(error) = told {
            if error.to_string() == "interrupted" {
                return Err(error);
            }
            self.summary.problems.push(format!("{error:#}"));
        }
        if self.summary.requests_lost > 0 {
            self.summary
                .problems
                .push("requests were lost that had a second worker to go to".into());
        }
        self.summary.ok = self.summary.problems.is_empty();
        drop(self.screen);
        if !self.summary.ok {
            for (id, process) in &self.processes {
                eprintln!(
                    "── the end of {} ({id})\n{}",
                    process.log.display(),
                    process.last_words(15)
                );
            }
        }
        Ok(self.summary)
    }

    fn chapters(&mut self) -> Result<()> {
        self.converge()?;
        self.flow()?;
        self.kill()?;
        self.restart()?;
        self.leave()?;
        self.shut_down()
    }

    fn converge(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.start(&DIRECTOR, &[])?;
        let doing = "starting the director";
        let seed = self.wait(doing, limit::READY, |world| world.nodes[DIRECTOR.id].addr.clone())?;
        for worker in WORKERS {
            self.start_worker(&worker, &seed)?;
        }
        let doing = "seven processes become one cluster";
        self.wait(doing, limit::CONVERGE, |world| world.all_see_all().then_some(()))?;
        self.summary.converged_ms = millis(begun, Instant::now());
        for role in WORKERS.iter().chain([&DIRECTOR]) {
            *self.summary.members.entry(role.language.name()).or_default() += 1;
        }
        self.screen.chapter(&self.world, "all seven see all seven alive")
    }

    fn flow(&mut self) -> Result<()> {
        self.wait("requests flow to all workers", limit::FLOW, |world| {
            WORKERS.iter().all(|worker| answered(world, worker.id) > 0).then_some(())
        })?;
        self.watch("requests flow to all workers", FLOW)
    }

    fn kill(&mut self) -> Result<()> {
        let before = self.world.requests.by_worker.clone();
        let killed = Instant::now();
        self.world.stop(VICTIM.id);
        self.process(VICTIM.id)?.kill()?;
        self.world.note(killed, format!("{} was killed (SIGKILL)", VICTIM.id));

        let doing = "a worker was killed: who notices first?";
        let first = self.wait(doing, limit::SUSPECT, |world| {
            world.first("MemberSuspected", VICTIM.id, killed)
        })?;
        self.summary.suspected_ms = millis(killed, first);

        let doing = "a worker was killed: do all agree?";
        let last = self.wait(doing, limit::FAIL, |world| {
            world.everywhere("MemberFailed", VICTIM.id, killed)
        })?;
        self.summary.failed_everywhere_ms = millis(killed, last);
        self.screen.chapter(&self.world, "every survivor saw it failed")?;

        self.wait("requests flow on to the others", limit::FLOW, |world| {
            let since =
                |worker: &str| answered(world, worker) - before.get(worker).copied().unwrap_or(0);
            let others = || WORKERS.iter().map(|role| role.id).filter(|id| *id != VICTIM.id);
            let all = others().all(|worker| since(worker) > 0);
            (all && others().map(since).sum::<u64>() >= FLOWED_ON).then_some(())
        })
    }

    fn restart(&mut self) -> Result<()> {
        let old = self
            .world
            .instance(VICTIM.id)
            .context("nobody remembers the worker that was killed")?;
        let before = answered(&self.world, VICTIM.id);
        let seed =
            self.world.nodes[DIRECTOR.id].addr.clone().context("the director has no address")?;
        let started = Instant::now();
        self.start_worker(&VICTIM, &seed)?;
        self.world.note(started, format!("{} was started again", VICTIM.id));
        let doing = "the killed worker comes back under the same id";
        self.wait(doing, limit::REJOIN, |world| {
            (world.all_see_all() && world.all_see_anew(VICTIM.id, &old)).then_some(())
        })?;
        self.summary.rejoined_ms = millis(started, Instant::now());
        self.screen.chapter(&self.world, "it is welcomed")?;
        self.wait("the worker that came back gets requests again", limit::FLOW, |world| {
            (answered(world, VICTIM.id) > before).then_some(())
        })
    }

    fn leave(&mut self) -> Result<()> {
        let told = Instant::now();
        self.world.stop(LEAVER.id);
        self.world.note(told, format!("{} is told to leave", LEAVER.id));
        self.process(LEAVER.id)?.tell_to_leave();
        let doing = "another worker leaves";
        let last = self
            .wait(doing, limit::LEAVE, |world| world.everywhere("MemberLeft", LEAVER.id, told))?;
        self.summary.left_everywhere_ms = millis(told, last);
        self.wait_for_exit(LEAVER.id)?;
        self.screen.chapter(&self.world, "all others saw it leave")?;
        // Long enough for a probe that missed it to become a suspicion, if one ever did.
        self.watch("and nobody takes it for a failure", FLOW)?;
        for kind in ["MemberSuspected", "MemberFailed"] {
            if let Some(seen) = self.world.first(kind, LEAVER.id, told) {
                bail!(
                    "{kind} for {}, which left, {} ms after it was told to",
                    LEAVER.id,
                    millis(told, seen)
                );
            }
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<()> {
        // The director first: its requests still under way find their workers.
        self.world.stop(DIRECTOR.id);
        self.process(DIRECTOR.id)?.tell_to_leave();
        self.wait_for_exit(DIRECTOR.id)?;
        let rest: Vec<&str> =
            WORKERS.iter().map(|role| role.id).filter(|id| *id != LEAVER.id).collect();
        for worker in &rest {
            self.world.stop(worker);
            self.process(worker)?.tell_to_leave();
        }
        for worker in rest {
            self.wait_for_exit(worker)?;
        }
        self.screen.show(&self.world, "everybody left")
    }

    pub(super) fn start_worker(&mut self, role: &Role, seed: &str) -> Result<()> {
        self.start(role, &["--seed", seed, "--tag", "role=worker"].map(str::to_owned))
    }

    pub(super) fn start(&mut self, role: &Role, args: &[String]) -> Result<()> {
        let id = role.id;
        let start = Start {
            command: self.programs.command(role),
            id,
            args,
            secret: &self.secret,
            generation: self.processes.get(id).map_or(0, |process| process.generation + 1),
            log: self.logs.join(format!("{id}.log")),
        };
        let generation = start.generation;
        // Known before it can say anything.
        self.world.start(id, generation);
        let process = Process::start(start, self.sender.clone())?;
        self.processes.insert(id.to_owned(), process);
        Ok(())
    }

    pub(super) fn process(&mut self, id: &str) -> Result<&mut Process> {
        self.processes.get_mut(id).with_context(|| format!("{id} was never started"))
    }

    /// Takes in what the processes say until `done` says so.
    pub(super) fn wait<T>(
        &mut self,
        doing: &str,
        limit: Duration,
        done: impl Fn(&World) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = done(&self.world) {
                self.screen.show(&self.world, doing)?;
                return Ok(found);
            }
            if Instant::now() >= until {
                bail!("not within {} s: {doing}", limit.as_secs());
            }
            self.take_in(doing)?;
        }
    }

    /// Lets things go on for a while.
    fn watch(&mut self, doing: &str, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.take_in(doing)?;
        }
        Ok(())
    }

    pub(super) fn wait_for_exit(&mut self, id: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process(id)?.ended() {
                // What it said last may still be under way; `closed` comes after all of it.
                self.wait("everybody leaves", limit::EXIT, |world| {
                    world.nodes[id].closed.then_some(())
                })?;
                if !status.success() {
                    bail!("{id} was told to leave and ended with {status}");
                }
                self.world.note(Instant::now(), format!("{id} has ended"));
                return Ok(());
            }
            if begun.elapsed() >= limit::EXIT {
                bail!("{id} was told to leave and did not end within {} s", limit::EXIT.as_secs());
            }
            self.take_in("everybody leaves")?;
        }
    }

    /// Takes in what has come, waiting for it a moment.
    fn take_in(&mut self, doing: &str) -> Result<()> {
        self.screen.show(&self.world, doing)?;
        if let Ok(input) = self.inputs.recv_timeout(REFRESH) {
            self.world.take(input);
            while let Ok(input) = self.inputs.try_recv() {
                self.world.take(input);
            }
        }
        if let Some(id) = self.world.unwanted_end().map(str::to_owned) {
            let status = self
                .process(&id)?
                .ended()
                .map_or_else(String::new, |status| format!(" ({status})"));
            bail!("{id} ended by itself{status}, while: {doing}");
        }
        Ok(())
    }
}

fn answered(world: &World, worker: &str) -> u64 {
    world.requests.by_worker.get(worker).copied().unwrap_or(0)
}
