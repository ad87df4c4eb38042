//! Against the definition: known distributions, known silences, and no sleeping.

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(3600);

/// A listener that heard a heartbeat after each of these intervals, in microseconds.
fn after(intervals: impl IntoIterator<Item = u64>) -> Phi {
    let mut now = Time(0);
    let mut phi = Phi::new(now, SECOND);
    for interval in intervals {
        now = Time(now.0 + interval);
        phi.heard(now, SECOND, NEVER);
    }
    phi
}

/// Normally distributed, by Box and Muller.
fn normal(rng: &mut StdRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::EPSILON..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

fn close(a: f64, b: f64, share: f64) -> bool {
    (a - b).abs() <= share * b.abs()
}

#[test]
fn the_tail_is_that_of_the_tables() {
    // −log10 Q(y), from tables of the normal distribution.
    for (y, phi) in [
        (0.0, std::f64::consts::LOG10_2),
        (1.0, 0.799_546_078_3),
        (2.0, 1.643_016_122_9),
        (3.0, 2.869_668_226_8),
        (4.0, 4.499_314_610_8),
        (5.0, 6.542_642_743_4),
        (6.0, 9.005_861_0),
        (10.0, 23.118_053),
        (37.0, 299.241),
    ] {
        let is = surprise(y);
        assert!((is - phi).abs() < phi.abs() * 1e-4 + 1e-9, "y {y}: {is}, not {phi}");
    }
    assert!((surprise(-1.0) - 0.075_026_0).abs() < 1e-5, "{}", surprise(-1.0));
    assert!(surprise(-8.0) > 0.0);
}

#[test]
fn series_and_fraction_meet() {
    let (below, above) = (surprise(FAR - 1e-9), surprise(FAR));
    assert!(below < above && above - below < 1e-7, "{below} {above}");
}

#[test]
fn no_threshold_is_out_of_reach() {
    for threshold in [0.5, 1.0, 8.0, 100.0, 1e4, 1e6] {
        let y = deviations(threshold);
        assert!(close(surprise(y), threshold, 1e-9), "{threshold}: {}", surprise(y));
    }
    assert!((deviations(8.0) - 5.6120).abs() < 1e-3, "{}", deviations(8.0));
}

/// A window full of intervals with this mean and this deviation, in seconds.
fn jittery(rng: &mut StdRng, mean: f64, jitter: f64) -> Phi {
    // Cut off at three deviations: an interval is not negative.
    let draw = |rng: &mut StdRng| mean + jitter * normal(rng).clamp(-3.0, 3.0);
    after((0..WINDOW).map(|_| (draw(rng) * 1e6) as u64))
}

/// In milliseconds.
const JITTERS: [f64; 7] = [1.0, 5.0, 10.0, 50.0, 100.0, 200.0, 500.0];

#[test]
fn known_means_and_deviations_are_found_at_any_jitter() {
    let mut rng = StdRng::seed_from_u64(1);
    for jitter in JITTERS.map(|ms| ms / 1000.0) {
        let phi = jittery(&mut rng, 3.0, jitter);
        let (mean, spread, deviation) = (phi.mean(), phi.spread(), phi.deviation());
        assert!((mean - 3.0).abs() < 0.4 * jitter, "{jitter} s: mean {mean}"); // four of σ/√100
        assert!(close(spread, jitter, 0.25), "{jitter} s: {spread}, before the floor");
        assert_eq!(deviation, spread.max(0.1 * mean), "{jitter} s");
        let elapsed = Duration::from_secs_f64(mean + 1.0 + 2.0 * deviation);
        let value = phi.value(phi.last + elapsed, PAUSE);
        assert!(close(value, 1.6430, 0.001), "{jitter} s: phi {value}");
    }
}

/// By what the sender does, not by what the detector made of it.
#[test]
fn thresholds_are_crossed_when_the_senders_own_mean_and_deviation_say_so() {
    let mut rng = StdRng::seed_from_u64(3);
    for jitter in JITTERS.map(|ms| ms / 1000.0) {
        for threshold in [1.0, 2.0, 8.0, 16.0] {
            let y = deviations(threshold);
            let expected = 3.0 + 1.0 + y * f64::max(jitter, 0.3);
            let crossings: Vec<f64> = (0..100)
                .map(|_| {
                    let phi = jittery(&mut rng, 3.0, jitter);
                    phi.crossing(y, PAUSE).since(phi.last).as_secs_f64()
                })
                .collect();
            // Of a hundred detectors with a hundred samples each: none is far off, and together
            // they are right.
            let mean = crossings.iter().sum::<f64>() / 100.0;
            assert!(close(mean, expected, 0.01), "{jitter} s, {threshold}: {mean}, not {expected}");
            let far = crossings.iter().filter(|c| !close(**c, expected, 0.15)).count();
            assert_eq!(far, 0, "{jitter} s, {threshold}: {crossings:?}");
        }
    }
}

#[test]
fn the_share_of_wrong_alarms_is_what_phi_says() {
    // At threshold 2 one silence in a hundred is longer, by definition.
    let mut rng = StdRng::seed_from_u64(2);
    let y = deviations(2.0);
    let (mut wrong, all) = (0, 50_000);
    let mut phi = after([1_000_000; 5]);
    let mut now = phi.last;
    for i in 0..all + WINDOW {
        let interval = Duration::from_secs_f64(1.0 + 0.15 * normal(&mut rng).clamp(-6.0, 6.0));
        wrong += usize::from(i >= WINDOW && interval > phi.silence(y, Duration::ZERO));
        now = now + interval;
        phi.heard(now, SECOND, NEVER);
    }
    let share = wrong as f64 / all as f64;
    // A deviation taken from a hundred samples is itself off by some 7 %.
    assert!((0.008..0.013).contains(&share), "{share}");
}

#[test]
fn a_regular_sender_is_surprising_after_two_and_a_half_seconds() {
    let phi = after([1_000_000; 30]);
    assert_eq!(phi.deviation(), 0.1, "the floor");
    let silence = phi.silence(deviations(8.0), PAUSE).as_secs_f64();
    assert!((2.56..2.57).contains(&silence), "{silence}");
}

#[test]
fn before_there_are_samples_the_senders_own_interval_counts() {
    let phi = Phi::new(Time(0), Duration::from_secs(5));
    assert_eq!((phi.mean(), phi.deviation()), (5.0, 1.25));
    assert!(phi.value(Time(6_000_000), PAUSE) < 1.0);
    assert!(phi.value(Time(20_000_000), PAUSE) > 8.0);
    let few = after([3_000_000; SAMPLES_MIN - 1]);
    assert_eq!(few.mean(), 1.0);
    assert_eq!(after([3_000_000; SAMPLES_MIN]).mean(), 3.0);
}

#[test]
fn a_burst_after_a_pause_is_one_arrival() {
    let calm = after([1_000_000; 20]);
    let mut burst = calm.clone();
    let mut now = burst.last + Duration::from_secs(4);
    for _ in 0..5 {
        burst.heard(now, SECOND, NEVER);
        now = now + Duration::from_millis(1);
    }
    assert_eq!(burst.samples.len(), calm.samples.len() + 1);
    assert!(burst.mean() > calm.mean());
}

#[test]
fn an_outage_counts_no_more_than_the_silence_that_was_judged() {
    let mut phi = after([1_000_000; 50]);
    let longest = phi.silence(deviations(8.0), PAUSE);
    phi.heard(phi.last + Duration::from_secs(600), SECOND, longest);
    assert!(phi.silence(deviations(8.0), PAUSE) < Duration::from_secs(4));
}

#[test]
fn an_own_pause_is_not_held_against_the_sender() {
    let mut phi = after([1_000_000; 20]);
    let now = phi.last + Duration::from_secs(60);
    assert!(phi.value(now, PAUSE) > 1e4);
    phi.restart(now);
    assert!(phi.value(now, PAUSE) < 1e-6);
    assert!(phi.value(now + Duration::from_secs(3), PAUSE) > 8.0);
}

#[test]
fn the_window_forgets() {
    let mut phi = after([2_000_000; WINDOW]);
    let mut now = phi.last;
    for _ in 0..WINDOW {
        now = now + SECOND;
        phi.heard(now, SECOND, NEVER);
    }
    assert_eq!((phi.mean(), phi.samples.len()), (1.0, WINDOW));
    assert_eq!((phi.sum, phi.squares), (100_000_000, 100_000_000_000_000));
}

proptest! {
    #[test]
    fn silence_always_raises_it(
        intervals in prop::collection::vec(1_000u64..5_000_000, 0..150),
        pause_ms in 0u64..3000,
        a in 0u64..100_000_000,
        more in 1_000u64..100_000_000,
    ) {
        let phi = after(intervals);
        let pause = Duration::from_millis(pause_ms);
        let at = |micros: u64| phi.value(phi.last + Duration::from_micros(micros), pause);
        let (sooner, later) = (at(a), at(a + more));
        prop_assert!(sooner.is_finite() && later.is_finite());
        // Deep in the safe side the difference is below what a number can show.
        prop_assert!(sooner < later || later < 1e-300, "{sooner} {later}");
    }

    #[test]
    fn the_crossing_is_where_phi_reaches_the_threshold(
        intervals in prop::collection::vec(50_000u64..5_000_000, 0..150),
        threshold in 1u32..200,
    ) {
        let phi = after(intervals);
        let threshold = f64::from(threshold);
        let at = phi.crossing(deviations(threshold), PAUSE);
        prop_assert!(phi.value(at, PAUSE) >= threshold);
        prop_assert!(phi.value(at - Duration::from_millis(1), PAUSE) < threshold);
    }
}
