//! Lengths of time as people write them: `200ms`, `8s`, `1.5m`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

use crate::{MS, S};

/// A length of virtual time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub u64);

/// The longest one; the dead are forgotten after a day.
const MOST: f64 = 48.0 * 3600.0 * S as f64;

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time; write 200ms, 8s, 1.5m or 1h");
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = text.split_at(at);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = match unit.trim() {
            "us" | "µs" => 1,
            "ms" => MS,
            "s" => S,
            "m" => 60 * S,
            "h" => 3600 * S,
            _ => return Err(wrong()),
        };
        let span = number * unit as f64;
        if span > MOST {
            return Err(format!("`{text}` is too long; the most is 48h"));
        }
        Ok(Span(span.round() as u64))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            t if t >= S => write!(f, "{:.3} s", t as f64 / S as f64),
            t => write!(f, "{:.3} ms", t as f64 / MS as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written() {
        let all = [("200ms", 200_000), ("8s", 8 * S), ("1.5m", 90 * S), ("1h", 3600 * S)];
        for (text, expected) in all {
            assert_eq!(text.parse(), Ok(Span(expected)), "{text}");
        }
        for text in ["8", "s", "8 weeks", "-1s", "1.2.3s", "49h", ""] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
