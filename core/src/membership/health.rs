//! Trust in our own timing: Lifeguard's local health multiplier (Dadgar et al. 2017).
//!
//! 0 is full health. A probe that went unanswered, a helper that did not even say so, and having
//! to refute a suspicion about ourselves each raise the score; an answered probe lowers it. All
//! our intervals and time-outs are multiplied by score + 1, so that a node that cannot keep up
//! accuses others later and more rarely.

use std::time::Duration;

use crate::evidence::HEALTH_SCORE_MAX as SCORE_MAX;

/// The score, 0 to 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalHealth(u32);

impl LocalHealth {
    /// The score as it is.
    pub fn score(self) -> u32 {
        self.0
    }

    /// Less trust.
    pub fn worse(&mut self, by: u32) {
        self.0 = (self.0 + by).min(SCORE_MAX);
    }

    /// More trust.
    pub fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// An interval or time-out under this trust.
    pub fn scale(self, d: Duration) -> Duration {
        d * (self.0 + 1)
    }
}
