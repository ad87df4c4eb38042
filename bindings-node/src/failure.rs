//! The core's errors on their way to JavaScript: as JSON, from which TypeScript makes a
//! `PeerageError`.

use napi::bindgen_prelude::Unknown;
use peerage::boundary::{Face, Failure, Value, guarded};
use serde_json::{Value as Json, json};

use crate::read;

/// What ends a call from JavaScript early.
pub(crate) enum Fault {
    /// The core refused.
    Core(peerage::Error),
    /// JavaScript did: a getter threw, or the engine is going down.
    Script(napi::Error),
}

impl From<peerage::Error> for Fault {
    fn from(error: peerage::Error) -> Self {
        Fault::Core(error)
    }
}

impl From<napi::Error> for Fault {
    fn from(error: napi::Error) -> Self {
        Fault::Script(error)
    }
}

/// Makes a call from JavaScript; no panic of ours gets past it.
pub(crate) fn attempt<T>(call: impl FnOnce() -> Result<T, Fault>) -> napi::Result<T> {
    match guarded(|| Ok(call())) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Core(error))) | Err(error) => Err(napi::Error::from_reason(to_json(&error))),
        Ok(Err(Fault::Script(error))) => Err(error),
    }
}

/// A text argument.
pub(crate) fn text(field: &'static str, given: Unknown) -> Result<String, Fault> {
    Ok(Face::NODE.text(field, read::value(given)?)?)
}

/// The code, the words and the details of an error.
pub(crate) fn to_json(error: &peerage::Error) -> String {
    let failure = Failure::new(&Face::NODE, error);
    let details: serde_json::Map<_, _> =
        failure.details.into_iter().map(|(name, value)| (name, detail(value))).collect();
    json!({"code": failure.code.name(), "message": failure.message, "details": details}).to_string()
}

fn detail(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Int(value) => i64::try_from(value)
            .map(Json::from)
            .or_else(|_| u64::try_from(value).map(Json::from))
            .unwrap_or_else(|_| value.to_string().into()),
        Value::Float(value) => value.into(),
        Value::Duration(value) => (value.as_secs_f64() * 1000.0).into(),
        Value::Text(value) | Value::Other(value) => value.into(),
        Value::Bytes(value) => value.into(),
        Value::List(values) => values.into_iter().map(detail).collect(),
        Value::Map(entries) => {
            Json::Object(entries.into_iter().map(|(name, value)| (name, detail(value))).collect())
        }
    }
}
