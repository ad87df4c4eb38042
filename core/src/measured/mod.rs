//! What is measured, through the `metrics` facade: nothing is installed here, and without a
//! recorder of the program's own nothing is kept.
//!
//! Every metric has the labels `cluster` and `node`. The statistics are published once a second;
//! requests and events as they happen. Their names are part of the public face:
//! `docs/REFERENCE.md` lists them.

mod stats;

use std::{
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use metrics::{
    Histogram, Label, SharedString, Unit, counter, describe_counter, describe_histogram, histogram,
};

use crate::{
    cluster::Stats,
    error::{Code, Error},
    event::EventKind,
};

/// How often the statistics are published.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

const REQUESTS: &str = "peerage_request_seconds";
const STREAMS: &str = "peerage_stream_open_seconds";
const DIALS: &str = "peerage_dial_seconds";
const HANDSHAKES: &str = "peerage_handshake_seconds";
const EVENTS: &str = "peerage_events_by_kind_total";

/// The metrics of one node.
pub(crate) struct Measured {
    labels: [Label; 2],
    /// Of requests that were answered. To ask for it costs more than to use it; asked for again
    /// each time that the rest is published, since a recorder may be installed at any time.
    answered: ArcSwap<Histogram>,
}

/// A request or a message under way, or a stream being opened. Dropped before it is over, it was
/// cancelled.
pub(crate) struct Asking<'a> {
    measured: &'a Measured,
    name: &'static str,
    began: Instant,
    over: bool,
}

impl Asking<'_> {
    pub(crate) fn over(mut self, failed: Option<&Error>) {
        self.over = true;
        match failed {
            None if self.name == REQUESTS => {
                self.measured.answered.load().record(self.began.elapsed());
            }
            failed => self.record(failed.map_or("Ok", |error| error.code().name())),
        }
    }

    fn record(&self, outcome: &'static str) {
        let labels = self.measured.with("outcome", outcome);
        histogram!(self.name, labels).record(self.began.elapsed());
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.record(Code::Cancelled.name());
        }
    }
}

impl Measured {
    pub(crate) fn new(cluster: &str, node: &str) -> Self {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(|| {
            stats::describe();
            describe_histogram!(
                REQUESTS,
                Unit::Seconds,
                "How long our requests and messages took; `outcome` is `Ok` or the error's code."
            );
            describe_histogram!(
                STREAMS,
                Unit::Seconds,
                "How long the peer took to take our streams; `outcome` is `Ok` or the error's code."
            );
            describe_histogram!(
                DIALS,
                Unit::Seconds,
                "How long our dials took, hello included; `outcome` is `Ok` or the error's code."
            );
            describe_histogram!(
                HANDSHAKES,
                Unit::Seconds,
                "How long handshakes took that were completed; `side` is `dialed` or `accepted`."
            );
            describe_counter!(EVENTS, "Events published, by `kind`.");
        });
        let label = |key, value: &str| Label::new(key, SharedString::from_shared(value.into()));
        let labels = [label("cluster", cluster), label("node", node)];
        Self { labels, answered: ArcSwap::from_pointee(Histogram::noop()) }
    }

    pub(crate) fn publish(&self, stats: &Stats) {
        self.answered.store(Arc::new(histogram!(REQUESTS, self.with("outcome", "Ok"))));
        stats::publish(stats, &self.labels);
    }

    /// A request of ours begins, or a message.
    pub(crate) fn request(&self) -> Asking<'_> {
        Asking { measured: self, name: REQUESTS, began: Instant::now(), over: false }
    }

    /// A stream of ours is being opened.
    pub(crate) fn stream(&self) -> Asking<'_> {
        Asking { measured: self, name: STREAMS, began: Instant::now(), over: false }
    }

    /// A dial of ours is over.
    pub(crate) fn dial(&self, took: Duration, failed: Option<&Error>) {
        let outcome = failed.map_or("Ok", |error| error.code().name());
        histogram!(DIALS, self.with("outcome", outcome)).record(took);
    }

    /// A handshake is complete.
    pub(crate) fn handshake(&self, took: Duration, dialed: bool) {
        let side = if dialed { "dialed" } else { "accepted" };
        histogram!(HANDSHAKES, self.with("side", side)).record(took);
    }

    pub(crate) fn event(&self, kind: &EventKind) {
        counter!(EVENTS, self.with("kind", kind.name())).increment(1);
    }

    fn with(&self, key: &'static str, value: &'static str) -> Vec<Label> {
        let [cluster, node] = self.labels.clone();
        vec![cluster, node, Label::from_static_parts(key, value)]
    }
}
