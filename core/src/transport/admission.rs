//! Admission to an endpoint: what those may have under way who have not proved who they are.
//!
//! A stranger costs us something from the first packet on: a handshake that it begins is kept until
//! it ends or its time is over, and many packets ask for an answer, which the stack keeps in queues
//! without a bound until the socket takes them. Both are counted here, in one table that the stack's
//! hooks share:
//!
//! * the limiter ([`Newcomers`]) judges a dialer whose address is unproven, for it may be
//!   spoofed. So nothing that it finds is held against an address: where many handshakes are under
//!   way the dialer must prove its address by a Retry, for which we keep nothing;
//! * the tokens ([`Tokens`]) judge those who have. The stack does not ask its limiter about them, so
//!   this is where handshakes are refused: when there are too many in all or of one address. A
//!   refused one may try again with the same token as long as that is valid. And it is where two
//!   connections that began with the same id are kept apart, which the stack does not expect: who
//!   sent its first packet twice may have been let in for the one and have a token for the other;
//! * the endpoint ([`Admission::admits_packet`]) drops packets of no link of ours while the queues of
//!   answers are full.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use s2n_quic::provider::{
    address_token::{self, Format, Provider},
    endpoint_limits::{ConnectionAttempt, Limiter, Outcome},
};
use s2n_quic_core::{connection::InitialId, connection::LocalId, token::Context};

use super::stats::Stats;

/// From how many unfinished handshakes on a dialing address must prove itself by a Retry.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// How long everybody else must, once somebody had to: who sends its first packet again, since no
/// answer came yet, gets the same answer again, and not a handshake that it has left by then. As long
/// as a dial lasts by default.
const RETRIES_FOR: Duration = Duration::from_secs(5);
/// How many handshakes may be unfinished in all, ...
const HANDSHAKES_MAX: usize = 1024;
/// ... and of one address, or one /64 of IPv6. 200 nodes behind one address may join at once, each
/// with two attempts under way where a machine is slow: the one that was given up and the next. One
/// address that means ill leaves half to all others.
const HANDSHAKES_PER_ORIGIN_MAX: usize = 512;
/// How many answers of one kind to strangers wait for the socket: as many as the stack has room for
/// from the start. Who is not answered asks again.
const ANSWERS_MAX: usize = 1024;
/// From how many stateless resets on that wait for the socket only packets of those are heard who
/// have a connection.
const RESETS_MAX: usize = 512;

/// Whom handshakes are counted for: an address, or a /64 of IPv6, all of which anybody has who has
/// one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl Origin {
    fn of(addr: SocketAddr) -> Self {
        match addr.ip() {
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            ip => Self(ip),
        }
    }
}

/// The same address however the socket shows it.
fn canonical(addr: impl Into<SocketAddr>) -> SocketAddr {
    let addr = addr.into();
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Holds no more than there are connections, which it bounds.
#[derive(Default)]
struct Table {
    connections: usize,
    /// How many connections there are from where.
    addrs: HashMap<SocketAddr, usize>,
    unfinished: usize,
    /// How many unfinished handshakes there are from where.
    origins: HashMap<Origin, usize>,
    /// Until when dialers prove their address, in the stack's time.
    retries_until: Duration,
    /// The id that the handshake began with whose packet is looked at.
    initial: Option<InitialId>,
    /// Those of all connections that there are.
    initials: HashSet<InitialId>,
    /// Those for which a Retry waits for the socket.
    asked: HashSet<InitialId>,
}

/// What the hooks of one endpoint share.
pub(super) struct Admission {
    /// The most connections with those who have proved who they are.
    connections_max: usize,
    table: Mutex<Table>,
    /// Stateless resets that wait for the socket, at most.
    resets: AtomicUsize,
    stats: Arc<Stats>,
}

impl Admission {
    pub(super) fn new(connections_max: usize, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            table: Mutex::default(),
            resets: AtomicUsize::new(0),
            stats,
        })
    }

    /// Counts a connection that begins, dialed by us or by the packet that is looked at, until its
    /// [`Presence`] is dropped.
    pub(super) fn enter(self: &Arc<Self>, addr: impl Into<SocketAddr>, accepts: bool) -> Presence {
        let addr = canonical(addr);
        self.stats.handshakes_unfinished.up();
        let mut table = self.table.lock();
        let initial =
            table.initial.take().filter(|initial| accepts && table.initials.insert(*initial));
        table.connections += 1;
        table.unfinished += 1;
        *table.addrs.entry(addr).or_default() += 1;
        *table.origins.entry(Origin::of(addr)).or_default() += 1;
        Presence { admission: self.clone(), addr, initial, unfinished: true }
    }

    /// Whether one more handshake may begin whose address is proven.
    fn admits_handshake(&self, addr: SocketAddr) -> bool {
        let table = self.table.lock();
        let of_origin = table.origins.get(&Origin::of(addr)).copied().unwrap_or_default();
        table.unfinished < HANDSHAKES_MAX
            && of_origin < HANDSHAKES_PER_ORIGIN_MAX
            && table.connections < self.connections_max + HANDSHAKES_MAX
    }

    /// Whether one more may begin whose address is not.
    fn admits_unproven(&self, now: Duration) -> bool {
        let mut table = self.table.lock();
        let few = table.unfinished < HANDSHAKES_UNPROVEN_MAX
            && table.connections < self.connections_max + HANDSHAKES_MAX;
        if !few {
            table.retries_until = now + RETRIES_FOR;
        }
        now >= table.retries_until
    }

    /// What a dialer gets that has to prove its address: one Retry, however many packets of its wait.
    fn ask_for_proof(&self) -> Outcome {
        let mut table = self.table.lock();
        let Some(initial) = table.initial else { return Outcome::drop() };
        if table.asked.contains(&initial) {
            return Outcome::drop();
        }
        if table.asked.len() >= ANSWERS_MAX {
            self.stats.handshakes_refused.up();
            return Outcome::drop();
        }
        table.asked.insert(initial);
        self.stats.retries.up();
        Outcome::retry()
    }

    /// Whether a connection may begin that the packet which is looked at asks for, given the id that
    /// its dialer began with.
    fn admits_initial(&self, initial: InitialId) -> bool {
        let mut table = self.table.lock();
        table.initial = Some(initial);
        !table.initials.contains(&initial)
    }

    /// How many connections there are of which anything is left.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.table.lock().connections
    }

    /// A packet came that belongs to no connection; the stack may queue a stateless reset.
    pub(super) fn packet_of_nobody(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    /// Everything that waited for the socket has been handed to it.
    pub(super) fn nothing_waits(&self) {
        self.resets.store(0, Relaxed);
        self.table.lock().asked.clear();
    }

    /// Whether a packet may be looked at: while so many stateless resets wait, those from where we
    /// have no connection may not, and while there are twice as many, none that could ask for one
    /// more. Packets with a long header never do.
    pub(super) fn admits_packet(&self, packet: &[u8], from: impl FnOnce() -> SocketAddr) -> bool {
        if packet.first().is_none_or(|first| first & LONG_HEADER != 0) {
            self.table.lock().initial = initial_id(packet);
            return true;
        }
        let waiting = self.resets.load(Relaxed);
        if waiting < RESETS_MAX {
            return true;
        }
        let admitted =
            waiting < 2 * RESETS_MAX && self.table.lock().addrs.contains_key(&canonical(from()));
        if !admitted {
            self.stats.packets_refused.up();
        }
        admitted
    }
}

const LONG_HEADER: u8 = 0x80;

/// Whom a packet with a long header is for (RFC 8999, section 5.1): in the first of a handshake, an
/// id that the dialer made up.
fn initial_id(packet: &[u8]) -> Option<InitialId> {
    const AT: usize = 1 + 4; // after the flags and the version
    let length = usize::from(*packet.get(AT)?);
    InitialId::try_from_bytes(packet.get(AT + 1..AT + 1 + length)?)
}

/// One connection, counted as long as this is there.
pub(super) struct Presence {
    admission: Arc<Admission>,
    addr: SocketAddr,
    initial: Option<InitialId>,
    unfinished: bool,
}

impl Presence {
    /// The handshake is complete: the peer has proved who it is.
    pub(super) fn proven(&mut self) {
        if std::mem::take(&mut self.unfinished) {
            self.admission.stats.handshakes_unfinished.down();
            self.admission.table.lock().finish(self.addr);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.proven(); // or never to be
        let mut table = self.admission.table.lock();
        table.connections -= 1;
        if let Some(initial) = &self.initial {
            table.initials.remove(initial);
        }
        one_less(&mut table.addrs, self.addr);
    }
}

impl Table {
    fn finish(&mut self, addr: SocketAddr) {
        self.unfinished -= 1;
        one_less(&mut self.origins, Origin::of(addr));
    }
}

fn one_less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

/// Judges those who dial and have not proved their address.
pub(super) struct Newcomers(pub(super) Arc<Admission>);

impl Limiter for Newcomers {
    fn on_connection_attempt(&mut self, attempt: &ConnectionAttempt) -> Outcome {
        if self.0.admits_unproven(attempt.timestamp.duration_since_start()) {
            Outcome::allow()
        } else {
            self.0.ask_for_proof()
        }
    }
}

type StackTokens = <address_token::Default as Provider>::Format;

/// The stack's own tokens, and the judgement of those who come back with one.
pub(super) struct Tokens {
    admission: Arc<Admission>,
    inner: StackTokens,
}

impl Tokens {
    pub(super) fn new(admission: Arc<Admission>) -> Self {
        let Ok(inner) = address_token::Default::default().start();
        Self { admission, inner }
    }
}

impl Provider for Tokens {
    type Format = Self;
    type Error = std::convert::Infallible;

    fn start(self) -> Result<Self, Self::Error> {
        Ok(self)
    }
}

impl Format for Tokens {
    const TOKEN_LEN: usize = StackTokens::TOKEN_LEN;

    fn generate_new_token(
        &mut self,
        context: &mut Context<'_>,
        source: &LocalId,
        out: &mut [u8],
    ) -> Option<()> {
        self.inner.generate_new_token(context, source, out)
    }

    fn generate_retry_token(
        &mut self,
        context: &mut Context<'_>,
        original: &InitialId,
        out: &mut [u8],
    ) -> Option<()> {
        self.inner.generate_retry_token(context, original, out)
    }

    fn validate_token(&mut self, context: &mut Context<'_>, token: &[u8]) -> Option<InitialId> {
        // First, since a token that was looked at is used up.
        if !self.admission.admits_handshake(canonical(&context.remote_address)) {
            self.admission.stats.handshakes_refused.up();
            return None;
        }
        let initial = self.inner.validate_token(context, token)?;
        if !self.admission.admits_initial(initial) {
            self.admission.stats.handshakes_refused.up();
            return None;
        }
        Some(initial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS_MAX: usize = 2000;
    const NOW: Duration = Duration::from_secs(100);

    fn admission() -> Arc<Admission> {
        Admission::new(CONNECTIONS_MAX, Arc::default())
    }

    fn v4(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    /// Some connection that was accepted.
    fn enter(admission: &Arc<Admission>, addr: SocketAddr) -> Presence {
        admission.enter(addr, true)
    }

    /// The first bytes of a packet that begins a handshake with this id.
    fn first_packet(id: &[u8]) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, id.len() as u8], id].concat()
    }

    #[test]
    fn one_address_leaves_room_for_others_and_its_own_come_in_again_when_some_ended() {
        let admission = admission();
        let mut of_one: Vec<_> =
            (0..HANDSHAKES_PER_ORIGIN_MAX).map(|n| enter(&admission, v4(1, n as u16))).collect();
        assert!(!admission.admits_handshake(v4(1, 9999)));
        assert!(admission.admits_handshake(v4(2, 9999)));
        of_one[0].proven();
        assert!(admission.admits_handshake(v4(1, 9999)));
        of_one.clear();
        let table = admission.table.lock();
        assert_eq!((table.connections, table.unfinished), (0, 0));
        assert!(table.addrs.is_empty() && table.origins.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_and_a_mapped_address_as_what_it_is() {
        let admission = admission();
        let v6 = |n: usize| {
            SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n as u16).into(), 1)
        };
        let _one: Vec<_> =
            (0..HANDSHAKES_PER_ORIGIN_MAX).map(|n| enter(&admission, v6(n))).collect();
        assert!(!admission.admits_handshake(v6(60_000)));
        let other = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1).into(), 1);
        assert!(admission.admits_handshake(other));
        let mapped = "[::ffff:10.0.0.1]:7".parse::<SocketAddr>().unwrap();
        assert_eq!(canonical(mapped), v4(1, 7));
    }

    #[test]
    fn all_together_are_bounded_and_nobody_is_refused_for_an_address_that_is_unproven() {
        let admission = admission();
        let mut all: Vec<_> =
            (0..HANDSHAKES_UNPROVEN_MAX).map(|n| enter(&admission, v4(1, n as u16))).collect();
        assert!(!admission.admits_unproven(NOW), "from here on by Retry");
        assert!(admission.admits_handshake(v4(1, 9999)));
        all.extend(
            (HANDSHAKES_UNPROVEN_MAX..HANDSHAKES_MAX)
                .map(|n| enter(&admission, v4(n as u8, n as u16))),
        );
        assert!(!admission.admits_handshake(v4(1, 9999)));
        all.iter_mut().for_each(Presence::proven);
        assert!(!admission.admits_unproven(NOW), "nor who sends the same packet again at once");
        assert!(admission.admits_handshake(v4(1, 9999)));
        assert!(admission.admits_unproven(NOW + RETRIES_FOR));
    }

    #[test]
    fn where_answers_wait_those_with_a_connection_are_heard_first() {
        let admission = admission();
        let _known = enter(&admission, v4(1, 1));
        let (short, long) = ([0x40], [0xc0]);
        let admits = |packet: &[u8], port| admission.admits_packet(packet, || v4(1, port));
        (1..RESETS_MAX).for_each(|_| admission.packet_of_nobody());
        assert!(admits(&short, 2));
        admission.packet_of_nobody();
        assert!(!admits(&short, 2));
        assert!(admits(&short, 1) && admits(&long, 2) && admits(&[], 2));
        (0..RESETS_MAX).for_each(|_| admission.packet_of_nobody());
        assert!(!admits(&short, 1));
        assert!(admits(&long, 2));
        admission.nothing_waits();
        assert!(admits(&short, 2));
    }

    #[test]
    fn no_two_connections_begin_with_the_same_id_and_an_end_frees_it() {
        let admission = admission();
        let id = InitialId::try_from_bytes(&[7; 8]).unwrap();
        assert!(admission.admits_packet(&first_packet(id.as_bytes()), || v4(1, 1)));
        let first = enter(&admission, v4(1, 1));
        assert!(!admission.admits_initial(id), "it was let in without a token");
        drop(first);
        assert!(admission.admits_initial(id));
        let by_token = enter(&admission, v4(1, 1));
        assert!(!admission.admits_initial(id), "or with one");
        drop(by_token);
        // One that we dial has nothing to do with the packet that was looked at last.
        admission.admits_initial(id);
        let _dialed = admission.enter(v4(1, 1), false);
        assert!(admission.admits_initial(id));
    }

    #[test]
    fn the_id_of_a_packet_is_found_where_there_is_one() {
        let id = |packet: &[u8]| initial_id(packet).map(|id| id.as_bytes().to_vec());
        for length in [8, 20] {
            assert_eq!(id(&first_packet(&vec![7; length])), Some(vec![7; length]));
        }
        let whole = first_packet(&[7; 8]);
        for length in 0..whole.len() {
            assert_eq!(id(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(id(&first_packet(&[7; 7])), None, "too short");
        assert_eq!(id(&first_packet(&[7; 21])), None, "too long");
    }

    #[test]
    fn one_retry_waits_for_a_dialer_and_so_many_in_all() {
        let admission = admission();
        let asked = |n: usize| {
            let packet = first_packet(&n.to_be_bytes());
            assert!(admission.admits_packet(&packet, || v4(1, 1)));
            matches!(admission.ask_for_proof(), Outcome::Retry { .. })
        };
        let refused = || admission.stats.handshakes_refused.get();
        assert!((0..ANSWERS_MAX).all(asked));
        assert!(!asked(0));
        assert_eq!(refused(), 0, "its answer is on its way");
        assert!(!asked(ANSWERS_MAX));
        assert_eq!(refused(), 1);
        admission.nothing_waits();
        assert!(asked(0) && asked(ANSWERS_MAX));
        assert_eq!(admission.stats.retries.get(), ANSWERS_MAX as u64 + 2);
    }
}
