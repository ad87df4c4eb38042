//! The one tokio runtime of a loaded library: started with the first cluster, shared by all,
//! ended with the last.

use std::{
    sync::{Arc, Weak},
    thread,
};

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// A share in the runtime. The last one ends it.
pub(crate) struct Runtime(Option<tokio::runtime::Runtime>);

static SHARED: Mutex<Weak<Runtime>> = Mutex::new(Weak::new());

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
        let runtime = Arc::new(Runtime(Some(runtime)));
        *shared = Arc::downgrade(&runtime);
        Ok(runtime)
    }

    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("it is taken only in drop").handle().clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The last share may be dropped on one of the runtime's own threads, which cannot wait
        // for themselves; nothing of a cluster is left to wait for by then.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
