//! What scenarios say, as Rust has it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use peerage::{Error, Stats, boundary};
use serde_json::Value;

/// One step.
pub struct Step<'a> {
    pub verb: &'a str,
    pub with: &'a Value,
    pub error: Option<&'a Value>,
    pub untyped: bool,
}

impl<'a> Step<'a> {
    pub fn new(step: &'a Value) -> Self {
        let parts = step.as_object().unwrap();
        let (verb, with) =
            parts.iter().find(|(key, _)| !["error", "untyped"].contains(&key.as_str())).unwrap();
        let untyped = step.get("untyped") == Some(&Value::Bool(true));
        Self { verb, with, error: step.get("error"), untyped }
    }

    pub fn shown(&self) -> String {
        format!("{} {:.200}", self.verb, self.with.to_string())
    }
}

pub fn text<'a>(with: &'a Value, name: &str) -> &'a str {
    with[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {with}"))
}

pub fn deadline(with: &Value) -> Option<Duration> {
    with.get("deadline").map(|d| Duration::from_millis(d["ms"].as_u64().unwrap()))
}

pub fn tags(with: &Value) -> BTreeMap<String, String> {
    let tags = with["tags"].as_object().unwrap();
    tags.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect()
}

pub fn payload(value: &Value) -> Bytes {
    if let Some(text) = value.get("text") {
        return text.as_str().unwrap().to_owned().into();
    }
    if let Some(hex) = value.get("hex") {
        let hex = hex.as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        return (0..hex.len()).step_by(2).map(byte).collect();
    }
    let (byte, count) = (&value["repeat"][0], &value["repeat"][1]);
    vec![u8::try_from(byte.as_u64().unwrap()).unwrap(); count.as_u64().unwrap() as usize].into()
}

pub fn payloads(list: &Value) -> Vec<Bytes> {
    list.as_array().unwrap().iter().map(payload).collect()
}

/// A configuration field's value; `meant` knows what stands behind `@…`.
pub fn field(value: &Value, meant: &impl Fn(&str) -> String) -> boundary::Value {
    use boundary::Value as Given;
    match value {
        Value::Null => Given::Null,
        Value::Bool(flag) => Given::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Given::Int(whole.into()),
            None => Given::Float(number.as_f64().unwrap()),
        },
        Value::String(text) => match text.strip_prefix('@') {
            Some(name) => meant(name).into(),
            None => text.as_str().into(),
        },
        Value::Array(list) => Given::List(list.iter().map(|v| field(v, meant)).collect()),
        Value::Object(map) => match map.get("ms") {
            Some(ms) => Given::Duration(Duration::from_millis(ms.as_u64().unwrap())),
            None => Given::Map(map.iter().map(|(k, v)| (k.clone(), field(v, meant))).collect()),
        },
    }
}

/// A field of the statistics by the name that the other languages have.
pub fn stat(stats: &Stats, name: &str) -> Value {
    match name {
        "alive" => stats.alive.into(),
        "failed" => stats.failed.into(),
        "links_total" => stats.transport.pool.links_total.into(),
        "links_pinned" => stats.transport.pool.links_pinned.into(),
        "links_leased" => stats.transport.pool.links_leased.into(),
        "links_idle" => stats.transport.pool.links_idle.into(),
        "pool_misses" => stats.transport.pool.pool_misses.into(),
        "broken" => stats.transport.broken.into(),
        "unanswered" => stats.transport.unanswered.into(),
        "distrusted" => stats.transport.distrusted.into(),
        "subscribers" => stats.subscribers.into(),
        "requests_in" => stats.transport.requests_in.into(),
        "requests_out" => stats.transport.requests_out.into(),
        "streams_in" => stats.transport.streams_in.into(),
        "streams_out" => stats.transport.streams_out.into(),
        "streams_refused" => stats.transport.streams_refused.into(),
        other => panic!("the runner does not know the statistic {other}"),
    }
}

/// The expected fields of the only link to a node, if it is sound.
pub fn link(stats: &Stats, id: &str, expected: &Value) -> Value {
    let links: Vec<_> = stats.links.iter().filter(|link| link.peer.id.as_str() == id).collect();
    let [link] = links[..] else { return links.first().map_or(Value::Null, |_| "several".into()) };
    let sound = link.rtt.is_none_or(|rtt| !rtt.is_zero())
        && link.heard.is_some()
        && link.packets_sent > 0
        && link.packets_received > 0;
    if !sound {
        return format!("{link:?}").into();
    }
    let Some(expected) = expected.as_object() else { return "a link".into() };
    let field = |name: &String| {
        let value: Value = match name.as_str() {
            "slot" => link.slot.into(),
            "path" => link.path.as_str().into(),
            "in_flight" => link.in_flight.into(),
            "serving" => link.serving.into(),
            "payload_bytes" => link.payload_bytes.into(),
            "stream_bytes" => link.stream_bytes.into(),
            "answer_bytes" => link.answer_bytes.into(),
            "frame_bytes" => link.frame_bytes.into(),
            "datagrams_waiting" => link.datagrams_waiting.into(),
            "timeouts" => link.timeouts.into(),
            other => panic!("the runner does not know the link's field {other}"),
        };
        (name.clone(), value)
    };
    expected.keys().map(field).collect()
}

/// Fails unless the error is the expected one.
pub fn compare(error: &Error, expected: &Value, place: &str) {
    assert_eq!(error.code().name(), text(expected, "code"), "{place}: {error}");
    if let Some(fields) = expected.get("fields") {
        let mut found: Vec<&str> = match error {
            Error::Config(fields) => fields.iter().map(|f| &*f.field).collect(),
            Error::Argument { field, .. } => vec![field],
            _ => Vec::new(),
        };
        found.sort_unstable();
        found.dedup();
        let mut wanted: Vec<_> =
            fields.as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{place}: {error}");
    }
    if let Some(message) = expected.get("message") {
        let message = message.as_str().unwrap();
        assert!(error.to_string().contains(message), "{place}: {error}");
    }
}
