//! What a link costs that nobody uses: memory and processor time at one end, in a process with
//! nothing but that end of so many. The other ends are transports of another process.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use peerage::{
    member::{Instance, NodeId},
    transport::{Transport, TransportEvent},
};
use peerage_bench::{
    median,
    mute::{Mute, options},
    rounded, usage,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::run::{Other, Rounds, runtime, say, told};

const PATIENCE: Duration = Duration::from_secs(30);
/// So many links are made first: code and tables that the first needs are no cost of the others.
const WARM: usize = 10;
/// How long nothing has happened before anything is measured: handshakes leave things behind for
/// some seconds.
const SETTLED: Duration = Duration::from_secs(6);

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Whether this end dialed.
    dials: bool,
    links: usize,
    rss_kib_per_link: f64,
    cpu_us_per_link_s: f64,
    /// Sent by this end.
    packets_per_link_s: f64,
}

pub(crate) fn command(rounds: &Rounds) -> Result<()> {
    let mut rows = Vec::new();
    for dials in [false, true] {
        let mut runs = Vec::new();
        for run in 1..=rounds.runs {
            let (links, seconds) = (rounds.links.to_string(), rounds.seconds.to_string());
            let arguments = ["idle-once", if dials { "true" } else { "false" }, &links, &seconds];
            let row: Row = Other::start(&arguments)?.hear()?;
            eprintln!("run {run} of {}: {}", rounds.runs, serde_json::to_string(&row)?);
            runs.push(row);
        }
        let figure = |pick: fn(&Row) -> f64| rounded(median(runs.iter().map(pick).collect()), 1);
        rows.push(Row {
            dials,
            links: rounds.links,
            rss_kib_per_link: figure(|row| row.rss_kib_per_link),
            cpu_us_per_link_s: figure(|row| row.cpu_us_per_link_s),
            packets_per_link_s: figure(|row| row.packets_per_link_s),
        });
    }
    if rounds.json {
        println!("{}", serde_json::json!({"rows": rows}));
        return Ok(());
    }
    println!("this end   links   RSS KiB a link   CPU µs a link and second   packets sent");
    for Row { dials, links, rss_kib_per_link, cpu_us_per_link_s, packets_per_link_s } in rows {
        let end = if dials { "dials" } else { "accepts" };
        println!(
            "{end:>8}{links:>8}{rss_kib_per_link:>17.1}{cpu_us_per_link_s:>27.1}{packets_per_link_s:>15.1}"
        );
    }
    Ok(())
}

/// Pins each link, or it would go after some seconds: nobody uses it.
async fn pin_all(transport: Transport, mut events: mpsc::Receiver<TransportEvent>) {
    // Nobody takes part in membership here; the events of links are all there are.
    while let Some(event) = events.recv().await {
        if let TransportEvent::LinkUp { peer, .. } = event {
            transport.pin(&peer, true);
        }
    }
}

/// One measurement of one end.
pub(crate) fn once(dials: bool, links: usize, seconds: u64) -> Result<Row> {
    let core = runtime()?;
    let (hub, events) =
        core.block_on(core.spawn(Transport::bind(options("hub"), Arc::new(Mute))))??;
    core.spawn(pin_all(hub.clone(), events));
    let mut others = Other::start(&["idle-peers", &(WARM + links).to_string()])?;
    let addrs: Vec<SocketAddr> = others.hear()?;
    let time = Duration::from_secs(seconds);
    let connect = |others: &mut Other, some: std::ops::Range<usize>| {
        if dials {
            for (number, addr) in addrs.iter().enumerate().skip(some.start).take(some.len()) {
                let id = NodeId::new(format!("n{number}")).map_err(anyhow::Error::msg)?;
                hub.dial(*addr, Some(id));
                sleep(Duration::from_millis(5)); // at most 64 at once
            }
        } else {
            others.tell(&(some.start, some.end, hub.local_addr()))?;
        }
        let begun = Instant::now();
        while hub.links().len() < some.end {
            ensure!(begun.elapsed() < PATIENCE, "{} of {} links", hub.links().len(), some.end);
            sleep(Duration::from_millis(10));
        }
        sleep(SETTLED);
        anyhow::Ok(())
    };
    let used = || {
        let (begun, before) = (Instant::now(), usage::cpu_s());
        sleep(time);
        (usage::cpu_s() - before) / begun.elapsed().as_secs_f64()
    };
    connect(&mut others, 0..WARM)?;
    let (rss, cpu) = (usage::rss_kib()?, used());
    connect(&mut others, WARM..WARM + links)?;
    let (rss_after, sent) = (usage::rss_kib()?, hub.stats().packets_sent);
    let cpu_after = used();
    let sent = (hub.stats().packets_sent - sent) as f64;
    ensure!(hub.links().len() == WARM + links, "links were lost");
    Ok(Row {
        dials,
        links,
        rss_kib_per_link: rss_after.saturating_sub(rss) as f64 / links as f64,
        cpu_us_per_link_s: (cpu_after - cpu) * 1e6 / links as f64,
        packets_per_link_s: sent / time.as_secs_f64() / (WARM + links) as f64,
    })
}

/// The other ends: transports that accept, and dial when they are told to.
pub(crate) fn peers(links: usize) -> Result<()> {
    let core = runtime()?;
    let mut all = Vec::new();
    for number in 0..links {
        let mut options = options(&format!("n{number}"));
        options.instance = Instance(number as u64);
        let (transport, events) =
            core.block_on(core.spawn(Transport::bind(options, Arc::new(Mute))))??;
        core.spawn(pin_all(transport.clone(), events));
        all.push(transport);
    }
    say(&all.iter().map(Transport::local_addr).collect::<Vec<_>>())?;
    let hub = NodeId::new("hub").map_err(anyhow::Error::msg)?;
    while let Some((from, to, addr)) = told::<(usize, usize, SocketAddr)>()? {
        for transport in all.get(from..to).context("so many are not here")? {
            transport.dial(addr, Some(hub.clone()));
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}
