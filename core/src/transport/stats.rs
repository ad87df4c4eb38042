//! What the transport counts.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub(super) struct Stats { $(pub(super) $field: Counter,)* }

        /// A reading of a transport's counters. All but the gauges only ever grow.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportStats {
            /// Of the pool.
            pub pool: PoolStats,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Stats {
            pub(super) fn read(&self, pool: PoolStats) -> TransportStats {
                TransportStats { pool, $($field: self.$field.get(),)* }
            }
        }
    };
}

/// A reading of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Gauge: links that are up, without those being drained.
    pub links_total: usize,
    /// Gauge: links that are kept although they may be unused, since membership watches their peer.
    pub links_pinned: usize,
    /// Gauge: links with requests or streams of ours under way.
    pub links_leased: usize,
    /// Gauge: links that would be closed if room were needed.
    pub links_idle: usize,
    /// Requests, messages and streams for which there was a link.
    pub pool_hits: u64,
    /// Requests, messages and streams that had to wait for a link.
    pub pool_misses: u64,
}

impl PoolStats {
    /// Which part of the requests, messages and streams found a link, from 0 to 1; nothing before
    /// the first.
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.pool_hits + self.pool_misses;
        (all > 0).then(|| self.pool_hits as f64 / all as f64)
    }
}

stats! {
    /// Dials begun.
    dials,
    /// Dials that ended without a link.
    dial_failures,
    /// Links made by a peer that dialed us.
    accepted,
    /// Peers that dialed us and were refused in the hello, or did not finish it.
    refused,
    /// Hellos given up for a newer one, since too many were being heard, in all or of one node.
    hellos_displaced,
    /// Handshakes, in either direction, that failed before the hello: one end had no certificate that
    /// the other accepts.
    unauthenticated,
    /// Those of them that failed since a certificate had expired or was not valid yet.
    expired,
    /// Peers that dialed us, or that we dialed, and that belong to another cluster.
    wrong_cluster,
    /// Peers that dialed us with a certificate for another node id than they claim, or in search
    /// of another node.
    wrong_node,
    /// Gauge: handshakes that are not complete, in both directions.
    handshakes_unfinished,
    /// Dialers who were told to prove their address first, since many handshakes were under way.
    retries,
    /// Handshakes refused since too many were under way, in all or of the dialer's address.
    handshakes_refused,
    /// Packets of no link of ours that were dropped while many such waited for their answer.
    packets_refused,
    /// Links closed to make room.
    evicted,
    /// Links closed since nobody used them.
    idled,
    /// Links lost: they broke, or the peer closed them for a reason.
    broken,
    /// Links closed since the peer did not answer on them, which `broken` counts as well.
    unanswered,
    /// Pings sent to see whether links are alive, one for each link and health check.
    pings,
    /// Links closed since the secret or authority that their peer had proved itself by is accepted
    /// no more.
    distrusted,
    /// Membership frames handed to the network as datagrams.
    datagrams_sent,
    /// Membership frames received as datagrams.
    datagrams_received,
    /// Datagrams dropped on either way because a queue was full or no packet could hold them.
    datagrams_dropped,
    /// Membership frames sent on streams.
    frames_sent,
    /// Membership frames received on streams.
    frames_received,
    /// Membership frames dropped: no link came up, too many at once, or the driver was behind.
    frames_dropped,
    /// Membership frames dropped since their sender sent more than its share.
    frames_refused,
    /// Frames, requests and messages given up since they, or the reading of the answer, took too long.
    stalled,
    /// Events other than frames that the driver was too far behind to take.
    events_dropped,
    /// UDP datagrams sent, whatever was in them.
    packets_sent,
    /// Packets of links that were declared lost, and sent anew where need be.
    packets_lost,
    /// Bytes of UDP payload sent.
    bytes_sent,
    /// UDP datagrams of links received.
    packets_received,
    /// Bytes of UDP payload received with them.
    bytes_received,
    /// Gauge: our requests and messages under way.
    requests_out,
    /// Gauge: peers' requests and messages being handled.
    requests_in,
    /// Peers' requests and messages that were answered, whatever the answer.
    requests_handled,
    /// Peers' requests that were refused because too many were under way.
    requests_refused,
    /// Peers' requests dropped unanswered: cancelled, past their deadline, or the link was lost.
    requests_abandoned,
    /// Gauge: streams that we opened.
    streams_out,
    /// Gauge: streams that peers opened.
    streams_in,
    /// Peers' streams that were refused because too many were open.
    streams_refused,
}

/// One counter or gauge.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn up(&self) {
        self.add(1);
    }

    /// The same, before whatever sequentially consistent follows.
    pub(super) fn up_in_order(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
