//! Streams, as `peerage.Stream` holds them.

use parking_lot::Mutex;
use peerage::boundary::{self, Face, SharedStream, guarded};
use pyo3::{prelude::*, types::PyBytes};

use crate::{
    calls::{self, Call},
    convert::from_python,
    failure::OrRaise,
    port::{Outcome, Port},
    process::Local,
};

const FACE: Face = Face::PYTHON;

/// What a read came to. If nobody takes it, the next read has it.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct Chunk(Local<Mutex<Option<boundary::Chunk>>>);

impl Chunk {
    pub(crate) fn new(chunk: boundary::Chunk) -> Self {
        Self(Local::new(Mutex::new(Some(chunk))))
    }
}

#[pymethods]
impl Chunk {
    /// The bytes, once; `None` at the end of the stream.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let chunk = self.0.get().or_raise(py)?.lock().take();
        Ok(chunk.and_then(boundary::Chunk::take).map(|bytes| PyBytes::new(py, &bytes)))
    }

    /// Nobody will take them; now, and not when this is collected.
    fn give_back(&self, py: Python<'_>) -> PyResult<()> {
        let chunk = self.0.get().or_raise(py)?.lock().take();
        drop(chunk); // unlocked
        Ok(())
    }
}

/// A stream; dropping it gives up what is unfinished.
#[pyclass(frozen, module = "peerage._native")]
pub(crate) struct NativeStream(Local<SharedStream>);

impl NativeStream {
    pub(crate) fn new(stream: SharedStream) -> Self {
        Self(Local::new(stream))
    }

    fn look<T>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&SharedStream) -> peerage::Result<T>,
    ) -> PyResult<T> {
        guarded(|| look(self.0.get()?)).or_raise(py)
    }
}

#[pymethods]
impl NativeStream {
    /// Who is at the other end.
    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, |stream| Ok(stream.peer().to_owned()))
    }

    /// What it is about.
    #[getter]
    fn topic(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, |stream| Ok(stream.topic().to_owned()))
    }

    /// How many bytes were sent in all.
    #[getter]
    fn sent(&self, py: Python<'_>) -> PyResult<u64> {
        self.look(py, |stream| Ok(stream.sent()))
    }

    fn write(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        chunk: &Bound<'_, PyAny>,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let (chunk, deadline) = (from_python(chunk)?, from_python(deadline)?);
        let work = self.look(py, |stream| {
            let chunk = FACE.payload("chunk", chunk)?;
            Ok(stream.write(chunk, FACE.deadline("deadline", deadline)?))
        })?;
        calls::begin(py, port, ticket, async move { work.await.map(|()| Outcome::Nothing) })
    }

    fn finish(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let deadline = from_python(deadline)?;
        let work =
            self.look(py, |stream| Ok(stream.finish(FACE.deadline("deadline", deadline)?)))?;
        calls::begin(py, port, ticket, async move { work.await.map(|()| Outcome::Nothing) })
    }

    fn read(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let deadline = from_python(deadline)?;
        let work = self.look(py, |stream| Ok(stream.read(FACE.deadline("deadline", deadline)?)))?;
        calls::begin(py, port, ticket, async move { work.await.map(Outcome::Chunk) })
    }

    fn reset(&self, py: Python<'_>, code: &Bound<'_, PyAny>) -> PyResult<()> {
        let code = from_python(code)?;
        self.look(py, |stream| stream.reset(FACE.stream_code("code", code)?))
    }

    fn stop(&self, py: Python<'_>, code: &Bound<'_, PyAny>) -> PyResult<()> {
        let code = from_python(code)?;
        self.look(py, |stream| stream.stop(FACE.stream_code("code", code)?))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.look(py, |stream| {
            stream.close();
            Ok(())
        })
    }
}
