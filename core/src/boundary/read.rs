//! Reading values of other languages, field by field, keeping everything that is wrong.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Face, Unit, Value};
use crate::{
    config::Security,
    error::{Error, FieldError, Result},
    transport::secret::Secret,
};

/// The reader, with what it has found wrong so far.
pub(super) struct Read {
    unit: Unit,
    wrong: Vec<(Cow<'static, str>, String, String)>,
}

impl Read {
    pub(super) fn new(unit: Unit) -> Self {
        Self { unit, wrong: Vec::new() }
    }

    pub(super) fn text(&mut self, field: &'static str, value: Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text),
            Value::Bytes(_) => self.wrong(field, &value, "must be text in UTF-8"),
            other => self.wrong(field, &other, "must be text"),
        }
    }

    /// As [`Read::text`], but what was given is never repeated.
    pub(super) fn secret_text(&mut self, field: &'static str, value: Value) -> Option<String> {
        match value {
            Value::Text(text) => Some(text),
            _ => self.refuse(field, "…".into(), "must be text".into()),
        }
    }

    /// Several of them.
    pub(super) fn secret_texts(
        &mut self,
        field: &'static str,
        value: Value,
    ) -> Option<Vec<String>> {
        let Value::List(list) = value else {
            return self.refuse(field, "…".into(), "must be a list of texts".into());
        };
        let wanted = list.len();
        let read: Vec<_> = list.into_iter().filter_map(|v| self.secret_text(field, v)).collect();
        (read.len() == wanted).then_some(read)
    }

    /// Texts that are secrets.
    pub(super) fn secrets(&mut self, field: &'static str, texts: &[String]) -> Option<Vec<Secret>> {
        let parsed = texts.iter().filter_map(|text| match Secret::parse(text) {
            Ok(secret) => Some(secret),
            Err(Error::Argument { value, expected, .. }) => self.refuse(field, value, expected),
            Err(other) => self.refuse(field, "…".into(), other.to_string()),
        });
        let parsed: Vec<_> = parsed.collect();
        (parsed.len() == texts.len()).then_some(parsed)
    }

    pub(super) fn flag(&mut self, field: &'static str, value: Value) -> Option<bool> {
        match value {
            Value::Bool(flag) => Some(flag),
            other => self.wrong(field, &other, "must be true or false"),
        }
    }

    pub(super) fn address(&mut self, field: &'static str, value: Value) -> Option<SocketAddr> {
        const EXPECTED: &str = "must be ip:port, such as 127.0.0.1:7000 or [::1]:7000";
        let parsed = match &value {
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        parsed.or_else(|| self.wrong(field, &value, EXPECTED))
    }

    pub(super) fn addresses(
        &mut self,
        field: &'static str,
        value: Value,
    ) -> Option<Vec<SocketAddr>> {
        let Value::List(list) = value else {
            return self.wrong(field, &value, "must be a list of addresses, each ip:port");
        };
        let wanted = list.len();
        let read: Vec<_> = list.into_iter().filter_map(|v| self.address(field, v)).collect();
        (read.len() == wanted).then_some(read)
    }

    pub(super) fn tags(
        &mut self,
        field: &'static str,
        value: Value,
    ) -> Option<BTreeMap<String, String>> {
        let Value::Map(map) = value else {
            return self.wrong(field, &value, "must be an object of texts by name");
        };
        let mut tags = BTreeMap::new();
        let wanted = map.len();
        for (key, value) in map {
            match value {
                Value::Text(text) => {
                    tags.insert(key, text);
                }
                other => {
                    let shown = format!("{key:?}: {}", other.shown());
                    self.refuse::<()>(field, shown, "every value must be text".into());
                }
            }
        }
        (tags.len() == wanted).then_some(tags)
    }

    pub(super) fn duration(
        &mut self,
        field: &'static str,
        value: Value,
        bounds: &str,
    ) -> Option<Duration> {
        let (number, unit, name) = match self.unit {
            Unit::Milliseconds => (number(&value), 1e-3, "milliseconds"),
            Unit::Seconds => (number(&value), 1.0, "seconds"),
        };
        let read = match (&value, number) {
            (Value::Duration(duration), _) => Some(*duration),
            (_, Some(number)) => Duration::try_from_secs_f64(number * unit).ok(),
            _ => None,
        };
        read.or_else(|| self.wrong(field, &value, &format!("must be {bounds}, in {name}")))
    }

    pub(super) fn count(&mut self, field: &'static str, value: Value, bounds: &str) -> Option<u32> {
        whole(&value)
            .and_then(|n| u32::try_from(n).ok())
            .or_else(|| self.wrong(field, &value, &format!("must be {bounds}")))
    }

    pub(super) fn bytes(&mut self, field: &'static str, value: Value, bounds: &str) -> Option<u64> {
        whole(&value)
            .and_then(|n| u64::try_from(n).ok())
            .or_else(|| self.wrong(field, &value, &format!("must be {bounds}")))
    }

    /// A name that is no field of ours; the likeliest intended one is named.
    pub(super) fn unknown<'a>(
        &mut self,
        name: &str,
        value: &Value,
        names: impl Iterator<Item = Cow<'a, str>>,
    ) {
        let near = names.map(|known| (distance(name, &known), known)).min();
        let expected = match near {
            Some((steps, near)) if steps <= 3 => {
                format!("is no configuration field; did you mean {near}?")
            }
            _ => "is no configuration field".into(),
        };
        let name: String = name.chars().take(64).collect();
        self.wrong.push((name.into(), value.shown(), expected));
    }

    /// What the configuration itself finds wrong, for fields that could be read at all.
    pub(super) fn also(&mut self, wrong: Vec<FieldError>) {
        const WAYS: [&str; 7] = ["secret", "secrets", "ca", "cert", "key", "insecure", "security"];
        let mut known: Vec<_> = self.wrong.iter().map(|(field, ..)| field.clone()).collect();
        if known.iter().any(|field| WAYS.contains(&&**field)) {
            known.push("security".into());
        }
        for FieldError { field, value, expected } in wrong {
            if !known.contains(&field) {
                self.wrong.push((field, value, expected));
            }
        }
    }

    /// Everything wrong as one error, fields named as the language writes them.
    pub(super) fn done(self, face: &Face) -> Result<()> {
        if self.wrong.is_empty() {
            return Ok(());
        }
        let named = |(field, value, expected): (Cow<'static, str>, String, String)| FieldError {
            field: Cow::Owned(face.name(&field).into_owned()),
            value,
            expected,
        };
        Err(Error::Config(self.wrong.into_iter().map(named).collect()))
    }

    /// The first wrong thing, of an argument that stands alone.
    pub(super) fn first(self) -> Option<(&'static str, String, String)> {
        let (field, value, expected) = self.wrong.into_iter().next()?;
        match field {
            Cow::Borrowed(field) => Some((field, value, expected)),
            Cow::Owned(_) => None,
        }
    }

    fn wrong<T>(&mut self, field: &'static str, value: &Value, expected: &str) -> Option<T> {
        self.refuse(field, value.shown(), expected.into())
    }

    fn refuse<T>(&mut self, field: &'static str, value: String, expected: String) -> Option<T> {
        self.wrong.push((field.into(), value, expected));
        None
    }
}

/// The ways to authenticate, which are fields of their own everywhere but in Rust.
#[derive(Default)]
pub(super) struct Ways {
    pub(super) secret: Option<String>,
    pub(super) secrets: Option<Vec<String>>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) insecure: Option<bool>,
}

impl Ways {
    /// The one that was chosen; none is for the configuration to refuse.
    pub(super) fn chosen(self, read: &mut Read) -> Option<Security> {
        let insecure = self.insecure == Some(true);
        let pem = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        let files = pem.iter().filter(|(_, file)| file.is_some()).count();
        let ways = [self.secret.is_some(), self.secrets.is_some(), files > 0, insecure];
        if ways.iter().filter(|way| **way).count() > 1 {
            let expected = "choose one: a secret, secrets, PEM files, or insecure";
            return read.refuse("security", "several ways".into(), expected.into());
        }
        if files > 0 && files < pem.len() {
            for (field, _) in pem.iter().filter(|(_, file)| file.is_none()) {
                let expected = "ca, cert and key must be given together";
                read.refuse::<()>(field, "none".into(), expected.into());
            }
            return None;
        }
        if let Some(text) = self.secret {
            let secret = read.secrets("secret", &[text])?.pop()?;
            return Some(Security::Secret(secret));
        }
        if let Some(texts) = self.secrets {
            return read.secrets("secrets", &texts).map(Security::Secrets);
        }
        if let (Some(ca), Some(cert), Some(key)) = (self.ca, self.cert, self.key) {
            return Some(Security::Pem { ca: ca.into(), cert: cert.into(), key: key.into() });
        }
        insecure.then_some(Security::Insecure)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// JavaScript writes every number as a fraction; a whole one is still whole.
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9.1e15 => {
            Some(*number as i128)
        }
        _ => None,
    }
}

/// How many letters must be changed, added or removed (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
