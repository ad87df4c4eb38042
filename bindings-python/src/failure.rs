//! The core's errors as Python's exceptions.

use peerage::{
    Error,
    boundary::{Face, Failure, Value},
};
use pyo3::{prelude::*, sync::PyOnceLock, types::PyType};

use crate::convert;

/// `peerage._failure.failure`, which makes an exception of the class that a code stands for.
static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    match make(py, error) {
        Ok(exception) => PyErr::from_value(exception),
        Err(worse) => worse,
    }
}

fn make<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make = MAKE.get_or_try_init(py, || -> PyResult<_> {
        Ok(py.import("peerage._failure")?.getattr("failure")?.unbind())
    })?;
    let failure = Failure::new(&Face::PYTHON, error);
    let details = convert::to_python(py, Value::Map(failure.details))?;
    make.bind(py).call1((failure.code.name(), failure.message, details))
}

/// Results of the core as Python takes them.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for peerage::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}

/// The name of a value's class, for errors.
pub(crate) fn class_name(class: &Bound<'_, PyType>) -> String {
    class.name().map_or_else(|_| "?".into(), |name| name.to_string_lossy().into_owned())
}
