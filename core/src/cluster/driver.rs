//! The driver: one task that owns the machine, feeds it what happens and does what it says.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    keeper::Keeper,
    runtime::Lag,
    shared::{Shared, View},
    stats::Status,
};
use crate::{
    error::{Error, Result},
    event::EventKind,
    evidence::Explanation,
    member::{self, NodeId, Tags},
    membership::{Class, Effect, Input, Membership, Time},
    seldom::{Seldom, seldom},
    transport::{self, KeyEvent, Transport, TransportEvent},
};

/// What the handle asks for.
pub(super) enum Command {
    SetTags(Tags, oneshot::Sender<()>),
    /// Answered by whether the tag was there.
    EditTag(TagEdit, oneshot::Sender<Result<bool>>),
    Unresponsive(bool),
    Explain(NodeId, oneshot::Sender<Option<Explanation>>),
    Leave,
    /// For the test that a panic here ends the node loudly.
    #[cfg(test)]
    Panic,
}

/// A change of one tag.
pub(super) enum TagEdit {
    Set(String, String),
    Remove(String),
}

/// Why the driver ended.
pub(super) enum Ending {
    /// The leave was announced; whether it spread in time.
    Left { spread: bool, took: Duration },
    /// Told to stop, or nobody holds a handle any more.
    Cancelled,
    /// Something went wrong that the node cannot live with.
    Failed(Error),
}

pub(super) struct Driver {
    pub(super) machine: Membership,
    pub(super) transport: Transport,
    pub(super) inbox: mpsc::Receiver<TransportEvent>,
    pub(super) orders: mpsc::Receiver<Command>,
    pub(super) shared: Arc<Shared>,
    pub(super) cancel: CancellationToken,
    pub(super) clock: Clock,
    pub(super) seeds: Vec<SocketAddr>,
    pub(super) leave_timeout: Duration,
    pub(super) keeper: Option<Keeper>,
    /// How late our runtime's tasks are, ours among them.
    pub(super) lag: Lag,
    /// What happened at the start and since while nobody listened, and must not be missed: a
    /// damaged state file, a certificate about to end. Told to the first who listens.
    pub(super) untold: Vec<EventKind>,
    /// Nobody is dialed or heard before it is opened or dropped.
    pub(super) gate: oneshot::Receiver<()>,
}

/// How many transport events are taken before effects that need the outside are looked at again.
const BATCH_MAX: usize = 64;
/// How many events a second are logged: a mass join is, an endless one is not.
static EVENTS_LOGGED: Seldom = Seldom::new(1000);

/// How much waits for somebody who listens; past that the oldest is forgotten.
const UNTOLD_MAX: usize = 16;

impl Driver {
    /// Runs in a task of its own.
    pub(super) fn begin(self) -> JoinHandle<Ending> {
        let mut run =
            Run { driver: self, effects: Vec::new(), version: None, leaving: None, lagged: None };
        let now = run.driver.now();
        run.driver.machine.handle(now, Input::Start, &mut run.effects);
        // What others would notice waits for the gate; the view does not.
        let dials: Vec<_> =
            run.effects.extract_if(.., |effect| matches!(effect, Effect::Dial { .. })).collect();
        let first = run.perform();
        tokio::spawn(async move {
            if let Some(ending) = first {
                return ending;
            }
            tokio::select! {
                biased;
                () = run.driver.cancel.cancelled() => return Ending::Cancelled,
                _ = &mut run.driver.gate => {}
            }
            run.effects.extend(dials);
            match run.perform() {
                Some(ending) => ending,
                None => run.until_it_ends().await,
            }
        })
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

struct Run {
    driver: Driver,
    effects: Vec<Effect>,
    /// The machine's version that the view shows.
    version: Option<u64>,
    /// Since when we are leaving.
    leaving: Option<Instant>,
    /// When tasks were late at last, if they still are.
    lagged: Option<Instant>,
}

/// From such a lag on it is starvation.
const LAG_MIN: Duration = Duration::from_millis(150);

impl Run {
    async fn until_it_ends(mut self) -> Ending {
        loop {
            self.notice_lag();
            let wake = self.wake_at();
            let ending = tokio::select! {
                // Orders first: they are few, and a flood of frames must not keep a leave waiting.
                biased;
                () = self.driver.cancel.cancelled() => Some(Ending::Cancelled),
                order = self.driver.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => Some(Ending::Cancelled),
                },
                event = self.driver.inbox.recv() => match event {
                    Some(event) => self.take_in(event),
                    None => Some(Ending::Failed(Error::Internal("the transport ended".into()))),
                },
                () = sleep_until(wake) => self.step(Input::Tick),
            };
            if let Some(ending) = ending {
                return ending;
            }
            if let Some(since) = self.leaving
                && since.elapsed() >= self.driver.leave_timeout
            {
                return Ending::Left { spread: false, took: since.elapsed() };
            }
        }
    }

    /// What is to be heard waits in the runtime's queue: nobody may be judged by it.
    fn notice_lag(&mut self) {
        let lag = self.driver.lag.now();
        if lag < LAG_MIN {
            self.lagged = None;
            return;
        }
        let before = self.lagged.replace(Instant::now());
        // The first time all of it is forgiven, then what passed since.
        let late = before.map_or(lag, |at| at.elapsed());
        let now = self.driver.now();
        self.driver.machine.handle(now, Input::Starved(late), &mut self.effects);
    }

    fn wake_at(&self) -> Instant {
        // Without a deadline once an hour does no harm.
        let tick =
            self.driver.machine.deadline().unwrap_or(Time::default() + Duration::from_secs(3600));
        let tick = self.driver.clock.when(tick);
        match self.leaving {
            Some(since) => tick.min(since + self.driver.leave_timeout),
            None => tick,
        }
    }

    fn obey(&mut self, order: Command) -> Option<Ending> {
        match order {
            Command::SetTags(tags, done) => {
                let ending = self.step(Input::SetTags(tags));
                // A caller that has gone does not want to know.
                let _ = done.send(());
                ending
            }
            Command::EditTag(edit, done) => {
                let (tags, changed) = match self.edited(edit) {
                    Ok(edited) => edited,
                    Err(error) => {
                        let _ = done.send(Err(error));
                        return None;
                    }
                };
                let ending = self.step(Input::SetTags(tags));
                let _ = done.send(Ok(changed));
                ending
            }
            Command::Unresponsive(is) => self.step(Input::Unresponsive(is)),
            Command::Explain(id, done) => {
                let _ = done.send(self.driver.machine.explain(self.driver.now(), &id));
                None
            }
            Command::Leave => {
                self.leaving.get_or_insert_with(Instant::now);
                self.step(Input::Leave)
            }
            #[cfg(test)]
            Command::Panic => panic!("asked to"),
        }
    }

    /// The tags with one of them changed, and whether it was there. The driver alone changes them,
    /// so that no two changes lose one another.
    fn edited(&self, edit: TagEdit) -> Result<(Tags, bool)> {
        let mut tags = BTreeMap::clone(&self.driver.machine.own_record().tags);
        let there = match &edit {
            TagEdit::Set(key, value) => tags.insert(key.clone(), value.clone()).is_some(),
            TagEdit::Remove(key) => tags.remove(key).is_some(),
        };
        match member::check_tags(&tags) {
            Ok(()) => Ok((Arc::new(tags), there)),
            Err(expected) => {
                let (TagEdit::Set(key, _) | TagEdit::Remove(key)) = edit;
                let value = key.chars().take(64).collect();
                Err(Error::Argument { field: "tag", value, expected })
            }
        }
    }

    /// One event and those that wait behind it, then one look at what changed.
    fn take_in(&mut self, event: TransportEvent) -> Option<Ending> {
        let mut ending = self.translate(event);
        for _ in 1..BATCH_MAX {
            if ending.is_some() {
                break;
            }
            match self.driver.inbox.try_recv() {
                Ok(event) => ending = self.translate(event),
                Err(_) => break,
            }
        }
        let done = self.perform();
        ending.or(done)
    }

    fn translate(&mut self, event: TransportEvent) -> Option<Ending> {
        let input = match event {
            TransportEvent::LinkUp { peer, addr, dialed } => Input::LinkUp { peer, addr, dialed },
            TransportEvent::LinkDown { peer, end } => {
                Input::LinkDown { peer, broken: end.is_broken() }
            }
            TransportEvent::LinkTrouble { peer } => Input::LinkTrouble { peer },
            TransportEvent::Frame { peer, bytes, waiting: _ } => Input::Frame { from: peer, bytes },
            TransportEvent::DialFailed { addr, error, .. } => {
                self.note_seed(addr, error);
                return None;
            }
            TransportEvent::Keys(event) => {
                self.driver.untold.push(match event {
                    KeyEvent::Reloaded { path } => EventKind::CertificatesReloaded { path },
                    KeyEvent::Rejected { path, reason } => {
                        EventKind::CertificatesRejected { path, reason }
                    }
                    KeyEvent::Expiring { path, left } => EventKind::CertificateExpiring {
                        path,
                        seconds_left: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
                    },
                });
                let behind = self.driver.untold.len().saturating_sub(UNTOLD_MAX);
                self.driver.untold.drain(..behind);
                return None;
            }
            TransportEvent::Full { addr, others } => {
                seldom!(DEBUG, 10, target: "peerage::dial", %addr, ?others, "no room for a link there");
                Input::Full { others }
            }
            // Better no node than half a one.
            TransportEvent::Panic { what, message } => {
                return Some(Ending::Failed(Error::Internal(format!(
                    "{what} panicked: {message}"
                ))));
            }
        };
        self.hear(input);
        None
    }

    /// Feeds the machine, and says who sent what it could make nothing of.
    fn hear(&mut self, input: Input) {
        let from = match &input {
            Input::Frame { from, .. } if tracing::enabled!(target: "peerage::membership", tracing::Level::DEBUG) => {
                Some(from.clone())
            }
            _ => None,
        };
        let before = self.driver.machine.counters();
        let now = self.driver.now();
        self.driver.machine.handle(now, input, &mut self.effects);
        let Some(peer) = from else { return };
        let after = self.driver.machine.counters();
        let bad = after.frames_bad - before.frames_bad;
        let unknown = after.frames_unknown - before.frames_unknown;
        if bad + unknown > 0 {
            // Why a link is closed for it is said where it is.
            seldom!(DEBUG, 10, target: "peerage::membership", ?peer, bad, unknown, "nothing to be made of a frame");
        }
    }

    fn note_seed(&mut self, addr: SocketAddr, error: Error) {
        if self.driver.seeds.contains(&addr) {
            self.driver.shared.join.send_if_modified(|state| {
                let seed = state.seeds.iter_mut().find(|(a, _)| *a == addr);
                let changed = seed.is_some() && !state.joined;
                if let Some((_, slot)) = state.seeds.iter_mut().find(|(a, _)| *a == addr) {
                    *slot = Some(error);
                }
                changed
            });
        }
    }

    fn step(&mut self, input: Input) -> Option<Ending> {
        let now = self.driver.now();
        self.driver.machine.handle(now, input, &mut self.effects);
        self.perform()
    }

    /// Does what the machine said, in its order; the view is swapped in before the events go out,
    /// so that whoever hears of something finds it there.
    fn perform(&mut self) -> Option<Ending> {
        let mut ending = None;
        let mut events = Vec::new();
        let mut joined = false;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, addr, class, bytes } => {
                    let class = match class {
                        Class::Datagram => transport::Class::Datagram,
                        Class::Stream => transport::Class::Stream,
                    };
                    self.driver.transport.send_frame(&to, addr, class, bytes);
                }
                Effect::Dial { addr, expect } => self.driver.transport.dial(addr, expect),
                Effect::Close { peer, reason } => {
                    seldom!(DEBUG, 10, target: "peerage::link", ?peer, reason, "closing a link");
                    self.driver.transport.close_link(&peer, reason)
                }
                Effect::Pin { peer, pinned } => self.driver.transport.pin(&peer, pinned),
                Effect::Event(kind) => events.push(kind),
                Effect::Joined => joined = true,
                Effect::LeaveSpread => {
                    let took = self.leaving.map_or(Duration::ZERO, |since| since.elapsed());
                    ending = Some(Ending::Left { spread: true, took });
                }
                Effect::Stop => {
                    let id = self.driver.shared.me.id.clone();
                    ending = Some(Ending::Failed(Error::NameConflict(id)));
                }
            }
        }
        self.show(events);
        // After the view is swapped in: whoever waited in `join` finds the members there.
        if joined {
            self.driver.shared.join.send_modify(|s| s.joined = true);
        }
        ending
    }

    fn show(&mut self, mut events: Vec<EventKind>) {
        // Whoever started the node can listen only after that.
        if self.driver.shared.hub.stats().2 > 0 {
            events.append(&mut self.driver.untold);
        }
        let machine = &self.driver.machine;
        let shared = &self.driver.shared;
        if self.version != Some(machine.version()) || !events.is_empty() {
            self.version = Some(machine.version());
            let members: super::hub::Members = machine.members().into();
            if let Some(keeper) = &self.driver.keeper {
                keeper.keep(&members);
            }
            shared.view.store(Arc::new(View { members: members.clone() }));
            for kind in &events {
                shared.measured.event(kind);
                // A member that means ill can cause any number of them.
                if let Some(kept_back) = EVENTS_LOGGED.now() {
                    tracing::info!(target: "peerage::membership", node = %shared.me.id, event = kind.name(), member = ?kind.member().map(|m| &m.id), kept_back);
                }
            }
            shared.hub.publish(events, members);
        }
        *shared.status.lock() = Status {
            counters: machine.counters(),
            gossip_waiting: machine.gossip_len(),
            health_score: machine.health_score(),
        };
    }
}
