//! What the QUIC stack observes about each connection, written from its event callbacks into
//! atomics, so that reading it takes no lock of the connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use s2n_quic::provider::event::{
    ConnectionInfo, ConnectionMeta, Subscriber,
    events::{
        DatagramSent, EndpointDatagramSent, EndpointMeta, RecoveryMetrics, TlsExporterReady,
        TlsHandshakeFailed,
    },
};
use tokio::sync::Notify;

use super::stats::Stats;

/// From how many probe timeouts in a row on a path is in trouble. A dead peer shows as three
/// within 0.2 to 0.9 s, long before any idle timeout.
const TROUBLE_PTO: u32 = 3;

/// One connection's record.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The peer's leaf certificate, DER; present once the handshake is complete.
    pub(super) leaf: Mutex<Option<Vec<u8>>>,
    /// Set when trouble begins; whoever reports it takes it.
    pub(super) trouble: AtomicBool,
    in_trouble: AtomicBool,
    rtt_micros: AtomicU64,
}

impl Health {
    /// Whether the peer has not answered for a while.
    pub(super) fn in_trouble(&self) -> bool {
        self.in_trouble.load(Relaxed)
    }

    /// The smoothed round trip of the path, once measured.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }
}

/// Writes the records.
pub(super) struct Observer {
    pub(super) stats: Arc<Stats>,
    /// Whether this is the accepting endpoint.
    pub(super) accepts: bool,
    /// Woken when any connection gets into trouble.
    pub(super) trouble: Arc<Notify>,
}

impl Subscriber for Observer {
    type ConnectionContext = Arc<Health>;

    fn create_connection_context(&mut self, _: &ConnectionMeta, _: &ConnectionInfo) -> Arc<Health> {
        Arc::default()
    }

    fn on_tls_exporter_ready(
        &mut self,
        health: &mut Arc<Health>,
        _: &ConnectionMeta,
        event: &TlsExporterReady,
    ) {
        let leaf =
            event.session.peer_cert_chain_der().ok().and_then(|chain| chain.into_iter().next());
        *health.leaf.lock() = leaf;
    }

    fn on_tls_handshake_failed(
        &mut self,
        _: &mut Arc<Health>,
        _: &ConnectionMeta,
        _: &TlsHandshakeFailed,
    ) {
        if self.accepts {
            self.stats.unauthenticated.up();
        }
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
        health
            .rtt_micros
            .store(u64::try_from(event.smoothed_rtt.as_micros()).unwrap_or(u64::MAX), Relaxed);
        if event.pto_count >= TROUBLE_PTO {
            if !health.in_trouble.swap(true, Relaxed) {
                health.trouble.store(true, Relaxed);
                self.trouble.notify_one();
            }
        } else if event.pto_count == 0 {
            health.in_trouble.store(false, Relaxed);
        }
    }
}
