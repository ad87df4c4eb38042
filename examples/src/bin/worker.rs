//! A worker: joins the cluster, announces what it can do, and answers requests until it is told
//! to leave (the line `leave`, or the end, on standard input). Told `ask <id>`, it asks that
//! member for work itself.
//!
//! ```text
//! PEERAGE_SECRET=… worker --id w1 --seed 127.0.0.1:7000 --tag role=worker
//! ```

use bytes::Bytes;
use clap::Parser;
use peerage::{Cluster, Request};
use peerage_examples::{
    AnyError, JOIN_DEADLINE, NodeArgs, Order, Report, TOPIC, checksum, log_to_stderr, orders,
    report_views,
};

/// A worker of the Peerage example cluster.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let args = Args::parse();
    log_to_stderr();

    let cluster = args.node.builder()?.start().await?;
    // Before joining: whoever sees us in the cluster may ask at once.
    cluster.handle(TOPIC, work)?;

    let report = Report::to_stdout();
    report.ready(&cluster);
    let mut views = tokio::spawn(report_views(cluster.clone(), report.clone()));

    if !args.node.seed.is_empty() {
        cluster.join(JOIN_DEADLINE).await?;
    }
    let mut orders = orders();
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Ask(target)) => {
                    tokio::spawn(ask(cluster.clone(), target, report.clone()));
                }
                Some(Order::Leave) | None => break,
            },
            // A node that was stopped from within (another one took our name, say) must not idle.
            _ = &mut views => return Err("the cluster has ended".into()),
        }
    }
    let left = cluster.leave().await?;
    eprintln!("{}: {left:?}", args.node.id);
    Ok(())
}

/// Asks another worker, as the director does, and reports how it went.
async fn ask(cluster: Cluster, target: String, report: Report) {
    let payload = format!("from {}", cluster.local().id);
    let expected = checksum(payload.as_bytes()).to_be_bytes();
    match cluster.request(&target, TOPIC, payload, None).await {
        Ok(answer) if answer[..] == expected => report.asked(&target, None),
        Ok(_) => report.asked(&target, Some("a wrong answer")),
        Err(error) => report.asked(&target, Some(error.code().name())),
    }
}

/// What a worker does for others.
async fn work(request: Request) -> Result<Bytes, String> {
    if request.payload.is_empty() {
        return Err("there is nothing to do".into());
    }
    Ok(Bytes::copy_from_slice(&checksum(&request.payload).to_be_bytes()))
}
