//! Log lines that others can cause: so many a second, and how many more there were.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Writes a line that others can cause, at most so many of it a second: `seldom!(DEBUG, 10, target:
/// "peerage::…", fields, "words")`. Costs next to nothing where nobody listens.
macro_rules! seldom {
    ($level:ident, $max:literal, target: $target:literal, $($line:tt)+) => {{
        static SELDOM: $crate::seldom::Seldom = $crate::seldom::Seldom::new($max);
        if tracing::enabled!(target: $target, tracing::Level::$level)
            && let Some(kept_back) = SELDOM.now()
        {
            tracing::event!(target: $target, tracing::Level::$level, kept_back, $($line)+);
        }
    }};
}
pub(crate) use seldom;

/// Over which time lines are counted.
const PERIOD: Duration = Duration::from_secs(1);

/// One kind of line.
pub(crate) struct Seldom {
    max: u32,
    state: Mutex<State>,
}

struct State {
    since: Option<Instant>,
    written: u32,
    kept_back: u64,
}

impl Seldom {
    /// At most so many lines a second.
    pub(crate) const fn new(max: u32) -> Self {
        let state = State { since: None, written: 0, kept_back: 0 };
        Self { max, state: Mutex::new(state) }
    }

    /// Whether a line may be written: if so, how many were not since the last one.
    pub(crate) fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            (state.since, state.written) = (Some(now), 0);
        }
        if state.written >= self.max {
            state.kept_back += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_the_others_are_counted() {
        let (seldom, start) = (Seldom::new(2), Instant::now());
        let lines: Vec<_> = (0..5).map(|_| seldom.at(start)).collect();
        assert_eq!(lines, [Some(0), Some(0), None, None, None]);
        assert_eq!(seldom.at(start + PERIOD), Some(3));
        assert_eq!(seldom.at(start + PERIOD), Some(0));
    }
}
