//! A process that is killed, or stopped for a moment, while it owes an answer.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use peerage::{Cluster, Code, Path, Secret};
use support::{PATIENCE, node, until};

const SEED: &str = "PEERAGE_TEST_SEED";
const SECRET: &str = "PEERAGE_TEST_SECRET";

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
    node.handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    node.join(PATIENCE).await.unwrap();
    tokio::time::sleep(4 * PATIENCE).await; // it is killed long before, or its parent has failed
}

/// Killed at the end, also one that was stopped.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may be dead
        let _ = self.0.wait();
    }
}

/// The other process as its child, once it is a member.
async fn mortal_of(asker: &Cluster, secret: &Secret) -> Mortal {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(SEED, asker.addr().to_string())
        .env(SECRET, secret.to_text())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it is there", || asker.get("mortal").is_some_and(|m| m.state.is_live())).await;
    Mortal(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_process_that_is_killed_ends_with_its_link() {
    let secret = Secret::generate();
    let asker = node("asker", &secret).start().await.unwrap();
    let mut child = mortal_of(&asker, &secret).await;
    let mut says = BufReader::new(child.0.stdout.take().unwrap()).lines();

    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.request("mortal", "owe", "", PATIENCE).await }
    });
    let owing = tokio::task::spawn_blocking(move || says.any(|line| line.unwrap() == "owing"));
    assert!(owing.await.unwrap());
    child.0.kill().unwrap(); // SIGKILL: it says nothing to anybody
    let killed = Instant::now();
    let answer = asking.await.unwrap();
    let took = killed.elapsed();

    let error = answer.unwrap_err();
    assert_eq!(error.code(), Code::LinkLost, "{error}");
    assert!(error.to_string().contains("nobody listens at the peer's address"), "{error}");
    assert!(took < PATIENCE, "{took:?}"); // mostly 0.3 s; the reason says that it was not the silence
    eprintln!("the request ended {took:?} after the kill");
    let stats = asker.stats().transport;
    assert_eq!((stats.requests_out, stats.pool.links_total), (0, 0));
    let again = asker.request("mortal", "owe", "", Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(again.code(), Code::Unreachable | Code::UnknownMember), "{again}");
}

/// Its host keeps its port for it, so it is not taken for one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_process_that_is_stopped_for_a_moment_is_answered() {
    let secret = Secret::generate();
    let asker = node("asker", &secret).start().await.unwrap();
    let child = mortal_of(&asker, &secret).await;
    let signal = |name: &str| {
        let kill = format!("kill -{name} {}", child.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    asker.request("mortal", "echo", "1", PATIENCE).await.unwrap();
    let before = asker.stats().transport;

    signal("STOP");
    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.request("mortal", "echo", "2", PATIENCE).await }
    });
    until("its link is in trouble", || asker.stats().links.iter().any(|l| l.path != Path::Good))
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await; // as long as it is stopped
    signal("CONT");
    assert_eq!(asking.await.unwrap().unwrap(), "2");
    let after = asker.stats().transport;
    assert_eq!((after.broken, after.dials), (before.broken, before.dials));
}
