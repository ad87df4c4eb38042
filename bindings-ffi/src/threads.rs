//! The threads that user code runs on: a callback that blocks costs no heartbeat, and may call
//! anything, since none of them belongs to the runtime.

use std::{collections::VecDeque, thread, time::Duration};

use parking_lot::{Condvar, Mutex};
use peerage::boundary::guarded;

/// More callbacks than this at once wait for a thread. How many can wait is bounded by the
/// clusters, which refuse requests beyond `requests_max`.
const THREADS_MAX: usize = 256;
/// A thread without work ends after this time.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job and were not told of one yet.
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { jobs: VecDeque::new(), threads: 0, idle: 0 });
static WORK: Condvar = Condvar::new();

/// Runs user code. Jobs begin in their order; many run at once.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) {
    let mut pool = POOL.lock();
    pool.jobs.push_back(Box::new(job));
    if pool.idle >= pool.jobs.len() || pool.threads >= THREADS_MAX {
        WORK.notify_one();
        return;
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
}

fn work() {
    let mut pool = POOL.lock();
    loop {
        while let Some(job) = pool.jobs.pop_front() {
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
