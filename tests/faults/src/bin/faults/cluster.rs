//! A cluster with a process and a host for each node, and what may be said about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use peerage_faults::{
    fleet::Fleet,
    network::Network,
    process::{self, Process},
    report::{Seen, Start, now_us},
};

/// Where all listen; they have hosts of their own.
const PORT: u16 = 7000;
/// Nothing takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many are started at once.
const JOIN_AT_ONCE: usize = 10;
/// After everyone sees everyone: until watchers know how regular the heartbeats are.
const SETTLE: Duration = Duration::from_secs(7);

/// Nodes `n0` … on hosts of the same numbers.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) fleet: Fleet,
    pub(crate) size: usize,
}

impl Cluster {
    /// Starts so many and waits until they know one another.
    pub(crate) fn start(size: usize) -> Result<Self> {
        Self::start_with(size, Vec::new())
    }

    /// The same; the last of them run by these programs.
    pub(crate) fn start_with(size: usize, programs: Vec<Command>) -> Result<Self> {
        let network = Network::new(size)?;
        let mut cluster = Self { network, fleet: Fleet::new(), size };
        let own = size - programs.len();
        let mut programs = programs.into_iter();
        for i in 0..size {
            let program = if i < own { None } else { programs.next() };
            cluster.spawn_by(program.map_or_else(process::own_agent, Ok)?, i, i)?;
            // A mass join is no part of what is tested here, least of all on a busy machine.
            if (i + 1) % JOIN_AT_ONCE == 0 || i + 1 == size {
                let there: Vec<_> = (0..=i).collect();
                cluster.see(&there, i + 1, PATIENCE).context("at the start")?;
            }
        }
        cluster.fleet.pass(SETTLE)?;
        cluster.fleet.forget();
        Ok(cluster)
    }

    /// Starts node `i` in a new process on its host, without waiting for it.
    pub(crate) fn spawn(&mut self, i: usize) -> Result<()> {
        self.spawn_at(i, i)
    }

    /// The same on another host.
    pub(crate) fn spawn_at(&mut self, i: usize, host: usize) -> Result<()> {
        self.spawn_by(process::own_agent()?, i, host)
    }

    /// The same by another program.
    fn spawn_by(&mut self, program: Command, i: usize, host: usize) -> Result<()> {
        let agent = self.fleet.agent_by(program, Some(self.network.host(host)))?;
        let seeds = (0..3.min(self.size)).filter(|seed| *seed != i).map(addr).collect();
        self.fleet.order(agent, Start { id: id(i), listen: addr(host), seeds })
    }

    pub(crate) fn process(&self, i: usize) -> &Process {
        self.fleet.process(self.fleet.home(&id(i)))
    }

    /// Waits until all see all alive.
    pub(crate) fn all_alive(&mut self, patience: Duration) -> Result<Duration> {
        let nodes: Vec<_> = (0..self.size).collect();
        self.see(&nodes, self.size, patience)
    }

    /// Waits until these see so many alive.
    pub(crate) fn see(
        &mut self,
        nodes: &[usize],
        alive: usize,
        patience: Duration,
    ) -> Result<Duration> {
        let ids: Vec<_> = nodes.iter().map(|i| id(*i)).collect();
        self.fleet.all_see(ids.iter().map(String::as_str), alive, patience)
    }

    /// All but these.
    pub(crate) fn others(&self, but: &[usize]) -> Vec<usize> {
        (0..self.size).filter(|i| !but.contains(i)).collect()
    }

    /// Waits until each of these nodes has declared the member failed; how long after `since` the
    /// last did.
    pub(crate) fn declared_by_all(
        &mut self,
        member: usize,
        by: &[usize],
        since_us: u64,
        within: Duration,
    ) -> Result<Duration> {
        let (member, by): (_, BTreeSet<String>) = (id(member), by.iter().map(|i| id(*i)).collect());
        let all = |fleet: &Fleet| {
            let who = fleet.who_saw("MemberFailed", &member);
            by.iter().all(|id| who.contains_key(id.as_str()))
        };
        // A little longer than allowed, so that a late one shows as late, not as never.
        let waited = self.fleet.wait(within * 2, &format!("all declare {member} failed"), all);
        let who = self.fleet.who_saw("MemberFailed", &member);
        waited.with_context(|| format!("{} of {} did", who.len(), by.len()))?;
        let last = who.iter().filter(|(id, _)| by.contains(**id)).map(|(_, at)| *at).max();
        let took = Duration::from_micros(last.unwrap_or(now_us()).saturating_sub(since_us));
        ensure!(took <= within, "all declared {member} failed after {took:?}, not {within:?}");
        Ok(took)
    }

    /// Nobody among these nodes declared anybody failed but those who may be; `when` says in the
    /// error what was going on.
    pub(crate) fn only_failed(&self, may: &[usize], by: &[usize], when: &str) -> Result<()> {
        let (may, by): (Vec<_>, Vec<_>) =
            (may.iter().map(|i| id(*i)).collect(), by.iter().map(|i| id(*i)).collect());
        let wrong: Vec<&Seen> = self
            .fleet
            .of_kind("MemberFailed")
            .filter(|seen| by.contains(&seen.node))
            .filter(|seen| !seen.member.as_ref().is_some_and(|member| may.contains(member)))
            .collect();
        ensure!(
            wrong.is_empty(),
            "{when}, wrongly declared failed: {}\n{}",
            shown(&wrong),
            self.how_it_came(&wrong)
        );
        Ok(())
    }

    /// Nobody holds anybody suspect for what this one says that it observed.
    pub(crate) fn accuses_nobody(&self, observer: usize) -> Result<()> {
        let observer = id(observer);
        let its = |seen: &&Seen| seen.observers.contains(&observer);
        let wrong: Vec<&Seen> = self.fleet.of_kind("MemberSuspected").filter(its).collect();
        ensure!(wrong.is_empty(), "{observer} accuses: {}", shown(&wrong));
        Ok(())
    }

    /// Which direction to a member fails in the eyes of those who accuse it, as these nodes heard, and
    /// how often each was said.
    pub(crate) fn directions(&self, member: usize, by: &[usize]) -> BTreeMap<String, usize> {
        let (member, by): (_, Vec<_>) = (id(member), by.iter().map(|i| id(*i)).collect());
        let accusations = ["MemberSuspected", "MemberFailed"].map(|kind| self.fleet.of_kind(kind));
        let about = |seen: &&Seen| seen.member.as_ref() == Some(&member) && by.contains(&seen.node);
        let mut said = BTreeMap::new();
        for seen in accusations.into_iter().flatten().filter(about) {
            let each = seen.directions.iter().zip(&seen.observers);
            for (direction, _) in each.filter(|(_, observer)| by.contains(observer)) {
                *said.entry(direction.clone()).or_default() += 1;
            }
        }
        said
    }

    /// Nobody declared these members failed or doubted them for long. How many times one was
    /// suspected: on a machine so busy that an answer comes late it happens to anybody, but then
    /// the member dispels it within this time.
    pub(crate) fn hardly_doubted(&self, members: &[String], within: Duration) -> Result<usize> {
        let about = |kind| {
            let about = |seen: &&Seen| seen.member.as_ref().is_some_and(|m| members.contains(m));
            self.fleet.of_kind(kind).filter(about)
        };
        let dispelled = |doubt: &&Seen| {
            let until = doubt.at_us + u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
            about("MemberRecovered").any(|seen| {
                seen.node == doubt.node
                    && seen.member == doubt.member
                    && (doubt.at_us..=until).contains(&seen.at_us)
            })
        };
        let suspected: Vec<&Seen> = about("MemberSuspected").collect();
        let lasting = suspected.iter().copied().filter(|doubt| !dispelled(doubt));
        let wrong: Vec<&Seen> = about("MemberFailed").chain(lasting).collect();
        ensure!(wrong.is_empty(), "doubted: {}\n{}", shown(&wrong), self.how_it_came(&wrong));
        // A member that cannot be reached is found wanting by all who watch it.
        let by: BTreeSet<_> =
            about("HealthCheckFailed").map(|seen| (&seen.member, &seen.node)).collect();
        ensure!(by.len() <= members.len(), "failed the health checks of {by:?}");
        Ok(suspected.len())
    }

    /// What all saw of the first member that was wrongly declared, from shortly before on.
    fn how_it_came(&self, wrong: &[&Seen]) -> String {
        let Some(first) = wrong.iter().min_by_key(|seen| seen.at_us) else { return String::new() };
        let from = first.at_us.saturating_sub(40_000_000);
        let about = |seen: &&Seen| seen.member == first.member && seen.at_us >= from;
        // Whoever declared it first, and what is news: who finds fault with it, and when again.
        let mut begun = BTreeSet::new();
        let mut story: Vec<&Seen> = self.fleet.seen().iter().filter(about).collect();
        story.sort_by_key(|seen| seen.at_us);
        story.retain(|seen| {
            seen.node == first.node || begun.insert((seen.at_us / 1_000_000, &seen.kind))
        });
        let line = |seen: &&Seen| {
            let ms = (seen.at_us.cast_signed() - first.at_us.cast_signed()) / 1000;
            format!("{ms:>7} ms  {}  {}  observers {:?}", seen.node, seen.kind, seen.observers)
        };
        let lines: Vec<_> = story.iter().take(60).map(line).collect();
        let (node, lines) = (&first.node, lines.join("\n"));
        format!("{:?}, as {node} saw it, and the first of all each second:\n{lines}", first.member)
    }

    /// Who was held suspect by anybody, and by how many.
    pub(crate) fn suspected(&self) -> BTreeMap<String, usize> {
        let mut suspected = BTreeMap::new();
        for member in self.fleet.of_kind("MemberSuspected").filter_map(|seen| seen.member.clone()) {
            *suspected.entry(member).or_default() += 1;
        }
        suspected
    }
}

/// The id of a node.
pub(crate) fn id(i: usize) -> String {
    format!("n{i}")
}

/// Where a node on a host listens.
pub(crate) fn addr(host: usize) -> SocketAddr {
    SocketAddr::from((Network::ip(host), PORT))
}

/// A few of them, for an error.
fn shown(seen: &[&Seen]) -> String {
    let one = |seen: &&Seen| {
        let member = seen.member.as_deref().unwrap_or("?");
        let ago = now_us().saturating_sub(seen.at_us) / 1000;
        let Seen { node, kind, observers, .. } = seen;
        format!("{kind} {member} by {node} {ago} ms ago (observers {observers:?})")
    };
    let some: Vec<_> = seen.iter().take(5).map(one).collect();
    format!("{} in all: {}", seen.len(), some.join("; "))
}
