//! The one tokio runtime of a loaded library: started with the first cluster, shared by all,
//! ended with the last. Or that of a program which wants its nodes there.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::{
    error::{Error, Result},
    panics::caught_here,
};

/// A share in a runtime. The last one ends it, unless it is the program's.
pub(crate) struct Runtime {
    threads: Option<tokio::runtime::Runtime>,
    handle: Handle,
    lag: Lag,
    /// Dropped with it, which ends the thread that looks.
    _end: mpsc::Sender<()>,
}

/// How late tasks are that wait for a thread. A driver is a task itself, so it cannot tell: where
/// thousands wait, its timers may come in time while whatever it would hear waits for seconds.
#[derive(Clone, Debug)]
pub(crate) struct Lag {
    /// Since this; all times below are milliseconds from here.
    began: Instant,
    /// When a task was handed in that has not run yet; 0 if there is none.
    waiting: Arc<AtomicU64>,
    /// How late the last one was.
    last: Arc<AtomicU64>,
}

/// How often a task is handed in to see how late it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Lag {
    /// How late tasks are now.
    pub(crate) fn now(&self) -> Duration {
        let waiting = match self.waiting.load(Ordering::Relaxed) {
            0 => 0,
            since => self.millis().saturating_sub(since),
        };
        Duration::from_millis(waiting.max(self.last.load(Ordering::Relaxed)))
    }

    fn millis(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// Looks, from a thread that is none of the runtime's, until the runtime ends.
    fn watch(self, handle: Handle, end: mpsc::Receiver<()>) {
        while let Err(mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(LOOK_EVERY) {
            if self.waiting.load(Ordering::Relaxed) != 0 {
                continue;
            }
            let since = self.millis();
            self.waiting.store(since, Ordering::Relaxed);
            let lag = self.clone();
            handle.spawn(async move {
                lag.last.store(lag.millis().saturating_sub(since), Ordering::Relaxed);
                lag.waiting.store(0, Ordering::Relaxed);
            });
        }
    }
}

static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());
/// Those of programs that have nodes.
static PROGRAMS: Mutex<Vec<Weak<Runtime>>> = Mutex::new(Vec::new());

/// Threads beyond this bring a membership library nothing.
const THREADS_MAX: usize = 8;

impl Runtime {
    /// The running one, or a new one.
    pub(crate) fn shared() -> Result<Arc<Runtime>> {
        let mut shared = SHARED.lock();
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let threads = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, THREADS_MAX));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("peerage")
            .enable_all()
            .build()
            .map_err(|e| Error::Internal(format!("cannot start threads: {e}")))?;
        let handle = runtime.handle().clone();
        let runtime = Self::watched(handle, Some(runtime))?;
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    /// The program's own.
    pub(crate) fn of_program(handle: &Handle) -> Result<Arc<Runtime>> {
        let mut programs = PROGRAMS.lock();
        programs.retain(|one| one.strong_count() > 0);
        let known = programs.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.into_iter().find(|one| one.handle.id() == handle.id()) {
            return Ok(known);
        }
        let timers = caught_here(|| {
            let _inside = handle.enter();
            drop(tokio::time::sleep(Duration::ZERO));
        });
        if timers.is_err() {
            return Err(Error::Argument {
                field: "runtime",
                value: handle.id().to_string(),
                expected: "must have timers and I/O enabled (`enable_all`), has no timers".into(),
            });
        }
        let runtime = Self::watched(handle.clone(), None)?;
        programs.push(Arc::downgrade(&runtime));
        Ok(runtime)
    }

    /// One that somebody looks after.
    fn watched(handle: Handle, threads: Option<tokio::runtime::Runtime>) -> Result<Arc<Runtime>> {
        let lag = Lag { began: Instant::now(), waiting: Arc::default(), last: Arc::default() };
        let (end, ended) = mpsc::channel();
        let (watching, watched) = (lag.clone(), handle.clone());
        thread::Builder::new()
            .name("peerage-lag".into())
            .spawn(move || watching.watch(watched, ended))
            .map_err(|e| Error::Internal(format!("cannot start a thread: {e}")))?;
        Ok(Arc::new(Runtime { threads, handle, lag, _end: end }))
    }

    /// The test's own, and nobody who looks for lag.
    #[cfg(test)]
    pub(crate) fn of_the_test() -> Arc<Runtime> {
        let lag = Lag { began: Instant::now(), waiting: Arc::default(), last: Arc::default() };
        let (handle, end) = (Handle::current(), mpsc::channel().0);
        Arc::new(Runtime { threads: None, handle, lag, _end: end })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// How late tasks are.
    pub(crate) fn lag(&self) -> Lag {
        self.lag.clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The last share may be dropped on one of the runtime's own threads, which cannot wait
        // for themselves; nothing of a cluster is left to wait for by then.
        if let Some(runtime) = self.threads.take() {
            runtime.shutdown_background();
        }
    }
}
