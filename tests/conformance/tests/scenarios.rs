//! The Rust runner: plays each scenario through the public API.
#![allow(missing_docs, clippy::unwrap_used)] // a scenario that is not as described may panic

mod runner;

use std::{collections::BTreeSet, fs, path::Path};

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                runner::play(&folder().join(concat!(stringify!($name), ".json"))).await;
            }
        )*
    };
}

scenarios! {
    bad_configuration, certificates, closed, death, events_in_order, health_check, messages, nobody_there,
    links, payload_limit, refused, request_errors, requests, secrets, slow_subscriber, stalled, start_and_join,
    state_on_disk, streams, tags,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn no_scenario_is_left_out() {
    let files = fs::read_dir(folder()).unwrap().map(|f| f.unwrap().path());
    let files: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let played: BTreeSet<String> = NAMES.iter().map(ToString::to_string).collect();
    assert_eq!(files, played);
}
