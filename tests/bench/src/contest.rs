//! A round: so many requesters, each asking again as soon as it is answered.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use peerage::{Builder, Cluster, Request, Secret};
use tokio::task::JoinSet;

/// Bytes of a request and of its answer.
pub(crate) const PAYLOAD: usize = 128;
/// No request of either kind takes this long unless something is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Something that can be asked.
pub(crate) trait Requester {
    /// What one requester holds.
    type Asker: Ask;
    /// Another requester on the same link.
    fn requester(&self) -> Self::Asker;
}

/// One requester.
pub(crate) trait Ask: Send + 'static {
    /// Sends a payload and waits for the answer; to `echo` it is the same.
    fn ask(&mut self, topic: &str, payload: Bytes) -> impl Future<Output = Result<Bytes>> + Send;
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contest {
    /// How many ask at once.
    pub(crate) requesters: usize,
    /// How long the answer takes; a whole number of milliseconds.
    pub(crate) handler: Duration,
    pub(crate) time: Duration,
}

impl Contest {
    /// How many requests it were.
    pub(crate) async fn of(self, contestant: &impl Requester) -> Result<f64> {
        let mut payload = vec![0x5a; PAYLOAD];
        payload[0] = u8::try_from(self.handler.as_millis())?;
        let payload = Bytes::from(payload);
        let mut tasks = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..self.requesters {
            let mut asker = contestant.requester();
            let payload = payload.clone();
            tasks.spawn(async move {
                let mut count = 0_u32;
                while begun.elapsed() < self.time {
                    let answer = asker.ask("echo", payload.clone()).await?;
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
        Ok(total)
    }
}

/// What either handler does first: a request's first byte says for how many milliseconds.
pub(crate) async fn work(request: &[u8]) {
    if let Some(millis @ 1..) = request.first() {
        tokio::time::sleep(Duration::from_millis((*millis).into())).await;
    }
}

/// Two nodes of a cluster, each asking over the one link between them.
pub(crate) struct Peerage {
    asks: Cluster,
    answers: Cluster,
}

impl Peerage {
    /// On the runtime of those who ask.
    pub(crate) async fn start() -> Result<Self> {
        let here = tokio::runtime::Handle::current();
        Self::start_by(async |node: Builder| node.start_on(&here).await).await
    }

    /// On the library's own, as bindings do and whoever says nothing.
    pub(crate) async fn start_apart() -> Result<Self> {
        Self::start_by(async |node: Builder| node.start().await).await
    }

    async fn start_by(start: impl AsyncFn(Builder) -> peerage::Result<Cluster>) -> Result<Self> {
        let secret = Secret::generate();
        let answers = start(Cluster::builder("bench", "answers").secret(secret.clone())).await?;
        answers.handle("echo", |request: Request| async move {
            work(&request.payload).await;
            Ok(request.payload)
        })?;
        answers.handle("sink", |_: Request| async { Ok(Bytes::new()) })?;
        let asks = Cluster::builder("bench", "asks").secret(secret).seed(answers.addr());
        let asks = start(asks).await?;
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
    async fn ask(&mut self, topic: &str, payload: Bytes) -> Result<Bytes> {
        Ok(self.request("answers", topic, payload, DEADLINE).await?)
    }
}
