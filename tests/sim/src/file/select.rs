//! Which hosts: `3`, `1, 5, 8..10`, `0..600`, `1%`, `half`, `every 4th`, `10 of them`, `all`,
//! `newcomers`, `nobody`.

use std::str::FromStr;

use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Deserializer, de};

/// Some hosts of a cluster, whatever its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Select {
    /// None.
    #[default]
    Nobody,
    /// All that start, and the newcomers.
    All,
    /// Those that join later.
    Newcomers,
    /// These and those; the end of a range does not belong to it.
    Ranges(Vec<(usize, usize)>),
    /// A share of those that start, chosen by the seed: a smaller share is part of a larger one.
    Share(f64),
    /// So many of them, chosen the same way.
    Count(usize),
    /// One of so many, in order.
    Every(usize),
}

impl FromStr for Select {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |n: &str| {
            n.trim().parse::<usize>().map_err(|_| {
                format!(
                    "`{text}` names no hosts; write numbers (3), lists (1, 5), ranges (0..600), \
                     shares (1%, half, every 4th, 10 of them), all, newcomers or nobody"
                )
            })
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["nobody"] => return Ok(Select::Nobody),
            ["all"] => return Ok(Select::All),
            ["newcomers"] => return Ok(Select::Newcomers),
            ["half"] => return Ok(Select::Share(0.5)),
            ["every", nth] => {
                let digits = nth.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                return match number(digits)? {
                    0 => Err(format!("`{text}`: every 0th is nobody")),
                    n => Ok(Select::Every(n)),
                };
            }
            [count, "of", "them"] => return Ok(Select::Count(number(count)?)),
            _ => {}
        }
        if let Some(share) = text.trim().strip_suffix('%') {
            return match share.trim().parse::<f64>() {
                Ok(share) if (0.0..=100.0).contains(&share) => Ok(Select::Share(share / 100.0)),
                _ => Err(format!("`{text}` is no share; it must be between 0% and 100%")),
            };
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            ranges.push(match part.split_once("..") {
                Some((from, to)) => (number(from)?, number(to)?),
                None => number(part).map(|n| (n, n + 1))?,
            });
            if ranges.last().is_some_and(|(from, to)| from >= to) {
                return Err(format!("`{}` is an empty range", part.trim()));
            }
        }
        Ok(Select::Ranges(ranges))
    }
}

impl<'de> Deserialize<'de> for Select {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Select {
    /// The hosts, in order, of `nodes` that start out of `hosts` in all.
    pub fn of(&self, nodes: usize, hosts: usize, seed: u64) -> Result<Vec<usize>, String> {
        let mut chosen: Vec<usize> = match self {
            Select::Nobody => Vec::new(),
            Select::All => (0..hosts).collect(),
            Select::Newcomers => (nodes..hosts).collect(),
            Select::Ranges(ranges) => {
                if let Some((_, to)) = ranges.iter().find(|(_, to)| *to > hosts) {
                    let most = hosts - 1;
                    return Err(format!("host {} is out of range; the last is {most}", to - 1));
                }
                ranges.iter().flat_map(|(from, to)| *from..*to).collect()
            }
            Select::Share(share) => {
                // One of a hundred is one of ten as well, so that small variants have victims.
                let count = (nodes as f64 * share).round().max(f64::from(u8::from(*share > 0.0)));
                shuffled(nodes, seed, count as usize)
            }
            Select::Count(count) if *count > nodes => {
                return Err(format!("{count} of them are more than the {nodes} that there are"));
            }
            Select::Count(count) => shuffled(nodes, seed, *count),
            Select::Every(nth) => (0..nodes).skip(nth - 1).step_by(*nth).collect(),
        };
        chosen.sort_unstable();
        chosen.dedup();
        Ok(chosen)
    }

    /// How many hosts this is, of so many: for `newcomers`.
    pub(super) fn count_of(&self, nodes: usize) -> Result<usize, String> {
        match self {
            Select::Nobody => Ok(0),
            Select::Share(share) => Ok((nodes as f64 * share).round().max(1.0) as usize),
            Select::Count(count) => Ok(*count),
            _ => Err("newcomers must be a share (20%) or a number (10 of them)".into()),
        }
    }
}

fn shuffled(nodes: usize, seed: u64, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    all.shuffle(&mut StdRng::seed_from_u64(seed ^ 0x5e1e_c700));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, nodes: usize, hosts: usize) -> Result<Vec<usize>, String> {
        text.parse::<Select>()?.of(nodes, hosts, 7)
    }

    #[test]
    fn hosts_are_chosen_as_they_are_written() {
        assert_eq!(of("3", 10, 10), Ok(vec![3]));
        assert_eq!(of("5, 1, 8..10", 10, 10), Ok(vec![1, 5, 8, 9]));
        assert_eq!(of("every 4th", 10, 10), Ok(vec![3, 7]));
        assert_eq!(of("nobody", 10, 10), Ok(vec![]));
        assert_eq!(of("all", 3, 4), Ok(vec![0, 1, 2, 3]));
        assert_eq!(of("newcomers", 3, 5), Ok(vec![3, 4]));
        assert_eq!(of("half", 10, 12).map(|all| all.len()), Ok(5));
        assert_eq!(of("1%", 1000, 1000).map(|all| all.len()), Ok(10));
        assert_eq!(of("1%", 20, 20).map(|all| all.len()), Ok(1));
        assert_eq!(of("7 of them", 20, 20).map(|all| all.len()), Ok(7));
    }

    #[test]
    fn a_smaller_share_is_part_of_a_larger_one() {
        let (few, many) = (of("5%", 100, 100).unwrap(), of("20%", 100, 100).unwrap());
        assert!(few.iter().all(|host| many.contains(host)));
    }

    #[test]
    fn what_names_no_hosts_is_refused_with_what_would() {
        for (text, says) in [
            ("10", "host 10 is out of range; the last is 9"),
            ("5..20", "host 19 is out of range"),
            ("7..7", "empty range"),
            ("some", "names no hosts"),
            ("101%", "between 0% and 100%"),
            ("every 0th", "nobody"),
            ("11 of them", "more than the 10"),
        ] {
            let error = of(text, 10, 10).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
