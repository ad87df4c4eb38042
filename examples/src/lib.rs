//! What the director and the worker share: their command line, the cluster secret from the
//! environment, and reports of what they see as one JSON object a line on standard output.
//! People read standard error; programs (the demo among them) read standard output.

mod report;
mod work;

use std::{env, net::SocketAddr, time::Duration};

use peerage::{Builder, Cluster, Secret};
use tokio::sync::mpsc;

pub use report::{Report, Requests, report_views};
pub use work::{TOPIC, checksum};

/// What a program's `main` returns: any error ends it with a line on standard error.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The variable that holds the cluster secret. Never an argument: every user of a machine can
/// read the arguments of every process.
pub const SECRET_VARIABLE: &str = "PEERAGE_SECRET";

/// How long a node tries to join before it gives up.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(30);

/// The arguments that every node of the example takes.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// This node's stable name, unique in the cluster.
    #[arg(long)]
    pub id: String,
    /// The name of the cluster.
    #[arg(long, default_value = "demo")]
    pub cluster: String,
    /// Where to join; may be given several times. None for the first node.
    #[arg(long)]
    pub seed: Vec<SocketAddr>,
    /// The UDP address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// A tag to announce, as `key=value`; may be given several times.
    #[arg(long, value_parser = parse_tag)]
    pub tag: Vec<(String, String)>,
}

impl NodeArgs {
    /// A builder with everything the command line and the environment said.
    pub fn builder(&self) -> Result<Builder, AnyError> {
        let mut builder = Cluster::builder(&self.cluster, &self.id)
            .secret(secret_from_environment()?)
            .listen(self.listen)
            .seeds(self.seed.clone());
        for (key, value) in &self.tag {
            builder = builder.tag(key, value);
        }
        Ok(builder)
    }
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected key=value".into()),
    }
}

fn secret_from_environment() -> Result<Secret, AnyError> {
    let text = env::var(SECRET_VARIABLE).map_err(|_| {
        format!("set {SECRET_VARIABLE} to the secret that all nodes of the cluster share")
    })?;
    Ok(Secret::parse(&text)?)
}

/// Sends Peerage's own log to standard error: warnings, or what `PEERAGE_LOG` asks for (`info`,
/// `debug`, `trace`, `off`).
pub fn log_to_stderr() {
    let level = env::var("PEERAGE_LOG").ok().and_then(|text| text.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(level.unwrap_or(tracing_subscriber::filter::LevelFilter::WARN))
        .init();
}

/// What whoever started us says on standard input, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// `ask <id>`: ask that member for work and report how it went.
    Ask(String),
    /// `leave`: leave the cluster and end. So does the end of standard input: whoever started us
    /// is gone then.
    Leave,
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        match line.trim().split_once(' ') {
            Some(("ask", id)) => Some(Self::Ask(id.trim().to_owned())),
            None if line.trim() == "leave" => Some(Self::Leave),
            _ => None,
        }
    }
}

/// The orders on standard input; the last one is [`Order::Leave`].
pub fn orders() -> mpsc::Receiver<Order> {
    let (give, take) = mpsc::channel(16);
    // A thread of its own: the runtime would wait for a read that it cannot cancel, and the
    // process could not end before the next line came.
    std::thread::spawn(move || {
        for order in std::io::stdin().lines().map_while(Result::ok).filter_map(|l| Order::parse(&l))
        {
            if order == Order::Leave || give.blocking_send(order).is_err() {
                break;
            }
        }
        let _ = give.blocking_send(Order::Leave); // nobody listens: it leaves already
    });
    take
}

/// Resolves once we are told to leave; there is nothing else that we are told.
pub async fn told_to_leave() {
    let mut orders = orders();
    while let Some(order) = orders.recv().await {
        if order == Order::Leave {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_lines() {
        assert_eq!(Order::parse("leave\r"), Some(Order::Leave));
        assert_eq!(Order::parse("ask c1"), Some(Order::Ask("c1".into())));
        assert_eq!(Order::parse("ask"), None);
        assert_eq!(Order::parse("leave now"), None);
    }

    #[test]
    fn tags_are_key_and_value() {
        assert_eq!(parse_tag("role=worker"), Ok(("role".into(), "worker".into())));
        assert_eq!(parse_tag("note=a=b"), Ok(("note".into(), "a=b".into())));
        assert!(parse_tag("role").is_err());
        assert!(parse_tag("=worker").is_err());
    }
}
