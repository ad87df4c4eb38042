//! What the command prints: for programs in the last line, and how to see a violation again.
#![allow(clippy::unwrap_used)] // a test may

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_peerage-sim")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn the_last_line_is_for_programs() {
    let (output, text) = sim(&["--seeds", "3", "--nodes", "5", "--json"]);
    assert!(output.status.success());
    assert_eq!(text, "{\"seeds\":3,\"nodes\":5,\"violations\":0}\n");
}

/// Seed, step and the shortest command; and that command finds the same.
#[test]
fn a_violation_says_how_to_see_it_again() {
    let (output, text) = sim(&["--seeds", "20", "--nodes", "6", "--planted", "--json"]);
    assert!(!output.status.success(), "{text}");
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["seeds"], &last["nodes"]), (&20.into(), &6.into()));
    assert!(last["violations"].as_u64().unwrap() > 0, "{last}");

    let begin = text.find("seed ").unwrap();
    let failure = text[begin..].split_inclusive('\n');
    let (mut one, mut replay) = (String::new(), None);
    for line in failure {
        one += line;
        replay = line.trim().strip_prefix("replay: cargo xtask sim ");
        if replay.is_some() {
            break;
        }
    }
    let seed = one.strip_prefix("seed ").unwrap().split(' ').next().unwrap();
    assert_eq!(replay.unwrap(), format!("--seed {seed} --nodes 6"));
    let violation = one.lines().nth(1).unwrap().trim();
    let step = violation.strip_prefix("step ").unwrap().split(',').next().unwrap();
    assert!(step.parse::<u64>().unwrap() > 0 && violation.contains("rule 1"), "{violation}");

    let arguments: Vec<_> = replay.unwrap().split(' ').chain(["--planted"]).collect();
    assert_eq!(sim(&arguments).1, one);
}
