//! Time as the machine knows it: an argument, in microseconds since some start.

use std::{
    num::NonZeroU64,
    ops::{Add, Sub},
    time::Duration,
};

/// A point in (monotonic) time, in microseconds since the driver's own start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time since an earlier point; zero if it is not earlier.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A time of which an `Option` takes no more room, in tables of thousands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since(NonZeroU64);

impl From<Time> for Since {
    fn from(time: Time) -> Self {
        Self(NonZeroU64::MIN.saturating_add(time.0))
    }
}

impl From<Since> for Time {
    fn from(since: Since) -> Self {
        Self(since.0.get() - 1)
    }
}

/// A time that may lie before our own start: that of a death which others remember. It takes no
/// more room as an `Option` either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Before(NonZeroU64);

impl Before {
    /// Our own start on this scale: further back than anything is remembered, and with as much
    /// time to come.
    const START: u64 = 1 << 62;

    /// So long before now.
    pub(super) fn new(now: Time, ago: Duration) -> Self {
        let now = now + Duration::from_micros(Self::START);
        Self(NonZeroU64::MIN.saturating_add((now - ago).0))
    }

    /// How long ago that is.
    pub(super) fn ago(self, now: Time) -> Duration {
        let now = now + Duration::from_micros(Self::START);
        now.since(Time(self.0.get() - 1))
    }
}

/// The first of several times that may be never.
#[derive(Clone, Copy, Debug)]
pub(super) struct First(u64);

impl Default for First {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl First {
    pub(super) fn or(&mut self, time: Option<Time>) {
        // Compared as plain numbers: an optimised comparison of options looks at the number even
        // where there is none, which memory checkers take for a fault of ours.
        self.0 = self.0.min(time.map_or(u64::MAX, |t| t.0));
    }

    pub(super) fn time(self) -> Option<Time> {
        (self.0 != u64::MAX).then_some(Time(self.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}
