//! What the QUIC stack observes about each connection, written from its event callbacks into
//! atomics, so that reading it takes no lock of the connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use s2n_quic::provider::event::{
    ConnectionInfo, ConnectionMeta, Subscriber,
    events::{
        self, AckRangeReceived, ActivePathUpdated, ConnectionClosed, ConnectionStarted,
        DatagramDropReason, DatagramReceived, DatagramSent, EndpointDatagramDropped,
        EndpointDatagramSent, EndpointMeta, HandshakeStatus, HandshakeStatusUpdated, PacketHeader,
        PacketLost, PacketReceived, PacketSent, RecoveryMetrics, TlsExporterReady,
    },
};
use tokio::{sync::Notify, time::Instant};

use super::{
    admission::{Admission, Presence},
    end::Alert,
    keys::Keys,
    stats::Stats,
};
use crate::seldom::Seldom;

/// From how many probe timeouts in a row on a path is in trouble. A dead peer shows as three
/// within 0.2 to 0.9 s, long before any idle timeout.
const TROUBLE_PTO: u32 = 3;
/// How long nothing may be acknowledged at least before that is trouble.
const PATIENCE_MIN: Duration = Duration::from_millis(300);

/// Lines about refusals, which anybody can cause; what strangers do hides no certificate of ours that
/// has expired.
static REFUSED: Seldom = Seldom::new(1);
static EXPIRED: Seldom = Seldom::new(1);

/// One connection's record. Only its endpoint's thread writes the counters, so they need no locked
/// instructions.
#[derive(Default)]
pub(super) struct Health {
    /// The peer's certificate chain, leaf first; present once the handshake is complete.
    pub(super) chain: Mutex<Vec<CertificateDer<'static>>>,
    /// See [`Keys::generation`]: of the certificate that we showed, or the one before.
    pub(super) generation: u64,
    /// Set when trouble begins; whoever reports it takes it.
    pub(super) trouble: AtomicBool,
    in_trouble: AtomicBool,
    /// The peer took it to another address.
    moved: AtomicBool,
    rtt_micros: AtomicU64,
    /// How long the stack waits for an acknowledgement before it asks anew.
    pto_micros: AtomicU64,
    /// Probe time-outs in a row.
    pto_count: AtomicU32,
    /// The stack's clock, in microseconds, when the record was made, ...
    born: u64,
    /// ... when the handshake was complete, ...
    shook: AtomicU64,
    /// ... when a packet of the peer's came last, ...
    heard: AtomicU64,
    /// ... and when the trouble began.
    troubled: AtomicU64,
    /// What that first moment was for us.
    since: Option<Instant>,
    /// The number of our next packet.
    next: AtomicU64,
    /// One more than that of the last one that the peer has acknowledged.
    acknowledged: AtomicU64,
    packets_sent: AtomicU64,
    packets_received: AtomicU64,
    packets_lost: AtomicU64,
    /// Somebody waits for an acknowledgement, ...
    awaited: AtomicUsize,
    /// ... and is woken by one.
    answered: Notify,
    /// Counts the connection as long as anything of it is left.
    presence: Mutex<Option<Presence>>,
}

impl Health {
    /// Whether the peer has not answered for a while.
    pub(super) fn in_trouble(&self) -> bool {
        self.in_trouble.load(Relaxed)
    }

    /// Whether the peer took it to another address. The stack cannot be told to refuse that: the
    /// parameter that forbids it binds honest peers only.
    pub(super) fn moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    /// The smoothed round trip of the path, once measured.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// How long the handshake took, once it is complete.
    pub(super) fn handshake(&self) -> Option<Duration> {
        self.shook.load(Relaxed).checked_sub(self.born).map(Duration::from_micros)
    }

    /// How long ago a packet of the peer's came last.
    pub(super) fn heard(&self) -> Option<Duration> {
        let heard = self.heard.load(Relaxed).checked_sub(self.born)?;
        let age = self.since?.elapsed();
        Some(age.saturating_sub(Duration::from_micros(heard)))
    }

    /// How long nothing may be acknowledged before that is trouble: three probe time-outs.
    pub(super) fn patience(&self) -> Duration {
        let pto = Duration::from_micros(self.pto_micros.load(Relaxed));
        (3 * pto).max(PATIENCE_MIN)
    }

    /// Notes that the peer does not answer, if that is not known. Whether it was not.
    pub(super) fn doubt(&self) -> bool {
        if self.in_trouble.load(Relaxed) {
            return false;
        }
        let age = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        let now = self.born + u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        self.troubled.store(now, Relaxed);
        self.in_trouble.store(true, Relaxed);
        self.trouble.store(true, Relaxed);
        true
    }

    /// What the path is worth, as far as one end can tell.
    pub(super) fn path(&self) -> Path {
        if !self.in_trouble() {
            Path::Good
        } else if self.heard.load(Relaxed) > self.troubled.load(Relaxed) {
            Path::ToPeerFails
        } else {
            Path::Silent
        }
    }

    pub(super) fn counts(&self) -> PacketCounts {
        PacketCounts {
            sent: self.packets_sent.load(Relaxed),
            received: self.packets_received.load(Relaxed),
            lost: self.packets_lost.load(Relaxed),
            timeouts: self.pto_count.load(Relaxed),
        }
    }

    /// The number of the next packet: an acknowledgement of that or a later one proves that the
    /// peer was there after this call.
    pub(super) fn mark(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Whether the peer has acknowledged a packet since a mark.
    pub(super) fn answered_since(&self, mark: u64) -> bool {
        self.acknowledged.load(Relaxed) > mark
    }

    /// Waits until the peer has acknowledged a packet since a mark. To be dropped if it does not.
    pub(super) async fn answer_since(&self, mark: u64) {
        struct Awaited<'a>(&'a AtomicUsize);
        impl Drop for Awaited<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, SeqCst);
            }
        }
        self.awaited.fetch_add(1, SeqCst);
        let _awaited = Awaited(&self.awaited);
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable(); // before the look, so that no wake is missed
            if self.answered_since(mark) {
                return;
            }
            answered.await;
        }
    }
}

/// What one end can tell of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The peer answers.
    Good,
    /// What we send gets no answer, although packets of the peer's still come: the path fails in
    /// the direction to the peer.
    ToPeerFails,
    /// Nothing is heard: the peer is dead, or the path from it fails, or both directions do.
    Silent,
}

impl Path {
    /// Its name: `good`, `toMember` as in evidence, or `silent`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::ToPeerFails => "toMember",
            Self::Silent => "silent",
        }
    }
}

/// Packets of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PacketCounts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    /// Probe time-outs in a row.
    pub(super) timeouts: u32,
}

/// Adds to a counter that nobody else writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

fn micros(meta: &ConnectionMeta) -> u64 {
    u64::try_from(meta.timestamp.duration_since_start().as_micros()).unwrap_or(u64::MAX)
}

/// Writes the records.
pub(super) struct Observer {
    pub(super) stats: Arc<Stats>,
    pub(super) keys: Arc<Keys>,
    /// Whether this is the accepting endpoint.
    pub(super) accepts: bool,
    /// Woken when any connection gets into trouble.
    pub(super) trouble: Arc<Notify>,
    pub(super) admission: Arc<Admission>,
}

impl Subscriber for Observer {
    type ConnectionContext = Arc<Health>;

    fn create_connection_context(
        &mut self,
        meta: &ConnectionMeta,
        _: &ConnectionInfo,
    ) -> Arc<Health> {
        Arc::new(Health {
            generation: self.keys.generation(),
            born: micros(meta),
            since: Some(Instant::now()),
            ..Health::default()
        })
    }

    fn on_packet_sent(&mut self, health: &mut Arc<Health>, _: &ConnectionMeta, event: &PacketSent) {
        add(&health.packets_sent, 1);
        if let PacketHeader::OneRtt { number, .. } = event.packet_header {
            health.next.store(number + 1, Relaxed);
        }
    }

    fn on_packet_received(
        &mut self,
        health: &mut Arc<Health>,
        meta: &ConnectionMeta,
        _: &PacketReceived,
    ) {
        add(&health.packets_received, 1);
        health.heard.store(micros(meta), Relaxed);
    }

    fn on_packet_lost(&mut self, health: &mut Arc<Health>, _: &ConnectionMeta, event: &PacketLost) {
        // A probe for a larger packet size is expected to be lost where the path ends.
        if !event.is_mtu_probe {
            add(&health.packets_lost, 1);
            self.stats.packets_lost.up();
        }
    }

    fn on_ack_range_received(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &AckRangeReceived,
    ) {
        if let PacketHeader::OneRtt { .. } = event.packet_header {
            let after = event.ack_range.end() + 1;
            if after > health.acknowledged.load(Relaxed) {
                health.acknowledged.store(after, SeqCst);
                health.in_trouble.store(false, Relaxed);
                if health.awaited.load(SeqCst) > 0 {
                    health.answered.notify_waiters();
                }
            }
        }
    }

    fn on_connection_started(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &ConnectionStarted,
    ) {
        *health.presence.lock() = Some(self.admission.enter(&event.path.remote_addr, self.accepts));
    }

    /// Another port is a NAT's doing and no harm.
    fn on_active_path_updated(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &ActivePathUpdated,
    ) {
        let ip = |path: &events::Path| SocketAddr::from(&path.remote_addr).ip().to_canonical();
        if ip(&event.previous) != ip(&event.active) {
            health.moved.store(true, Relaxed);
            self.trouble.notify_one();
        }
    }

    fn on_handshake_status_updated(
        &mut self,
        health: &mut Arc<Health>,
        meta: &ConnectionMeta,
        event: &HandshakeStatusUpdated,
    ) {
        if let HandshakeStatus::Complete { .. } = event.status {
            health.shook.store(micros(meta), Relaxed);
            if let Some(presence) = &mut *health.presence.lock() {
                presence.proven();
            }
        }
    }

    fn on_endpoint_datagram_dropped(&mut self, _: &EndpointMeta, event: &EndpointDatagramDropped) {
        if let DatagramDropReason::UnknownDestinationConnectionId { .. } = event.reason {
            self.admission.packet_of_nobody();
        }
    }

    fn on_tls_exporter_ready(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &TlsExporterReady,
    ) {
        let chain = event.session.peer_cert_chain_der().unwrap_or_default();
        *health.chain.lock() = chain.into_iter().map(CertificateDer::from).collect();
    }

    fn on_connection_closed(
        &mut self,
        _: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &ConnectionClosed,
    ) {
        // A dial of ours fails with an error that says so, and is counted there.
        let (true, Some(alert)) = (self.accepts, Alert::of(&event.error)) else { return };
        self.stats.unauthenticated.up();
        if alert.is_expiry() {
            self.stats.expired.up();
        }
        let lines = if alert.is_expiry() { &EXPIRED } else { &REFUSED };
        if let Some(kept_back) = lines.now() {
            let reason = alert.reason();
            tracing::warn!(target: "peerage::tls", reason, kept_back, "not authenticated");
        }
    }

    fn on_datagram_received(
        &mut self,
        _: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &DatagramReceived,
    ) {
        self.stats.packets_received.up();
        self.stats.bytes_received.add(event.len.into());
    }

    fn on_datagram_sent(&mut self, _: &mut Arc<Health>, _: &ConnectionMeta, event: &DatagramSent) {
        self.stats.packets_sent.up();
        self.stats.bytes_sent.add(event.len.into());
    }

    fn on_endpoint_datagram_sent(&mut self, _: &EndpointMeta, event: &EndpointDatagramSent) {
        self.stats.packets_sent.up();
        self.stats.bytes_sent.add(event.len.into());
    }

    fn on_recovery_metrics(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &RecoveryMetrics,
    ) {
        health.pto_count.store(event.pto_count, Relaxed);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        health.rtt_micros.store(micros(event.smoothed_rtt), Relaxed);
        let variance = (4 * event.rtt_variance).max(Duration::from_millis(1));
        let pto = event.smoothed_rtt + variance + event.max_ack_delay;
        health.pto_micros.store(micros(pto), Relaxed);
        // Only an acknowledgement ends it: the count starts anew for other reasons as well.
        if event.pto_count >= TROUBLE_PTO && health.doubt() {
            self.trouble.notify_one();
        }
    }
}
