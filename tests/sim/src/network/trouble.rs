//! What is wrong between some hosts: loss, delay, copies, cuts, for a while or on and off.

use crate::network::Latency;

/// A set of hosts, by number.
#[derive(Clone, Debug, PartialEq)]
pub enum Hosts {
    /// Every one.
    All,
    /// Where it is true.
    Some(Vec<bool>),
}

impl Hosts {
    /// These of so many.
    pub fn these(hosts: &[usize], of: usize) -> Self {
        let mut set = vec![false; of];
        for host in hosts {
            set[*host] = true;
        }
        Hosts::Some(set)
    }

    /// All but these of so many.
    pub fn but(hosts: &[usize], of: usize) -> Self {
        let mut set = vec![true; of];
        for host in hosts {
            set[*host] = false;
        }
        Hosts::Some(set)
    }

    fn has(&self, host: usize) -> bool {
        match self {
            Hosts::All => true,
            Hosts::Some(set) => set.get(host).copied().unwrap_or_default(),
        }
    }
}

/// Which packets are in trouble.
#[derive(Clone, Debug, PartialEq)]
pub enum Between {
    /// Those from some hosts to others.
    OneWay(Hosts, Hosts),
    /// Those between some hosts and others.
    BothWays(Hosts, Hosts),
    /// On a ring of so many hosts, those between any two that are further apart than this.
    FurtherThan(usize, usize),
}

impl Between {
    /// Whether packets that travel so are.
    pub fn has(&self, from: usize, to: usize) -> bool {
        match self {
            Between::OneWay(a, b) => a.has(from) && b.has(to),
            Between::BothWays(a, b) => (a.has(from) && b.has(to)) || (a.has(to) && b.has(from)),
            Between::FurtherThan(reach, hosts) => {
                let apart = from.abs_diff(to);
                apart.min(hosts.saturating_sub(apart)) > *reach
            }
        }
    }
}

/// What is wrong between some hosts. Several add up.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// For whom.
    pub between: Between,
    /// This share is lost; from 1.0 on nothing passes.
    pub loss: f64,
    /// This comes on top of the usual latency.
    pub delay: Option<Latency>,
    /// This share of the datagrams comes twice. QUIC drops copies of its packets, so this is
    /// harsher than what can happen.
    pub duplicate: f64,
    /// This share of the datagrams is held up by something up to so many microseconds.
    pub reorder: (f64, u64),
    /// On for so long, then off for so long, and again.
    pub flips: Option<(u64, u64)>,
}

impl Trouble {
    /// Nothing is wrong yet.
    pub fn new(between: Between) -> Self {
        let (loss, delay, duplicate, reorder, flips) = (0.0, None, 0.0, (0.0, 0), None);
        Self { between, loss, delay, duplicate, reorder, flips }
    }

    /// Nothing passes.
    pub fn cut(between: Between) -> Self {
        Self { loss: 1.0, ..Self::new(between) }
    }

    /// Whether links over it die.
    pub fn cuts(&self) -> bool {
        self.loss >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_whom() {
        let one_way = Between::OneWay(Hosts::these(&[1], 4), Hosts::but(&[1], 4));
        assert!(one_way.has(1, 2) && !one_way.has(2, 1) && !one_way.has(2, 3));
        let split = Between::BothWays(Hosts::these(&[0, 1], 4), Hosts::these(&[2, 3], 4));
        assert!(split.has(0, 2) && split.has(3, 1) && !split.has(0, 1) && !split.has(2, 3));
        let ring = Between::FurtherThan(2, 10);
        assert!(!ring.has(0, 2) && !ring.has(0, 8) && !ring.has(9, 1));
        assert!(ring.has(0, 3) && ring.has(9, 2) && ring.has(5, 0));
    }
}
