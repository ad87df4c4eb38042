//! How long packets are under way.

use rand::{Rng, rngs::StdRng};

use crate::MS;

/// A distribution of delays one way. All times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// Anything between the least and the most is as likely.
    Uniform {
        /// Least.
        least: u64,
        /// Most.
        most: u64,
    },
    /// Most are near the median, some take many times as long: busy routers, wireless links.
    LogNormal {
        /// Half take less.
        median: u64,
        /// The deviation of the logarithm; at 1.0 one in a hundred takes ten medians.
        sigma: f64,
        /// Longer ones are cut to this.
        most: u64,
    },
    /// A least, and on top of it waiting in a queue.
    Exponential {
        /// Least.
        least: u64,
        /// The mean of what comes on top.
        mean: u64,
        /// Longer ones are cut to this.
        most: u64,
    },
}

impl Default for Latency {
    /// A data centre.
    fn default() -> Self {
        Latency::Uniform { least: 200, most: 2 * MS }
    }
}

impl Latency {
    /// One delay.
    pub fn sample(&self, rng: &mut StdRng) -> u64 {
        match *self {
            Latency::Uniform { least, most } => rng.random_range(least..=most.max(least)),
            Latency::LogNormal { median, sigma, most } => {
                ((median as f64 * (sigma * normal(rng)).exp()) as u64).min(most)
            }
            Latency::Exponential { least, mean, most } => {
                // Never the logarithm of zero.
                let share: f64 = 1.0 - rng.random_range(0.0..1.0);
                (least + (-share.ln() * mean as f64) as u64).min(most.max(least))
            }
        }
    }
}

/// A standard normal deviate (Box and Muller 1958).
fn normal(rng: &mut StdRng) -> f64 {
    let (a, b): (f64, f64) = (rng.random_range(0.0..1.0), rng.random_range(0.0..1.0));
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// So many delays in order.
    fn samples(latency: Latency) -> Vec<u64> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut all: Vec<u64> = (0..100_000).map(|_| latency.sample(&mut rng)).collect();
        all.sort_unstable();
        all
    }

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.03, "{found}, not {expected}");
    }

    #[test]
    fn the_long_tailed_ones_have_the_quantiles_of_their_definition() {
        let all = samples(Latency::LogNormal { median: 1_000, sigma: 1.0, most: 1_000_000 });
        near(all[50_000] as f64, 1_000.0);
        near(all[84_134] as f64, 1_000.0 * 1_f64.exp()); // one deviation
        near(all[97_725] as f64, 1_000.0 * 2_f64.exp());
        let all = samples(Latency::Exponential { least: 500, mean: 1_000, most: 1_000_000 });
        near(all[50_000] as f64, 500.0 + 1_000.0 * 2_f64.ln());
        near(all[99_000] as f64, 500.0 + 1_000.0 * 100_f64.ln());
        assert!(all[0] >= 500);
    }

    #[test]
    fn all_keep_their_bounds() {
        let all = samples(Latency::Uniform { least: 3, most: 5 });
        assert_eq!((all[0], all[99_999]), (3, 5));
        let all = samples(Latency::LogNormal { median: 1_000, sigma: 2.0, most: 4_000 });
        assert_eq!(all[99_999], 4_000);
        let all = samples(Latency::Exponential { least: 10, mean: 1_000, most: 2_000 });
        assert_eq!(all[99_999], 2_000);
    }
}
