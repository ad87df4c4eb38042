//! Subscriptions. Their queue is the core's; nothing waits here.

use std::sync::Arc;

use peerage::Events;
use pyo3::{prelude::*, types::PyList};

use crate::{
    calls::{self, Call},
    described,
    failure::OrRaise,
    port::{Outcome, Port},
    process::Local,
};

/// A subscription; dropping it ends it.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Subscription(Local<Arc<Events>>);

impl Subscription {
    pub(crate) fn new(events: Events) -> Self {
        Self(Local::new(Arc::new(events)))
    }
}

#[pymethods]
impl Subscription {
    /// Up to `most` events that wait, in their order.
    fn take<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let events = self.0.get().or_raise(py)?.take(most);
        let list = PyList::empty(py);
        for event in events {
            list.append(described::event(py, event)?)?;
        }
        Ok(list)
    }

    /// Whether the node has ended and everything was taken.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get().or_raise(py)?.ended())
    }

    /// A call that ends once something can be taken, or nothing will ever be. One at a time.
    fn ready(&self, py: Python<'_>, port: &Port, ticket: u64) -> PyResult<Call> {
        let events = self.0.get().or_raise(py)?.clone();
        calls::begin(py, port, ticket, async move {
            events.ready().await;
            Ok(Outcome::Nothing)
        })
    }
}
