//! A recorder that keeps what was published last: to look takes nothing out of it, so that it can
//! be looked at as often as one likes (`metrics-util`'s own sets all to zero with each look).

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_global_recorder,
};
use metrics_util::registry::{AtomicStorage, Registry};

#[derive(Clone)]
pub struct Kept(Arc<Registry<Key, AtomicStorage>>);

/// What one metric says now.
pub enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Vec<f64>),
}

impl Kept {
    /// Makes one and installs it for the whole process.
    pub fn install() -> Self {
        let kept = Self(Arc::new(Registry::atomic()));
        set_global_recorder(kept.clone()).unwrap();
        kept
    }

    /// All that was published so far. A node may be in the midst of publishing: wait for what is
    /// to be seen together.
    pub fn all(&self) -> BTreeMap<Key, Value> {
        let counters = self.0.get_counter_handles().into_iter();
        let gauges = self.0.get_gauge_handles().into_iter();
        let histograms = self.0.get_histogram_handles().into_iter();
        counters
            .map(|(key, n)| (key, Value::Counter(n.load(Relaxed))))
            .chain(gauges.map(|(key, n)| (key, Value::Gauge(f64::from_bits(n.load(Relaxed))))))
            .chain(histograms.map(|(key, values)| (key, Value::Histogram(values.data()))))
            .collect()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| counter.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| gauge.clone().into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.get_or_create_histogram(key, |histogram| histogram.clone().into())
    }
}
