//! The agent: a process that runs as many nodes as it is told to and reports what they see.

use std::{
    env,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use peerage::{Cluster, Event, EventKind, Secret, State};
use tokio::sync::mpsc;

use crate::report::{Order, Report, Seen, Start, now_us};

/// The variable that holds the cluster's secret: never an argument, which every user can read.
pub const SECRET_VARIABLE: &str = "PEERAGE_SECRET";
/// The cluster's name.
const CLUSTER: &str = "faults";

/// Runs until standard input ends. The nodes end with the process, without a goodbye.
pub fn main() -> Result<()> {
    log();
    let secret = env::var(SECRET_VARIABLE).context("the agent has no secret")?;
    let secret = Secret::parse(&secret)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(obey(orders(), &secret));
    // A node's driver may be anywhere; nothing of it outlives the process.
    std::process::exit(0)
}

async fn obey(mut orders: mpsc::Receiver<Order>, secret: &Secret) {
    let mut nodes: Vec<Cluster> = Vec::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Start(start) => nodes.extend(begin(&start, secret).await),
            Order::View => nodes.iter().for_each(|node| say(&view(node))),
            Order::Heard { member } => {
                for node in &nodes {
                    say(&heard(node, &member).await);
                }
            }
            Order::Block { ms } => block(&nodes, Duration::from_millis(ms)),
        }
    }
}

async fn begin(start: &Start, secret: &Secret) -> Option<Cluster> {
    let builder = Cluster::builder(CLUSTER, &start.id)
        .secret(secret.clone())
        .listen(start.listen)
        .seeds(start.seeds.clone())
        // A mass join must not drop events: the tests count them.
        .event_queue(65_536);
    match builder.start().await {
        Ok(node) => {
            tokio::spawn(tell(node.events(), start.id.clone(), node.ended()));
            say(&Report::Started { node: start.id.clone(), addr: node.bound_addr() });
            Some(node)
        }
        Err(error) => {
            say(&Report::NotStarted { node: start.id.clone(), error: error.to_string() });
            None
        }
    }
}

/// Reports every event of a node but updates, which nobody here asks for.
async fn tell<T>(
    mut events: peerage::Events,
    node: String,
    ended: impl Future<Output = peerage::Result<T>>,
) {
    while let Some(event) = events.next().await {
        if !matches!(event.kind, EventKind::MemberUpdated { .. }) {
            say(&Report::Event(seen(&node, &event)));
        }
    }
    let error = ended.await.err().map_or_else(|| "it was stopped".into(), |e| e.to_string());
    say(&Report::Ended { node, error });
}

fn seen(node: &str, event: &Event) -> Seen {
    let member = event.kind.member();
    let observers = match &event.kind {
        EventKind::MemberSuspected { observers, .. }
        | EventKind::MemberFailed { observers, .. }
        | EventKind::HealthCheckFailed { observers, .. } => &observers[..],
        _ => &[],
    };
    Seen {
        node: node.to_owned(),
        at_us: now_us(),
        kind: event.kind.name().to_owned(),
        member: member.map(|m| m.id.to_string()),
        addr: member.map(|m| m.addr),
        observers: observers.iter().map(|o| o.observer.to_string()).collect(),
        directions: observers.iter().map(|o| o.direction.as_str().to_owned()).collect(),
        replaced: matches!(event.kind, EventKind::MemberFailed { replaced: true, .. }),
    }
}

fn view(node: &Cluster) -> Report {
    let members = node.members();
    let (alive, others): (Vec<_>, Vec<_>) = members.iter().partition(|m| m.state == State::Alive);
    let unresponsive = members.iter().filter(|m| m.unresponsive);
    Report::View {
        node: node.local().id.to_string(),
        alive: alive.len(),
        others: others.iter().map(|m| (m.id.to_string(), m.state.to_string())).collect(),
        unresponsive: unresponsive.map(|m| m.id.to_string()).collect(),
    }
}

async fn heard(node: &Cluster, member: &str) -> Report {
    let told = node.explain(member).await.ok().flatten().filter(|told| told.watched);
    let ms = told.and_then(|told| told.heard).map(|ago| ago.as_millis());
    Report::Heard {
        node: node.local().id.to_string(),
        member: member.to_owned(),
        ms: ms.and_then(|ms| u64::try_from(ms).ok()),
    }
}

/// Blocks our own loop, of which a Rust node knows nothing and asks nothing.
fn block(nodes: &[Cluster], time: Duration) {
    let began = Instant::now();
    std::thread::sleep(time);
    let blocked_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    for node in nodes {
        say(&Report::Blocked { node: node.local().id.to_string(), blocked_ms });
    }
}

fn say(report: &Report) {
    if let Ok(mut line) = serde_json::to_string(report) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // Whoever listened may be gone; standard input has ended then as well.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

/// The orders, read by a thread of its own: a read cannot be cancelled.
fn orders() -> mpsc::Receiver<Order> {
    let (give, take) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line).map(|order| give.blocking_send(order)) {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break, // nobody obeys any more
                Err(error) => eprintln!("no order: {line:?}: {error}"),
            }
        }
    });
    take
}

/// Sends Peerage's own log to standard error: errors, or what `PEERAGE_LOG` asks for.
pub fn log() {
    let level = env::var("PEERAGE_LOG").ok().and_then(|text| text.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(level.unwrap_or(tracing_subscriber::filter::LevelFilter::ERROR))
        .init();
}
