//! What the packets of quiet nodes cost with nothing behind them: plain UDP sockets, half of whose
//! packets answer the other half, as acknowledgements do.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{net::UdpSocket, runtime, task::JoinSet, time::MissedTickBehavior};

use super::usage;

/// How long the sockets run before they are measured.
const WARM: Duration = Duration::from_secs(2);

/// Processor time of one socket of `n`, in per cent of a core, when each sends so many packets a
/// second of so many bytes.
pub(super) async fn cpu_pct(n: usize, packets_s: f64, bytes: usize, time: Duration) -> Result<f64> {
    // A runtime like the one that all nodes of a process share.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measuring = runtime.spawn(async move {
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
            running.spawn(node(socket, me, all.clone(), first, every, bytes));
        }
        tokio::time::sleep(WARM).await;
        let (begun, used) = (Instant::now(), usage::cpu_s());
        tokio::time::sleep(time).await;
        let (time, used) = (begun.elapsed().as_secs_f64(), usage::cpu_s() - used);
        anyhow::ensure!(running.try_join_next().is_none(), "a socket failed");
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
