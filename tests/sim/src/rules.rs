//! The rules of membership, checked against what one node holds and said in one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use peerage::{
    EventKind, NodeId, State,
    member::{Instance, Member, Peer},
    membership::{Class, Effect, Membership, STREAM_BYTES_MAX, Time, UPDATES_MAX},
    wire::{self, FRAME_BYTES_MAX, Frame},
};

/// A datagram larger than this may not fit a packet right after the handshake.
pub const DATAGRAM_MAX: usize = 1160;
/// Our own probes (64) and those on behalf of others (256).
pub const PROBES_MAX: usize = 64 + 256;
/// A suspect has at least so long to refute.
pub const REFUTE_MIN: u64 = crate::S;
/// The table is read whole at least every so many steps, or once for every member that it holds:
/// a change that does not say so must not escape.
const WHOLE_EVERY: u32 = 16;

/// One node after one step.
pub struct Observed<'a> {
    /// Its machine.
    pub machine: &'a Membership,
    /// Who it is.
    pub peer: &'a Peer,
    /// Whose records changed in its table.
    pub touched: &'a [NodeId],
    /// The frame that the step was about, if it was one, and whose.
    pub frame: Option<(&'a Peer, &'a [u8])>,
    /// What the step gave.
    pub effects: &'a [Effect],
    /// When it was, in microseconds.
    pub now: u64,
    /// When any process's clock last jumped.
    pub jumped: u64,
    /// When a process ended, if it did.
    pub ended: &'a dyn Fn(&Peer) -> Option<u64>,
    /// How long the dead are remembered.
    pub retention: u64,
}

/// What a node held about a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The member's name.
    pub id: NodeId,
    /// The process start.
    pub instance: Instance,
    /// Its counter.
    pub incarnation: u64,
    /// What it is believed to be.
    pub state: State,
}

impl Held {
    fn peer(&self) -> Peer {
        Peer { id: self.id.clone(), instance: self.instance }
    }
}

/// Where the events about one member stand at one observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Joined,
    Suspected,
    Gone,
}

/// Whom a probe is for, and who was asked in it.
#[derive(Clone, Debug)]
struct Probe {
    target: NodeId,
    asked: BTreeSet<Peer>,
}

/// What one observer held and was told.
#[derive(Clone, Debug, Default)]
struct View {
    held: HashMap<NodeId, Held>,
    told: BTreeMap<NodeId, Told>,
    left: BTreeSet<Peer>,
    skipped: u32,
    pinned: BTreeSet<Peer>,
    /// Of whom it told that a check failed, and has heard nothing since.
    unwell: BTreeSet<NodeId>,
    /// Its probes under way.
    probes: BTreeMap<u64, Probe>,
    /// How many probes failed, and went through others.
    failed: u64,
    indirect: u64,
}

/// All checkers, with what they remember.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// A `MemberFailed` about a running process is a violation.
    pub no_wrong_failures: bool,
    announced: BTreeMap<NodeId, u64>,
    now: u64,
    jumped: u64,
    /// When which incarnation was first suspected by anybody.
    suspected: BTreeMap<(Peer, u64), u64>,
    views: BTreeMap<usize, View>,
}

impl Rules {
    /// Checks one node after its step; `observer` is unique per process.
    pub fn after_step(
        &mut self,
        observer: usize,
        seen: &Observed<'_>,
        must_live: &dyn Fn(&Peer) -> bool,
        found: &mut Vec<String>,
    ) {
        (self.now, self.jumped) = (seen.now, seen.jumped);
        let own = seen.machine.own_record();
        self.own(&own.id, own.incarnation, own.state, found);
        self.heard(observer, seen);
        self.effects(observer, seen, must_live, found);
        for id in seen.touched {
            let now = seen.machine.entry(id).map(|e| held(&e.member));
            self.forgotten(observer, seen, now.as_ref(), found);
            self.entry(observer, id, now, found);
        }
        let view = self.views.entry(observer).or_default();
        view.skipped += 1;
        if view.skipped >= WHOLE_EVERY.max(view.held.len() as u32) {
            view.skipped = 0;
            self.table(observer, seen.machine.entries().map(|e| held(&e.member)), found);
        }
        // What was held when the table was last read is cheap to know, and mostly enough.
        let queued = seen.machine.gossip_len();
        if queued > self.views.get(&observer).map_or(0, |v| v.held.len()) {
            let known = seen.machine.entries().count() + 1;
            if queued > known {
                found.push(format!("rule 5: {queued} updates queued about {known} members"));
            }
        }
        self.edges(observer, seen, found);
        self.probes(observer, seen, found);
        if seen.machine.probes_len() > PROBES_MAX {
            found.push(format!("rule 5: {} probes under way", seen.machine.probes_len()));
        }
    }

    /// Rule 4: who is gone for so long that all others have forgotten it is nobody's member anew.
    fn forgotten(
        &self,
        observer: usize,
        seen: &Observed<'_>,
        now: Option<&Held>,
        found: &mut Vec<String>,
    ) {
        let Some(now) = now.filter(|now| now.state.is_live()) else { return };
        let before = self.views.get(&observer).and_then(|view| view.held.get(&now.id));
        if before.is_some_and(|b| b.state.is_live() && b.instance == now.instance) {
            return;
        }
        let gone = (seen.ended)(&now.peer()).map(|at| seen.now.saturating_sub(at));
        if let Some(gone) = gone.filter(|gone| *gone >= seen.retention) {
            found.push(format!("rule 4: {} came back {gone} µs after its end", now.id));
        }
    }

    /// Whoever answers, or is heard on its edge, is well again: its next failure is another one.
    fn heard(&mut self, observer: usize, seen: &Observed<'_>) {
        let view = self.views.entry(observer).or_default();
        let Some((from, bytes)) = seen.frame.filter(|_| !view.unwell.is_empty()) else { return };
        match wire::decode(bytes).map(|message| message.frame) {
            Ok(Frame::Heartbeat { .. }) => {
                view.unwell.remove(&from.id);
            }
            Ok(Frame::Ack { seq }) => {
                if let Some(probe) = view.probes.get(&seq).filter(|p| p.asked.contains(from)) {
                    view.unwell.remove(&probe.target);
                }
            }
            _ => {}
        }
    }

    /// A probe ends well by an answer of one who was asked, to that question, and else it fails.
    fn probes(&mut self, observer: usize, seen: &Observed<'_>, found: &mut Vec<String>) {
        let view = self.views.entry(observer).or_default();
        for (seq, target) in seen.machine.own_probes() {
            view.probes.entry(seq).or_insert_with(|| Probe {
                target: target.id.clone(),
                asked: [target.clone()].into(),
            });
        }
        if view.probes.is_empty() {
            return;
        }
        let counters = seen.machine.counters();
        let through_others = counters.probes_indirect != view.indirect;
        view.indirect = counters.probes_indirect;
        if through_others {
            for effect in seen.effects {
                if let Effect::Send { to, bytes, .. } = effect
                    && let Ok(Frame::PingReq { seq, .. }) = wire::decode(bytes).map(|m| m.frame)
                    && let Some(probe) = view.probes.get_mut(&seq)
                {
                    probe.asked.insert(to.clone());
                }
            }
        }
        let mut failed = counters.probes_failed - view.failed;
        view.failed = counters.probes_failed;
        let under_way: BTreeSet<u64> = seen.machine.own_probes().map(|(seq, _)| seq).collect();
        if under_way.len() == view.probes.len() {
            return;
        }
        let answer = seen.frame.and_then(|(from, bytes)| match wire::decode(bytes).ok()?.frame {
            Frame::Ack { seq } => Some((seq, from)),
            _ => None,
        });
        view.probes.retain(|seq, probe| {
            let answered =
                answer.is_some_and(|(to, from)| to == *seq && probe.asked.contains(from));
            if !under_way.contains(seq) && !answered {
                match failed.checked_sub(1) {
                    Some(left) => failed = left,
                    None => found.push(format!("probe {seq} ended without an answer to it")),
                }
            }
            under_way.contains(seq)
        });
    }

    /// Rule 5 for watch edges, and that the links held are those of edges.
    fn edges(&mut self, observer: usize, seen: &Observed<'_>, found: &mut Vec<String>) {
        let most = seen.machine.watch_edges_max();
        let view = self.views.entry(observer).or_default();
        for effect in seen.effects {
            if let Effect::Pin { peer, pinned } = effect {
                let _ = if *pinned {
                    view.pinned.insert(peer.clone())
                } else {
                    view.pinned.remove(peer)
                };
            }
        }
        if view.pinned.len() > most {
            found.push(format!("rule 5: {} links pinned", view.pinned.len()));
        }
        if seen.effects.iter().any(|e| matches!(e, Effect::Pin { .. })) {
            let edges: BTreeSet<Peer> =
                seen.machine.watch_edges(Time(seen.now)).map(|e| e.peer).collect();
            if edges.len() > most {
                found.push(format!("rule 5: {} watch edges", edges.len()));
            }
            for peer in view.pinned.difference(&edges) {
                found.push(format!("the link to {peer:?} is pinned without an edge"));
            }
        }
    }

    /// Rules 1 and 3: what a node says about itself.
    pub fn own(&mut self, id: &NodeId, incarnation: u64, state: State, found: &mut Vec<String>) {
        let highest = self.announced.entry(id.clone()).or_default();
        *highest = (*highest).max(incarnation);
        if matches!(state, State::Suspect | State::Failed) {
            found.push(format!("rule 3: holds itself {state}"));
        }
    }

    /// Rules 1 and 2: all that a node holds.
    pub fn table(
        &mut self,
        observer: usize,
        now: impl Iterator<Item = Held>,
        found: &mut Vec<String>,
    ) {
        let mut all = BTreeSet::new();
        for held in now {
            let id = held.id.clone();
            self.entry(observer, &id, Some(held), found);
            all.insert(id);
        }
        let view = self.views.entry(observer).or_default();
        if view.held.len() > all.len() {
            view.held.retain(|id, _| all.contains(id)); // forgotten
        }
    }

    /// Rules 1 and 2: what a node holds about one member; nothing once it forgot it.
    fn entry(&mut self, observer: usize, id: &NodeId, now: Option<Held>, found: &mut Vec<String>) {
        let view = self.views.entry(observer).or_default();
        let Some(held) = now else {
            view.held.remove(id);
            return;
        };
        let Some(before) = view.held.get_mut(id) else {
            found.extend(above(&self.announced, &held));
            view.left.extend((held.state == State::Left).then(|| held.peer()));
            view.held.insert(id.clone(), held);
            return;
        };
        if *before == held {
            return;
        }
        if (held.incarnation, held.state) < (before.incarnation, before.state) {
            found.push(format!("rule 2: {before:?} gave way to {held:?}"));
        }
        found.extend(above(&self.announced, &held));
        view.left.extend((held.state == State::Left).then(|| held.peer()));
        *before = held;
    }

    fn effects(
        &mut self,
        observer: usize,
        seen: &Observed<'_>,
        must_live: &dyn Fn(&Peer) -> bool,
        found: &mut Vec<String>,
    ) {
        for effect in seen.effects {
            match effect {
                Effect::Send { class, bytes, .. } => frame(*class, bytes, found),
                Effect::Event(kind) => {
                    self.event(observer, kind, found);
                    if self.no_wrong_failures
                        && let EventKind::MemberFailed { member, .. } = kind
                        && must_live(&member.peer())
                    {
                        found.push(format!("{} runs and was declared failed", member.id));
                    }
                }
                // There are no heartbeats to miss any more; what fails then is another check.
                Effect::Pin { peer, pinned: false } => {
                    let view = self.views.entry(observer).or_default();
                    view.unwell.remove(&peer.id);
                }
                _ => {}
            }
        }
    }

    /// Rule 6, and that each event follows from the one before.
    pub fn event(&mut self, observer: usize, kind: &EventKind, found: &mut Vec<String>) {
        let Some(member) = kind.member() else { return };
        let view = self.views.entry(observer).or_default();
        let told = view.told.get(&member.id).copied().unwrap_or(Told::Gone);
        let left = view.left.contains(&member.peer());
        let (fits, next, alarm) = match kind {
            EventKind::MemberJoined { .. } => (told == Told::Gone, Told::Joined, true),
            EventKind::MemberUpdated { .. } => (told == Told::Joined, told, false),
            EventKind::MemberSuspected { .. } => (told == Told::Joined, Told::Suspected, true),
            EventKind::MemberRecovered { .. } => (told == Told::Suspected, Told::Joined, false),
            EventKind::MemberFailed { .. } => (told != Told::Gone, Told::Gone, true),
            EventKind::MemberLeft { .. } => (told != Told::Gone, Told::Gone, false),
            EventKind::HealthCheckFailed { .. } => {
                if !view.unwell.insert(member.id.clone()) {
                    found.push(format!("a check of {} failed and was told twice", member.id));
                }
                return;
            }
            _ => return,
        };
        if next == Told::Gone || told == Told::Gone {
            view.unwell.remove(&member.id);
        }
        if !fits {
            found.push(format!("{} about {} after {told:?}", kind.name(), member.id));
        }
        if alarm && left {
            found.push(format!("rule 6: {} about {} who left", kind.name(), member.id));
        }
        if matches!(kind, EventKind::MemberLeft { .. }) {
            view.left.insert(member.peer());
        }
        view.told.insert(member.id.clone(), next);
        self.states(kind, member, found);
        self.time_to_refute(kind, member, found);
    }

    /// Nobody becomes failed before it had a second to refute, however many agree. Where a clock
    /// jumped meanwhile seconds are not equally long for all.
    fn time_to_refute(&mut self, kind: &EventKind, member: &Member, found: &mut Vec<String>) {
        let life = (member.peer(), member.incarnation);
        match kind {
            EventKind::MemberSuspected { .. } => {
                self.suspected.entry(life).or_insert(self.now);
            }
            // A newcomer under its id was let in, so that its end is known and needs no time.
            EventKind::MemberFailed { replaced: true, .. } => {
                self.suspected.insert(life, 0);
            }
            // Whoever begins anew tells that all are gone, which nobody has observed: no verdict on anybody.
            EventKind::MemberFailed { replaced: false, observers, .. } if observers.is_empty() => {}
            EventKind::MemberFailed { replaced: false, .. } => {
                if let Some(since) = self.suspected.get(&life)
                    && self.now - since < REFUTE_MIN
                    && (self.jumped < *since || self.jumped == 0)
                {
                    let had = self.now - since;
                    found.push(format!("{} had {had} µs to refute", member.id));
                }
            }
            _ => {}
        }
    }

    /// The member in an event is in the state that the event speaks of.
    fn states(&self, kind: &EventKind, member: &Member, found: &mut Vec<String>) {
        let fits = match kind {
            EventKind::MemberJoined { .. } | EventKind::MemberRecovered { .. } => {
                member.state == State::Alive
            }
            EventKind::MemberUpdated { .. } => member.state.is_live(),
            EventKind::MemberSuspected { .. } => member.state == State::Suspect,
            EventKind::MemberLeft { .. } => member.state == State::Left,
            // A replaced member is shown as it was last known.
            EventKind::MemberFailed { replaced, .. } => *replaced || member.state == State::Failed,
            _ => true,
        };
        if !fits {
            found.push(format!("{} shows {} as {}", kind.name(), member.id, member.state));
        }
    }
}

/// A member as the rules look at it.
fn held(member: &Member) -> Held {
    let Member { id, instance, incarnation, state, .. } = member;
    Held { id: id.clone(), instance: *instance, incarnation: *incarnation, state: *state }
}

/// Rule 1: nobody holds more than the member announced.
fn above(announced: &BTreeMap<NodeId, u64>, held: &Held) -> Option<String> {
    let highest = announced.get(&held.id).copied().unwrap_or_default();
    let above = held.incarnation > highest;
    above.then(|| format!("rule 1: {held:?} is above all that {} announced", held.id))
}

/// Rule 5 for one frame.
pub fn frame(class: Class, bytes: &[u8], found: &mut Vec<String>) {
    if class == Class::Datagram && bytes.len() > DATAGRAM_MAX {
        found.push(format!("rule 5: a datagram of {} bytes", bytes.len()));
    }
    let message = match wire::decode(bytes) {
        Ok(message) => message,
        Err(error) => return found.push(format!("a frame does not decode: {error}")),
    };
    let whole_tables =
        matches!(message.frame, Frame::Welcome | Frame::Records { .. } | Frame::Summaries { .. });
    if whole_tables {
        if bytes.len() > FRAME_BYTES_MAX {
            found.push(format!("rule 5: a frame of {} bytes", bytes.len()));
        }
        return;
    }
    if message.updates.len() > UPDATES_MAX {
        found.push(format!("rule 5: {} updates in one message", message.updates.len()));
    }
    let size: usize = message.updates.iter().map(|u| wire::encode_record(u).len()).sum();
    if size > STREAM_BYTES_MAX {
        found.push(format!("rule 5: {size} bytes of updates in one message"));
    }
}
