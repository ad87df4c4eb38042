//! What tests and benchmarks need: values both ways, without a network.

use peerage::boundary;
use pyo3::prelude::*;

use crate::{convert, events::Subscription, failure::OrRaise};

/// Gives back what it got, by way of the core.
#[pyfunction]
pub(crate) fn echo_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let given = convert::from_python(value)?;
    convert::to_python(value.py(), boundary::echo_value(given))
}

/// A subscription to samples of every kind, over and over, `count` of them.
#[pyfunction]
pub(crate) fn echo_events(py: Python<'_>, count: u64) -> PyResult<Subscription> {
    Ok(Subscription::new(boundary::echo_events(count).or_raise(py)?))
}

/// Panics, and is stopped at the boundary.
#[pyfunction]
pub(crate) fn echo_panic(py: Python<'_>, message: String) -> PyResult<()> {
    boundary::guarded(|| panic!("{message}")).or_raise(py)
}
