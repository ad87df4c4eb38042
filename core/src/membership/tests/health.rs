//! In poor health a node asks more rarely, and forgives others more.

use super::*;

/// Lets so many seconds pass in this health, in which every ping is answered and node 2 is heard.
fn pass_in(node: &mut Node, score: u32, seconds: u64) -> Vec<(Time, Effect)> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        node.heartbeat(2, node.now.0 / 1_000_000 + 1);
        let until = node.now + Duration::from_secs(1);
        while let Some(at) = node.machine.deadline().filter(|at| *at <= until) {
            node.machine.health = Default::default();
            node.machine.health.worse(score);
            all.extend(node.pass_to_next().into_iter().map(|e| (at, e)));
        }
        node.now = until;
    }
    all
}

#[test]
fn it_probes_more_rarely() {
    for (score, probes) in [(0, 58..=61), (1, 29..=31), (3, 14..=16), (8, 6..=8)] {
        let mut node = Node::new(3);
        pass_in(&mut node, score, 20);
        let before = node.machine.counters().probes;
        pass_in(&mut node, score, 60);
        let made = node.machine.counters().probes - before;
        assert!(probes.contains(&made), "{made} with a score of {score}");
    }
}

#[test]
fn it_forgives_a_longer_silence() {
    let pause = Config::new("c", "n").heartbeat_pause;
    let silence = |score| {
        let mut node = Node::new(3);
        node.pass(2);
        for seq in 1..=12 {
            node.heartbeat(1, seq);
            pass_in(&mut node, score, 1);
        }
        let last = node.now - Duration::from_secs(1);
        let accused = suspicions(&pass_in(&mut node, score, 30));
        let (at, who) = accused.first().expect("it is silent").clone();
        assert_eq!(who, id(1), "with a score of {score}");
        at.since(last)
    };
    let healthy = silence(0);
    for score in [1, 3, 8] {
        assert_eq!(silence(score), healthy + pause * score, "with a score of {score}");
    }
}
