//! How a node ends: in phases, each bounded, logged and reported.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{MissedTickBehavior, interval_at},
};

use super::{driver::Ending, keeper::Writer, runtime::Runtime, shared::Shared};
use crate::{error::Error, measured, moments::Moments, transport::Transport};

/// One phase of the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What was done: `announce`, `drain`, `clear` or `close`.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// It did all it had to do within its time.
    pub complete: bool,
}

/// How the end went.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LeaveReport {
    /// The phases in their order. `announce` is missing when the node was stopped without a
    /// goodbye.
    pub phases: Vec<Phase>,
    /// Requests and streams, in and out, that were cut off.
    pub requests_cut_off: usize,
}

impl LeaveReport {
    /// Whether every phase did all it had to do.
    pub fn complete(&self) -> bool {
        self.phases.iter().all(|p| p.complete)
    }

    fn phase(&mut self, name: &'static str, took: Duration, complete: bool) {
        tracing::info!(target: "peerage::node", phase = name, ?took, complete, "leave");
        self.phases.push(Phase { name, took, complete });
    }
}

/// Waits for the driver's end, whatever it is, and takes everything down after it. It is the
/// last task of the node, and holds its share in the runtime.
pub(super) fn supervise(
    driver: JoinHandle<Ending>,
    transport: Transport,
    shared: Arc<Shared>,
    drain_timeout: Duration,
    writer: Option<Writer>,
    moments: Moments,
    runtime: Arc<Runtime>,
) -> watch::Receiver<Option<Arc<LeaveReport>>> {
    let (done, wait) = watch::channel(None);
    let guard = Unsupervised(shared.clone());
    tokio::spawn(async move {
        let _guard = guard;
        let ended = until_it_ends(driver, &transport, &shared, moments).await;
        let ending = match ended {
            Ok(ending) => ending,
            Err(panic) => Ending::Failed(Error::Internal(format!("the driver panicked: {panic}"))),
        };
        let report = take_down(ending, transport, &shared, drain_timeout).await;
        if let Some(writer) = writer {
            writer.finish().await;
        }
        done.send_replace(Some(Arc::new(report)));
        drop(runtime);
    });
    wait
}

/// Where a program's runtime is shut down with a node on it, all of the node's tasks are dropped where
/// they are, this one among them: whoever still asks the node or listens to it is told.
struct Unsupervised(Arc<Shared>);

impl Drop for Unsupervised {
    fn drop(&mut self) {
        let reason = "the runtime that it ran on was shut down";
        self.0.close(Error::Closed(reason.into())); // unless it ended before
        self.0.topics.clear();
        self.0.streams.clear();
        self.0.hub.close();
    }
}

/// Publishes the metrics meanwhile.
async fn until_it_ends(
    mut driver: JoinHandle<Ending>,
    transport: &Transport,
    shared: &Shared,
    moments: Moments,
) -> Result<Ending, JoinError> {
    shared.measured.publish(&shared.stats(transport));
    let first = moments.first(measured::EVERY, shared.me.instance.0);
    let mut publish = interval_at(first, measured::EVERY);
    publish.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let ended = loop {
        tokio::select! {
            ended = &mut driver => break ended,
            _ = publish.tick() => shared.measured.publish(&shared.stats(transport)),
        }
    };
    // What happened since.
    shared.measured.publish(&shared.stats(transport));
    ended
}

async fn take_down(
    ending: Ending,
    transport: Transport,
    shared: &Shared,
    drain_timeout: Duration,
) -> LeaveReport {
    let mut report = LeaveReport::default();
    let drain = match ending {
        Ending::Left { spread, took } => {
            report.phase("announce", took, spread);
            shared.close(Error::Closed("it left".into()));
            drain_timeout
        }
        Ending::Cancelled => {
            shared.close(Error::Closed("it was stopped".into()));
            Duration::ZERO
        }
        Ending::Failed(error) => {
            tracing::error!(target: "peerage::node", node = %shared.me.id, %error, "the node ends");
            shared.close(error);
            Duration::ZERO
        }
    };
    let since = Instant::now();
    report.requests_cut_off = transport.shutdown(drain).await;
    report.phase("drain", since.elapsed(), report.requests_cut_off == 0);
    let since = Instant::now();
    shared.topics.clear();
    shared.streams.clear();
    report.phase("clear", since.elapsed(), true);
    let since = Instant::now();
    shared.hub.close();
    report.phase("close", since.elapsed(), true);
    report
}
