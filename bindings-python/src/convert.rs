//! Values both ways. What is a proper value where, the core decides.

use std::time::Duration;

use peerage::boundary::Value;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{
        PyBool, PyByteArray, PyBytes, PyDelta, PyDict, PyFloat, PyInt, PyList, PyMemoryView,
        PyString, PyTuple,
    },
};

use crate::failure::class_name;

/// The core has no use for anything deeper, and a list may hold itself.
const DEPTH_MAX: usize = 8;

/// The core's value that is nearest to a Python one. The errors are Python's own (no memory, a
/// mapping that changed meanwhile); a value that is merely of no use is [`Value::Other`].
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    from_depth(value, 0)
}

fn from_depth(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > DEPTH_MAX {
        return Ok(Value::Other("a value that is nested too deep".into()));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(match text.to_str() {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Other("text with half a surrogate pair".into()),
        });
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Value::Bytes(bytes.as_bytes().into()));
    }
    // Before the numbers: Python counts a bool among them.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        let number = value.extract::<i128>().map(Value::Int);
        return Ok(number.unwrap_or_else(|_| Value::Other("a number of more than 128 bits".into())));
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(Value::Float(number.value()));
    }
    if value.is_instance_of::<PyDelta>() {
        return Ok(match value.extract::<Duration>() {
            Ok(time) => Value::Duration(time),
            // Negative: a number can say so.
            Err(_) => Value::Float(value.call_method0("total_seconds")?.extract()?),
        });
    }
    if let Ok(list) = value.cast::<PyList>() {
        let values = list.iter().map(|value| from_depth(&value, depth + 1));
        return Ok(Value::List(values.collect::<PyResult<_>>()?));
    }
    if let Ok(list) = value.cast::<PyTuple>() {
        let values = list.iter().map(|value| from_depth(&value, depth + 1));
        return Ok(Value::List(values.collect::<PyResult<_>>()?));
    }
    if let Ok(map) = value.cast::<PyDict>() {
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map.iter() {
            let Value::Text(key) = from_depth(&key, depth + 1)? else {
                return Ok(Value::Other("a dict with a key that is no text".into()));
            };
            entries.push((key, from_depth(&value, depth + 1)?));
        }
        return Ok(Value::Map(entries));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Value::Bytes(bytes.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        let bytes = value.call_method0("tobytes")?;
        return Ok(Value::Bytes(bytes.cast::<PyBytes>()?.as_bytes().into()));
    }
    // Paths.
    if value.hasattr("__fspath__")? {
        return from_depth(&value.call_method0("__fspath__")?, depth + 1);
    }
    let kind = if value.is_callable() { "function" } else { "value" };
    Ok(Value::Other(format!("a {kind} of type {}", class_name(&value.get_type()))))
}

/// A value of the core for Python.
pub(crate) fn to_python(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::Int(number) => number.into_bound_py_any(py),
        Value::Float(number) => number.into_bound_py_any(py),
        Value::Duration(time) => time.into_bound_py_any(py),
        Value::Text(text) | Value::Other(text) => text.into_bound_py_any(py),
        Value::Bytes(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        Value::List(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(to_python(py, value)?)?;
            }
            Ok(list.into_any())
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                dict.set_item(key, to_python(py, value)?)?;
            }
            Ok(dict.into_any())
        }
    }
}
