//! A worker: joins the cluster, announces what it can do, and answers requests until it is told
//! to leave (the line `leave`, or the end, on standard input). Told `ask <id>`, it asks that
//! member for work itself, by a request and over a stream.
//!
//! ```text
//! PEERAGE_SECRET=… worker --id w1 --seed 127.0.0.1:7000 --tag role=worker
//! ```

use bytes::Bytes;
use clap::Parser;
use peerage::{Cluster, Request, Stream};
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
    cluster.handle_streams(TOPIC, work_on)?;

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
    let both = async {
        let by_request = cluster.request(&target, TOPIC, payload.clone(), None).await?;
        Ok((by_request, ask_over_stream(&cluster, &target, payload.clone()).await?))
    };
    let outcome: Result<_, peerage::Error> = both.await;
    match outcome {
        Ok((a, b)) if a[..] == expected && b[..] == expected => report.asked(&target, None),
        Ok(_) => report.asked(&target, Some("a wrong answer")),
        Err(error) => report.asked(&target, Some(error.code().name())),
    }
}

/// The payload in two pieces, and the answer once they have ended.
async fn ask_over_stream(
    cluster: &Cluster,
    target: &str,
    payload: String,
) -> peerage::Result<Vec<u8>> {
    let mut stream = cluster.open_stream(target, TOPIC, None).await?;
    let (first, second) = payload.split_at(payload.len() / 2);
    for piece in [first, second] {
        stream.write(piece.to_owned(), JOIN_DEADLINE).await?;
    }
    stream.finish(JOIN_DEADLINE).await?;
    read_all(&mut stream).await
}

async fn read_all(stream: &mut Stream) -> peerage::Result<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(piece) = stream.read(JOIN_DEADLINE).await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// What a worker does for others.
async fn work(request: Request) -> Result<Bytes, String> {
    if request.payload.is_empty() {
        return Err("there is nothing to do".into());
    }
    Ok(Bytes::copy_from_slice(&checksum(&request.payload).to_be_bytes()))
}

/// The same over a stream.
async fn work_on(mut stream: Stream) -> Result<(), String> {
    let payload = read_all(&mut stream).await.map_err(|error| error.to_string())?;
    let answer = checksum(&payload).to_be_bytes().to_vec();
    stream.write(answer, JOIN_DEADLINE).await.map_err(|error| error.to_string())?;
    stream.finish(JOIN_DEADLINE).await.map_err(|error| error.to_string())
}
