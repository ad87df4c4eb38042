//! Calls that take time: they run on the core's runtime and end as a note to an event loop.

use std::future::Future;

use peerage::{Result, boundary};
use pyo3::prelude::*;

use crate::{
    failure::OrRaise,
    port::{Outcome, Port},
    process::{self, Local},
};

/// A call under way.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Call(Local<boundary::Call>);

#[pymethods]
impl Call {
    /// Ends it where it stands; no note comes, unless one is there already.
    fn cancel(&self) {
        // In a forked child nothing runs that could be cancelled.
        if let Ok(call) = self.0.get() {
            call.cancel();
        }
    }
}

/// Begins a call; its note carries the ticket.
pub(crate) fn begin(
    py: Python<'_>,
    port: &Port,
    ticket: u64,
    work: impl Future<Output = Result<Outcome>> + Send + 'static,
) -> PyResult<Call> {
    process::check().or_raise(py)?;
    let mailbox = port.mailbox().or_raise(py)?;
    let call =
        boundary::guarded(|| Ok(boundary::run(work, move |result| mailbox.done(ticket, result))));
    Ok(Call(Local::new(call.or_raise(py)?)))
}
