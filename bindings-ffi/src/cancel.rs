//! Waiting for a call, and cancelling it from another thread.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, mpsc},
};

use parking_lot::Mutex;
use peerage::{Error, Result, boundary::run};

use crate::call::{Out, argument, call, free, peerage_status};
use crate::error::peerage_error;

/// Cancels calls: give it to any number of waiting calls, and trigger it from any thread. It stays
/// triggered. Freed with `peerage_cancel_free`, also while calls use it.
pub struct peerage_cancel(pub(crate) Arc<Cancel>);

/// The state behind a handle; calls under way keep it.
#[derive(Default)]
pub(crate) struct Cancel(Mutex<State>);

#[derive(Default)]
struct State {
    triggered: bool,
    next: u64,
    waiting: BTreeMap<u64, Arc<dyn Fn() + Send + Sync>>,
}

/// While it lives, the trigger reaches the call.
pub(crate) struct Registered(Option<(Arc<Cancel>, u64)>);

impl Cancel {
    fn trigger(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.triggered = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.values().for_each(|tell| tell());
    }

    pub(crate) fn is_triggered(&self) -> bool {
        self.0.lock().triggered
    }

    /// `tell` is called once when it is triggered, at once if it was before.
    pub(crate) fn register(self: &Arc<Self>, tell: Arc<dyn Fn() + Send + Sync>) -> Registered {
        let mut state = self.0.lock();
        if state.triggered {
            drop(state);
            tell();
            return Registered(None);
        }
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, tell);
        Registered(Some((self.clone(), id)))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some((cancel, id)) = self.0.take() {
            cancel.0.lock().waiting.remove(&id);
        }
    }
}

/// The state behind a handle that may be NULL.
///
/// # Safety
/// The pointer must be NULL or a living handle.
pub(crate) unsafe fn cancel_of(cancel: *const peerage_cancel) -> Option<Arc<Cancel>> {
    // SAFETY: the caller's promise.
    unsafe { cancel.as_ref() }.map(|cancel| cancel.0.clone())
}

/// Runs the work on the library's runtime; the calling thread waits for its outcome. No thread of
/// the runtime ever comes here, since user code runs on threads of its own.
pub(crate) fn wait<T: Send + 'static>(
    cancel: Option<Arc<Cancel>>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    if cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
        return Err(Error::Cancelled);
    }
    let (done, outcome) = mpsc::channel();
    let cancelled = done.clone();
    let under_way = run(work, move |result| {
        // Whoever was cancelled does not listen any more.
        let _ = done.send(result);
    });
    let _registered = cancel.map(|cancel| {
        cancel.register(Arc::new(move || {
            under_way.cancel();
            let _ = cancelled.send(Err(Error::Cancelled));
        }))
    });
    outcome
        .recv()
        .unwrap_or_else(|_| Err(Error::Internal("the call ended without an outcome".into())))
}

/// A new one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cancel_new(
    cancel: *mut *mut peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands places for pointers, or NULL.
    unsafe {
        call(error, || {
            Out::new(cancel, "cancel")?.give(peerage_cancel(Arc::default()));
            Ok(())
        })
    }
}

/// Ends every call that was given it, now and later, with `PEERAGE_ERROR_CANCELLED`: what they
/// held is released, on the other node too. Never waits; any thread, as often as you like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cancel_trigger(
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a place for a pointer or NULL.
    unsafe {
        call(error, || {
            argument(cancel, "cancel")?.0.trigger();
            Ok(())
        })
    }
}

/// Frees it; calls under way go on. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cancel_free(cancel: *mut peerage_cancel) {
    // SAFETY: the header demands a handle that was not freed, or NULL.
    unsafe { free(cancel) };
}
