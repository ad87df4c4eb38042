//! Requests of others on their way to a handler in Python, and its answers on their way back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::boundary::{Face, SharedStream};
use pyo3::{IntoPyObjectExt, prelude::*, sync::PyOnceLock, types::PyBytes};
use tokio::sync::oneshot;

use crate::{convert, failure::OrRaise, port::Mailbox, process::Local, stream::NativeStream};

/// What a handler answers, or why it does not.
type Answer = Result<Bytes, String>;

/// Requests are numbered through, so that the loop can be told which one was given up.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Brings a request to the loop and waits for the answer.
pub(crate) async fn ask(mailbox: Arc<Mailbox>, handler: u64, request: peerage::Request) -> Answer {
    bring(mailbox, handler, Subject::Request(request)).await
}

/// Brings a stream to the loop and waits until its handler is done with it.
pub(crate) async fn take(
    mailbox: Arc<Mailbox>,
    handler: u64,
    stream: SharedStream,
) -> Result<(), String> {
    bring(mailbox, handler, Subject::Stream(stream)).await.map(drop)
}

async fn bring(mailbox: Arc<Mailbox>, handler: u64, subject: Subject) -> Answer {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let (answer, wait) = oneshot::channel();
    let subject = Local::new(subject);
    let asked = Asked { id, subject, answer: Local::new(Mutex::new(Some(answer))) };
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

/// What a handler is to deal with.
enum Subject {
    Request(peerage::Request),
    Stream(SharedStream),
}

/// A request that waits for its answer, or a stream that waits for its end.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Asked {
    /// Its number.
    #[pyo3(get)]
    pub(crate) id: u64,
    subject: Local<Subject>,
    answer: Local<Mutex<Option<oneshot::Sender<Answer>>>>,
}

#[pymethods]
impl Asked {
    /// The request or the stream, for the handler.
    fn subject<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.subject.get().or_raise(py)? {
            Subject::Request(request) => {
                Request { request: request.clone(), payload: PyOnceLock::new() }
                    .into_bound_py_any(py)
            }
            Subject::Stream(stream) => NativeStream::new(stream.clone()).into_bound_py_any(py),
        }
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
