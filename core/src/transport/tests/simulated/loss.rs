//! Networks that lose packets.

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);
/// Within this all links that broke are noticed: a ping of 2 s, and the stack's 3 s of silence.
const NOTICED: Duration = Duration::from_secs(8);

/// What became of requests.
#[derive(Debug, Default)]
pub(super) struct Fates {
    answered: usize,
    failed: usize,
    cancelled: usize,
}

/// Three hosts whose links fail with this probability at each packet: it is lost and all that is on
/// its way with it, and the next one goes through again. Each asks the others, and gives every
/// fourth request up, which nobody answers.
pub(super) fn lossy(seed: u64, loss: f64) -> (Fates, Footprint) {
    let mut world = World::new(seed, 3, &Net { loss, ..Net::default() });
    let mut asked = Vec::new();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let to = world.process(to);
        let seed = world.rng.random();
        asked.push(world.begin(from, move |from| async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut fates = Fates::default();
            for turn in 1..=40 {
                let payload = Bytes::from(vec![7; rng.random_range(0..20_000)]);
                let began = Instant::now();
                let (topic, patience) = if turn % 4 == 0 {
                    ("hang", Duration::from_millis(rng.random_range(0..100)))
                } else {
                    ("echo", 2 * DEADLINE)
                };
                let asking =
                    from.transport.request(&to.peer, to.addr, topic, payload.clone(), DEADLINE);
                match timeout(patience, asking).await {
                    Err(_) => fates.cancelled += 1,
                    Ok(Ok(answer)) => {
                        fates.answered += 1;
                        if answer != payload {
                            return Err("another answer".to_owned());
                        }
                    }
                    Ok(Err(error)) => {
                        fates.failed += 1;
                        let known = [Code::Timeout, Code::LinkLost, Code::Unreachable];
                        if !known.contains(&error.code()) {
                            return Err(error.to_string());
                        }
                    }
                }
                if began.elapsed() > DEADLINE + Duration::from_millis(10) {
                    return Err(format!("{:?} for one", began.elapsed()));
                }
            }
            Ok(fates)
        }));
    }
    let mut all = Fates::default();
    for asked in asked {
        let (fates, _) = world.end_within(asked, 40 * DEADLINE);
        let fates = fates.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        all.answered += fates.answered;
        all.failed += fates.failed;
        all.cancelled += fates.cancelled;
    }
    world.sim.set_fail_rate(0.0);
    // Links that only one end holds are noticed first: a ping or the idle time-out ends them.
    world.pass(NOTICED);
    world.mesh();
    (all, world.footprint())
}

#[test]
fn at_5_percent_loss_requests_are_answered_and_nothing_leaks() {
    each_seed(|seed| {
        let (fates, _) = lossy(seed, 0.05);
        assert_eq!(fates.failed, 0, "seed {seed}: {fates:?}");
    });
}

#[test]
fn at_20_percent_loss_requests_are_answered_or_fail_in_time_and_nothing_leaks() {
    each_seed(|seed| {
        let (fates, _) = lossy(seed, 0.2);
        assert!(fates.answered >= 150, "seed {seed}: {fates:?}");
    });
}
