//! The time that a node's machine is called with: monotonic, whatever happens to the wall clock, and going
//! on while the computer is suspended.
//!
//! The clock that timers go by stands still meanwhile on Linux, and a node that does not know how long it
//! was away would come back with what all others have forgotten. What is missing there is known to the
//! system (`CLOCK_BOOTTIME`). Where it is not (on Apple's systems it cannot be told from the drift of two
//! clocks, and a virtual machine that is not told of its own pause knows nothing), a suspension is noticed
//! by the silence of others only.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::membership::Time;

/// What the system tells of time besides the clock that timers go by.
#[derive(Clone, Copy)]
pub(super) struct System {
    /// For how long the computer has been suspended since it was booted.
    pub(super) suspended: fn() -> Duration,
    /// What its wall clock shows, if it has one. Read once, at a node's start, for
    /// [`Settings::clock`](crate::membership::Settings::clock).
    pub(super) wall: fn() -> Option<Duration>,
}

/// The one that there is.
pub(super) const SYSTEM: System = System { suspended, wall };

/// Less than this is none: the two clocks are not read in one moment.
const NOTICED_FROM: Duration = Duration::from_millis(100);

/// A node's own clock, which begins at zero.
pub(super) struct Clock {
    started: Instant,
    suspended: fn() -> Duration,
    before: Duration,
    /// For how long it was suspended since the start, in microseconds.
    since: AtomicU64,
}

impl Clock {
    pub(super) fn start(suspended: fn() -> Duration) -> Self {
        Self { started: Instant::now(), suspended, before: suspended(), since: AtomicU64::new(0) }
    }

    /// What it shows. Never less than before.
    pub(super) fn now(&self) -> Time {
        Time::default() + self.started.elapsed() + self.suspended()
    }

    /// When it will show this, for timers, if nothing is suspended until then. A timer that began before
    /// comes late by as much as was, which is how that is noticed.
    pub(super) fn when(&self, time: Time) -> Instant {
        let since = self.since.load(Relaxed);
        self.started + Duration::from_micros(time.0.saturating_sub(since))
    }

    fn suspended(&self) -> Duration {
        let known = Duration::from_micros(self.since.load(Relaxed));
        let now = (self.suspended)().saturating_sub(self.before);
        if now < known + NOTICED_FROM {
            return known;
        }
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.since.fetch_max(micros, Relaxed).max(micros))
    }
}

/// Nothing where it cannot be right.
fn wall() -> Option<Duration> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// For how long the computer has been suspended, where the system tells.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn suspended() -> Duration {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let of = |time: Timespec| {
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    // In this order: what passes between the two readings makes it less, never more.
    let whole = of(clock_gettime(ClockId::Boottime));
    whole.saturating_sub(of(clock_gettime(ClockId::Monotonic)))
}

/// Elsewhere it does not, or there is nothing to tell, since timers count that time as well (Windows).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn suspended() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_while_the_computer_is_suspended_and_never_back() {
        static MILLIS: AtomicU64 = AtomicU64::new(5_000); // before it was started
        let clock = Clock::start(|| Duration::from_millis(MILLIS.load(Relaxed)));
        let at = |seconds| Time::default() + Duration::from_secs(seconds);
        assert_eq!(clock.now(), at(0));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), at(2));
        let planned = clock.when(at(3));
        assert_eq!(planned - Instant::now(), Duration::from_secs(1));
        // The clocks are not read in one moment.
        MILLIS.store(5_099, Relaxed);
        assert_eq!(clock.now(), at(2));
        MILLIS.store(3_605_000, Relaxed);
        assert_eq!(clock.now(), at(3_602));
        assert_eq!(clock.when(at(3_603)) - Instant::now(), Duration::from_secs(1));
        assert_eq!(clock.when(at(3)), clock.started, "what was due meanwhile is due at once");
        MILLIS.store(0, Relaxed);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), at(3_603));
    }

    #[test]
    fn the_system_says_the_same_twice() {
        let (first, second) = (suspended(), suspended());
        assert!(first.abs_diff(second) < NOTICED_FROM, "{first:?} and {second:?}");
    }
}
