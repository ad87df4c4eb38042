//! How long a suspect has to refute: Lifeguard's suspicion timer (Dadgar et al. 2017), which ends
//! early when those who would know agree.

use std::time::Duration;

use super::Time;
use crate::{evidence::Observation, member::NodeId, wire::OBSERVERS_MAX};

/// A suspect always has so long to refute, whoever agrees on what.
pub const REFUTE_MIN: Duration = Duration::from_secs(1);
/// The confirmations besides the first observer that shrink the timer to its minimum.
const CONFIRMATIONS_WANTED: usize = 3;
/// With fewer possible observers nobody's agreement means much.
pub const JURY_MIN: usize = 3;
/// One of so many may disagree where nearly all agree.
const DISSENT: usize = 5;

/// A running suspicion about one member.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// When we heard of it; later by what we were paused since.
    pub since: Time,
    /// Distinct nodes that could not reach the member, at most [`OBSERVERS_MAX`].
    pub observers: Vec<Observation>,
    /// When it becomes a failure.
    pub deadline: Time,
    /// Who watched the member when the suspicion began.
    watchers: Vec<NodeId>,
}

/// What the length of a suspicion depends on besides its observers.
#[derive(Clone, Copy, Debug)]
pub struct Jury {
    /// All live members, the suspect and ourselves included.
    pub live: usize,
    /// The shortest time a suspect has at up to ten members.
    pub min: Duration,
    /// The longest is so many times the shortest, ...
    pub factor: u32,
    /// ... and never more than this, however little the observer trusts itself.
    pub longest: Duration,
}

impl Suspicion {
    /// Begins with the observers that are known; it runs once it is reviewed.
    pub fn new(now: Time, observers: Vec<Observation>, watchers: Vec<NodeId>) -> Self {
        Self { since: now, observers, deadline: Time(u64::MAX), watchers }
    }

    /// Adds observers; whether any was new. One who watches the member is worth more than one who
    /// does not, where there is no room for both.
    pub fn confirm(&mut self, observers: &[Observation]) -> bool {
        let mut grew = false;
        for observer in observers.iter().take(OBSERVERS_MAX) {
            let id = &observer.observer;
            if self.observers.iter().any(|o| o.observer == *id) {
                continue;
            }
            if self.observers.len() >= OBSERVERS_MAX {
                let watches = |id| self.watchers.contains(id);
                let other = self.observers.iter().position(|o| !watches(&o.observer));
                match other.filter(|_| watches(id)) {
                    Some(at) => self.observers.swap_remove(at),
                    None => continue,
                };
            }
            self.observers.push(observer.clone());
            grew = true;
        }
        grew
    }

    /// Sets the deadline anew. What changes meanwhile never lengthens the time. Who is not `sound`,
    /// suspect itself or gone, has no say.
    pub fn review(&mut self, jury: &Jury, sound: impl Fn(&NodeId) -> bool) {
        let long = timeout(jury, self.watchers.len(), self.observers.len()) * self.patience();
        self.deadline = self.deadline.min(self.since + long.min(jury.longest));
        if self.unanimous(sound) {
            self.deadline = self.deadline.min(self.since + REFUTE_MIN);
        }
    }

    /// We were paused: the suspect has that much more time.
    pub fn grant(&mut self, late: Duration) {
        self.since = self.since + late;
        self.deadline = self.deadline + late;
    }

    /// Nobody can be heard who would know: not before then. Reviewed, it has its own time again.
    pub fn wait_until(&mut self, at: Time) {
        self.deadline = self.deadline.max(at);
    }

    /// How many times longer a suspicion lasts that one observer has and nobody confirms: like all
    /// its other time-outs, by how little it trusts itself. Whoever loses most of its packets hears
    /// of few refutations in time.
    fn patience(&self) -> u32 {
        match self.observers.as_slice() {
            [alone] if self.watchers.len() >= JURY_MIN => alone.health_score + 1,
            _ => 1,
        }
    }

    /// Whether nearly all sound watchers could not reach the member. Others who could not either
    /// do not count: they hold no link to it.
    fn unanimous(&self, sound: impl Fn(&NodeId) -> bool) -> bool {
        let (mut all, mut agree) = (0, 0);
        for watcher in self.watchers.iter().filter(|w| sound(w)) {
            all += 1;
            agree += usize::from(self.observers.iter().any(|o| o.observer == *watcher));
        }
        all >= JURY_MIN && agree >= all - all / DISSENT
    }
}

/// max − (max − min) · log(c + 1) / log(k + 1), at least min, with c confirmations of k wanted.
/// With fewer than three possible observers nobody could confirm, so the minimum runs in full.
fn timeout(jury: &Jury, watchers: usize, observers: usize) -> Duration {
    let min = jury.min.mul_f64((jury.live.max(1) as f64).log10().max(1.0));
    if watchers < JURY_MIN {
        return min;
    }
    let wanted = CONFIRMATIONS_WANTED.min(watchers - 1);
    let share = (observers.max(1) as f64).ln() / ((wanted + 1) as f64).ln();
    let max = min * jury.factor;
    let shrunk = max.as_secs_f64() - (max - min).as_secs_f64() * share;
    Duration::from_secs_f64(shrunk.max(min.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Direction;

    const MIN: Duration = Duration::from_secs(3);
    const LONGEST: Duration = Duration::from_secs(3600);

    fn ids(n: std::ops::Range<u32>) -> Vec<NodeId> {
        n.map(|n| NodeId::new(format!("n{n}")).unwrap()).collect()
    }

    /// What those saw who could not reach the member.
    fn saw(n: std::ops::Range<u32>) -> Vec<Observation> {
        let seen = |observer| Observation {
            observer,
            phi: None,
            missed_probes: 1,
            direction: Direction::Unknown,
            health_score: 0,
        };
        ids(n).into_iter().map(seen).collect()
    }

    fn review(s: &mut Suspicion, live: usize) -> Time {
        s.review(&Jury { live, min: MIN, factor: 3, longest: LONGEST }, |_| true);
        s.deadline
    }

    /// When a suspicion with so many observers, of so many watchers, becomes a failure.
    fn deadline(observers: u32, watchers: u32, live: usize, silent: std::ops::Range<u32>) -> Time {
        let mut s = Suspicion::new(Time(0), saw(0..observers), ids(0..watchers));
        let silent = ids(silent);
        s.review(&Jury { live, min: MIN, factor: 3, longest: LONGEST }, |w| !silent.contains(w));
        s.deadline
    }

    #[test]
    fn each_distinct_observer_shrinks_the_timer_once() {
        let mut s = Suspicion::new(Time(0), saw(0..1), ids(0..9));
        assert_eq!(review(&mut s, 10), Time(9_000_000));
        assert!(!s.confirm(&saw(0..1)));
        assert_eq!(review(&mut s, 10), Time(9_000_000));
        assert!(s.confirm(&saw(1..2)));
        assert_eq!(review(&mut s, 10), Time(6_000_000)); // ln 2 / ln 4 is one half
        assert!(s.confirm(&saw(2..5)));
        assert_eq!(review(&mut s, 10), Time(3_000_000));
    }

    #[test]
    fn few_possible_observers_run_the_minimum_in_full() {
        assert_eq!(deadline(1, 2, 3, 0..0), Time(3_000_000));
        assert_eq!(deadline(2, 2, 3, 0..0), Time(3_000_000));
        assert_eq!(deadline(1, 3, 4, 0..0), Time(9_000_000));
    }

    #[test]
    fn who_trusts_itself_little_waits_longer_until_somebody_confirms() {
        let mut ill = saw(0..1);
        ill[0].health_score = 4;
        let mut s = Suspicion::new(Time(0), ill.clone(), ids(0..9));
        assert_eq!(review(&mut s, 10), Time(45_000_000));
        assert!(s.confirm(&saw(1..2)));
        assert_eq!(review(&mut s, 10), Time(6_000_000));
        // With fewer possible observers than three nobody could confirm.
        let mut s = Suspicion::new(Time(0), ill, ids(0..2));
        assert_eq!(review(&mut s, 3), Time(3_000_000));
    }

    #[test]
    fn however_little_an_observer_trusts_itself_there_is_an_end_to_it() {
        let mut ill = saw(0..1);
        ill[0].health_score = 8;
        let mut s = Suspicion::new(Time(0), ill, ids(0..9));
        let longest = Duration::from_secs(30);
        s.review(&Jury { live: 10, min: MIN, factor: 3, longest }, |_| true);
        assert_eq!(s.deadline, Time(30_000_000));
    }

    #[test]
    fn grows_with_the_logarithm_of_the_size() {
        assert_eq!(deadline(4, 10, 1000, 0..0), Time(9_000_000));
    }

    #[test]
    fn near_unanimity_leaves_a_second_to_refute() {
        assert_eq!(deadline(8, 10, 1000, 0..0), Time(1_000_000));
        assert_eq!(deadline(7, 10, 1000, 0..0), Time(9_000_000));
        assert_eq!(deadline(3, 3, 4, 0..0), Time(1_000_000));
    }

    #[test]
    fn who_is_suspect_has_no_say_but_three_must_have_one() {
        // Watchers 4 to 8 are suspect: the other four are all there is to agree.
        assert_eq!(deadline(4, 9, 10, 4..9), Time(1_000_000));
        assert_eq!(deadline(2, 9, 10, 2..9), Time(6_000_000));
    }

    #[test]
    fn observers_who_do_not_watch_are_not_counted_as_agreeing() {
        let mut s = Suspicion::new(Time(0), saw(20..28), ids(0..10));
        assert_eq!(review(&mut s, 1000), Time(9_000_000));
        // And they give way to those who do.
        assert!(s.confirm(&saw(0..10)));
        assert_eq!(s.observers.len(), OBSERVERS_MAX);
        assert_eq!(review(&mut s, 1000), Time(1_000_000));
    }

    #[test]
    fn a_pause_of_ours_leaves_the_second_to_refute() {
        let mut s = Suspicion::new(Time(0), saw(0..1), ids(0..10));
        review(&mut s, 1000);
        s.grant(Duration::from_secs(5));
        s.confirm(&saw(0..10));
        assert_eq!(review(&mut s, 1000), Time(6_000_000));
    }
}
