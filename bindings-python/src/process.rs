//! What a process that was forked has inherited: handles whose threads did not come along.
//!
//! Waiting for those threads would hang, and dropping what they held could: a thread of the parent
//! may have held one of its locks at the moment of the fork. So in a child every use of an
//! inherited handle is an error, and what it holds is never dropped.

use std::{
    mem::ManuallyDrop,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use peerage::{Error, Result};

/// The process in which our threads were first started; 0 before that.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);

/// Claims this process for our threads; an error in a child of the one that has them.
pub(crate) fn check() -> Result<()> {
    let here = process::id();
    match STARTED_IN.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Err(there) if there != here => Err(forked()),
        _ => Ok(()),
    }
}

fn forked() -> Error {
    let reason = "this process was forked from one that uses Peerage; let the child use it alone, \
                  or start processes with the `spawn` method";
    Error::Closed(reason.into())
}

/// Something that is of use only in the process that made it.
pub(crate) struct Local<T> {
    process: u32,
    value: ManuallyDrop<T>,
}

impl<T> Local<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: process::id(), value: ManuallyDrop::new(value) }
    }

    pub(crate) fn get(&self) -> Result<&T> {
        if self.process == process::id() { Ok(&self.value) } else { Err(forked()) }
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.process == process::id() {
            // SAFETY: this is the only place that drops the value, it is run once, and nothing
            // can use the value after it.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}
