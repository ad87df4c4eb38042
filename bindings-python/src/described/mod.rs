//! Events and records as Python's classes. Each holds the core's own value and converts a field
//! when it is read: most subscribers look at few of them.

mod events;
mod records;

use std::sync::Arc;

use pyo3::{
    PyClass,
    prelude::*,
    types::{PyDict, PyTuple},
};

pub(crate) use events::event;
pub(crate) use records::{Explanation, LeaveReport, Member, Stats};

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    records::add_to(module)?;
    events::add_to(module)
}

/// A class with these fields, in this order.
trait Fields: PyClass {
    const NAMES: &'static [&'static str];
}

/// `Name(field=…, …)`
fn shown<C: Fields>(object: &Bound<'_, C>) -> PyResult<String> {
    let object = object.as_any();
    let mut parts = Vec::with_capacity(C::NAMES.len());
    for field in C::NAMES {
        parts.push(format!("{field}={}", object.getattr(*field)?.repr()?.to_str()?));
    }
    Ok(format!("{}({})", object.get_type().name()?.to_str()?, parts.join(", ")))
}

/// Whether two objects are of one class and equal in every field.
fn same<C: Fields>(object: &Bound<'_, C>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let (py, object) = (object.py(), object.as_any());
    if !object.get_type().is(other.get_type()) {
        return Ok(py.NotImplemented());
    }
    let mut same = true;
    for field in C::NAMES {
        same = same && object.getattr(*field)?.eq(other.getattr(*field)?)?;
    }
    Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
}

fn tags<'py>(py: Python<'py>, tags: &peerage::Tags) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in &**tags {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}

fn members<'py>(py: Python<'py>, all: &[Arc<peerage::Member>]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, all.iter().cloned().map(Member))
}

fn observations<'py>(
    py: Python<'py>,
    all: &[peerage::Observation],
) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, all.iter().cloned().map(|seen| records::Observation(seen.into())))
}

fn history<'py>(py: Python<'py>, all: &[peerage::Happened]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, all.iter().cloned().map(|happened| records::Happened(happened.into())))
}

fn links<'py>(py: Python<'py>, all: &[peerage::LinkStats]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, all.iter().cloned().map(|link| records::LinkStats(link.into())))
}

fn phases<'py>(py: Python<'py>, all: &[peerage::Phase]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, all.iter().cloned().map(|phase| records::Phase(phase.into())))
}
