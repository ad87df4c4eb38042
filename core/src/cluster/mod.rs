//! A running node: the public handle, and the driver that ties the protocol to the network.

mod clock;
mod driver;
mod hub;
mod keeper;
mod leave;
mod responsive;
mod runtime;
mod shared;
mod stats;
mod streams;
mod topics;

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Builder, Config},
    deadline,
    error::{Code, Error, Result},
    event::EventKind,
    evidence::Explanation,
    member::{self, Instance, Member, NodeId, Peer, State},
    membership::{Membership, Settings, hash},
    moments::Moments,
    transport::{Options, Transport, secret::Secret},
};

pub use hub::Events;
pub use leave::{LeaveReport, Phase};
pub use responsive::LoopQuestions;
pub use stats::Stats;
pub use topics::Request;

pub(crate) use hub::Hub;
pub(crate) use runtime::Runtime;

use clock::Clock;
use driver::{Command, Driver, TagEdit};
use shared::Shared;

/// The longest topic, in bytes.
const TOPIC_BYTES_MAX: usize = 256;
/// Commands that wait for the driver; a caller past that waits.
const COMMANDS_MAX: usize = 256;

/// A running node. Clones are handles to the same node; dropping the last one stops it without
/// waiting and without a goodbye (others will find it failed). Use [`Cluster::leave`] to go
/// properly. All methods may be called from any thread; the asynchronous ones need a tokio
/// runtime with time enabled around them, any one will do.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    transport: Transport,
    commands: mpsc::Sender<Command>,
    /// Ends the node when the last handle goes.
    cancel: CancellationToken,
    ended: watch::Receiver<Option<Arc<LeaveReport>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local = self.local();
        f.debug_struct("Cluster")
            .field("id", &local.id)
            .field("addr", &local.addr)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A configuration to start from, for a node of the given cluster and name.
    pub fn builder(cluster: impl Into<String>, node_id: impl Into<String>) -> Builder {
        Builder::new(cluster, node_id)
    }

    /// Checks the configuration, binds the socket and starts the node, which begins to join its
    /// seeds at once; [`Cluster::join`] waits for that. On an error nothing is left behind.
    pub async fn start(config: Config) -> Result<Cluster> {
        let (cluster, gate) = Self::start_behind_gate(config).await?;
        drop(gate); // which opens it
        Ok(cluster)
    }

    /// As [`Cluster::start`], but on a runtime of the program's, which must have timers and I/O enabled.
    /// A request from a task there wakes no other thread: one after the other goes up to twice as fast
    /// (`docs/BENCHMARKS.md`). In exchange the node depends on it. Code that blocks all its threads keeps
    /// heartbeats from going out, and the others suspect the member after some two seconds; where the
    /// runtime is shut down the node ends without a goodbye.
    pub async fn start_on(config: Config, runtime: &tokio::runtime::Handle) -> Result<Cluster> {
        config.validate()?;
        let runtime = Runtime::of_program(runtime)?;
        let (cluster, gate) = Self::start_in(config, runtime).await?;
        drop(gate);
        Ok(cluster)
    }

    /// As [`Cluster::start`], but the node joins nobody and hears nobody before the gate is opened
    /// or dropped.
    pub(crate) async fn start_behind_gate(
        config: Config,
    ) -> Result<(Cluster, oneshot::Sender<()>)> {
        config.validate()?;
        // Whose threads no user code can occupy all of.
        Self::start_in(config, Runtime::shared()?).await
    }

    async fn start_in(
        config: Config,
        runtime: Arc<Runtime>,
    ) -> Result<(Cluster, oneshot::Sender<()>)> {
        let handle = runtime.handle();
        let (gate, opened) = oneshot::channel();
        let node = Self::start_here(config, runtime, opened, rand::random(), clock::SYSTEM);
        let started = handle.spawn(node);
        let cluster = started.await.map_err(|e| Error::Internal(format!("start: {e}")))??;
        Ok((cluster, gate))
    }

    /// `chance` decides which process this is and what its machine draws.
    async fn start_here(
        config: Config,
        runtime: Arc<Runtime>,
        gate: oneshot::Receiver<()>,
        chance: (u64, u64),
        system: clock::System,
    ) -> Result<Cluster> {
        let mut options = Options::of(&config, Instance(chance.0))?;
        let moments = (system.wall)().map(|wall| wall + moment_of(&config.cluster));
        let moments = Moments::new(moments);
        options.clock = moments.now();
        let me = Peer { id: options.node_id.clone(), instance: options.instance };
        let (found, keeper, writer) = match keeper::open(&config).await? {
            Some((found, keeper, writer)) => (found, Some(keeper), Some(writer)),
            None => Default::default(),
        };
        let shared = Arc::new(Shared::new(&config, me.clone()));
        let (transport, inbox) = Transport::bind(options, shared.clone()).await?;
        let mut settings = Settings::new(me, transport.advertised(), &config);
        if let Some(kept) = &found.kept {
            settings.incarnation = kept.incarnation.saturating_add(1);
            settings.known = kept.members.iter().map(|(_, addr)| *addr).collect();
        }
        let clock = Clock::start(system.suspended);
        settings.clock = moments.now();
        let machine = Membership::new(settings, chance.1);
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        let cancel = CancellationToken::new();
        let driver = Driver {
            machine,
            transport: transport.clone(),
            inbox,
            orders,
            shared: shared.clone(),
            cancel: cancel.clone(),
            clock,
            seeds: config.seeds.clone(),
            leave_timeout: config.leave_timeout,
            keeper,
            lag: runtime.lag(),
            untold: found
                .set_aside
                .map(|(path, reason)| EventKind::StateSetAside {
                    path: path.display().to_string(),
                    reason,
                })
                .into_iter()
                .collect(),
            gate,
        };
        // The first snapshot is there before anybody can ask.
        let driver = driver.begin();
        let ended = leave::supervise(
            driver,
            transport.clone(),
            shared.clone(),
            config.drain_timeout,
            writer,
            moments,
            runtime,
        );
        Ok(Cluster(Arc::new(Handle { shared, transport, commands, cancel, ended })))
    }

    /// Waits until one of the configured seeds has admitted us; at once without seeds. Fails
    /// early when every seed refuses us for good (wrong secret, wrong cluster, name conflict),
    /// else with [`Error::JoinFailed`] at the deadline (1 ms to 1 h; `None`:
    /// [`Config::join_timeout`]); the node runs on and keeps trying.
    pub async fn join(&self, deadline: impl Into<Option<Duration>>) -> Result<()> {
        let deadline = deadline.into().unwrap_or(self.0.shared.join_timeout);
        deadline::check(deadline)?;
        let mut progress = self.0.shared.join.subscribe();
        let wait = async {
            loop {
                self.0.shared.check_open()?;
                {
                    let state = progress.borrow_and_update();
                    if state.joined {
                        return Ok(());
                    }
                    if let Some(error) = state.hopeless() {
                        return Err(error);
                    }
                }
                if progress.changed().await.is_err() {
                    return Err(self.0.shared.closed_error());
                }
            }
        };
        match tokio::time::timeout(deadline, wait).await {
            Ok(result) => result,
            Err(_) => Err(Error::JoinFailed(self.0.shared.join.borrow().described())),
        }
    }

    /// This node as the others see it.
    pub fn local(&self) -> Arc<Member> {
        let view = self.0.shared.view.load();
        let id = &self.0.shared.me.id;
        let at = view.members.partition_point(|m| m.id < *id);
        view.members[at].clone()
    }

    /// The address that is announced to others.
    pub fn addr(&self) -> SocketAddr {
        self.0.transport.advertised()
    }

    /// The address that the socket is bound to; differs from [`Cluster::addr`] where
    /// [`Config::advertise`] was given.
    pub fn bound_addr(&self) -> SocketAddr {
        self.0.transport.local_addr()
    }

    /// All members in order of their ids: ourselves, the live, and the dead until they are
    /// forgotten. Never waits.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.0.shared.view.load().members.to_vec()
    }

    /// What is known about one node. Never waits.
    pub fn get(&self, id: &str) -> Option<Arc<Member>> {
        self.0.shared.get(id)
    }

    /// The alive members that announce all the given tags with exactly these values. Never waits.
    pub fn members_with<K: AsRef<str>, V: AsRef<str>>(&self, tags: &[(K, V)]) -> Vec<Arc<Member>> {
        let view = self.0.shared.view.load();
        let fits = |m: &&Arc<Member>| m.state == State::Alive && m.has_tags(tags);
        view.members.iter().filter(fits).cloned().collect()
    }

    /// Announces these tags in place of the present ones; returns when our own view has them.
    pub async fn set_tags(&self, tags: BTreeMap<String, String>) -> Result<()> {
        if let Err(expected) = member::check_tags(&tags) {
            return Err(Error::Argument {
                field: "tags",
                value: format!("{} tags", tags.len()),
                expected,
            });
        }
        let (done, wait) = oneshot::channel();
        self.command(Command::SetTags(Arc::new(tags), done)).await?;
        wait.await.map_err(|_| self.0.shared.closed_error())
    }

    /// Announces one tag, or another value of it, and leaves the others as they are, also those
    /// that somebody else changes at the same time. Returns when our own view has it.
    pub async fn update_tag(&self, key: &str, value: &str) -> Result<()> {
        self.edit_tags(TagEdit::Set(key.into(), value.into())).await.map(drop)
    }

    /// Announces one tag no more; whether it was announced.
    pub async fn remove_tag(&self, key: &str) -> Result<bool> {
        self.edit_tags(TagEdit::Remove(key.into())).await
    }

    async fn edit_tags(&self, edit: TagEdit) -> Result<bool> {
        let (done, wait) = oneshot::channel();
        self.command(Command::EditTag(edit, done)).await?;
        wait.await.map_err(|_| self.0.shared.closed_error())?
    }

    /// What is known about another node and how we came to know it: who observed what, and what
    /// happened to it before. Nothing about ourselves, and about one that was forgotten.
    pub async fn explain(&self, id: &str) -> Result<Option<Explanation>> {
        let Ok(id) = NodeId::new(id) else { return Ok(None) };
        let (done, wait) = oneshot::channel();
        self.command(Command::Explain(id, done)).await?;
        wait.await.map_err(|_| self.0.shared.closed_error())
    }

    /// For bindings: the questions to the program's loop, whose answers go to
    /// [`Cluster::answer_loop`]. While one is left unanswered for
    /// [`Config::unresponsive_after`], the others see this member as unresponsive. Without
    /// questions asked it counts as responsive.
    pub fn loop_questions(&self) -> LoopQuestions {
        LoopQuestions {
            answers: self.0.shared.answers.clone(),
            commands: self.0.commands.downgrade(),
            ended: self.0.ended.clone(),
            after: self.0.shared.unresponsive_after,
            asked: 0,
            next_at: tokio::time::Instant::now(),
            told: false,
        }
    }

    /// The loop's answer to a question.
    pub fn answer_loop(&self, question: u64) {
        self.0.shared.answers.answer(question);
    }

    /// Asks a live member and waits for its handler's answer. The deadline (1 ms to 1 h; `None`:
    /// [`Config::request_timeout`]) covers everything, the making of a link included. Dropping the future cancels the request on
    /// both sides.
    pub async fn request(
        &self,
        target: &str,
        topic: &str,
        payload: impl Into<Bytes>,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<Bytes> {
        let payload = payload.into();
        let deadline = deadline.into().unwrap_or(self.0.shared.request_timeout);
        check_topic(topic)?;
        deadline::check(deadline)?;
        let member = self.0.shared.live(target)?;
        self.0.shared.check_payload(&payload)?;
        if member.instance == self.0.shared.me.instance {
            return self.0.shared.request_ourselves(topic, payload, deadline).await;
        }
        let asking = self.0.shared.measured.request();
        let answer =
            self.0.transport.request(&member.peer(), member.addr, topic, payload, deadline).await;
        asking.over(answer.as_ref().err());
        answer
    }

    /// Sends a live member a message that its handler gets like a request, without an answer.
    /// Returns when the link has taken the message whole; nobody says whether it was handled. While
    /// the member does not read, that waits until the deadline (1 ms to 1 h; `None`:
    /// [`Config::request_timeout`]), which covers everything, the making of a link included: a short
    /// one fails rather than waits. What has not gone by then is taken back.
    pub async fn send(
        &self,
        target: &str,
        topic: &str,
        payload: impl Into<Bytes>,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<()> {
        let payload = payload.into();
        let within = deadline.into().unwrap_or(self.0.shared.request_timeout);
        check_topic(topic)?;
        deadline::check(within)?;
        let member = self.0.shared.live(target)?;
        self.0.shared.check_payload(&payload)?;
        if member.instance == self.0.shared.me.instance {
            return self.0.shared.request_ourselves(topic, payload, within).await.map(drop);
        }
        let asking = self.0.shared.measured.request();
        let sent =
            self.0.transport.message(&member.peer(), member.addr, topic, payload, within).await;
        asking.over(sent.as_ref().err());
        sent
    }

    /// Handles requests and messages for a topic (1 to 256 bytes), each in a task of its own on
    /// our runtime: do not block in it. An `Err` reaches the caller as [`Error::Handler`], as
    /// does a panic. A topic has one handler; a second one is refused.
    pub fn handle<F, Fut>(&self, topic: &str, handler: F) -> Result<()>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, String>> + Send + 'static,
    {
        check_topic(topic)?;
        self.0.shared.check_open()?;
        self.0.shared.topics.add(topic, Arc::new(move |request| Box::pin(handler(request))))
    }

    /// Stops handling a topic; requests under way are finished. Whether it was handled.
    pub fn unhandle(&self, topic: &str) -> bool {
        self.0.shared.topics.remove(topic)
    }

    /// Everything that happens from now on. Take it before [`Cluster::members`] so that nothing
    /// falls between.
    pub fn events(&self) -> Events {
        self.0.shared.hub.subscribe()
    }

    /// Changes the secrets while the node runs: from now on it proves itself by the first, and
    /// believes whoever holds any of them (1 to 8). Links made with another first secret are made
    /// anew at once, for all requests, messages and streams to come. A link made with a secret that is
    /// not among these is closed within 5 s: what is still under way on it, such as a stream opened
    /// before, ends with [`Error::LinkLost`]. So a secret is replaced without an interruption in
    /// three steps, each on all nodes before the next: `[old, new]`, `[new, old]`, `[new]`. Refused on
    /// a node that was not started with a secret. What the configuration says is not changed.
    pub fn set_secrets(&self, secrets: &[Secret]) -> Result<()> {
        self.0.shared.check_open()?;
        self.0.transport.set_secrets(secrets)
    }

    /// Reads the PEM files of [`Security::Pem`](crate::Security::Pem) again, which the node does by
    /// itself within two seconds after they were changed. Links made with what they held before
    /// are made anew, as with [`Cluster::set_secrets`]. Where they cannot be used the error says
    /// why, and those before stay in use.
    pub async fn reload_certificates(&self) -> Result<()> {
        self.0.shared.check_open()?;
        self.0.transport.reload_certificates().await
    }

    /// Counters and gauges. Never waits.
    pub fn stats(&self) -> Stats {
        self.0.shared.stats(&self.0.transport)
    }

    /// Leaves: announces it and waits until that has spread (at most `leave_timeout`), lets
    /// requests and streams under way finish (at most `drain_timeout`), closes everything. The report says
    /// how each phase went. Goes on to its end even if the future is dropped; a second call gets
    /// the same report.
    pub async fn leave(&self) -> Result<Arc<LeaveReport>> {
        // A node that has ended has dropped its orders; the report is there then.
        let _ = self.0.commands.send(Command::Leave).await;
        self.ended().await
    }

    /// Stops at once, without a goodbye and without waiting for requests. Returns when no task
    /// and no socket of this node is left.
    pub async fn shutdown_now(&self) -> Result<Arc<LeaveReport>> {
        self.0.cancel.cancel();
        self.ended().await
    }

    /// Why the node ended, once it has: it left, it was stopped, another process has its id, or
    /// a part of it panicked.
    pub fn closed(&self) -> Option<Error> {
        self.0.shared.check_open().err()
    }

    /// Waits until the node has ended, whoever ended it, and no task and no socket of it is left.
    /// The future is no handle: it does not keep the node running.
    pub fn ended(&self) -> impl Future<Output = Result<Arc<LeaveReport>>> + Send + use<> {
        let mut ended = self.0.ended.clone();
        let shared = self.0.shared.clone();
        async move {
            let report = ended.wait_for(Option::is_some).await;
            let report = report.ok().and_then(|r| r.clone());
            match report {
                // A node that failed did not leave.
                Some(_) if shared.check_open().is_err_and(|e| e.code() != Code::Closed) => {
                    Err(shared.closed_error())
                }
                Some(report) => Ok(report),
                None => Err(shared.closed_error()),
            }
        }
    }

    async fn command(&self, command: Command) -> Result<()> {
        self.0.shared.check_open()?;
        self.0.commands.send(command).await.map_err(|_| self.0.shared.closed_error())
    }
}

/// Clusters that share machines have moments of their own.
fn moment_of(cluster: &str) -> Duration {
    Duration::from_micros(hash(cluster) % 60_000_000)
}

fn check_topic(topic: &str) -> Result<()> {
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
        let shown = topic.chars().take(64).collect();
        let expected = format!("must have 1 to {TOPIC_BYTES_MAX} bytes, has {}", topic.len());
        return Err(Error::Argument { field: "topic", value: shown, expected });
    }
    Ok(())
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
