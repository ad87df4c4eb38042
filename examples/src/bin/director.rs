//! A director: finds workers by their tags, sends them a steady stream of requests, and goes to
//! the next worker when one does not answer. Told to leave, it lets requests under way finish.
//!
//! ```text
//! PEERAGE_SECRET=… director --id director --listen 127.0.0.1:7000
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use parking_lot::Mutex;
use peerage::Cluster;
use peerage_examples::{
    AnyError, JOIN_DEADLINE, NodeArgs, Report, Requests, TOPIC, checksum, log_to_stderr,
    report_views, told_to_leave,
};
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

/// How long one worker may take before the next one is asked.
const ATTEMPT: Duration = Duration::from_millis(400);
/// How long a request may take in all.
const REQUEST: Duration = Duration::from_secs(5);
/// How long to wait before asking the same workers again, when none of them answered.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);
/// How many requests may be under way; past it, none is begun.
const UNDER_WAY_MAX: usize = 256;
/// How often the figures are reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// The director of the Peerage example cluster.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Requests a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    log_to_stderr();

    let cluster = args.node.builder()?.start().await?;
    let report = Report::to_stdout();
    report.ready(&cluster);
    let views = tokio::spawn(report_views(cluster.clone(), report.clone()));
    if !args.node.seed.is_empty() {
        cluster.join(JOIN_DEADLINE).await?;
    }

    let director = Arc::new(Director::new(cluster.clone()));
    tokio::select! {
        () = direct(&director, &report, args.rate) => {}
        // A node that was stopped from within (another one took our name, say) must not idle on.
        _ = views => return Err("the cluster has ended".into()),
    }
    report.requests(&director.figures());

    let left = cluster.leave().await?;
    eprintln!("{}: {left:?}", args.node.id);
    Ok(())
}

/// Sends requests at a steady rate until told to leave, then waits for those under way. Each of
/// them is bounded, and so is this.
async fn direct(director: &Arc<Director>, report: &Report, rate: u32) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    // After a stall, go on at the same rate instead of sending everything that was missed at once.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report_tick = tokio::time::interval(REPORT_INTERVAL);
    let leave = told_to_leave();
    tokio::pin!(leave);
    loop {
        tokio::select! {
            () = &mut leave => break,
            _ = tick.tick() => {
                if director.workers().is_empty() {
                    continue;
                }
                if let Ok(permit) = under_way.clone().try_acquire_owned() {
                    let director = director.clone();
                    requests.spawn(async move {
                        director.one_request().await;
                        drop(permit);
                    });
                }
            }
            _ = report_tick.tick() => report.requests(&director.figures()),
            Some(_) = requests.join_next() => {}
        }
    }
    while requests.join_next().await.is_some() {}
}

/// Picks workers and keeps count.
struct Director {
    cluster: Cluster,
    turn: AtomicUsize,
    serial: AtomicU64,
    figures: Mutex<Requests>,
}

impl Director {
    fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            turn: AtomicUsize::new(0),
            serial: AtomicU64::new(0),
            figures: Mutex::default(),
        }
    }

    fn figures(&self) -> Requests {
        self.figures.lock().clone()
    }

    fn count(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.figures.lock());
    }

    /// The workers that are alive now.
    fn workers(&self) -> Vec<String> {
        let members = self.cluster.members_with(&[("role", "worker")]);
        members.iter().map(|member| member.id.to_string()).collect()
    }

    /// Asks one worker after the other until one answers or the time is up. The work may then
    /// have been done twice: by a worker whose answer was lost, and by the one that answered. So
    /// fail over like this only where doing it twice does no harm.
    async fn one_request(&self) {
        self.count(|figures| figures.sent += 1);
        let payload = format!("request {}", self.serial.fetch_add(1, Ordering::Relaxed));
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + REQUEST;
        let mut attempts = 0_u32;
        let mut had_another = false;

        while Instant::now() < until {
            // Once a round, not once a request: who has died since drops out, who has come counts.
            let mut workers = self.workers();
            had_another |= workers.len() > 1;
            if !workers.is_empty() {
                let first = turn % workers.len();
                workers.rotate_left(first);
            }
            for worker in workers {
                let time = ATTEMPT.min(until.saturating_duration_since(Instant::now()));
                attempts += 1;
                match self.cluster.request(&worker, TOPIC, payload.clone(), time).await {
                    Ok(answer) if answer[..] == checksum(payload.as_bytes()).to_be_bytes() => {
                        self.count(|figures| {
                            figures.answered += 1;
                            figures.failed_over += u64::from(attempts > 1);
                            *figures.by_worker.entry(worker).or_default() += 1;
                        });
                        return;
                    }
                    Ok(_) => eprintln!("{worker} gave a wrong answer to {payload:?}"),
                    Err(error) => eprintln!("{worker} did not answer {payload:?}: {error}"),
                }
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
        }
        self.count(|figures| if had_another { figures.lost += 1 } else { figures.unserved += 1 });
    }
}
