//! Processes that do not get to run when they should: stopped, suspended, starved, or slow.

use std::{collections::VecDeque, time::Duration};

use peerage::membership::{Input, Time};
use rand::Rng;

use super::{BACKLOG_MAX, Happening, World};

/// Whether and how fast a process runs, and what waits for it meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// While it stands still: what waits for it.
    backlog: Option<Vec<Input>>,
    resumes: u64,
    /// Since when its clock stands still as well.
    suspended: Option<u64>,
    /// Runs for the first time, stands still for the second, and again.
    starves: Option<(u64, u64)>,
    /// How long it needs for one input, on average.
    slow: Option<u64>,
    /// What waits for its turn, the first of it under way, and when that will be done.
    queue: VecDeque<Input>,
    done_at: Option<u64>,
    /// What its monotonic clock shows besides virtual time.
    clock: i64,
}

impl Pace {
    /// Of a process that starts now; its clock begins at zero, as a driver's does.
    pub(super) fn new(now: u64) -> Self {
        Self { clock: -(now as i64), ..Self::default() }
    }

    /// Whether it does not stand still.
    pub(super) fn is_awake(&self) -> bool {
        self.backlog.is_none()
    }

    /// What its clock shows.
    pub(super) fn time(&self, now: u64) -> Time {
        Time(now.saturating_add_signed(self.clock))
    }

    /// When its clock will show this.
    pub(super) fn when(&self, time: Time) -> u64 {
        time.0.saturating_add_signed(-self.clock)
    }

    /// Takes an input that is not to be handled now; gives back any other.
    fn keep(&mut self, input: Input) -> Option<Input> {
        let bounded = matches!(input, Input::Frame { .. });
        if let Some(backlog) = &mut self.backlog {
            // The socket's buffer is bounded; what the stack itself finds out is not in it, and
            // a tick that was missed comes when the process runs.
            if (backlog.len() < BACKLOG_MAX || !bounded) && !matches!(input, Input::Tick) {
                backlog.push(input);
            }
            return None;
        }
        if self.slow.is_none() && self.queue.is_empty() {
            return Some(input);
        }
        let tick_waits = || self.queue.iter().any(|i| matches!(i, Input::Tick));
        let drop = match input {
            Input::Tick => tick_waits(),
            _ => bounded && self.queue.len() >= BACKLOG_MAX,
        };
        if !drop {
            self.queue.push_back(input);
        }
        None
    }
}

impl World {
    /// The process on a host stands still for so long, perhaps with its clock.
    pub fn pause(&mut self, host: usize, time: u64, clock_too: bool) {
        let Some(p) = self.on_host[host] else { return };
        let pace = &mut self.processes[p].pace;
        if pace.backlog.is_none() {
            pace.backlog = Some(Vec::new());
            pace.suspended = clock_too.then_some(self.now);
            pace.resumes = self.now + time;
            self.push(self.now + time, Happening::Resume(p));
            // Nobody answers on its links any more.
            self.links_changed_of(p);
        } else if pace.resumes < self.now + time {
            pace.resumes = self.now + time;
            self.push(self.now + time, Happening::Resume(p));
        }
    }

    pub(super) fn resume(&mut self, p: usize) {
        let pace = &mut self.processes[p].pace;
        if pace.resumes > self.now {
            return; // it was stopped for longer meanwhile
        }
        let Some(backlog) = pace.backlog.take() else { return };
        if let Some(since) = pace.suspended.take() {
            pace.clock -= (self.now - since) as i64;
        }
        let goes_on = !pace.queue.is_empty() && pace.done_at.is_none();
        let starved = pace.starves.map(|(_, stop)| Duration::from_micros(stop));
        self.links_changed_of(p);
        if let Some(late) = starved {
            self.input(p, Input::Starved(late)); // its driver sees that before anything else
        }
        if goes_on {
            self.begin_handling(p);
        }
        for input in backlog {
            self.input(p, input);
        }
        self.schedule(p);
    }

    /// The process on a host runs for a while, stands still for a while, and again.
    pub fn starve(&mut self, host: usize, run: u64, stop: u64) {
        let Some(p) = self.on_host[host] else { return };
        let pace = &mut self.processes[p].pace;
        if pace.starves.replace((run, stop)).is_none() {
            // Those that starve together do not do so in step.
            let at = self.now + self.rng.random_range(0..run + stop);
            self.push(at, Happening::Starve(p));
        }
    }

    pub(super) fn starve_on(&mut self, p: usize) {
        let process = &self.processes[p];
        if let Some((run, stop)) = process.pace.starves.filter(|_| process.running) {
            self.pause(process.host, stop, false);
            self.push(self.now + stop + run, Happening::Starve(p));
        }
    }

    /// The process on a host needs so long for whatever it does, on average.
    pub fn slow(&mut self, host: usize, time: u64) {
        let Some(p) = self.on_host[host] else { return };
        self.processes[p].pace.slow = Some(time);
    }

    /// The process on a host is neither starved nor slow any more, and runs.
    pub fn fit(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        let pace = &mut self.processes[p].pace;
        pace.slow = None;
        if pace.starves.take().is_some() && pace.backlog.is_some() {
            pace.resumes = self.now;
            self.resume(p);
        }
    }

    /// The monotonic clock of a host's process is suddenly so much later.
    pub fn clock_jump(&mut self, host: usize, by: u64) {
        let Some(p) = self.on_host[host] else { return };
        self.jumped = self.now;
        self.processes[p].pace.clock += by as i64;
        self.schedule(p);
    }

    /// Something happened to a process: it learns of it now, or when it gets to it.
    pub(super) fn input(&mut self, p: usize, input: Input) {
        let process = &mut self.processes[p];
        if !process.running {
            return;
        }
        if let Some(input) = process.pace.keep(input) {
            return self.handle(p, input);
        }
        let pace = &process.pace;
        if pace.is_awake() && pace.done_at.is_none() && !pace.queue.is_empty() {
            self.begin_handling(p);
        }
    }

    fn begin_handling(&mut self, p: usize) {
        let slow = self.processes[p].pace.slow.unwrap_or_default();
        let at = self.now + self.rng.random_range(0..=2 * slow);
        self.processes[p].pace.done_at = Some(at);
        self.push(at, Happening::Handled(p));
    }

    /// A slow process is done with what it was at.
    pub(super) fn handled(&mut self, p: usize) {
        let process = &mut self.processes[p];
        if process.pace.done_at.take().is_none() || !process.running || !process.pace.is_awake() {
            return; // when it runs again it goes on here
        }
        let Some(first) = process.pace.queue.front_mut() else { return };
        // Its place stays taken while it is handled, so that what comes of it waits behind it.
        let input = std::mem::replace(first, Input::Tick);
        self.handle(p, input);
        let queue = &mut self.processes[p].pace.queue;
        queue.pop_front();
        if !queue.is_empty() {
            self.begin_handling(p);
        }
    }
}
