//! Values as other languages have them.

use std::time::Duration;

/// A value that a binding has taken from its language, or is to give to it. Bindings convert each
/// native value to the one that is nearest to it and leave it to the core whether it fits.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing was given: `undefined` and `null`, `None`, a null pointer.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number of a language that tells it from others, up to 64 bits with either sign.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A length of time that says so itself, such as Python's `timedelta`.
    Duration(Duration),
    /// Unicode text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several values.
    List(Vec<Value>),
    /// Values by name, in the order that they were given.
    Map(Vec<(String, Value)>),
    /// Something that the core has no use for; the text says what, for the error.
    Other(String),
}

impl Value {
    /// For an error: what was given, in at most some 64 characters.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Null => "none".into(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Duration(value) => format!("{value:?}"),
            Value::Text(text) => format!("{:?}", shortened(text)),
            Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Value::List(list) => format!("a list of {}", list.len()),
            Value::Map(map) => format!("an object with {} entries", map.len()),
            Value::Other(what) => shortened(what),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Int(value.into())
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Value::Duration(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Value::List(list.into_iter().map(Into::into).collect())
    }
}
