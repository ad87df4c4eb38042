//! The pool: the table of links behind one short lock, leases on its links, and who waits for one.

mod dialing;
mod lease;
mod room;
mod table;

#[cfg(test)]
use std::sync::atomic::Ordering::Relaxed;
use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng, seq::IteratorRandom};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub(super) use self::{
    dialing::DialKey,
    lease::Lease,
    table::{Entry, Installed, Limits, NoRoom, RESERVE, Rank},
};
use self::{
    dialing::{Dial, Outcome},
    lease::CallLease,
    room::Room,
    table::{Gone, Table},
};
use super::{
    Class, TransportEvent,
    backoff::Backoff,
    end::{Code, LinkEnd},
    intake::Intake,
    link::{Beginning, Link},
    node::Node,
    share::Shares,
    stats::PoolStats,
};
use crate::{
    error::{Error, Result},
    member::Peer,
    panics::caught_here,
    seldom::seldom,
};

/// How often a full pool is looked at by those who wait for room in it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The table and who waits for it.
pub(super) struct Pool {
    inner: Mutex<Inner>,
    /// Woken when a link may have become free, or a dial ended.
    room: Room,
    pub(super) limits: Limits,
    /// Those who wait for room look again when they are told to, and never by themselves.
    #[cfg(test)]
    pub(super) only_when_told: std::sync::atomic::AtomicBool,
    /// How often anybody began to wait for room.
    #[cfg(test)]
    pub(super) waits: std::sync::atomic::AtomicUsize,
}

struct Inner {
    table: Table<Arc<Link>, Dial>,
    shares: Shares,
    backoff: Backoff,
    /// For jitter and choices; each process draws others.
    rng: StdRng,
    /// Leases for which there was a link, ...
    hits: u64,
    /// ... and those that had to wait for one.
    misses: u64,
}

enum Step<'a> {
    Ready(CallLease<'a>),
    /// A dial is under way; whether this call began it.
    Dialing(watch::Receiver<Outcome>, bool),
    /// Dials have failed: not before then, and why.
    Later(Instant, Error),
    /// No room, for this reason.
    Full(Error),
}

/// What waiting for a dial came to.
enum Dialed<'a> {
    /// There is a link, of this dial's or of the peer's.
    Here(CallLease<'a>),
    Ended(Result<Arc<Link>>),
    /// The deadline came first.
    Late,
    /// The transport stopped.
    Gone,
}

/// What a link is to the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Held,
    Pinned,
    /// There is another one in its place.
    Retired,
}

/// A link of a peer's that was let in; it counts as one until it is, or this is dropped.
pub(super) struct Admitted(Arc<Node>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.pool.inner.lock().table.arrived();
    }
}

impl Pool {
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        let inner = Inner {
            table: Table::new(limits),
            shares: Shares::default(),
            backoff: Backoff::default(),
            rng: StdRng::seed_from_u64(seed),
            hits: 0,
            misses: 0,
        };
        Self {
            inner: Mutex::new(inner),
            room: Room::default(),
            limits,
            #[cfg(test)]
            only_when_told: false.into(),
            #[cfg(test)]
            waits: 0.into(),
        }
    }

    /// The links to a process, the first one first.
    pub(super) fn of(&self, peer: &Peer) -> Vec<Arc<Link>> {
        self.inner.lock().table.of(peer).to_vec()
    }

    /// Those in the place of which there are others included.
    pub(super) fn of_and_retired(&self, peer: &Peer) -> Vec<Arc<Link>> {
        let inner = self.inner.lock();
        let retired = inner.table.retired().iter().filter(|link| link.peer == *peer);
        inner.table.of(peer).iter().chain(retired).cloned().collect()
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.inner.lock().table.links().cloned().collect()
    }

    /// All of them, and those in the place of which there are others, with what they are here.
    pub(super) fn links_and_standing(&self) -> Vec<(Arc<Link>, Standing)> {
        let inner = self.inner.lock();
        let table = &inner.table;
        let held = table.links().map(|link| {
            let pinned = table.is_pinned(link);
            (link.clone(), if pinned { Standing::Pinned } else { Standing::Held })
        });
        let retired = table.retired().iter().map(|link| (link.clone(), Standing::Retired));
        held.chain(retired).collect()
    }

    /// Those in the place of which there are others included.
    pub(super) fn links_and_retired(&self) -> Vec<Arc<Link>> {
        let inner = self.inner.lock();
        inner.table.links().chain(inner.table.retired()).cloned().collect()
    }

    /// Those to other processes of a link's node that listen where its own does.
    pub(super) fn of_predecessors(&self, link: &Link) -> Vec<Arc<Link>> {
        let inner = self.inner.lock();
        let before = |old: &&Arc<Link>| {
            old.peer.id == link.peer.id && old.peer != link.peer && old.addr == link.addr
        };
        inner.table.links().chain(inner.table.retired()).filter(before).cloned().collect()
    }

    /// Whether this link has its slot.
    pub(super) fn holds(&self, link: &Arc<Link>) -> bool {
        self.inner.lock().table.holds(link)
    }

    /// Keeps a link to a process although it is unused, or stops to.
    pub(super) fn pin(&self, peer: &Peer, pinned: bool) {
        if self.inner.lock().table.pin(peer, pinned) && !pinned {
            self.stir();
        }
    }

    /// Where some of those listen that there are links to.
    pub(super) fn some(&self, count: usize) -> Vec<SocketAddr> {
        let inner = &mut *self.inner.lock();
        inner.table.links().map(|link| link.addr).choose_multiple(&mut inner.rng, count)
    }

    pub(super) fn stats(&self) -> PoolStats {
        let inner = self.inner.lock();
        let counts = inner.table.counts();
        PoolStats {
            links_total: counts.total,
            links_pinned: counts.pinned,
            links_leased: counts.leased,
            links_idle: counts.idle,
            pool_hits: inner.hits,
            pool_misses: inner.misses,
        }
    }

    /// How many dials are under way.
    #[cfg(test)]
    pub(super) fn dials(&self) -> usize {
        self.inner.lock().table.dials().count()
    }

    /// Whether anybody waits for room, or was counted so and left.
    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.room.is_wanted()
    }

    /// What a defect of ours would do in the middle of a change.
    #[cfg(test)]
    pub(super) fn panic_with_the_table(&self) {
        let _table = self.inner.lock();
        panic!("the pool was asked to panic");
    }

    fn look_again(&self) -> Duration {
        #[cfg(test)]
        if self.only_when_told.load(Relaxed) {
            return Duration::from_secs(3600);
        }
        LOOK_AGAIN
    }

    /// Wakes whoever waits for room, after something that made some.
    pub(super) fn stir(&self) {
        self.room.stir();
    }
}

/// Events about links are emitted under the table's lock (without waiting), so that they come in
/// the order of what they tell.
impl Node {
    /// Leases the link to a process, dialing it if there is none.
    pub(super) async fn lease<'a>(
        self: &'a Arc<Self>,
        peer: &Peer,
        addr: SocketAddr,
        until: Instant,
    ) -> Result<CallLease<'a>> {
        let step = self.guarded(|| self.try_lease(peer, addr, true))?;
        if let Step::Ready(lease) = step {
            return Ok(lease);
        }
        let mut began = matches!(step, Step::Dialing(_, true));
        let mut first = Some(step);
        loop {
            let mut room = std::pin::pin!(self.pool.room.freed());
            let mut _wanted = None;
            let step = match first.take() {
                Some(step) => step,
                None => self.guarded(|| self.try_lease(peer, addr, false))?,
            };
            let step = match step {
                Step::Full(_) | Step::Later(..) => {
                    _wanted = Some(self.pool.room.want());
                    room.as_mut().enable(); // before the second look, so that no wake is missed
                    self.guarded(|| self.try_lease(peer, addr, false))?
                }
                other => other,
            };
            match step {
                Step::Ready(lease) => return Ok(lease),
                Step::Later(at, error) => {
                    // The peer may come to us meanwhile.
                    if timeout_at(at.min(until), room).await.is_err() && until <= at {
                        return Err(error);
                    }
                }
                // Links become free to go by age as well, of which nobody tells.
                Step::Full(error) => {
                    #[cfg(test)]
                    self.pool.waits.fetch_add(1, Relaxed);
                    let look = until.min(Instant::now() + self.pool.look_again());
                    if timeout_at(look, room).await.is_err() && look == until {
                        return Err(error);
                    }
                }
                Step::Dialing(outcome, ours) => {
                    began |= ours;
                    let unreachable = |reason: &str| Error::Unreachable {
                        target: peer.id.to_string(),
                        reason: reason.into(),
                    };
                    match self.dialed(peer, outcome, until).await {
                        Dialed::Here(lease) => return Ok(lease),
                        Dialed::Late => return Err(unreachable("no link within the deadline")),
                        Dialed::Gone => return Err(self.closed()),
                        Dialed::Ended(Ok(link)) if link.peer != *peer => {
                            return Err(unreachable("another process answers under its id"));
                        }
                        // A dial that began before the peer was there says nothing about now.
                        Dialed::Ended(Err(Error::Unreachable { .. })) if !began => {}
                        Dialed::Ended(Err(error)) => return Err(error),
                        Dialed::Ended(Ok(_)) => {} // look again: it is there, or lost already
                    }
                }
            }
        }
    }

    /// Waits for the end of a dial, or for the peer's own dial to come through meanwhile.
    async fn dialed<'a>(
        self: &'a Arc<Self>,
        peer: &Peer,
        mut outcome: watch::Receiver<Outcome>,
        until: Instant,
    ) -> Dialed<'a> {
        loop {
            let mut room = std::pin::pin!(self.pool.room.freed());
            let _wanted = self.pool.room.want();
            room.as_mut().enable(); // before the look, so that no wake is missed
            let here = self.guarded(|| {
                let inner = self.pool.inner.lock();
                let link = inner.table.least_loaded(peer).map(|(link, _)| link.clone());
                Ok(link.map(|link| CallLease::of(link, self))) // under the lock
            });
            match here {
                Ok(Some(lease)) => return Dialed::Here(lease),
                Ok(None) => {}
                Err(error) => return Dialed::Ended(Err(error)),
            }
            tokio::select! {
                biased; // whoever makes a dial's end known wakes all who wait for room as well
                ended = timeout_at(until, outcome.wait_for(Option::is_some)) => return match ended {
                    Ok(Ok(ended)) => ended.clone().map_or(Dialed::Gone, Dialed::Ended),
                    Ok(Err(_)) => Dialed::Gone,
                    Err(_) => Dialed::Late,
                },
                () = room => {}
            }
        }
    }

    /// What a caller's own task does to the pool. A panic there is a defect of ours: it ends the node, as
    /// one in a task of ours does, and not the caller.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        caught_here(work).unwrap_or_else(|message| {
            let error = Error::Internal(format!("the pool panicked: {message}"));
            self.emit(TransportEvent::Panic { what: "pool", message });
            Err(error)
        })
    }

    /// `first` if nothing has been tried yet for this lease.
    fn try_lease<'a>(
        self: &'a Arc<Self>,
        peer: &Peer,
        addr: SocketAddr,
        first: bool,
    ) -> Result<Step<'a>> {
        let mut guard = self.pool.inner.lock();
        let inner = &mut *guard;
        if inner.table.closed || self.is_draining() {
            return Err(self.closed());
        }
        #[cfg(test)]
        assert_ne!(addr, super::tests::PANIC_LEASE, "the pool was asked to panic");
        if let Some((link, another)) = inner.table.least_loaded(peer) {
            inner.hits += u64::from(first);
            // Under the lock: what has a lease is not evicted.
            let lease = CallLease::of(link.clone(), self);
            if let Some(slot) = another {
                let key = DialKey { addr: lease.link.addr, expect: Some(peer.id.clone()), slot };
                let gone = self.begin_another(inner, key);
                drop(guard);
                close_evicted(gone);
            }
            return Ok(Step::Ready(lease));
        }
        inner.misses += u64::from(first);
        let key = DialKey { addr, expect: Some(peer.id.clone()), slot: 0 };
        if let Some(dial) = inner.table.dial(&key) {
            return Ok(Step::Dialing(dial.outcome.clone(), false));
        }
        if let Some((at, error)) = inner.backoff.until(&key, Instant::now()) {
            return Ok(Step::Later(at, error.clone()));
        }
        match self.begin_dial(inner, key, Vec::new(), false) {
            Ok((outcome, gone)) => {
                drop(guard);
                close_evicted(gone);
                Ok(Step::Dialing(outcome, true))
            }
            Err(no_room) => Ok(Step::Full(self.no_room(no_room, inner))),
        }
    }

    fn no_room(&self, why: NoRoom, inner: &Inner) -> Error {
        match why {
            NoRoom::Dials => Error::Busy { what: "dials", max: table::DIALS_MAX },
            NoRoom::Links => {
                Error::PoolFull { current: inner.table.len(), max: self.pool.limits.total }
            }
            NoRoom::Slots(current) => Error::PoolFull { current, max: self.pool.limits.per_peer },
        }
    }

    /// Begins to make one more link to a peer that there are links to, if nothing is against it.
    fn begin_another(self: &Arc<Self>, inner: &mut Inner, key: DialKey) -> Option<Gone<Arc<Link>>> {
        let under_way = inner.table.dial(&key).is_some();
        if under_way || inner.backoff.until(&key, Instant::now()).is_some() {
            return None;
        }
        self.begin_dial(inner, key, Vec::new(), false).ok()?.1
    }

    /// Makes one more link to a process, beside those that there are.
    #[cfg(test)]
    pub(super) async fn open_slot(self: &Arc<Self>, peer: &Peer, addr: SocketAddr) -> Result<u16> {
        let (slot, mut outcome) = {
            let mut guard = self.pool.inner.lock();
            let inner = &mut *guard;
            let slot = inner.table.another_slot(peer);
            let slot = slot.map_err(|no_room| self.no_room(no_room, inner))?;
            let key = DialKey { addr, expect: Some(peer.id.clone()), slot };
            let begun = self.begin_dial(inner, key, Vec::new(), false);
            let (outcome, gone) = begun.map_err(|no_room| self.no_room(no_room, inner))?;
            drop(guard);
            close_evicted(gone);
            (slot, outcome)
        };
        let ended = outcome.wait_for(Option::is_some).await.map_err(|_| self.closed())?.clone();
        ended.map_or_else(|| Err(self.closed()), |ended| ended.map(|_| slot))
    }

    /// Makes a link of a connection that passed the hello, and puts it into the table, or leaves it out
    /// for a better one.
    pub(super) fn install(
        &self,
        beginning: Beginning,
        dialed: Option<SocketAddr>,
        admitted: Option<Admitted>,
    ) -> (Arc<Link>, Installed<Arc<Link>>) {
        let mut inner = self.pool.inner.lock();
        let share = inner.shares.of(&beginning.peer.id, self.payload_max);
        let (peer, events, stats) = (&beginning.peer, &self.events, &self.stats);
        let intake = Intake::new(peer.clone(), share.clone(), events.clone(), stats.clone());
        let link = Arc::new(Link::new(beginning, share, Arc::new(intake)));
        let installed = inner.table.install(&link);
        match &installed {
            Installed::Up(first) if *first || dialed.is_some() => self.emit_up(&link, dialed),
            Installed::Instead(_) if dialed.is_some() => self.emit_up(&link, dialed),
            Installed::Surplus(held) if dialed.is_some() => self.emit_up(held, dialed),
            _ => {}
        }
        drop(inner);
        drop(admitted); // it takes the lock itself
        (link, installed)
    }

    /// Lets a link from a peer in, if there is room; evicts an unused one if that helps.
    pub(super) fn admit_link(
        self: &Arc<Self>,
        peer: &Peer,
        slot: u16,
    ) -> std::result::Result<Admitted, NoRoom> {
        let mut inner = self.pool.inner.lock();
        let gone = inner.table.admit(peer, slot)?;
        self.note_evicted(gone.as_ref());
        drop(inner);
        close_evicted(gone);
        Ok(Admitted(self.clone()))
    }

    fn emit_up(&self, link: &Link, dialed: Option<SocketAddr>) {
        self.emit(TransportEvent::LinkUp { peer: link.peer.clone(), addr: link.addr, dialed });
    }

    fn emit_down(&self, gone: &Gone<Arc<Link>>, end: LinkEnd) {
        let peer = gone.link.peer.clone();
        if gone.last {
            self.emit(TransportEvent::LinkDown { peer, end });
        } else if end.is_broken() {
            // The others may break next.
            self.emit(TransportEvent::LinkTrouble { peer });
        }
    }

    fn note_evicted(&self, gone: Option<&Gone<Arc<Link>>>) {
        if let Some(gone) = gone {
            self.stats.evicted.up();
            seldom!(DEBUG, 10, target: "peerage::pool", peer = %gone.link.peer.id, "evicted");
            self.emit_down(gone, LinkEnd::Evicted);
        }
    }

    /// Closes a link that nobody has used for a while; decided and removed in the same step.
    pub(super) fn close_unused(&self, link: &Arc<Link>) {
        let mut inner = self.pool.inner.lock();
        let gone = inner.table.remove_unused(link);
        if let Some(gone) = &gone {
            self.stats.idled.up();
            seldom!(DEBUG, 10, target: "peerage::pool", peer = %gone.link.peer.id, "unused for a while");
            self.emit_down(gone, LinkEnd::Idle);
        }
        drop(inner);
        if gone.is_some() {
            link.close(Code::Unused);
            self.pool.stir();
        }
    }

    /// Closes unused links above the limit: peers and membership may open some more, for as long as
    /// it takes to serve them.
    pub(super) fn close_surplus(&self) {
        loop {
            let mut inner = self.pool.inner.lock();
            let gone = inner.table.remove_surplus();
            self.note_evicted(gone.as_ref());
            drop(inner);
            if gone.is_none() {
                return;
            }
            close_evicted(gone);
        }
    }

    /// Takes a link out of the table, if it is there, and tells the driver.
    pub(super) fn drop_link(&self, link: &Arc<Link>, end: LinkEnd) -> bool {
        let mut inner = self.pool.inner.lock();
        let gone = inner.table.remove(link);
        if let Some(gone) = &gone {
            if end.is_broken() {
                self.stats.broken.up();
            }
            self.emit_down(gone, end);
        }
        drop(inner);
        self.pool.stir();
        gone.is_some()
    }

    /// A link in the place of which there is another has ended.
    pub(super) fn forget_retired(&self, link: &Arc<Link>) {
        self.pool.inner.lock().table.forget_retired(link);
    }

    /// Takes all links out of the table and lets no more in.
    pub(super) fn close_pool(&self, reason: &str) -> Vec<Arc<Link>> {
        let mut inner = self.pool.inner.lock();
        let (mut links, mut retired) = inner.table.close();
        let mut told = None;
        for link in &links {
            // Those to one peer stand together.
            if told.replace(&link.peer) != Some(&link.peer) {
                let end = LinkEnd::Closed(reason.into());
                self.emit(TransportEvent::LinkDown { peer: link.peer.clone(), end });
            }
        }
        drop(inner);
        links.append(&mut retired);
        self.pool.stir();
        links
    }
}

/// Closing takes the connection's lock, so it is done outside ours.
fn close_evicted(gone: Option<Gone<Arc<Link>>>) {
    if let Some(gone) = gone {
        gone.link.close(Code::Unused);
    }
}
