//! Moments that nodes have in common: what each of them does every so often they all do at the same
//! time, so that a machine that is woken by one node's is awake for its own.

use std::time::Duration;

use tokio::time::Instant;

/// What a clock that all nodes can read shows, and when, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    read: Instant,
    clock: Option<Duration>,
}

impl Moments {
    /// The clock shows this now. A node that knows none has moments of its own.
    pub(crate) fn new(clock: Option<Duration>) -> Self {
        Self { read: Instant::now(), clock }
    }

    /// What the clock shows now.
    pub(crate) fn now(&self) -> Option<Duration> {
        self.clock.map(|clock| clock + self.read.elapsed())
    }

    /// The first from now of those that come so often. A node that has its own differs in them from
    /// another one with another number.
    pub(crate) fn first(&self, every: Duration, number: u64) -> Instant {
        let micros = (every.as_micros() as u64).max(1);
        let until = match self.now() {
            Some(clock) => micros - (clock.as_micros() % u128::from(micros)) as u64,
            None => number % micros,
        };
        Instant::now() + Duration::from_micros(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn who_reads_the_same_clock_at_any_time_has_the_same_moments() {
        let began = Instant::now();
        let clock = |late: Duration| Some(Duration::from_micros(1_764_000_000_123_456) + late);
        let first = Moments::new(clock(Duration::ZERO));
        tokio::time::advance(Duration::from_millis(7_777)).await;
        let second = Moments::new(clock(began.elapsed()));
        tokio::time::advance(Duration::from_millis(333)).await;
        let moments = [&first, &second].map(|m| m.first(EVERY, 1));
        assert_eq!(moments[0], moments[1]);
        let shows = clock(moments[0] - began).unwrap();
        assert_eq!(shows.as_micros() % EVERY.as_micros(), 0);
        assert!((Duration::ZERO..=EVERY).contains(&(moments[0] - Instant::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn who_knows_no_clock_has_its_own() {
        let moments = Moments::new(None);
        let first = [1, 2].map(|number| moments.first(EVERY, number));
        assert_ne!(first[0], first[1]);
        assert!(first.iter().all(|at| *at - Instant::now() <= EVERY));
    }
}
