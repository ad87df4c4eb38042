//! Requests of others on their way to a handler in Python, and its answers on their way back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::boundary::Face;
use pyo3::{prelude::*, sync::PyOnceLock, types::PyBytes};
use tokio::sync::oneshot;

use crate::{convert, failure::OrRaise, port::Mailbox, process::Local};

/// What a handler answers, or why it does not.
type Answer = Result<Bytes, String>;

/// Requests are numbered through, so that the loop can be told which one was given up.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Brings a request to the loop and waits for the answer.
pub(crate) async fn ask(mailbox: Arc<Mailbox>, handler: u64, request: peerage::Request) -> Answer {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (answer, wait) = oneshot::channel();
    let asked = Asked { id, request, answer: Local::new(Mutex::new(Some(answer))) };
    if !mailbox.asked(handler, asked) {
        return Err("the event loop of the handler is closed".into());
    }
    let mut waiting = Waiting { mailbox, id, answered: false };
    let answer = wait.await;
    waiting.answered = true;
    answer.unwrap_or_else(|_| Err("the handler went away without an answer".into()))
}

/// Tells the loop when the one who asked has gone.
struct Waiting {
    mailbox: Arc<Mailbox>,
    id: u64,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.given_up(self.id);
        }
    }
}

/// A request that waits for its answer.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Asked {
    /// Its number.
    #[pyo3(get)]
    pub(crate) id: u64,
    request: peerage::Request,
    answer: Local<Mutex<Option<oneshot::Sender<Answer>>>>,
}

#[pymethods]
impl Asked {
    /// The request, for the handler.
    fn request(&self) -> Request {
        Request { request: self.request.clone(), payload: PyOnceLock::new() }
    }

    /// Answers it. A value that is no payload is an error, and the request goes on waiting.
    fn answer(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = convert::from_python(value)?;
        let payload = Face::PYTHON.payload("answer", value).or_raise(py)?;
        self.end(Ok(payload));
        Ok(())
    }

    /// Says that there is no answer, and why.
    fn fail(&self, message: String) {
        self.end(Err(message));
    }
}

impl Asked {
    fn end(&self, answer: Answer) {
        let Ok(sender) = self.answer.get() else { return };
        let sender = sender.lock().take();
        if let Some(sender) = sender {
            // Whoever asked may have gone.
            let _ = sender.send(answer);
        }
    }
}

/// What a peer asks, or tells.
#[pyclass(frozen, module = "peerage")]
pub(crate) struct Request {
    request: peerage::Request,
    payload: PyOnceLock<Py<PyBytes>>,
}

#[pymethods]
impl Request {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    fn match_args() -> (&'static str, &'static str, &'static str) {
        ("from_", "topic", "payload")
    }

    /// Who asks, as its link says.
    #[getter]
    fn from_(&self) -> &str {
        self.request.from.as_str()
    }

    /// What it is about.
    #[getter]
    fn topic(&self) -> &str {
        &self.request.topic
    }

    /// What was sent.
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> &Bound<'py, PyBytes> {
        let bytes = || PyBytes::new(py, &self.request.payload).unbind();
        self.payload.get_or_init(py, bytes).bind(py)
    }

    fn __repr__(&self) -> String {
        let peerage::Request { from, topic, payload } = &self.request;
        format!("Request(from_={from:?}, topic={topic:?}, payload=<{} bytes>)", payload.len())
    }
}
