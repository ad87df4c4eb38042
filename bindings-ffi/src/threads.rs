//! The threads that user code runs on: a callback that blocks costs no heartbeat, and may call
//! anything, since none of them belongs to the runtime.

use std::{collections::BTreeMap, thread, time::Duration};

use parking_lot::{Condvar, Mutex};
use peerage::boundary::guarded;

/// More callbacks than this at once wait for a thread. How many can wait is bounded by the
/// clusters, which refuse requests beyond `requests_max` and streams beyond `streams_max`; a request
/// whose caller has gone is taken out again ([`Waiting`]).
const THREADS_MAX: usize = 256;
/// A thread without work ends after this time.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    /// By their numbers, which is the order that they came in.
    jobs: BTreeMap<u64, Job>,
    next: u64,
    threads: usize,
    /// Threads that wait for a job and were not told of one yet.
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { jobs: BTreeMap::new(), next: 0, threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

/// A job that may not have begun. Dropping it takes the job back if so.
pub(crate) struct Waiting(u64);

impl Drop for Waiting {
    fn drop(&mut self) {
        // Dropped unlocked: what a job holds may have a job to run at its own end.
        let job = POOL.lock().jobs.remove(&self.0);
        drop(job);
    }
}

/// Runs user code unless it is taken back before. Jobs begin in their order; many run at once.
pub(crate) fn run_unless_dropped(job: impl FnOnce() + Send + 'static) -> Waiting {
    Waiting(run(job))
}

/// Runs user code, and gives the job's number.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) -> u64 {
    let mut pool = POOL.lock();
    let number = pool.next;
    pool.next += 1;
    pool.jobs.insert(number, Box::new(job));
    if pool.idle >= pool.jobs.len() || pool.threads >= THREADS_MAX {
        WORK.notify_one();
        return number;
    }
    pool.threads += 1;
    drop(pool);
    if thread::Builder::new().name("peerage-user".into()).spawn(work).is_err() {
        let mut pool = POOL.lock();
        pool.threads -= 1;
        if pool.threads == 0 {
            // Nobody would ever run them; their drop is an answer of its own.
            let jobs = std::mem::take(&mut pool.jobs);
            drop(pool);
            drop(jobs);
        }
    }
    number
}

fn work() {
    let mut pool = POOL.lock();
    loop {
        while let Some((_, job)) = pool.jobs.pop_first() {
            drop(pool);
            // A panic here is one of ours: C has none.
            let _ = guarded(|| {
                job();
                Ok(())
            });
            pool = POOL.lock();
        }
        pool.idle += 1;
        let late = WORK.wait_for(&mut pool, IDLE_MAX).timed_out();
        pool.idle -= 1;
        if late && pool.jobs.is_empty() {
            pool.threads -= 1;
            return;
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
        for _ in 0..THREADS_MAX {
            let (held, begun) = (held.clone(), begun.clone());
            run(move || {
                begun.send(()).unwrap();
                let _ = held.lock().recv(); // ends when `hold` goes
            });
        }
        for _ in 0..THREADS_MAX {
            count.recv_timeout(Duration::from_secs(30)).unwrap();
        }
        let payload = Arc::new(());
        for _ in 0..1000 {
            let payload = payload.clone();
            drop(run_unless_dropped(move || drop(payload)));
        }
        assert_eq!(Arc::strong_count(&payload), 1);
        assert!(POOL.lock().jobs.is_empty());
        drop(hold);
    }
}
