//! What a quiet node costs: nothing happens, everybody watches.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use peerage::{Cluster, EventKind, Events};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Nodes, Steady, converged, explain, floor, in_own_process, median, usage};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long what nodes are compared with is measured at most: it is as steady as can be.
const FLOOR_MEASURED: Duration = Duration::from_secs(10);
/// How many nodes are started at once.
const BATCH: usize = 25;

#[derive(Serialize, Deserialize)]
struct Row {
    n: usize,
    /// UDP payload sent, counted by the transport at the socket.
    bytes_per_node_s: f64,
    /// UDP datagrams sent.
    packets_per_node_s: f64,
    /// Heartbeats among them; each is acknowledged.
    heartbeats_per_node_s: f64,
    /// Of one core.
    cpu_pct_per_node: f64,
    /// The same of as many packets between plain UDP sockets, with nothing behind them.
    udp_cpu_pct_per_node: f64,
    /// The same of nothing but the heartbeats, over raw s2n-quic.
    quic_cpu_pct_per_node: f64,
    /// And with all heartbeats of a second at once, which would notice a death later.
    quic_at_once_cpu_pct_per_node: f64,
    /// Resident memory above that of the process without nodes.
    rss_kib_per_node: f64,
    /// Mean.
    links_per_node: f64,
    /// Of the node that has most.
    links_max: usize,
    /// How often any node accused another since all had joined.
    accused: u64,
}

pub(crate) fn command(options: &Steady) -> Result<()> {
    let mut rows = Vec::new();
    for &n in &options.sizes.nodes {
        let mut runs: Vec<Row> = Vec::new();
        for run in 1..=options.sizes.runs {
            eprintln!("{n} nodes, run {run} of {} …", options.sizes.runs);
            let (quiet, measured) = (options.quiet_s.to_string(), options.measured_s.to_string());
            let row: Row = in_own_process(&["steady-once".into(), n.to_string(), quiet, measured])?;
            eprintln!("  {}", serde_json::to_string(&row)?);
            runs.push(row);
        }
        let figure = |pick: fn(&Row) -> f64, digits: f64| {
            (median(runs.iter().map(pick).collect()) * digits).round() / digits
        };
        rows.push(Row {
            n,
            bytes_per_node_s: figure(|row| row.bytes_per_node_s, 1.0),
            packets_per_node_s: figure(|row| row.packets_per_node_s, 10.0),
            heartbeats_per_node_s: figure(|row| row.heartbeats_per_node_s, 10.0),
            cpu_pct_per_node: figure(|row| row.cpu_pct_per_node, 1000.0),
            udp_cpu_pct_per_node: figure(|row| row.udp_cpu_pct_per_node, 1000.0),
            quic_cpu_pct_per_node: figure(|row| row.quic_cpu_pct_per_node, 1000.0),
            quic_at_once_cpu_pct_per_node: figure(|row| row.quic_at_once_cpu_pct_per_node, 1000.0),
            rss_kib_per_node: figure(|row| row.rss_kib_per_node, 1.0),
            links_per_node: figure(|row| row.links_per_node, 10.0),
            links_max: runs.iter().map(|row| row.links_max).max().unwrap_or(0),
            accused: runs.iter().map(|row| row.accused).sum(),
        });
    }
    if options.sizes.json {
        println!("{}", serde_json::json!({"rows": rows}));
    } else {
        println!(
            "{:>6}{:>10}{:>12}{:>13}{:>10}{:>10}{:>10}{:>10}{:>12}{:>8}{:>8}{:>10}",
            "nodes",
            "bytes/s",
            "packets/s",
            "heartbeats/s",
            "% CPU",
            "raw UDP",
            "raw QUIC",
            "at once",
            "RSS, KiB",
            "links",
            "most",
            "accused"
        );
        for row in rows {
            println!(
                "{:>6}{:>10.0}{:>12.1}{:>13.1}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>12.0}{:>8.1}{:>8}{:>10}",
                row.n,
                row.bytes_per_node_s,
                row.packets_per_node_s,
                row.heartbeats_per_node_s,
                row.cpu_pct_per_node,
                row.udp_cpu_pct_per_node,
                row.quic_cpu_pct_per_node,
                row.quic_at_once_cpu_pct_per_node,
                row.rss_kib_per_node,
                row.links_per_node,
                row.links_max,
                row.accused
            );
        }
    }
    Ok(())
}

/// One run; prints one JSON object.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn once(n: usize, quiet: Duration, measured: Duration) -> Result<()> {
    let empty = usage::rss_kib()?;
    let mut nodes = Nodes::new();
    // In batches: a mass join is measured elsewhere.
    for size in (0..n).step_by(BATCH).map(|size| (size + BATCH).min(n)) {
        nodes.start(size).await?;
        let progress = |seen| eprintln!("  some see {seen} of {size}");
        if !converged(&nodes.started, PATIENCE, progress).await {
            explain(&nodes.started);
            bail!("{size} nodes did not converge within {PATIENCE:?}");
        }
    }
    let nodes = nodes.started;
    let accused = accusations(&nodes);
    eprintln!("  converged; {} s of quiet", quiet.as_secs());
    let mut telling = JoinSet::new();
    for node in &nodes {
        telling.spawn(tell_what_fails(node.events(), node.local().id.to_string(), Instant::now()));
    }
    tokio::time::sleep(quiet).await;

    let (begun, cpu, sent) = (Instant::now(), usage::cpu_s(), sent(&nodes));
    let beats = heartbeats(&nodes);
    tokio::time::sleep(measured).await;
    let (time, used) = (begun.elapsed().as_secs_f64(), usage::cpu_s() - cpu);
    let after = self::sent(&nodes);
    let each = n as f64;
    let links: Vec<usize> =
        nodes.iter().map(|node| node.stats().transport.pool.links_total).collect();
    let (bytes, packets) = ((after.0 - sent.0) as f64, (after.1 - sent.1) as f64);
    let mut row = Row {
        n,
        bytes_per_node_s: bytes / time / each,
        packets_per_node_s: packets / time / each,
        heartbeats_per_node_s: (heartbeats(&nodes) - beats) as f64 / time / each,
        cpu_pct_per_node: used / time / each * 100.0,
        udp_cpu_pct_per_node: 0.0,
        quic_cpu_pct_per_node: 0.0,
        quic_at_once_cpu_pct_per_node: 0.0,
        rss_kib_per_node: usage::rss_kib()?.saturating_sub(empty) as f64 / each,
        links_per_node: links.iter().sum::<usize>() as f64 / each,
        links_max: links.into_iter().max().unwrap_or(0),
        accused: accusations(&nodes) - accused,
    };
    drop(telling); // what goes now goes on purpose
    for node in &nodes {
        node.shutdown_now().await?;
    }
    drop(nodes);
    let bytes = (bytes / packets.max(1.0)).round() as usize;
    let measured = measured.min(FLOOR_MEASURED);
    row.udp_cpu_pct_per_node = floor::udp(n, row.packets_per_node_s, bytes, measured).await?;
    row.quic_cpu_pct_per_node = floor::quic(n, floor::WATCHERS, measured).await?;
    row.quic_at_once_cpu_pct_per_node = floor::quic(n, 1, measured).await?;
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}

/// Says on standard error whom a node finds wanting, and why: nobody should be.
async fn tell_what_fails(mut events: Events, node: String, since: Instant) {
    while let Some(event) = events.next().await {
        if let EventKind::HealthCheckFailed { member, observers } = &event.kind {
            let after = since.elapsed().as_secs_f32();
            eprintln!("  after {after:.1} s {node} finds {} wanting: {observers:?}", member.id);
        }
    }
}

/// Bytes and packets that all have sent so far.
fn sent(nodes: &[Cluster]) -> (u64, u64) {
    let stats = nodes.iter().map(|node| node.stats().transport);
    stats.fold((0, 0), |sum, stats| (sum.0 + stats.bytes_sent, sum.1 + stats.packets_sent))
}

/// Heartbeats that all have sent so far.
fn heartbeats(nodes: &[Cluster]) -> u64 {
    nodes.iter().map(|node| node.stats().membership.heartbeats).sum()
}

/// How often any node has accused another so far.
fn accusations(nodes: &[Cluster]) -> u64 {
    let counters = nodes.iter().map(|node| node.stats().membership);
    counters.map(|counters| counters.silences + counters.probes_failed).sum()
}
