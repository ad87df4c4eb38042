//! The threads that user code runs on: a callback that blocks costs no heartbeat, and may call
//! anything, since none of them belongs to the runtime.

use std::{collections::BTreeMap, thread, time::Duration};

use parking_lot::{Condvar, Mutex};
use peerage::boundary::guarded;

/// Those that handle requests and messages, and that destroy user data. How many callbacks can wait
/// is bounded by the clusters, which refuse requests beyond `requests_max`; one whose caller has
/// gone is taken out again ([`Waiting`]).
pub(crate) static REQUESTS: Pool = Pool::new(256);
/// Those that handle streams. They are others, since a stream may last, and its peer may stall for
/// as long as it likes; and so many, since that must not keep other peers' streams waiting: one peer
/// has three quarters of `streams_max` at most, which is 1,024 if nobody changes it.
pub(crate) static STREAMS: Pool = Pool::new(4096);

/// A thread without work ends after this time.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Threads of one kind.
pub(crate) struct Pool {
    /// More jobs than this at once wait for a thread.
    threads_max: usize,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    /// By their numbers, which is the order that they came in.
    jobs: BTreeMap<u64, Job>,
    next: u64,
    threads: usize,
    /// Threads that wait for a job and were not told of one yet.
    idle: usize,
}

/// A job that may not have begun. Dropping it takes the job back if so.
pub(crate) struct Waiting {
    pool: &'static Pool,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Dropped unlocked: what a job holds may have a job to run at its own end.
        let job = self.pool.state.lock().jobs.remove(&self.number);
        drop(job);
    }
}

impl Pool {
    const fn new(threads_max: usize) -> Self {
        let state = State { jobs: BTreeMap::new(), next: 0, threads: 0, idle: 0 };
        Self { threads_max, state: Mutex::new(state), work: Condvar::new() }
    }

    /// Runs user code unless it is taken back before. Jobs begin in their order; many run at once.
    pub(crate) fn run_unless_dropped(
        &'static self,
        job: impl FnOnce() + Send + 'static,
    ) -> Waiting {
        Waiting { pool: self, number: self.run(job) }
    }

    /// Runs user code, and gives the job's number.
    pub(crate) fn run(&'static self, job: impl FnOnce() + Send + 'static) -> u64 {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.jobs.insert(number, Box::new(job));
        if state.idle >= state.jobs.len() || state.threads >= self.threads_max {
            self.work.notify_one();
            return number;
        }
        state.threads += 1;
        drop(state);
        let thread = thread::Builder::new().name("peerage-user".into());
        if thread.spawn(|| self.work()).is_err() {
            let mut state = self.state.lock();
            state.threads -= 1;
            if state.threads == 0 {
                // Nobody would ever run them; their drop is an answer of its own.
                let jobs = std::mem::take(&mut state.jobs);
                drop(state);
                drop(jobs);
            }
        }
        number
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            while let Some((_, job)) = state.jobs.pop_first() {
                drop(state);
                // A panic here is one of ours: C has none.
                let _ = guarded(|| {
                    job();
                    Ok(())
                });
                state = self.state.lock();
            }
            state.idle += 1;
            let late = self.work.wait_for(&mut state, IDLE_MAX).timed_out();
            state.idle -= 1;
            if late && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn what_nobody_waits_for_any_more_does_not_pile_up() {
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (begun, count) = mpsc::channel();
        for _ in 0..REQUESTS.threads_max {
            let (held, begun) = (held.clone(), begun.clone());
            REQUESTS.run(move || {
                begun.send(()).unwrap();
                let _ = held.lock().recv(); // ends when `hold` goes
            });
        }
        for _ in 0..REQUESTS.threads_max {
            count.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        let payload = Arc::new(());
        for _ in 0..1000 {
            let payload = payload.clone();
            drop(REQUESTS.run_unless_dropped(move || drop(payload)));
        }
        assert_eq!(Arc::strong_count(&payload), 1);
        assert!(REQUESTS.state.lock().jobs.is_empty());
        drop(hold);
    }
}
