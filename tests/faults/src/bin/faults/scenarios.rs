//! The faults, and exactly who may be declared failed in each, by whom, and within which time.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use peerage_faults::{
    network::{Drops, Network},
    process::die_with_us,
    report::{Seen, now_us},
};

use crate::{
    cluster::{Cluster, addr, id},
    languages,
};

/// One test: says in a few words what it measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<String>,
    /// Not beside others: joins of so many take all that two cores have.
    pub(crate) alone: bool,
}

const fn beside_others(name: &'static str, run: fn() -> Result<String>) -> Scenario {
    Scenario { name, run, alone: false }
}

/// The longest first, so that they do not come last.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "killed_of_50", run: killed, alone: true },
    beside_others("stopped_for_60_s", || stopped(20, s(60))),
    beside_others("split_in_halves_and_healed", split),
    beside_others("loop_of_node_and_gil_of_python_blocked_for_30_s", languages::blocked),
    beside_others("a_fifth_of_all_packets_lost", loss_everywhere),
    beside_others("a_fifth_lost_at_one_node", loss_at_one),
    beside_others("one_node_is_not_heard", not_heard),
    beside_others("one_node_hears_nothing", hears_nothing),
    beside_others("one_pair_is_cut_one_way", one_pair),
    beside_others("stopped_for_10_s", || stopped(20, s(10))),
    beside_others("a_starved_observer_accuses_nobody", starved_observer),
    beside_others("whole_cluster_restarted", whole_restart),
    beside_others("another_address_under_the_same_id", moved),
];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// SIGKILL: all the others say so within 4 s, and about nobody else.
fn killed() -> Result<String> {
    let mut cluster = Cluster::start(50)?;
    let others = cluster.others(&[7]);
    let at = now_us();
    cluster.fleet.kill(&id(7))?;
    let took = cluster.declared_by_all(7, &others, at, s(4))?;
    let first = cluster.fleet.who_saw("MemberSuspected", &id(7)).values().min().copied();
    let first = first.context("nobody suspected it")?.saturating_sub(at) / 1000;
    // What is wrong shows soon after: suspicions that the death caused have run out by then.
    cluster.fleet.pass(s(5))?;
    cluster.only_failed(&[7], &others, "after the kill")?;
    cluster.see(&others, 49, s(1))?;
    Ok(format!("suspected after {first} ms, failed everywhere after {} ms", took.as_millis()))
}

/// SIGSTOP: the others declare it failed; once resumed it is alive everywhere within 5 s, and has
/// itself accused nobody, though it heard nobody for so long.
fn stopped(size: usize, time: Duration) -> Result<String> {
    let mut cluster = Cluster::start(size)?;
    let others = cluster.others(&[4]);
    let at = now_us();
    cluster.process(4).stop()?;
    let took = cluster.declared_by_all(4, &others, at, s(5))?;
    cluster.fleet.pass(time.saturating_sub(took))?;
    cluster.only_failed(&[4], &others, "while it was stopped")?;
    cluster.process(4).resume()?;
    let back = cluster.all_alive(s(5)).context("after it was resumed")?;
    cluster.fleet.pass(s(5))?;
    let all = cluster.others(&[]);
    cluster.only_failed(&[4], &all, "after it was resumed")?;
    cluster.accuses_nobody(4)?;
    cluster.all_alive(s(1))?;
    Ok(format!(
        "failed everywhere after {} ms, alive everywhere {} ms after it was resumed",
        took.as_millis(),
        back.as_millis()
    ))
}

/// 20 % of all packets lost for half a minute: nobody is declared failed.
fn loss_everywhere() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    cluster.network.drop(&[Drops::Loss(20)])?;
    nobody_fails(&mut cluster, s(30))
}

/// 20 % of one node's packets lost: nobody is declared failed, that node included.
fn loss_at_one() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    cluster.network.drop(&[Drops::LossAt(Network::ip(3), 20)])?;
    nobody_fails(&mut cluster, s(30))
}

/// One of a pair does not hear the other: the others hear both, so nobody is declared failed.
fn one_pair() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    cluster.network.drop(&[Drops::From(vec![Network::ip(3)], vec![Network::ip(11)])])?;
    nobody_fails(&mut cluster, s(25))
}

fn nobody_fails(cluster: &mut Cluster, time: Duration) -> Result<String> {
    cluster.fleet.pass(time)?;
    let all = cluster.others(&[]);
    cluster.only_failed(&[], &all, "while packets were dropped")?;
    let suspected = cluster.suspected();
    cluster.network.drop(&[])?;
    cluster.all_alive(s(10)).context("after the loss was over")?;
    Ok(format!("suspected meanwhile: {suspected:?}"))
}

/// All that one node sends is dropped: the others declare it failed, and nobody else. It hears
/// them, so for it nobody is gone as long as that lasts; healed, they are one cluster again.
fn not_heard() -> Result<String> {
    one_way(Drops::Sent(Network::ip(5)), "fromMember", "toMember")
}

/// All that is sent to one node is dropped. It may hold whom it likes dead.
fn hears_nothing() -> Result<String> {
    one_way(Drops::Received(Network::ip(5)), "toMember", "fromMember")
}

/// The evidence is to name the direction that fails, and never the one that holds.
fn one_way(drops: Drops, fails: &str, holds: &str) -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    let others = cluster.others(&[5]);
    let at = now_us();
    cluster.network.drop(&[drops])?;
    let took = cluster.declared_by_all(5, &others, at, s(8))?;
    let said = cluster.directions(5, &others);
    let named = said.get(fails).copied().unwrap_or_default();
    // Some have no edge to tell by, and no link when they probe.
    let right = 3 * named > said.values().sum() && !said.contains_key(holds);
    ensure!(right, "the direction that fails, and how often: {said:?}");
    cluster.fleet.pass(s(10))?;
    cluster.only_failed(&[5], &others, "while it was cut off")?;
    cluster.see(&others, 19, s(1))?;
    cluster.network.drop(&[])?;
    let healed = cluster.all_alive(s(30)).context("after the path was healed")?;
    cluster.fleet.pass(s(5))?;
    cluster.only_failed(&[5], &others, "after it was healed")?;
    Ok(format!(
        "failed everywhere after {} ms, one cluster {} ms after healing; directions {said:?}",
        took.as_millis(),
        healed.as_millis()
    ))
}

/// Two halves declare each other failed, and nobody of their own; healed, they are one cluster
/// again without any command.
fn split() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    let (left, right): (Vec<usize>, Vec<usize>) = ((0..10).collect(), (10..20).collect());
    let ips = |half: &[usize]| half.iter().map(|i| Network::ip(*i)).collect::<Vec<_>>();
    let at = now_us();
    cluster.network.drop(&Drops::between(&ips(&left), &ips(&right)))?;
    let mut took = Duration::ZERO;
    for (half, other) in [(&left, &right), (&right, &left)] {
        for gone in other {
            took = took.max(cluster.declared_by_all(*gone, half, at, s(20))?);
        }
    }
    cluster.fleet.pass(s(15))?;
    cluster.only_failed(&right, &left, "while split")?;
    cluster.only_failed(&left, &right, "while split")?;
    cluster.see(&left, 10, s(1))?;
    cluster.see(&right, 10, s(1))?;
    cluster.network.drop(&[])?;
    let healed = cluster.all_alive(s(30)).context("after the split was healed")?;
    // What one half held about the other must not have been believed there.
    cluster.fleet.pass(s(5))?;
    cluster.only_failed(&right, &left, "after healing")?;
    cluster.only_failed(&left, &right, "after healing")?;
    // And nobody may be declared once more.
    cluster.fleet.forget();
    cluster.fleet.pass(s(5))?;
    let all = cluster.others(&[]);
    cluster.only_failed(&[], &all, "long after healing")?;
    cluster.all_alive(s(1))?;
    Ok(format!(
        "split everywhere after {} ms, one cluster {} ms after healing",
        took.as_millis(),
        healed.as_millis()
    ))
}

/// How long who is starved waits for the processor, on average of all times; nobody else waits for a
/// thousandth of a second.
const STARVED: Duration = Duration::from_millis(30);

/// One observer gets next to nothing of its processor, which others burn: it accuses nobody for
/// whom that ends in a declaration, and nobody accuses any of those who are not starved.
fn starved_observer() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    let pid = cluster.process(6).pid();
    // The idle class runs only when nobody else wants the processor.
    run("chrt", &["--all-tasks", "--idle", "--pid", "0", &pid.to_string()])?;
    run("taskset", &["--all-tasks", "--cpu-list", "--pid", "0", &pid.to_string()])?;
    let hogs = [Hog::start()?, Hog::start()?];
    let waited = |cluster: &Cluster, node| cluster.process(node).waited();
    let before = (waited(&cluster, 6)?, waited(&cluster, 7)?);
    cluster.fleet.pass(s(25))?;
    let starved = waited(&cluster, 6)?.each_since(before.0);
    let other = waited(&cluster, 7)?.each_since(before.1);
    ensure!(starved >= STARVED, "it waited only {starved:?} for the processor each time");
    let all = cluster.others(&[]);
    cluster.only_failed(&[6], &all, "while one was starved")?;
    cluster.accuses_nobody(6)?;
    let suspected = cluster.suspected();
    drop(hogs);
    cluster.all_alive(s(15)).context("after the hogs were gone")?;
    Ok(format!(
        "waited {starved:?} for the processor each time, another one {other:?}; suspected \
         meanwhile: {suspected:?}"
    ))
}

/// Burns the first processor; others of the usual class get their share of it, the idle class next
/// to nothing.
struct Hog(Child);

impl Hog {
    fn start() -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0", "sh", "-c", "while :; do :; done"]);
        command.stdin(Stdio::null());
        die_with_us(&mut command);
        Ok(Self(command.spawn().context("cannot start a hog")?))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill(); // fails only if it is gone
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(())
}

/// All are killed at once and started again under their ids and addresses: all alive within 15 s.
/// Nobody remembers anybody, so nobody is declared failed but a process that was replaced.
fn whole_restart() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    for i in 0..20 {
        cluster.process(i).stop()?; // so that none sees another die
    }
    for i in 0..20 {
        cluster.fleet.kill(&id(i))?;
    }
    cluster.fleet.forget();
    let begun = Instant::now();
    for i in 0..20 {
        cluster.spawn(i)?;
    }
    cluster.all_alive(s(15)).context("after the restart")?;
    let took = begun.elapsed();
    cluster.fleet.pass(s(10))?;
    let all = cluster.others(&[]);
    cluster.only_failed(&[], &all, "after the restart")?;
    cluster.all_alive(s(1))?;
    Ok(format!("all alive {} ms after the first was started again", took.as_millis()))
}

/// A process is killed and started at once on another host under the same id: all see it there
/// within 5 s; nobody else is declared failed, and it once at most.
fn moved() -> Result<String> {
    let mut cluster = Cluster::start(20)?;
    let host = cluster.network.add_host()?;
    let others = cluster.others(&[5]);
    let at = now_us();
    cluster.fleet.kill(&id(5))?;
    cluster.spawn_at(5, host)?;
    let there = |cluster: &Cluster| {
        let joined = cluster
            .fleet
            .of_kind("MemberJoined")
            .filter(|seen| seen.member.as_deref() == Some(&id(5)) && seen.addr == Some(addr(host)));
        joined.map(|seen| seen.node.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    let begun = Instant::now();
    while there(&cluster).len() < others.len() {
        let seen = there(&cluster).len();
        ensure!(begun.elapsed() < s(5), "{seen} of {} saw it at its new address", others.len());
        cluster.fleet.pass(Duration::from_millis(20))?;
    }
    let took = now_us().saturating_sub(at) / 1000;
    cluster.all_alive(s(5))?;
    cluster.fleet.pass(s(8))?;
    cluster.only_failed(&[5], &others, "after the move")?;
    // Once at most, and before it is seen at its new address: the old process did die.
    for node in &others {
        let about = |seen: &&Seen| seen.node == id(*node) && seen.member.as_deref() == Some(&id(5));
        let kinds: Vec<_> = cluster.fleet.seen().iter().filter(about).collect();
        let failed = kinds.iter().filter(|seen| seen.kind == "MemberFailed").count();
        let last = kinds.iter().rfind(|seen| seen.kind != "MemberRecovered");
        ensure!(
            failed <= 1 && last.is_some_and(|seen| seen.kind == "MemberJoined"),
            "{} saw {kinds:?}",
            id(*node)
        );
    }
    cluster.all_alive(s(1))?;
    let replaced = cluster.fleet.of_kind("MemberFailed").filter(|seen| seen.replaced).count();
    Ok(format!(
        "at its new address everywhere after {took} ms; {replaced} of {} were told that it was \
         replaced",
        others.len()
    ))
}
