//! How long a suspect has to refute: Lifeguard's suspicion timer (Dadgar et al. 2017).

use std::time::Duration;

use super::Time;
use crate::member::NodeId;
use crate::wire::OBSERVERS_MAX;

/// A running suspicion about one member.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// When we heard of it.
    pub since: Time,
    /// Distinct nodes that could not reach the member, at most [`OBSERVERS_MAX`].
    pub observers: Vec<NodeId>,
    /// When it becomes a failure.
    pub deadline: Time,
}

impl Suspicion {
    /// Begins with the observers that are known. `live` counts all live members, the suspect and
    /// ourselves included.
    pub fn new(now: Time, observers: Vec<NodeId>, live: usize, min: Duration, factor: u32) -> Self {
        let mut suspicion = Self { since: now, observers, deadline: now };
        suspicion.set_deadline(live, min, factor);
        suspicion
    }

    /// Adds observers; whether any was new. The timer shrinks with each.
    pub fn confirm(
        &mut self,
        observers: &[NodeId],
        live: usize,
        min: Duration,
        factor: u32,
    ) -> bool {
        let before = self.observers.len();
        for observer in observers {
            if self.observers.len() < OBSERVERS_MAX && !self.observers.contains(observer) {
                self.observers.push(observer.clone());
            }
        }
        let grew = self.observers.len() > before;
        if grew {
            let old = self.deadline;
            self.set_deadline(live, min, factor);
            // The cluster may have grown meanwhile; a confirmation never lengthens the time.
            self.deadline = self.deadline.min(old);
        }
        grew
    }

    fn set_deadline(&mut self, live: usize, min: Duration, factor: u32) {
        let confirmations = self.observers.len().saturating_sub(1);
        self.deadline = self.since + timeout(live, confirmations, min, factor);
    }
}

/// The confirmations besides the first observer that shrink the timer to its minimum.
const CONFIRMATIONS_WANTED: usize = 3;

/// max − (max − min) · log(c + 1) / log(k + 1), at least min. With fewer than three possible
/// observers nobody could confirm, so the minimum runs in full.
fn timeout(live: usize, confirmations: usize, min: Duration, factor: u32) -> Duration {
    let min = min.mul_f64((live.max(1) as f64).log10().max(1.0));
    let observers_possible = live.saturating_sub(1);
    if observers_possible < 3 {
        return min;
    }
    let wanted = CONFIRMATIONS_WANTED.min(observers_possible - 1);
    let share = ((confirmations + 1) as f64).ln() / ((wanted + 1) as f64).ln();
    let max = min * factor;
    let shrunk = max.as_secs_f64() - (max - min).as_secs_f64() * share;
    Duration::from_secs_f64(shrunk.max(min.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(3);

    #[test]
    fn each_distinct_observer_shrinks_the_timer_once() {
        let id = |n: u32| NodeId::new(format!("n{n}")).unwrap();
        let mut s = Suspicion::new(Time(0), vec![id(0)], 10, MIN, 3);
        assert_eq!(s.deadline, Time(9_000_000));
        assert!(!s.confirm(&[id(0)], 10, MIN, 3));
        assert_eq!(s.deadline, Time(9_000_000));
        assert!(s.confirm(&[id(1)], 10, MIN, 3));
        assert_eq!(s.deadline, Time(6_000_000)); // ln 2 / ln 4 is one half
        assert!(s.confirm(&[id(2), id(3), id(4)], 10, MIN, 3));
        assert_eq!(s.deadline, Time(3_000_000));
    }

    #[test]
    fn few_possible_observers_run_the_minimum_in_full() {
        assert_eq!(timeout(3, 0, MIN, 3), MIN);
        assert_eq!(timeout(2, 1, MIN, 3), MIN);
        assert_eq!(timeout(4, 0, MIN, 3), 3 * MIN);
    }

    #[test]
    fn grows_with_the_logarithm_of_the_size() {
        assert_eq!(timeout(1000, 3, MIN, 3), 3 * MIN);
    }
}
