//! A round: so many requesters, each asking again as soon as it is answered.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use peerage::{Cluster, Request, Secret};
use tokio::task::JoinSet;

use crate::PAYLOAD;

/// No request of either kind takes this long unless something is broken.
const DEADLINE: Duration = Duration::from_secs(10);

/// Something that can be asked.
pub(crate) trait Requester {
    /// What one requester holds.
    type Asker: Ask;
    /// Another requester on the same link.
    fn requester(&self) -> Self::Asker;
}

/// One requester.
pub(crate) trait Ask: Send + 'static {
    /// Sends a payload and waits for the echo.
    fn ask(&mut self, payload: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// Requests a second over one round.
pub(crate) async fn round(
    contestant: &impl Requester,
    requesters: usize,
    time: Duration,
) -> Result<f64> {
    let payload = Bytes::from(vec![0x5a; PAYLOAD]);
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..requesters {
        let mut asker = contestant.requester();
        let payload = payload.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            while begun.elapsed() < time {
                let answer = asker.ask(payload.clone()).await?;
                ensure!(answer.len() == PAYLOAD, "the answer has {} bytes", answer.len());
                count += 1;
            }
            Ok(count)
        });
    }
    let mut total = 0.0;
    while let Some(done) = tasks.join_next().await {
        total += f64::from(done.context("a requester panicked")??);
    }
    Ok(total / begun.elapsed().as_secs_f64())
}

/// Two nodes of a cluster, each asking over the one link between them.
pub(crate) struct Peerage {
    asks: Cluster,
    answers: Cluster,
}

impl Peerage {
    pub(crate) async fn start() -> Result<Self> {
        let secret = Secret::generate();
        let answers = Cluster::builder("bench", "answers").secret(secret.clone()).start().await?;
        answers.handle("echo", |request: Request| async move { Ok(request.payload) })?;
        let asks =
            Cluster::builder("bench", "asks").secret(secret).seed(answers.addr()).start().await?;
        asks.join(DEADLINE).await?;
        Ok(Self { asks, answers })
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.asks.leave().await?;
        self.answers.leave().await?;
        Ok(())
    }
}

impl Requester for Peerage {
    type Asker = Cluster;

    fn requester(&self) -> Cluster {
        self.asks.clone()
    }
}

impl Ask for Cluster {
    async fn ask(&mut self, payload: Bytes) -> Result<Bytes> {
        Ok(self.request("answers", "echo", payload, DEADLINE).await?)
    }
}
