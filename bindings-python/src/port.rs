//! How outcomes reach an event loop: notes in a queue, and a descriptor that the loop watches.
//!
//! 1. Whoever leaves a note writes a byte only if nobody has since the loop last looked: one wake
//!    for any number of notes.
//! 2. The queue holds at most one note for each call that the loop waits for, one for each
//!    inbound request or stream under way, whose number the core limits, and one for each node, which asks
//!    the next question when the last was answered. A request that is given up before the loop has
//!    seen it is taken out again; a stream stays, and is handled to its end, so that a blocked loop has
//!    up to `streams_max` of them before it.
//! 3. A note that cannot be delivered any more is dropped, and what it holds is released.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::{
    Cluster, Error, Explanation, LeaveReport, Result,
    boundary::{self, Gate, SharedStream},
};
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyBytes, PyList},
};
use tokio::sync::watch;

use crate::{
    described,
    failure::{OrRaise, exception},
    handlers::Asked,
    node::Node,
    process::{self, Local},
    stream::{Chunk, NativeStream},
};

#[cfg(unix)]
use std::os::{fd::AsRawFd, unix::net::UnixStream as Stream};
#[cfg(windows)]
use std::{net::TcpStream as Stream, os::windows::io::AsRawSocket};

/// What a call that has ended gives back.
pub(crate) enum Outcome {
    Nothing,
    Flag(bool),
    Node(Cluster, Gate),
    Bytes(Bytes),
    Chunk(boundary::Chunk),
    Report(Arc<LeaveReport>),
    Explained(Option<Explanation>),
    Stream(SharedStream),
}

/// What the loop is to be told.
#[derive(Default)]
struct Notes {
    /// Calls that have ended, by their tickets.
    done: Vec<(u64, Result<Outcome>)>,
    /// Requests and messages for handlers, by their own numbers, which rise: so they stay in
    /// order.
    asked: BTreeMap<u64, (u64, Asked)>,
    /// Requests that the loop has been told of and that nobody waits for any more.
    given_up: Vec<u64>,
    /// Whether the loop responds, by the number of the node that wants to know.
    questions: Vec<(u64, u64)>,
}

/// Where notes are left, from any thread and without Python.
pub(crate) struct Mailbox {
    /// `None` once nobody looks any more.
    notes: Mutex<Option<Notes>>,
    /// Becomes true then.
    closed: watch::Sender<bool>,
    /// A byte is on its way to the loop.
    woken: AtomicBool,
    /// Both ends live here, so that a write never meets a closed pipe.
    reader: Stream,
    writer: Stream,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let notes = Mutex::new(Some(Notes::default()));
        let closed = watch::Sender::new(false);
        Ok(Self { notes, closed, woken: AtomicBool::new(false), reader, writer })
    }

    /// A call has ended.
    pub(crate) fn done(&self, ticket: u64, result: Result<Outcome>) {
        self.leave(|notes| notes.done.push((ticket, result)));
    }

    /// A request has come; `false` if nobody looks any more.
    pub(crate) fn asked(&self, handler: u64, asked: Asked) -> bool {
        self.leave(|notes| drop(notes.asked.insert(asked.id, (handler, asked))))
    }

    /// A node wants to know whether the loop responds; `false` if nobody looks any more.
    pub(crate) fn question(&self, node: u64, question: u64) -> bool {
        self.leave(|notes| notes.questions.push((node, question)))
    }

    /// Waits until nobody looks any more.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.closed.subscribe();
        async move { drop(closed.wait_for(|closed| *closed).await) }
    }

    /// Whoever made this request has gone.
    pub(crate) fn given_up(&self, id: u64) {
        let mut unseen = None;
        self.leave(|notes| {
            unseen = notes.asked.remove(&id);
            if unseen.is_none() {
                notes.given_up.push(id);
            }
        });
    }

    fn leave(&self, note: impl FnOnce(&mut Notes)) -> bool {
        match &mut *self.notes.lock() {
            Some(notes) => note(notes),
            None => return false,
        }
        self.wake();
        true
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // There is room: the loop has read everything that was written before.
            let _ = (&self.writer).write(&[1]);
        }
    }

    fn take(&self) -> Notes {
        let mut bytes = [0; 64];
        while (&self.reader).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
        // Only now, and before the notes are taken: whoever leaves one after this wakes again.
        self.woken.store(false, Ordering::Release);
        self.notes.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        // What notes hold is dropped unlocked.
        let left = self.notes.lock().take();
        drop(left);
        self.closed.send_replace(true);
        self.wake();
    }
}

#[cfg(unix)]
fn pair() -> io::Result<(Stream, Stream)> {
    Stream::pair()
}

#[cfg(windows)]
fn pair() -> io::Result<(Stream, Stream)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let writer = Stream::connect(listener.local_addr()?)?;
    loop {
        let (reader, from) = listener.accept()?;
        // Anybody on this machine could have connected first.
        if from == writer.local_addr()? {
            writer.set_nodelay(true)?;
            return Ok((reader, writer));
        }
    }
}

/// The end that one event loop reads.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Port(Local<Arc<Mailbox>>);

impl Port {
    pub(crate) fn mailbox(&self) -> Result<Arc<Mailbox>> {
        self.0.get().cloned()
    }
}

#[pymethods]
impl Port {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        process::check().or_raise(py)?;
        let mailbox = Mailbox::new()
            .map_err(|e| Error::Internal(format!("cannot make a pair of sockets: {e}")))
            .or_raise(py)?;
        Ok(Self(Local::new(Arc::new(mailbox))))
    }

    /// What becomes readable when notes wait.
    fn fileno(&self, py: Python<'_>) -> PyResult<i64> {
        let mailbox = self.0.get().or_raise(py)?;
        #[cfg(unix)]
        let number = i64::from(mailbox.reader.as_raw_fd());
        #[cfg(windows)]
        let number = mailbox.reader.as_raw_socket() as i64;
        Ok(number)
    }

    /// All notes that wait, each as (kind, key, value): 0 a call's result, 1 its exception,
    /// 2 a request or a stream for a handler, 3 a request that nobody waits for any more, 4 a node's question
    /// whether the loop responds.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let Notes { done, asked, given_up, questions } = self.0.get().or_raise(py)?.take();
        for (ticket, result) in done {
            let value = match result {
                Ok(outcome) => converted(py, outcome),
                Err(error) => Err(exception(py, &error)),
            };
            match value {
                Ok(value) => list.append((0, ticket, value))?,
                Err(error) => list.append((1, ticket, error.into_value(py)))?,
            }
        }
        for (handler, asked) in asked.into_values() {
            list.append((2, handler, asked))?;
        }
        for id in given_up {
            list.append((3, id, py.None()))?;
        }
        for (node, question) in questions {
            list.append((4, node, question))?;
        }
        Ok(list)
    }

    /// Nobody looks any more; what waits, and whoever waits for an answer, is told so.
    fn close(&self) {
        // In a forked child there is nobody to tell.
        if let Ok(mailbox) = self.0.get() {
            mailbox.close();
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.get().map_or(true, |mailbox| mailbox.notes.lock().is_none())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

fn converted(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    match outcome {
        Outcome::Nothing => Ok(py.None().into_bound(py)),
        Outcome::Node(cluster, gate) => Node::new(cluster, gate).into_bound_py_any(py),
        Outcome::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        Outcome::Chunk(chunk) => Chunk::new(chunk).into_bound_py_any(py),
        Outcome::Flag(flag) => flag.into_bound_py_any(py),
        Outcome::Explained(found) => {
            found.map(|found| described::Explanation(found.into())).into_bound_py_any(py)
        }
        Outcome::Stream(stream) => NativeStream::new(stream).into_bound_py_any(py),
        Outcome::Report(report) => described::LeaveReport(report).into_bound_py_any(py),
    }
}
