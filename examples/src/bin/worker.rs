//! A worker: joins the cluster, announces what it can do, and answers requests until it is told
//! to leave (the line `leave`, or the end, on standard input).
//!
//! ```text
//! PEERAGE_SECRET=… worker --id w1 --seed 127.0.0.1:7000 --tag role=worker
//! ```

use bytes::Bytes;
use clap::Parser;
use peerage::Request;
use peerage_examples::{
    AnyError, JOIN_DEADLINE, NodeArgs, Report, TOPIC, checksum, log_to_stderr, report_views,
    told_to_leave,
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
    let views = tokio::spawn(report_views(cluster.clone(), report));

    if !args.node.seed.is_empty() {
        cluster.join(JOIN_DEADLINE).await?;
    }
    tokio::select! {
        () = told_to_leave() => {}
        // A node that was stopped from within (another one took our name, say) must not idle on.
        _ = views => return Err("the cluster has ended".into()),
    }
    let left = cluster.leave().await?;
    eprintln!("{}: {left:?}", args.node.id);
    Ok(())
}

/// What a worker does for others.
async fn work(request: Request) -> Result<Bytes, String> {
    if request.payload.is_empty() {
        return Err("there is nothing to do".into());
    }
    Ok(Bytes::copy_from_slice(&checksum(&request.payload).to_be_bytes()))
}
