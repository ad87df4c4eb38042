//! How surprising a silence is: the phi accrual failure detector (Hayashibara et al. 2004).
//!
//! Phi is −log10 of the probability that a heartbeat comes still later than this, judged by the
//! intervals seen so far: at phi 8 the detector errs once in 10⁸ such silences, if intervals are
//! normally distributed. Time is an argument; nothing here waits.

use std::{collections::VecDeque, time::Duration};

use super::Time;

/// How many intervals are remembered.
const WINDOW: usize = 100;
/// With fewer the configured interval stands in for the mean, with a wide deviation.
const SAMPLES_MIN: usize = 5;
/// Before there are samples the deviation is this share of the interval.
const DEVIATION_UNKNOWN: f64 = 0.25;
/// The deviation is never taken for less than this share of the mean: a perfectly regular past
/// promises nothing.
const DEVIATION_MIN: f64 = 0.1;
/// Arrivals closer than this share of the mean are one arrival: what a pause of the network held
/// back comes in a burst, and its tiny intervals say nothing about the sender.
const BURST: f64 = 0.1;

/// The intervals of one edge, and when it was last heard.
#[derive(Clone, Debug)]
pub struct Phi {
    /// What the sender says it keeps to.
    expected: Duration,
    /// In microseconds, the oldest first.
    samples: VecDeque<u32>,
    /// Σx and Σx² of the samples; integers, so that nothing drifts.
    sum: u64,
    squares: u128,
    last: Time,
}

impl Phi {
    /// Begins to listen to a sender that keeps to this interval.
    pub fn new(now: Time, expected: Duration) -> Self {
        Self { expected, samples: VecDeque::new(), sum: 0, squares: 0, last: now }
    }

    /// See `membership::warm`.
    #[cfg(feature = "simulator")]
    pub fn warm(&self, ask: super::Ask) {
        for sample in [self.samples.front(), self.samples.back()].into_iter().flatten() {
            ask(std::ptr::from_ref(sample).cast(), 2 * size_of_val(sample));
        }
    }

    /// A heartbeat arrived. A silence longer than `longest` was an outage and has been judged as
    /// one; it counts only that much, or a single one would blind the detector for a whole window.
    pub fn heard(&mut self, now: Time, expected: Duration, longest: Duration) {
        let interval = now.since(self.last);
        self.last = now;
        if expected != self.expected {
            *self = Self::new(now, expected); // another rhythm: what was says nothing of it
            return;
        }
        if interval.as_secs_f64() >= self.mean() * BURST {
            self.add(interval.min(longest));
        }
    }

    /// The silence so far is nobody's fault but ours: it begins anew.
    pub fn restart(&mut self, now: Time) {
        self.last = now;
    }

    /// How surprising the silence is at this moment. `pause` is how much later than usual a
    /// heartbeat may be without any surprise.
    pub fn value(&self, now: Time, pause: Duration) -> f64 {
        let late = now.since(self.last).as_secs_f64() - self.mean() - pause.as_secs_f64();
        surprise(late / self.deviation())
    }

    /// The silence after which phi reaches a threshold, given as [`deviations`] of it.
    pub fn silence(&self, deviations: f64, pause: Duration) -> Duration {
        let seconds = self.mean() + pause.as_secs_f64() + deviations * self.deviation();
        // A microsecond more, so that rounding never falls short of the threshold.
        Duration::from_secs_f64(seconds.max(0.0)) + Duration::from_micros(1)
    }

    /// When that silence ends.
    pub fn crossing(&self, deviations: f64, pause: Duration) -> Time {
        self.last + self.silence(deviations, pause)
    }

    /// What the sender says it keeps to.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// The mean interval, in seconds.
    pub fn mean(&self) -> f64 {
        if self.samples.len() < SAMPLES_MIN {
            return self.expected.as_secs_f64();
        }
        self.sum as f64 / self.samples.len() as f64 / 1e6
    }

    /// The standard deviation of the intervals, in seconds, never below its floor and never zero.
    pub fn deviation(&self) -> f64 {
        if self.samples.len() < SAMPLES_MIN {
            return (self.mean() * DEVIATION_UNKNOWN).max(1e-6);
        }
        self.spread().max(self.mean() * DEVIATION_MIN).max(1e-6)
    }

    /// The standard deviation of the samples as they are, in seconds.
    fn spread(&self) -> f64 {
        let n = self.samples.len();
        // n·Σx² ≥ (Σx)² (Cauchy and Schwarz), exactly so in integers.
        let scaled = self.squares * n as u128 - u128::from(self.sum) * u128::from(self.sum);
        (scaled as f64).sqrt() / n.max(1) as f64 / 1e6
    }

    fn add(&mut self, interval: Duration) {
        if self.samples.len() == WINDOW
            && let Some(oldest) = self.samples.pop_front()
        {
            self.sum -= u64::from(oldest);
            self.squares -= u128::from(oldest) * u128::from(oldest);
        }
        let micros = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        self.samples.push_back(micros);
        self.sum += u64::from(micros);
        self.squares += u128::from(micros) * u128::from(micros);
    }
}

/// How many standard deviations above the mean phi reaches a threshold: the inverse of the tail.
pub fn deviations(threshold: f64) -> f64 {
    // Phi rises strictly, and phi(y) > y²/5 for positive y, which bounds the search.
    let (mut low, mut high) = (-10.0, (5.0 * threshold.max(0.0)).sqrt() + 1.0);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if surprise(middle) < threshold {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// −log10 of the upper tail of the standard normal distribution, for every y without underflow:
/// there is no silence that it does not tell from a longer one.
fn surprise(y: f64) -> f64 {
    if y < 0.0 {
        // The tail is nearly one; the logarithm of its small complement keeps the digits.
        return -(-ln_tail(-y).exp()).ln_1p() / std::f64::consts::LN_10;
    }
    -ln_tail(y) / std::f64::consts::LN_10
}

/// Where the series gives way to the continued fraction.
const FAR: f64 = 3.0;

/// ln of the upper tail of the standard normal distribution at y ≥ 0.
fn ln_tail(y: f64) -> f64 {
    let ln_density = -y * y / 2.0 - (2.0 * std::f64::consts::PI).ln() / 2.0;
    if y < FAR {
        // Q(y) = ½ − φ(y)·(y + y³/3 + y⁵/(3·5) + …)
        let (mut term, mut sum, mut k) = (y, y, 1.0);
        while term > sum * f64::EPSILON {
            k += 2.0;
            term *= y * y / k;
            sum += term;
        }
        return (0.5 - ln_density.exp() * sum).ln();
    }
    // Q(y) = φ(y) / (y + 1/(y + 2/(y + 3/…))): Laplace's continued fraction, from its end.
    let fraction = (1..=80).rev().fold(y, |rest, k| y + f64::from(k) / rest);
    ln_density - fraction.ln()
}

#[cfg(test)]
mod tests;
