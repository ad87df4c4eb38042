//! Errors as plain data.

use super::{Face, Value};
use crate::error::{Code, Error};

/// An error as another language is given it: the code and the words are the same everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
    /// What the error says besides, by name; the names are written as the language does.
    pub details: Vec<(String, Value)>,
}

impl Failure {
    /// The error as this language is given it.
    pub fn new(face: &Face, error: &Error) -> Self {
        let message = match error {
            Error::Argument { field, value, expected } => {
                format!("{} = {value}: {expected}", face.name(field))
            }
            other => other.to_string(),
        };
        let details = details(face, error)
            .into_iter()
            .map(|(name, value)| (face.name(name).into_owned(), value))
            .collect();
        Self { code: error.code(), message, details }
    }
}

fn details(face: &Face, error: &Error) -> Vec<(&'static str, Value)> {
    let text = |text: &dyn ToString| Value::Text(text.to_string());
    let count = |n: usize| Value::Int(n as i128);
    let wrong = |field: &str, value: &str, expected: &str| {
        Value::Map(vec![
            ("field".into(), face.name(field).into_owned().into()),
            ("value".into(), value.into()),
            ("expected".into(), expected.into()),
        ])
    };
    match error {
        Error::Config(fields) => {
            let fields = fields.iter().map(|f| wrong(&f.field, &f.value, &f.expected)).collect();
            vec![("fields", Value::List(fields))]
        }
        // As with a configuration, so that one way of reading serves both.
        Error::Argument { field, value, expected } => {
            vec![("fields", Value::List(vec![wrong(field, value, expected)]))]
        }
        Error::Bind { addr, reason }
        | Error::Unauthenticated { addr, reason }
        | Error::CertificateExpired { addr, reason } => {
            vec![("addr", text(addr)), ("reason", text(reason))]
        }
        Error::JoinFailed(seeds) => {
            let seed = |(addr, reason): &(std::net::SocketAddr, String)| {
                Value::Map(vec![
                    ("addr".into(), text(addr)),
                    ("reason".into(), reason.as_str().into()),
                ])
            };
            vec![("seeds", Value::List(seeds.iter().map(seed).collect()))]
        }
        Error::NameConflict(id) => vec![("id", text(id))],
        Error::WrongCluster { addr, ours } => vec![("addr", text(addr)), ("ours", text(ours))],
        Error::WrongNode { addr, expected, found } => {
            vec![("addr", text(addr)), ("expected", text(expected)), ("found", text(found))]
        }
        Error::WrongVersion { addr, theirs, ours } => {
            vec![("addr", text(addr)), ("theirs", text(theirs)), ("ours", text(ours))]
        }
        Error::Unreachable { target, reason } | Error::LinkLost { target, reason } => {
            vec![("target", text(target)), ("reason", text(reason))]
        }
        Error::PoolFull { current, max } => {
            vec![("current", count(*current)), ("max", count(*max))]
        }
        Error::Timeout { target, after } => {
            vec![("target", text(target)), ("after", Value::Duration(*after))]
        }
        Error::UnknownMember(target) => vec![("target", text(target))],
        Error::UnknownTopic { target, topic } => {
            vec![("target", text(target)), ("topic", text(topic))]
        }
        Error::Handler { target, topic, message } => {
            vec![("target", text(target)), ("topic", text(topic)), ("message", text(message))]
        }
        Error::TooLarge { bytes, max } => vec![("bytes", (*bytes).into()), ("max", (*max).into())],
        Error::Busy { what, max } => vec![("what", text(what)), ("max", count(*max))],
        Error::Closed(reason) | Error::Internal(reason) | Error::Panic(reason) => {
            vec![("reason", text(reason))]
        }
        Error::Cancelled => Vec::new(),
        Error::StreamReset { target, code } => {
            vec![("target", text(target)), ("code", u64::from(*code).into())]
        }
    }
}
