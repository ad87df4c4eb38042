//! Reports on standard output, one JSON object a line.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use peerage::{Cluster, Event, Member, Tags};
use serde::Serialize;

/// Views are repeated this often even when nothing changed, since round trips drift.
const VIEW_INTERVAL: Duration = Duration::from_millis(200);

/// Writes reports. Cloning is cheap; lines of several tasks never mix.
#[derive(Clone, Debug)]
pub struct Report {
    started: Instant,
}

/// What the director has done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Requests {
    /// Requests begun.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests answered, but not by the first worker that was asked.
    pub failed_over: u64,
    /// Requests that nobody answered although there was a second worker to ask.
    pub lost: u64,
    /// Requests that nobody answered while there was no second worker.
    pub unserved: u64,
    /// Answers by worker.
    pub by_worker: BTreeMap<String, u64>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Ready {
        id: &'a str,
        addr: String,
    },
    View {
        members: Vec<Row>,
    },
    Event {
        kind: &'a str,
        member: Option<&'a str>,
        /// Since this process began to report.
        at_ms: u64,
    },
    Requests(&'a Requests),
    Asked {
        target: &'a str,
        ok: bool,
        error: Option<&'a str>,
    },
}

/// One member as this process sees it.
#[derive(PartialEq, Serialize)]
struct Row {
    id: String,
    /// As text: a JSON number does not hold 64 bits everywhere.
    instance: String,
    incarnation: u64,
    state: &'static str,
    rtt_us: Option<u64>,
    unresponsive: bool,
    tags: Tags,
}

impl From<Arc<Member>> for Row {
    fn from(member: Arc<Member>) -> Self {
        Self {
            id: member.id.to_string(),
            instance: format!("{:016x}", member.instance.0),
            incarnation: member.incarnation,
            state: member.state.as_str(),
            rtt_us: member.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            unresponsive: member.unresponsive,
            tags: member.tags.clone(),
        }
    }
}

impl Report {
    /// Reports on standard output from now on.
    pub fn to_stdout() -> Self {
        Self { started: Instant::now() }
    }

    /// The node listens and can be joined through.
    pub fn ready(&self, cluster: &Cluster) {
        self.line(&Line::Ready {
            id: cluster.local().id.as_str(),
            addr: cluster.addr().to_string(),
        });
    }

    /// What the director has done so far.
    pub fn requests(&self, requests: &Requests) {
        self.line(&Line::Requests(requests));
    }

    /// How a request that we were told to make went; the error is a code.
    pub fn asked(&self, target: &str, error: Option<&str>) {
        self.line(&Line::Asked { target, ok: error.is_none(), error });
    }

    fn event(&self, event: &Event) {
        let member = event.kind.member().map(|member| member.id.as_str());
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.line(&Line::Event { kind: event.kind.name(), member, at_ms });
    }

    fn view(&self, cluster: &Cluster) {
        self.line(&Line::View { members: cluster.members().into_iter().map(Row::from).collect() });
    }

    /// Whoever read our reports may be gone. That is no reason to panic: standard input has ended
    /// as well then, and we leave in good order.
    fn line(&self, line: &Line<'_>) {
        if let Ok(mut text) = serde_json::to_string(line) {
            text.push('\n');
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Reports every event, and the members whenever one happened or a while has passed, until the
/// cluster is closed.
pub async fn report_views(cluster: Cluster, report: Report) {
    let mut events = cluster.events();
    let mut tick = tokio::time::interval(VIEW_INTERVAL);
    loop {
        let event = tokio::select! {
            event = events.next() => match event {
                Some(event) => Some(event),
                None => break,
            },
            _ = tick.tick() => None,
        };
        // The view first: whoever acts on the event then knows at least what it changed.
        report.view(&cluster);
        if let Some(event) = event {
            report.event(&event);
        }
    }
}
