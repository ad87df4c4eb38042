//! Requests of 10 MiB with an empty answer, beside as many raw streams of chunks as large.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    contest::{Ask, Requester},
    raw::Raw,
};

/// Bytes of a request, and of a chunk.
pub(crate) const PAYLOAD: usize = 10 << 20;
/// How many ask at once. One alone sends nothing while it waits for its answer.
pub(crate) const REQUESTERS: [usize; 3] = [1, 2, 4];
const MIB: f64 = 1048576.0;

fn payload() -> Bytes {
    Bytes::from(vec![0x5a; PAYLOAD])
}

/// How many MiB it were, all of which the other end has got.
pub(crate) async fn raw(raw: &Raw, streams: usize, time: Duration) -> Result<f64> {
    let payload = payload();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (mut handle, payload) = (raw.requester(), payload.clone());
        tasks.spawn(async move {
            let mut stream = handle.open_send_stream().await.context("no stream")?;
            let mut chunks = 0.0;
            while begun.elapsed() < time {
                stream.send(payload.clone()).await?;
                chunks += 1.0;
            }
            stream.close().await?;
            Ok(chunks)
        });
    }
    total(tasks).await
}

/// How many MiB it were, all of which were answered.
pub(crate) async fn requests(
    contestant: &impl Requester,
    requesters: usize,
    time: Duration,
) -> Result<f64> {
    let payload = payload();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..requesters {
        let (mut asker, payload) = (contestant.requester(), payload.clone());
        tasks.spawn(async move {
            let mut chunks = 0.0;
            while begun.elapsed() < time {
                asker.ask("sink", payload.clone()).await?;
                chunks += 1.0;
            }
            Ok(chunks)
        });
    }
    total(tasks).await
}

async fn total(mut tasks: JoinSet<Result<f64>>) -> Result<f64> {
    let mut chunks = 0.0;
    while let Some(done) = tasks.join_next().await {
        chunks += done.context("one panicked")??;
    }
    Ok(chunks * PAYLOAD as f64 / MIB)
}
