//! When a node may be dialed again after dials to it failed: exponential back-off with full jitter
//! (Brooker 2015), so that what one peer refuses costs few handshakes and many nodes do not come
//! back together.
//!
//! It holds requests and messages back, which are as frequent as the program pleases. Membership
//! paces its dials itself and must not be kept from a peer that has just come back.

use std::{collections::HashMap, time::Duration};

use rand::Rng;
use tokio::time::Instant;

use super::pool::DialKey;
use crate::error::Error;

/// The most that is waited after the first failure; doubles with each further one, ...
const FIRST: Duration = Duration::from_millis(100);
/// ... up to this.
const MOST: Duration = Duration::from_secs(5);
/// How long after its last failure a node counts as one that never failed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How many are remembered; past that, those that failed longest ago are not held back.
const KEPT_MAX: usize = 256;

/// What failed of late.
#[derive(Default)]
pub(super) struct Backoff(HashMap<DialKey, Failure>);

struct Failure {
    times: u32,
    at: Instant,
    until: Instant,
    error: Error,
}

impl Backoff {
    /// A dial failed.
    pub(super) fn failed(
        &mut self,
        key: &DialKey,
        error: &Error,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let before = self.0.get(key).filter(|f| now < f.at + FORGOTTEN_AFTER);
        let times = before.map_or(0, |f| f.times.saturating_add(1));
        let most = FIRST.saturating_mul(1 << times.min(16)).min(MOST);
        let until = now + rng.random_range(Duration::ZERO..=most);
        if self.0.len() >= KEPT_MAX
            && !self.0.contains_key(key)
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, f)| f.at).map(|(key, _)| key.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key.clone(), Failure { times, at: now, until, error: error.clone() });
    }

    /// A dial was no failure.
    pub(super) fn made(&mut self, key: &DialKey) {
        self.0.remove(key);
    }

    /// Until when a node is not to be dialed, and how the last dial ended.
    pub(super) fn until(&self, key: &DialKey, now: Instant) -> Option<(Instant, &Error)> {
        let failure = self.0.get(key)?;
        (now < failure.until).then_some((failure.until, &failure.error))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn key(n: u16) -> DialKey {
        DialKey { addr: SocketAddr::from(([127, 0, 0, 1], n)), expect: None, slot: 0 }
    }

    fn wait(backoff: &Backoff, key: &DialKey, now: Instant) -> Duration {
        backoff.until(key, now).map_or(Duration::ZERO, |(until, _)| until - now)
    }

    #[test]
    fn it_doubles_up_to_its_most_spreads_over_all_of_it_and_forgets() {
        let (mut rng, now) = (StdRng::seed_from_u64(1), Instant::now());
        let error = Error::Closed("x".into());
        let (mut longest, mut shortest) = ([Duration::ZERO; 9], [MOST; 9]);
        for _ in 0..300 {
            let mut backoff = Backoff::default();
            for nth in 0..9 {
                backoff.failed(&key(1), &error, now, &mut rng);
                let waits = wait(&backoff, &key(1), now);
                longest[nth] = longest[nth].max(waits);
                shortest[nth] = shortest[nth].min(waits);
            }
            assert_eq!(wait(&backoff, &key(1), now + MOST), Duration::ZERO);
            backoff.failed(&key(1), &error, now + FORGOTTEN_AFTER, &mut rng);
            assert!(wait(&backoff, &key(1), now + FORGOTTEN_AFTER) <= FIRST);
            backoff.made(&key(1));
            assert!(backoff.0.is_empty());
        }
        for (nth, (longest, shortest)) in longest.iter().zip(shortest).enumerate() {
            let most = (FIRST * (1 << nth)).min(MOST);
            assert!(*longest <= most && *longest > most.mul_f64(0.95), "{nth}: {longest:?}");
            assert!(shortest < most.mul_f64(0.05), "{nth}: {shortest:?}");
        }
    }

    #[test]
    fn it_remembers_so_many() {
        let (mut rng, now) = (StdRng::seed_from_u64(1), Instant::now());
        let mut backoff = Backoff::default();
        for n in 0..=KEPT_MAX as u16 {
            let at = now + Duration::from_millis(n.into());
            backoff.failed(&key(n), &Error::Cancelled, at, &mut rng);
        }
        assert_eq!(backoff.0.len(), KEPT_MAX);
        assert!(!backoff.0.contains_key(&key(0)));
    }
}
