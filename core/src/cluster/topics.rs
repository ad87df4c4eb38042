//! Who handles which topic.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    error::{Error, Result},
    member::NodeId,
};

/// The most topics that one node handles.
const TOPICS_MAX: usize = 4096;

/// An inbound request or message.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks, as its link says.
    pub from: NodeId,
    /// What it is about.
    pub topic: String,
    /// What was sent.
    pub payload: Bytes,
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;
pub(super) type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// The handlers by topic. The lock is held for a look-up only.
#[derive(Default)]
pub(super) struct Topics(RwLock<HashMap<String, Handler>>);

impl Topics {
    pub(super) fn add(&self, topic: &str, handler: Handler) -> Result<()> {
        let mut topics = self.0.write();
        if topics.contains_key(topic) {
            let expected = "a topic has one handler; unhandle the present one first".into();
            return Err(Error::Argument { field: "topic", value: topic.into(), expected });
        }
        if topics.len() >= TOPICS_MAX {
            return Err(Error::Busy { what: "topics", max: TOPICS_MAX });
        }
        topics.insert(topic.into(), handler);
        Ok(())
    }

    pub(super) fn remove(&self, topic: &str) -> bool {
        self.0.write().remove(topic).is_some()
    }

    pub(super) fn get(&self, topic: &str) -> Option<Handler> {
        self.0.read().get(topic).cloned()
    }

    pub(super) fn clear(&self) {
        // Handlers may own anything, a handle of this cluster included: drop them unlocked.
        let handlers = std::mem::take(&mut *self.0.write());
        drop(handlers);
    }
}
