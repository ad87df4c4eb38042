//! Real processes: one gets SIGKILL, everybody notices; it comes back under its id and port.
#![allow(clippy::unwrap_used)] // in tests a failure is a failure

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use peerage::{Cluster, Secret, State};

/// No condition is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker process that does not outlive the test.
struct Worker(Child);

impl Worker {
    fn start(id: &str, listen: SocketAddr, seed: SocketAddr, secret: &Secret) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .args(["--id", id, "--cluster", "death", "--tag", "role=worker"])
            .args(["--listen", &listen.to_string(), "--seed", &seed.to_string()])
            .env("PEERAGE_SECRET", secret.to_text())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A pipe that nobody reads would fill and hold the process up.
        let reports = child.stdout.take().unwrap();
        std::thread::spawn(move || BufReader::new(reports).lines().map_while(Result::ok).count());
        Self(child)
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// SIGKILL: no destructor runs, no goodbye is said.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_notices_a_killed_process_and_welcomes_it_back() {
    let secret = Secret::generate();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let start = |id: &str| Cluster::builder("death", id).secret(secret.clone());
    let first = start("a").start().await.unwrap();
    let second = start("b").seed(first.addr()).start().await.unwrap();
    second.join(PATIENCE).await.unwrap();
    let nodes = [first, second];
    let seed = nodes[0].addr();
    let mut doomed = Worker::start("w1", any, seed, &secret);
    let _other = Worker::start("w2", any, seed, &secret);
    for node in &nodes {
        until("all four are alive", || node.stats().alive == 4).await;
    }
    let old = nodes[0].get("w1").unwrap();
    let mut events = nodes[1].events();

    doomed.kill();
    for node in &nodes {
        until("the death is known", || node.get("w1").unwrap().state == State::Failed).await;
    }
    let mut kinds = Vec::new();
    while let Some(event) = events.try_next() {
        match event.kind.member() {
            Some(member) if member.id.as_str() == "w1" => kinds.push(event.kind.name()),
            Some(member) => panic!("nothing happened to {}: {:?}", member.id, event.kind),
            None => {}
        }
    }
    // Who notices it first is a matter of times.
    kinds.retain(|kind| *kind != "HealthCheckFailed");
    assert_eq!(kinds, ["MemberSuspected", "MemberFailed"]);
    let error = nodes[0].request("w1", "work", "x", PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), peerage::Code::UnknownMember);

    let _again = Worker::start("w1", old.addr, seed, &secret);
    for node in &nodes {
        until("it is welcomed", || node.get("w1").unwrap().state == State::Alive).await;
        let new = node.get("w1").unwrap();
        assert_eq!(new.addr, old.addr);
        assert_ne!(new.instance, old.instance);
        assert!(new.incarnation > old.incarnation);
    }
    let answer = nodes[1].request("w1", "work", "x", PATIENCE).await.unwrap();
    assert_eq!(answer.len(), 8);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_for_a_while_accuses_nobody_and_comes_back() {
    let secret = Secret::generate();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let start = |id: &str| Cluster::builder("death", id).secret(secret.clone());
    let first = start("a").start().await.unwrap();
    let second = start("b").seed(first.addr()).start().await.unwrap();
    second.join(PATIENCE).await.unwrap();
    let nodes = [first, second];
    let seed = nodes[0].addr();
    let stopped = Worker::start("w1", any, seed, &secret);
    let _other = Worker::start("w2", any, seed, &secret);
    for node in &nodes {
        until("all four are alive", || node.stats().alive == 4).await;
    }
    // Long enough for heartbeats to have a past.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let instance = nodes[0].get("w1").unwrap().instance;
    let mut events = nodes.each_ref().map(Cluster::events);

    stopped.signal("-STOP");
    tokio::time::sleep(Duration::from_secs(5)).await;
    for node in &nodes {
        assert_eq!(node.get("w1").unwrap().state, State::Failed, "nobody knows that it is stopped");
    }
    stopped.signal("-CONT");
    for node in &nodes {
        until("it is back", || node.get("w1").unwrap().state == State::Alive).await;
        assert_eq!(node.get("w1").unwrap().instance, instance);
    }
    // Whatever it thinks of the others is told by now.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for events in &mut events {
        while let Some(event) = events.try_next() {
            let about = event.kind.member().map(|m| m.id.to_string());
            assert!(about.is_none_or(|id| id == "w1"), "nothing happened to the others: {event:?}");
        }
    }
}
