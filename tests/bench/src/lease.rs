//! Taking a link from the pool and giving it back, with nothing sent on it.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use peerage::{member::Peer, transport::Transport};
use peerage_bench::{
    median,
    mute::{Mute, options},
    rounded,
};
use serde::Serialize;

/// How many threads take the one link at once.
const THREADS: [usize; 3] = [1, 2, 16];
/// How often in all, in one round.
const OPERATIONS: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) threads: usize,
    /// What one operation takes of a processor's time: of as many as can run at once.
    pub(crate) ns: f64,
    /// Of that to one of a thread alone.
    pub(crate) ratio: f64,
}

pub(crate) async fn rows(rounds: u32) -> Result<Vec<Row>> {
    let (asks, answers) = (options("asks"), options("answers"));
    let peer = Peer { id: answers.node_id.clone(), instance: answers.instance };
    let (answers, _events) = Transport::bind(answers, Arc::new(Mute)).await?;
    let (asks, _events) = Transport::bind(asks, Arc::new(Mute)).await?;
    let addr = answers.local_addr();
    let until = tokio::time::Instant::now() + PATIENCE;
    drop(asks.lease(&peer, addr, until).await?); // dials

    let mut taken: Vec<_> = THREADS.iter().map(|_| Vec::new()).collect();
    for number in 0..=rounds {
        for (threads, taken) in THREADS.into_iter().zip(&mut taken) {
            let ns = tokio::task::block_in_place(|| round(&asks, &peer, addr, threads))?;
            if number > 0 {
                taken.push(ns);
            }
        }
    }
    let alone = median(taken[0].clone());
    let row = |(threads, taken)| {
        let ns = median(taken);
        Row { threads, ns: rounded(ns, 1), ratio: rounded(ns / alone, 2) }
    };
    asks.shutdown(Duration::ZERO).await;
    answers.shutdown(Duration::ZERO).await;
    Ok(THREADS.into_iter().zip(taken).map(row).collect())
}

/// Nanoseconds of an operation.
fn round(asks: &Transport, peer: &Peer, addr: SocketAddr, threads: usize) -> Result<f64> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let each = OPERATIONS / threads;
    let start = Barrier::new(threads + 1);
    let took = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..each).try_for_each(|_| take(asks, peer, addr, until))
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        for worker in workers {
            let Ok(result) = worker.join() else { bail!("a thread panicked") };
            result?;
        }
        Ok(begun.elapsed())
    })?;
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(threads);
    Ok(took.as_nanos() as f64 * at_once as f64 / (each * threads) as f64)
}

/// The link is there, so the first look at the future finds it.
fn take(
    asks: &Transport,
    peer: &Peer,
    addr: SocketAddr,
    until: tokio::time::Instant,
) -> Result<()> {
    let lease = pin!(asks.lease(peer, addr, until));
    let Poll::Ready(lease) = lease.poll(&mut Context::from_waker(Waker::noop())) else {
        bail!("the link is gone");
    };
    let lease = lease?;
    ensure!(std::mem::size_of_val(&lease) > 0, "nothing is held");
    drop(lease);
    Ok(())
}
