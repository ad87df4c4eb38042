//! What the traffic of quiet nodes costs with nothing behind it: below that no cluster can come
//! which sends as much.
//!
//! * Plain UDP: as many packets of the same size, half of which answer the other half, as
//!   acknowledgements do.
//! * Raw s2n-quic: a datagram a second on each of ten connections of a node, as its heartbeats
//!   are, and nothing else; the stack acknowledges them.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use s2n_quic::{
    Client, Server,
    client::Connect,
    provider::{
        datagram::default::{Endpoint as Datagrams, Sender},
        limits::Limits,
    },
};
use tokio::{net::UdpSocket, runtime, task::JoinSet, time::MissedTickBehavior};

use super::usage;

/// How long all runs before it is measured.
const WARM: Duration = Duration::from_secs(2);
/// `watch_rings` by default: so many watch a node.
pub(super) const WATCHERS: usize = 10;
const NAME: &str = "localhost";
/// As large as a heartbeat.
const HEARTBEAT: Bytes = Bytes::from_static(&[0; 20]);

/// Processor time of one of `n` sockets, in per cent of a core, when each sends so many packets a
/// second of so many bytes.
pub(super) async fn udp(n: usize, packets_s: f64, bytes: usize, time: Duration) -> Result<f64> {
    measured(n, time, async move {
        let mut sockets = Vec::new();
        for _ in 0..n {
            sockets.push(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        }
        let all: std::io::Result<Vec<_>> = sockets.iter().map(UdpSocket::local_addr).collect();
        let all: Arc<[SocketAddr]> = all?.into();
        // Half are sent at the node's own pace, half in answer.
        let every = Duration::from_secs_f64(2.0 / packets_s.max(0.1));
        let mut running = JoinSet::new();
        for (me, socket) in sockets.into_iter().enumerate() {
            let first = every.mul_f64(me as f64 / n as f64);
            let all = all.clone();
            running.spawn(async move { Ok(node(socket, me, all, first, every, bytes).await?) });
        }
        Ok(running)
    })
    .await
}

/// Processor time of one of `n` nodes, in per cent of a core, when each sends its heartbeats in so many
/// rounds a second.
pub(super) async fn quic(n: usize, rounds: usize, time: Duration) -> Result<f64> {
    measured(n, time, async move {
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        let datagrams = || -> Result<_> {
            let queues = Datagrams::builder().with_send_capacity(8)?.with_recv_capacity(8)?;
            let Ok(datagrams) = queues.build();
            Ok(datagrams)
        };
        let mut running = JoinSet::new();
        let mut addrs = Vec::new();
        for _ in 0..n {
            let mut server = Server::builder()
                .with_tls((certificate.as_str(), key.as_str()))?
                .with_datagram(datagrams()?)?
                .with_limits(Limits::new())?
                .with_io("127.0.0.1:0")?
                .start()?;
            addrs.push(server.local_addr()?);
            running.spawn(async move {
                let mut all = Vec::new();
                while let Some(connection) = server.accept().await {
                    all.push(connection);
                }
                Ok(())
            });
        }
        for me in 0..n {
            let client = Client::builder()
                .with_tls(certificate.as_str())?
                .with_datagram(datagrams()?)?
                .with_limits(Limits::new())?
                .with_io("127.0.0.1:0")?
                .start()?;
            let mut all = Vec::new();
            for other in 1..=WATCHERS.min(n - 1) {
                let to = Connect::new(addrs[(me + other) % n]).with_server_name(NAME);
                all.push(client.connect(to).await?);
            }
            let first = Duration::from_secs_f64(me as f64 / n as f64);
            running.spawn(async move {
                tokio::time::sleep(first).await;
                let mut pace = tokio::time::interval(Duration::from_secs(1) / rounds as u32);
                for next in (0..all.len()).cycle() {
                    if next % WATCHERS.div_ceil(rounds) == 0 {
                        pace.tick().await;
                    }
                    let send = |sender: &mut Sender| sender.send_datagram(HEARTBEAT);
                    let sent = all[next].datagram_mut(send)?;
                    ensure!(sent.is_ok(), "a heartbeat was not sent: {sent:?}");
                }
                drop(client);
                Ok(())
            });
        }
        Ok(running)
    })
    .await
}

/// Starts so many on a runtime like the one that all nodes of a process share, and measures them.
async fn measured(
    n: usize,
    time: Duration,
    start: impl Future<Output = Result<JoinSet<Result<()>>>> + Send + 'static,
) -> Result<f64> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measuring = runtime.spawn(async move {
        let mut running = start.await?;
        tokio::time::sleep(WARM).await;
        let (begun, used) = (Instant::now(), usage::cpu_s());
        tokio::time::sleep(time).await;
        let (time, used) = (begun.elapsed().as_secs_f64(), usage::cpu_s() - used);
        if let Some(ended) = running.try_join_next() {
            ended??;
        }
        ensure!(!running.is_empty(), "nothing ran");
        Ok(used / time / n as f64 * 100.0)
    });
    let measured = measuring.await?;
    runtime.shutdown_background();
    measured
}

/// Sends to the others in turn, and answers; what it sends first of the two has a one in front.
async fn node(
    socket: UdpSocket,
    me: usize,
    all: Arc<[SocketAddr]>,
    first: Duration,
    every: Duration,
    bytes: usize,
) -> std::io::Result<()> {
    let mut packet = vec![0; bytes.max(1)];
    let mut heard = vec![0; 2048];
    let mut to = me;
    tokio::time::sleep(first).await;
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = pace.tick() => {
                to = (to + 1) % all.len();
                packet[0] = 1;
                socket.send_to(&packet, all[to]).await?;
            }
            received = socket.recv_from(&mut heard) => {
                let (_, from) = received?;
                if heard[0] == 1 {
                    packet[0] = 0;
                    socket.send_to(&packet, from).await?;
                }
            }
        }
    }
}
