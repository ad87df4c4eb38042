//! What the transport counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! stats {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub(super) struct Stats { $(pub(super) $field: Counter,)* }

        /// A reading of a transport's counters. All but the gauges only ever grow.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportStats {
            /// Gauge: links that are up, without those being drained.
            pub links: usize,
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Stats {
            pub(super) fn read(&self, links: usize) -> TransportStats {
                TransportStats { links, $($field: self.$field.get(),)* }
            }
        }
    };
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
    /// Handshakes of peers that dialed us which failed before the hello: no certificate of ours.
    unauthenticated,
    /// Links closed to make room.
    evicted,
    /// Links closed since nobody used them.
    idled,
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
    /// Events other than frames that the driver was too far behind to take.
    events_dropped,
    /// UDP datagrams sent, whatever was in them.
    packets_sent,
    /// Bytes of UDP payload sent.
    bytes_sent,
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

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
