//! How a language writes names and durations, and arguments read accordingly.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{
    Value,
    fields::{self, NAMES},
    read::{Read, Ways},
};
use crate::{
    config::Config,
    error::{Error, Result},
    transport::{Stream, secret::Secret},
};

/// How a language writes names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// `probe_interval`
    Snake,
    /// `probeInterval`
    Camel,
}

/// What a bare number means where a duration is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// JavaScript, C.
    Milliseconds,
    /// Python.
    Seconds,
}

/// What differs between languages at the boundary: nothing else does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Face {
    /// How names are written.
    pub case: Case,
    /// What a bare number means where a duration is asked for.
    pub unit: Unit,
}

impl Face {
    /// JavaScript and TypeScript.
    pub const NODE: Face = Face { case: Case::Camel, unit: Unit::Milliseconds };
    /// Python.
    pub const PYTHON: Face = Face { case: Case::Snake, unit: Unit::Seconds };
    /// C, and what links it.
    pub const C: Face = Face { case: Case::Snake, unit: Unit::Milliseconds };

    /// A name of the core as this language writes it.
    pub fn name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.case == Case::Snake || !name.contains('_') {
            return name.into();
        }
        let mut words = name.split('_');
        let mut out = words.next().unwrap_or_default().to_owned();
        for word in words {
            let mut letters = word.chars();
            out.extend(letters.next().into_iter().flat_map(char::to_uppercase));
            out.extend(letters);
        }
        out.into()
    }

    /// A configuration from named values, checked whole: every wrong field is in the one error,
    /// named as this language writes it. A field that is [`Value::Null`] was not given.
    pub fn config(&self, given: impl IntoIterator<Item = (String, Value)>) -> Result<Config> {
        let mut config = Config::new("", "");
        let mut ways = Ways::default();
        let mut read = Read::new(self.unit);
        for (key, value) in given {
            if value == Value::Null {
                continue;
            }
            match NAMES.iter().find(|name| self.name(name) == key) {
                Some(name) => fields::set(name, value, &mut config, &mut ways, &mut read),
                None => read.unknown(&key, &value, NAMES.iter().map(|name| self.name(name))),
            }
        }
        config.security = ways.chosen(&mut read);
        // What could not even be read is not reported twice.
        if let Err(Error::Config(wrong)) = config.validate() {
            read.also(wrong);
        }
        read.done(self)?;
        Ok(config)
    }

    /// A text argument.
    pub fn text(&self, field: &'static str, value: Value) -> Result<String> {
        self.read(|read| read.text(field, value))
    }

    /// A payload: bytes, or text as UTF-8. Nothing at all is an empty one.
    pub fn payload(&self, field: &'static str, value: Value) -> Result<Bytes> {
        match value {
            Value::Null => Ok(Bytes::new()),
            Value::Bytes(bytes) => Ok(bytes.into()),
            Value::Text(text) => Ok(text.into_bytes().into()),
            other => Err(self.wrong(field, &other, "must be bytes or text")),
        }
    }

    /// A deadline; nothing stands for the configured default.
    pub fn deadline(&self, field: &'static str, value: Value) -> Result<Option<Duration>> {
        if value == Value::Null {
            return Ok(None);
        }
        self.read(|read| read.duration(field, value, "1ms to 3600s")).map(Some)
    }

    /// Secrets, which are never repeated.
    pub fn secrets(&self, field: &'static str, value: Value) -> Result<Vec<Secret>> {
        self.read(|read| {
            let texts = read.secret_texts(field, value)?;
            read.secrets(field, &texts)
        })
    }

    /// A set of tags; nothing stands for none.
    pub fn tags(&self, field: &'static str, value: Value) -> Result<BTreeMap<String, String>> {
        if value == Value::Null {
            return Ok(BTreeMap::new());
        }
        self.read(|read| read.tags(field, value))
    }

    /// A whole number within bounds.
    pub fn count(&self, field: &'static str, value: Value, min: u32, max: u32) -> Result<u32> {
        let bounds = format!("{min} to {max}");
        let shown = value.shown();
        let count = self.read(|read| read.count(field, value, &bounds))?;
        if (min..=max).contains(&count) {
            Ok(count)
        } else {
            let expected = format!("must be {bounds}");
            Err(Error::Argument { field, value: shown, expected })
        }
    }

    /// The code with which a stream is given up.
    pub fn stream_code(&self, field: &'static str, value: Value) -> Result<u32> {
        self.count(field, value, 0, Stream::CODE_MAX)
    }

    fn read<T>(&self, reading: impl FnOnce(&mut Read) -> Option<T>) -> Result<T> {
        let mut read = Read::new(self.unit);
        match (reading(&mut read), read.first()) {
            (Some(value), _) => Ok(value),
            (None, Some((field, value, expected))) => {
                Err(Error::Argument { field, value, expected })
            }
            (None, None) => Err(Error::Internal("an argument was refused without a word".into())),
        }
    }

    fn wrong(&self, field: &'static str, value: &Value, expected: &str) -> Error {
        Error::Argument { field, value: value.shown(), expected: expected.into() }
    }
}
