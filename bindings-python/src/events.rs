//! Subscriptions. Their queue is the core's; nothing waits here.

use std::sync::Arc;

use peerage::Events;
use pyo3::{prelude::*, types::PyList};
use tokio::sync::Mutex;

use crate::{
    calls::{self, Call},
    described,
    failure::OrRaise,
    port::{Outcome, Port},
    process::Local,
};

/// A subscription; dropping it ends it.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Subscription(Local<Arc<Shared>>);

struct Shared {
    events: Events,
    /// The core wakes one task. One that was cancelled may still be on its way to wait when the
    /// next one comes: they take turns.
    turn: Mutex<()>,
}

impl Subscription {
    pub(crate) fn new(events: Events) -> Self {
        Self(Local::new(Arc::new(Shared { events, turn: Mutex::new(()) })))
    }
}

#[pymethods]
impl Subscription {
    /// Up to `most` events that wait, in their order.
    fn take<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let events = self.0.get().or_raise(py)?.events.take(most);
        let list = PyList::empty(py);
        for event in events {
            list.append(described::event(py, event)?)?;
        }
        Ok(list)
    }

    /// Whether the node has ended and everything was taken.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.get().or_raise(py)?.events.ended())
    }

    /// A call that ends once something can be taken, or nothing will ever be. One at a time.
    fn ready(&self, py: Python<'_>, port: &Port, ticket: u64) -> PyResult<Call> {
        let shared = self.0.get().or_raise(py)?.clone();
        calls::begin(py, port, ticket, async move {
            let _turn = shared.turn.lock().await;
            shared.events.ready().await;
            Ok(Outcome::Nothing)
        })
    }
}
