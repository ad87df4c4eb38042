//! What the fuzzers found worth keeping, and random bytes: nothing a peer sends breaks a node.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fs, path::Path};

use peerage_sim::feed;
use rand::{Rng, SeedableRng, rngs::StdRng};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{dir:?}: {e}"));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn frames_of_the_corpus() {
    let all = corpus("frame");
    assert!(all.len() >= 20, "only {} files", all.len());
    all.iter().for_each(|bytes| feed::frame(bytes));
}

#[test]
fn lives_of_the_corpus() {
    let all = corpus("machine");
    assert!(all.len() >= 20, "only {} files", all.len());
    all.iter().for_each(|bytes| feed::machine(bytes));
}

#[test]
fn streams_of_the_corpus() {
    let all = corpus("stream");
    assert!(all.len() >= 20, "only {} files", all.len());
    all.iter().for_each(|bytes| feed::stream(bytes));
}

#[test]
fn random_lives() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..2000 {
        let length = rng.random_range(0..2000);
        let bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        feed::machine(&bytes);
        feed::frame(&bytes);
        feed::stream(&bytes);
    }
}

/// A frame of each kind, cut short anywhere and with any byte changed.
#[test]
fn damaged_frames() {
    for bytes in corpus("frame") {
        for length in 0..bytes.len() {
            feed::frame(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            feed::frame(&damaged);
        }
    }
}
