//! Keeps on disk what the driver knows, without ever making it wait: the newest is written, at
//! most once a second, and once more at the end.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    config::Config,
    error::{Error, FieldError, Result},
    member::{Member, NodeId},
    state::{self, Found, Kept, MEMBERS_MAX},
};

/// The pause between two writings.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the last writing may take before the node's end waits no longer.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// What the driver hands over to be kept.
#[derive(Debug)]
pub(super) struct Keeper {
    me: NodeId,
    kept: watch::Sender<Kept>,
}

impl Keeper {
    /// Notes what is to be kept, if it is something else than before.
    pub(super) fn keep(&self, members: &[Arc<Member>]) {
        let own = members.iter().find(|m| m.id == self.me);
        let Some(incarnation) = own.map(|m| m.incarnation) else { return };
        let others = |live: bool| {
            members.iter().filter(move |m| m.id != self.me && m.state.is_live() == live)
        };
        let all = others(true).chain(others(false)).take(MEMBERS_MAX);
        self.kept.send_if_modified(|kept| {
            let same = kept.incarnation == incarnation
                && all
                    .clone()
                    .map(|m| (&m.id, m.addr))
                    .eq(kept.members.iter().map(|(i, a)| (i, *a)));
            // A node that has just begun knows nobody yet: what it knew last time is worth more.
            let poorer = members.len() == 1 && !kept.members.is_empty();
            if same || (poorer && kept.incarnation == incarnation) {
                return false;
            }
            kept.incarnation = incarnation;
            if !poorer {
                kept.members = all.map(|m| (m.id.clone(), m.addr)).collect();
            }
            true
        });
    }
}

/// The task that writes. It ends after its keeper is dropped, with what was handed over last.
pub(super) struct Writer(JoinHandle<()>);

impl Writer {
    /// Waits for the last writing, for a moment.
    pub(super) async fn finish(self) {
        if timeout(LAST_WITHIN, self.0).await.is_err() {
            tracing::warn!(target: "peerage::state", "the state directory does not take the last state in time");
        }
    }
}

/// What a node has kept, and how it goes on keeping. On the blocking threads.
pub(super) async fn open(config: &Config) -> Result<Option<(Found, Keeper, Writer)>> {
    let Some(dir) = config.state_dir.clone().map(PathBuf::from) else { return Ok(None) };
    let wrong = |expected: String| {
        let value = config.state_dir.clone().unwrap_or_default();
        Error::Config(vec![FieldError { field: "state_dir".into(), value, expected }])
    };
    let reading = dir.clone();
    let found = spawn_blocking(move || state::read(&reading)).await;
    let found = found.map_err(|e| Error::Internal(format!("reading the state: {e}")))?;
    let found = found.map_err(|e| wrong(format!("must be a directory we can write to: {e}")))?;
    if let Some(kept) = &found.kept
        && (kept.cluster != config.cluster || kept.node_id != config.node_id)
    {
        return Err(wrong(format!(
            "is that of node {:?} of cluster {:?}; each node needs its own",
            kept.node_id, kept.cluster
        )));
    }
    if let Some((path, reason)) = &found.set_aside {
        tracing::warn!(target: "peerage::state", ?path, reason, "the state file is not used");
    }
    let me = NodeId::new(&config.node_id).map_err(Error::Internal)?;
    let first = found.kept.clone().unwrap_or_else(|| Kept {
        cluster: config.cluster.clone(),
        node_id: config.node_id.clone(),
        ..Kept::default()
    });
    let (sender, receiver) = watch::channel(first);
    let writer = tokio::spawn(write_all(dir, receiver));
    Ok(Some((found, Keeper { me, kept: sender }, Writer(writer))))
}

async fn write_all(dir: PathBuf, mut kept: watch::Receiver<Kept>) {
    let mut failing = false;
    while kept.changed().await.is_ok() {
        let (now, into) = (kept.borrow_and_update().clone(), dir.clone());
        let done = spawn_blocking(move || state::write(&into, &now)).await;
        let error = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic.to_string()),
        };
        // Said once, not once a second.
        if let Some(error) = error.as_ref().filter(|_| !failing) {
            tracing::warn!(target: "peerage::state", ?dir, error, "the state could not be written");
        }
        failing = error.is_some();
        let mut ended = kept.clone();
        tokio::select! {
            () = sleep(PAUSE) => {}
            // At the end nothing is waited for.
            _ = async { while ended.changed().await.is_ok() {} } => {}
        }
    }
}

#[cfg(test)]
mod tests;
