//! A process that is killed while it owes an answer.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use peerage::{Code, Secret};
use support::{PATIENCE, node, until};

const SEED: &str = "PEERAGE_TEST_SEED";
const SECRET: &str = "PEERAGE_TEST_SECRET";
/// Of a link on which nothing is heard.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The other process: the same program, told to run this alone. By itself it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let (Ok(seed), Ok(secret)) = (env::var(SEED), env::var(SECRET)) else { return };
    let secret = Secret::parse(&secret).unwrap();
    let node = node("mortal", &secret).seed(seed.parse().unwrap()).start().await.unwrap();
    node.handle("owe", |_| async {
        println!("\nowing");
        std::future::pending().await
    })
    .unwrap();
    node.join(PATIENCE).await.unwrap();
    tokio::time::sleep(4 * PATIENCE).await; // it is killed long before, or its parent has failed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_process_that_is_killed_ends_with_its_link() {
    let secret = Secret::generate();
    let asker = node("asker", &secret).start().await.unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(SEED, asker.addr().to_string())
        .env(SECRET, secret.to_text())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
    until("it is there", || asker.get("mortal").is_some_and(|m| m.state.is_live())).await;

    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.request("mortal", "owe", "", PATIENCE).await }
    });
    let owing = tokio::task::spawn_blocking(move || says.any(|line| line.unwrap() == "owing"));
    assert!(owing.await.unwrap());
    child.kill().unwrap(); // SIGKILL: it says nothing to anybody
    let killed = Instant::now();
    let answer = asking.await.unwrap();
    let took = killed.elapsed();
    child.wait().unwrap();

    let error = answer.unwrap_err();
    assert_eq!(error.code(), Code::LinkLost, "{error}");
    assert!(took < IDLE_TIMEOUT + Duration::from_secs(1), "{took:?}");
    eprintln!("the request ended {took:?} after the kill");
    let stats = asker.stats().transport;
    assert_eq!((stats.requests_out, stats.pool.links_total), (0, 0));
    let again = asker.request("mortal", "owe", "", Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(again.code(), Code::Unreachable | Code::UnknownMember), "{again}");
}
