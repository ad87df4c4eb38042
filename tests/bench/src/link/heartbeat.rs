//! How late heartbeats are: datagrams of membership, from one transport's caller to the other's,
//! while a stream of a program's on the same link sends as fast as it can.
//!
//! Both ends send one every five milliseconds, with the time on it; the clock is the machine's, so
//! what the other process reads off its own says how long it was under way.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use peerage::{
    member::{Instance, NodeId, Peer},
    transport::{Class, Transport, TransportEvent},
};
use peerage_bench::{
    median,
    mute::{Mute, options},
    rounded,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::run::{Other, Rounds, millis, runtime, say, told};

/// Far more often than a member's, and far below what a peer may send.
const EVERY: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);
/// As large as a heartbeat that gossip rides on.
const HEARTBEAT: usize = 200;
/// What a program writes at once.
const CHUNK: usize = 1 << 20;

/// How late those were that arrived at one end, in nanoseconds.
#[derive(Default, Serialize, Deserialize)]
struct Heard {
    sent: u64,
    late: Vec<u64>,
}

#[derive(Clone, Serialize)]
struct Row {
    stream: bool,
    /// From the end that sends on the stream, or to it.
    towards_reader: bool,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    lost: u64,
    /// What went through the stream.
    mib_s: f64,
}

pub(crate) fn command(rounds: &Rounds) -> Result<()> {
    let mut runs = Vec::new();
    for run in 1..=rounds.runs {
        eprintln!("run {run} of {}", rounds.runs);
        for stream in [false, true] {
            runs.extend(once(stream, Duration::from_secs(rounds.seconds))?);
        }
    }
    let mut rows = Vec::new();
    for (stream, towards_reader) in [(false, true), (false, false), (true, true), (true, false)] {
        let of = |row: &&Row| row.stream == stream && row.towards_reader == towards_reader;
        let figure =
            |pick: fn(&Row) -> f64| rounded(median(runs.iter().filter(of).map(pick).collect()), 3);
        rows.push(Row {
            stream,
            towards_reader,
            p50_ms: figure(|row| row.p50_ms),
            p99_ms: figure(|row| row.p99_ms),
            max_ms: runs.iter().filter(of).map(|row| row.max_ms).fold(0.0, f64::max),
            lost: runs.iter().filter(of).map(|row| row.lost).sum(),
            mib_s: figure(|row| row.mib_s).round(),
        });
    }
    if rounds.json {
        println!("{}", serde_json::json!({"rows": rows}));
        return Ok(());
    }
    println!("stream   heartbeats        p50 ms   p99 ms   max ms   lost   MiB/s");
    for row in rows {
        let stream = if row.stream { "full" } else { "none" };
        let way = if row.towards_reader { "with it" } else { "against it" };
        let Row { p50_ms, p99_ms, max_ms, lost, mib_s, .. } = row;
        println!(
            "{stream:>6}   {way:<12}{p50_ms:>12.3}{p99_ms:>9.3}{max_ms:>9.3}{lost:>7}{mib_s:>8.0}"
        );
    }
    Ok(())
}

fn peer_named(id: &str) -> Result<Peer> {
    let id = NodeId::new(id).map_err(anyhow::Error::msg)?;
    Ok(Peer { id, instance: Instance(1) })
}

/// One measurement, with a process of its own for the other end.
fn once(stream: bool, time: Duration) -> Result<[Row; 2]> {
    let (core, program) = (runtime()?, runtime()?);
    let mut other = Other::start(&["heartbeat-peer"])?;
    let addr: SocketAddr = other.hear()?;
    let peer = peer_named("reads")?;
    let (transport, events) =
        core.block_on(core.spawn(Transport::bind(options("writes"), Arc::new(Mute))))??;
    let mut stream = if stream {
        let opening = transport.open_stream(&peer, addr, "sink", PATIENCE);
        Some(program.block_on(opening)?)
    } else {
        let until = tokio::time::Instant::now() + PATIENCE;
        drop(program.block_on(transport.lease(&peer, addr, until))?); // dials
        None
    };
    // Runs on the program's runtime, as it is the program's.
    let writing = program.spawn(async move {
        let chunk = Bytes::from(vec![0x5a; CHUNK]);
        let begun = Instant::now();
        while let Some(stream) = stream.as_mut()
            && begun.elapsed() < time + Duration::from_secs(2)
        {
            stream.write(chunk.clone(), PATIENCE).await?;
        }
        let sent = stream.as_ref().map_or(0, peerage::Stream::sent);
        anyhow::Ok(sent as f64 / CHUNK as f64 / begun.elapsed().as_secs_f64())
    });
    std::thread::sleep(Duration::from_secs(1)); // the congestion window opens
    other.tell(&time)?;
    let exchange = exchange(transport.clone(), peer, addr, events, time);
    let ours = core.block_on(core.spawn(exchange))??;
    let theirs: Heard = other.hear()?;
    let mib_s = program.block_on(writing)??;
    core.block_on(transport.shutdown(Duration::ZERO));
    drop(other);
    let row = |towards_reader, sent, mut late: Vec<u64>| {
        ensure!(!late.is_empty(), "no heartbeat arrived");
        late.sort_unstable();
        let at = |share: f64| millis(late[((late.len() - 1) as f64 * share) as usize]);
        Ok(Row {
            stream: mib_s > 0.0,
            towards_reader,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            lost: sent - late.len() as u64,
            mib_s,
        })
    };
    Ok([row(true, ours.sent, theirs.late)?, row(false, theirs.sent, ours.late)?])
}

/// The other end.
pub(crate) fn peer() -> Result<()> {
    let core = runtime()?;
    let (transport, mut events) =
        core.block_on(core.spawn(Transport::bind(options("reads"), Arc::new(Mute))))??;
    say(&transport.local_addr())?;
    let addr = core.block_on(async {
        loop {
            let event = events.recv().await.context("the transport has ended")?;
            if let TransportEvent::LinkUp { addr, .. } = event {
                return anyhow::Ok(addr);
            }
        }
    })?;
    if let Some(time) = told()? {
        let exchange = exchange(transport.clone(), peer_named("writes")?, addr, events, time);
        say(&core.block_on(core.spawn(exchange))??)?;
    }
    told::<()>()?; // until nobody needs this end any more
    core.block_on(transport.shutdown(Duration::ZERO));
    Ok(())
}

/// Sends heartbeats, and notes how late those of the other end are.
async fn exchange(
    transport: Transport,
    peer: Peer,
    addr: SocketAddr,
    mut events: mpsc::Receiver<TransportEvent>,
    time: Duration,
) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let begun = Instant::now();
    let mut note = |event: Option<TransportEvent>| {
        let TransportEvent::Frame { mut bytes, .. } = event.context("the transport has ended")?
        else {
            return anyhow::Ok(());
        };
        heard.late.push(nanos()?.saturating_sub(bytes.get_u64()));
        Ok(())
    };
    let mut sent = 0;
    while begun.elapsed() < time {
        tokio::select! {
            _ = pace.tick() => {
                let mut bytes = vec![0; HEARTBEAT];
                bytes[..8].copy_from_slice(&nanos()?.to_be_bytes());
                transport.send_frame(&peer, addr, Class::Datagram, bytes.into());
                sent += 1;
            }
            event = events.recv() => note(event)?,
        }
    }
    // Those that are still under way.
    while let Ok(event) = timeout(Duration::from_millis(500), events.recv()).await {
        note(event)?;
    }
    heard.sent = sent;
    Ok(heard)
}

/// The machine's own clock, the same in all processes.
fn nanos() -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a `timespec` of ours, which the call fills in or leaves as it is.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    ensure!(failed == 0, "there is no clock");
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
