//! A fleet: agents, what they have reported so far, and waiting for what they shall report.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    process::Command,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use peerage::Secret;

use crate::{
    network::Namespace,
    process::{Input, Process, own_agent},
    report::{Order, Report, Seen, Start},
};

/// How often a fleet that waits for a view asks for it.
const VIEW_INTERVAL: Duration = Duration::from_millis(50);
/// How long starting a process and a node may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);
/// How long an answer to a question may.
const HEARD_MAX: Duration = Duration::from_secs(5);

/// An agent of a fleet, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentId(usize);

/// Agents that form one cluster.
pub struct Fleet {
    secret: String,
    agents: Vec<Process>,
    /// Which agent runs a node.
    homes: BTreeMap<String, AgentId>,
    /// Where a node listens.
    addrs: BTreeMap<String, SocketAddr>,
    views: BTreeMap<String, View>,
    /// How long the loop of a node was blocked when it last was.
    blocked: BTreeMap<String, Duration>,
    /// Who heard whom last, how long ago, of those that were asked.
    heard: BTreeMap<(String, String), Option<Duration>>,
    seen: Vec<Seen>,
    inputs: Receiver<(usize, Input)>,
    give: Sender<(usize, Input)>,
}

/// What a node sees.
#[derive(Clone, Debug)]
struct View {
    at: Instant,
    alive: usize,
    others: Vec<(String, String)>,
    unresponsive: BTreeSet<String>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// Nobody yet.
    pub fn new() -> Self {
        let (give, inputs) = channel();
        Self {
            secret: Secret::generate().to_text(),
            agents: Vec::new(),
            homes: BTreeMap::new(),
            addrs: BTreeMap::new(),
            views: BTreeMap::new(),
            blocked: BTreeMap::new(),
            heard: BTreeMap::new(),
            seen: Vec::new(),
            inputs,
            give,
        }
    }

    /// Starts an agent process, in a namespace or here.
    pub fn agent(&mut self, place: Option<&Namespace>) -> Result<AgentId> {
        self.agent_by(own_agent()?, place)
    }

    /// The same by another program, which takes the same orders: an agent in another language.
    pub fn agent_by(&mut self, command: Command, place: Option<&Namespace>) -> Result<AgentId> {
        let number = self.agents.len();
        let agent = Process::agent(number, command, &self.secret, place, self.give.clone())?;
        self.agents.push(agent);
        Ok(AgentId(number))
    }

    /// Tells an agent to start a node, without waiting for it.
    pub fn order(&mut self, agent: AgentId, start: Start) -> Result<()> {
        self.addrs.remove(&start.id);
        self.views.remove(&start.id);
        self.homes.insert(start.id.clone(), agent);
        self.agents[agent.0].tell(&Order::Start(start))
    }

    /// Tells an agent to start a node, and waits until it listens.
    pub fn start(&mut self, agent: AgentId, start: Start) -> Result<SocketAddr> {
        let id = start.id.clone();
        self.order(agent, start)?;
        self.wait(START_MAX, &format!("{id} has started"), |fleet| fleet.addrs.contains_key(&id))?;
        Ok(self.addrs[&id])
    }

    /// The agent that runs a node.
    pub fn home(&self, node: &str) -> AgentId {
        self.homes[node]
    }

    /// An agent's process.
    pub fn process(&self, agent: AgentId) -> &Process {
        &self.agents[agent.0]
    }

    /// Blocks the loop that answers for a node, without waiting for it.
    pub fn block(&mut self, node: &str, time: Duration) -> Result<()> {
        self.blocked.remove(node);
        let ms = u64::try_from(time.as_millis())?;
        let agent = self.home(node);
        self.agents[agent.0].tell(&Order::Block { ms })
    }

    /// How long the loop of a node was blocked, once it is no more.
    pub fn blocked(&self, node: &str) -> Option<Duration> {
        self.blocked.get(node).copied()
    }

    /// How long ago each of these nodes, as far as it watches the member, heard a heartbeat of it.
    pub fn heard(&mut self, nodes: &[String], member: &str) -> Result<Vec<Duration>> {
        self.heard.clear();
        for agent in nodes.iter().map(|node| self.home(node)).collect::<BTreeSet<_>>() {
            self.agents[agent.0].tell(&Order::Heard { member: member.to_owned() })?;
        }
        let key = |node: &String| (node.clone(), member.to_owned());
        let all = |fleet: &Fleet| nodes.iter().all(|node| fleet.heard.contains_key(&key(node)));
        self.wait(HEARD_MAX, &format!("all say when they heard {member}"), all)?;
        Ok(nodes.iter().filter_map(|node| self.heard[&key(node)]).collect())
    }

    /// Kills the process of a node, and with it all that it runs.
    pub fn kill(&mut self, node: &str) -> Result<()> {
        let agent = self.home(node);
        self.agents[agent.0].kill()
    }

    /// Everything seen so far, in the order of its arrival.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Forgets what was seen so far; call it at the beginning of what is to be judged.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Waits, taking in what the agents say, until something holds.
    pub fn wait(
        &mut self,
        patience: Duration,
        what: &str,
        holds: impl Fn(&Fleet) -> bool,
    ) -> Result<Duration> {
        let begun = Instant::now();
        while !holds(self) {
            if begun.elapsed() >= patience {
                bail!("waited {patience:?} in vain until {what}");
            }
            self.take(begun + patience)?;
        }
        Ok(begun.elapsed())
    }

    /// Lets time pass, taking in what the agents say.
    pub fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.take(until)?;
        }
        Ok(())
    }

    /// Waits until each of these nodes sees exactly so many alive; asks for views that are younger
    /// than this call.
    pub fn all_see<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a str>,
        alive: usize,
        patience: Duration,
    ) -> Result<Duration> {
        self.all_agree(nodes, &format!("{alive} alive"), patience, |view| view.alive == alive)
    }

    /// Waits until each of these nodes sees exactly these as unresponsive, in the same way.
    pub fn all_see_unresponsive<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a str>,
        members: &[String],
        patience: Duration,
    ) -> Result<Duration> {
        let members: BTreeSet<_> = members.iter().cloned().collect();
        let what = format!("{members:?} unresponsive");
        self.all_agree(nodes, &what, patience, |view| view.unresponsive == members)
    }

    fn all_agree<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a str>,
        what: &str,
        patience: Duration,
        good: impl Fn(&View) -> bool,
    ) -> Result<Duration> {
        let nodes: BTreeSet<String> = nodes.into_iter().map(str::to_owned).collect();
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            let lag = |fleet: &Fleet| -> Vec<String> {
                let good = |view: &View| view.at >= begun && good(view);
                nodes.iter().filter(|id| !fleet.views.get(*id).is_some_and(good)).cloned().collect()
            };
            let lagging = lag(self);
            if lagging.is_empty() {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() >= patience {
                let first = &lagging[0];
                let sees = match self.views.get(first) {
                    Some(View { alive, others, unresponsive, .. }) => {
                        format!("sees {alive} alive, {others:?}, unresponsive {unresponsive:?}")
                    }
                    None => "has said nothing yet".to_owned(),
                };
                let (lag, all) = (lagging.len(), nodes.len());
                bail!(
                    "waited {patience:?} in vain until all see {what}: {lag} of {all} do not; \
                     {first} {sees}"
                );
            }
            // One round of questions at a time: whoever lags is asked again once it answered.
            let answered = asked.is_none_or(|at| {
                lagging.iter().all(|id| self.views.get(id).is_some_and(|view| view.at >= at))
            });
            if answered && asked.is_none_or(|at| at.elapsed() >= VIEW_INTERVAL) {
                asked = Some(Instant::now());
                let agents: BTreeSet<AgentId> = lagging.iter().map(|id| self.home(id)).collect();
                for agent in agents {
                    self.agents[agent.0].tell(&Order::View)?;
                }
            }
            self.take((Instant::now() + VIEW_INTERVAL).min(begun + patience))?;
        }
    }

    /// Takes in one report, or none until then.
    fn take(&mut self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        match self.inputs.recv_timeout(left) {
            Ok((number, input)) => self.note(number, input),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => bail!("the fleet has lost its own channel"),
        }
    }

    fn note(&mut self, number: usize, input: Input) -> Result<()> {
        match input {
            Input::Report(Report::Started { node, addr }) => {
                self.addrs.insert(node, addr);
            }
            Input::Report(Report::View { node, alive, others, unresponsive }) => {
                let unresponsive = unresponsive.into_iter().collect();
                let view = View { at: Instant::now(), alive, others, unresponsive };
                self.views.insert(node, view);
            }
            Input::Report(Report::Blocked { node, blocked_ms }) => {
                self.blocked.insert(node, Duration::from_millis(blocked_ms));
            }
            Input::Report(Report::Heard { node, member, ms }) => {
                self.heard.insert((node, member), ms.map(Duration::from_millis));
            }
            Input::Report(Report::Event(seen)) => {
                ensure!(seen.kind != "EventsDropped", "{} lost events", seen.node);
                self.seen.push(seen);
            }
            Input::Report(Report::NotStarted { node, error }) => bail!("{node}: {error}"),
            Input::Report(Report::Ended { node, error }) => bail!("{node} ended: {error}"),
            Input::Nonsense(text) => bail!("an agent said {text}"),
            // A killed one is expected to be silent.
            Input::Closed => {
                ensure!(!self.agents[number].is_alive(), "agent {number} ended by itself");
            }
        }
        Ok(())
    }

    /// All events of one kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Seen> {
        self.seen.iter().filter(move |seen| seen.kind == kind)
    }

    /// Who saw an event of this kind about this member, and when first.
    pub fn who_saw(&self, kind: &str, member: &str) -> BTreeMap<&str, u64> {
        let mut who = BTreeMap::new();
        let about = |seen: &&Seen| seen.kind == kind && seen.member.as_deref() == Some(member);
        for seen in self.seen.iter().filter(about) {
            who.entry(seen.node.as_str()).or_insert(seen.at_us);
        }
        who
    }

    /// Where a node listens.
    pub fn addr(&self, node: &str) -> Result<SocketAddr> {
        self.addrs.get(node).copied().with_context(|| format!("{node} does not run"))
    }
}
