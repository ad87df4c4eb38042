//! The description, read and checked. The files under `core/description` say what each part means.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

/// Everything that is described.
pub(super) struct Description {
    pub(super) config: Vec<ConfigField>,
    pub(super) errors: Vec<ErrorKind>,
    pub(super) events: Vec<Event>,
    pub(super) states: Vec<Numbered>,
    pub(super) records: Vec<Record>,
}

/// One configuration field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigField {
    pub(super) name: String,
    pub(super) kind: ConfigKind,
    #[serde(default)]
    pub(super) required: bool,
    /// One of the ways to authenticate, which are one field in Rust.
    #[serde(default)]
    pub(super) security: bool,
    pub(super) min: Option<Scalar>,
    pub(super) max: Option<Scalar>,
    pub(super) default: Option<Scalar>,
    /// What the absence of a value means.
    pub(super) none: Option<String>,
    pub(super) doc: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConfigKind {
    Text,
    Address,
    Addresses,
    Tags,
    Secret,
    Secrets,
    Path,
    Flag,
    Duration,
    Count,
    Bytes,
}

/// A number, or a text such as `500ms`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    /// For people: `500 ms`, `1 s`, `24 h`, `10,000`.
    pub(super) fn shown(&self) -> String {
        match self {
            Scalar::Number(n) => grouped(*n),
            Scalar::Text(text) => match milliseconds(text) {
                Some(ms) if ms > 0 && ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
                Some(ms) if ms > 0 && ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
                Some(ms) if ms > 0 && ms % 1000 == 0 => format!("{} s", ms / 1000),
                Some(ms) => format!("{ms} ms"),
                None => format!("`{text}`"),
            },
        }
    }

    /// A duration's milliseconds, or the number.
    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Scalar::Number(n) => Some(*n),
            Scalar::Text(text) => milliseconds(text),
        }
    }
}

impl ConfigField {
    /// The doc line with the bounds and the default: true in every language, units included.
    pub(super) fn full_doc(&self) -> String {
        let mut doc = self.doc.clone();
        if let (Some(min), Some(max)) = (&self.min, &self.max) {
            doc += &format!(" {} to {}", min.shown(), max.shown());
            doc += if self.kind == ConfigKind::Bytes { " bytes" } else { "" };
            doc +=
                &self.default.as_ref().map_or(".".into(), |d| format!(", default {}.", d.shown()));
        } else if let Some(default) = &self.default {
            doc += &format!(" Default {}.", default.shown());
        } else if let Some(none) = &self.none {
            doc += &format!(" Default: {none}.");
        } else if self.required {
            doc += " No default.";
        }
        doc
    }

    /// The default in milliseconds, bytes or pieces.
    pub(super) fn default_number(&self) -> Option<u64> {
        self.default.as_ref().and_then(Scalar::number)
    }

    /// The bounds in milliseconds, bytes or pieces.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.min.as_ref()?.number()?, self.max.as_ref()?.number()?))
    }
}

/// One kind of error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorKind {
    pub(super) name: String,
    pub(super) number: u32,
    /// A built-in exception that Python's class derives from as well.
    pub(super) python: Option<String>,
    pub(super) doc: String,
}

/// One kind of event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
}

/// A name with a number, as C has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbered {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) doc: String,
}

/// Plain data that calls return.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) fields: Vec<Field>,
}

/// A field of an event or a record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: FieldKind,
    /// Goes up and down, as opposed to a counter; for statistics.
    #[serde(default)]
    pub(super) gauge: bool,
    /// Where the value stands in the core's type, if not under its own name.
    pub(super) rust: Option<String>,
    pub(super) doc: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FieldKind {
    Member,
    Members,
    Id,
    Flag,
    Count,
    U64,
    Text,
    State,
    Address,
    Tags,
    Phases,
    Observations,
    History,
    Links,
    #[serde(rename = "number?")]
    OptionalNumber,
    Span,
    #[serde(rename = "span?")]
    OptionalSpan,
}

impl Description {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Config {
            field: Vec<ConfigField>,
        }
        #[derive(Deserialize)]
        struct Errors {
            error: Vec<ErrorKind>,
        }
        #[derive(Deserialize)]
        struct Events {
            event: Vec<Event>,
        }
        #[derive(Deserialize)]
        struct Records {
            state: Vec<Numbered>,
            record: Vec<Record>,
        }
        let config: Config = file(folder, "config.toml")?;
        let errors: Errors = file(folder, "errors.toml")?;
        let events: Events = file(folder, "events.toml")?;
        let records: Records = file(folder, "records.toml")?;
        let description = Self {
            config: config.field,
            errors: errors.error,
            events: events.event,
            states: records.state,
            records: records.record,
        };
        description.check()?;
        Ok(description)
    }

    /// What would make nonsense in some language.
    fn check(&self) -> Result<()> {
        unique("configuration field", self.config.iter().map(|f| &f.name))?;
        unique("error", self.errors.iter().map(|e| &e.name))?;
        unique("error number", self.errors.iter().map(|e| &e.number))?;
        unique("event", self.events.iter().map(|e| &e.name))?;
        unique("event number", self.events.iter().map(|e| &e.number))?;
        unique("state", self.states.iter().map(|s| &s.name))?;
        for record in &self.records {
            unique(&format!("field of {}", record.name), record.fields.iter().map(|f| &f.name))?;
        }
        for field in &self.config {
            let name = &field.name;
            let bounded =
                matches!(field.kind, ConfigKind::Duration | ConfigKind::Count | ConfigKind::Bytes);
            ensure!(!bounded || field.bounds().is_some(), "{name}: has no bounds");
            ensure!(!bounded || field.default_number().is_some(), "{name}: has no default");
            ensure!(
                field.required || field.default.is_some() || field.none.is_some(),
                "{name}: neither required, nor a default, nor what its absence means"
            );
            if let (Some((min, max)), Some(default)) = (field.bounds(), field.default_number()) {
                ensure!(
                    (min..=max).contains(&default),
                    "{name}: the default is not within the bounds"
                );
            }
        }
        Ok(())
    }
}

fn file<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
    toml::from_str(&text).with_context(|| format!("core/description/{name}"))
}

fn unique<T: Ord + std::fmt::Display>(what: &str, names: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        let shown = name.to_string();
        ensure!(seen.insert(name), "{what} {shown} is described twice");
    }
    Ok(())
}

fn milliseconds(text: &str) -> Option<u64> {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u64>().ok()?.checked_mul(1000),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_for_people() {
        let text = |t: &str| Scalar::Text(t.into()).shown();
        assert_eq!(text("500ms"), "500 ms");
        assert_eq!(text("0ms"), "0 ms");
        assert_eq!(text("86400s"), "1 d");
        assert_eq!(text("60s"), "60 s");
        assert_eq!(text("127.0.0.1:0"), "`127.0.0.1:0`");
        assert_eq!(Scalar::Number(1_073_741_824).shown(), "1,073,741,824");
        assert_eq!(Scalar::Number(50).shown(), "50");
    }
}
