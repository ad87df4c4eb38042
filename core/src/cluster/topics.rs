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

/// The handlers by topic, of requests or of streams. The lock is held for a look-up only.
pub(super) struct Topics<H>(RwLock<HashMap<String, H>>);

impl<H> Default for Topics<H> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<H: Clone> Topics<H> {
    pub(super) fn add(&self, topic: &str, handler: H) -> Result<()> {
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
        let handler = self.0.write().remove(topic);
        handler.is_some() // dropped unlocked: it may own anything
    }

    pub(super) fn get(&self, topic: &str) -> Option<H> {
        self.0.read().get(topic).cloned()
    }

    pub(super) fn clear(&self) {
        // Handlers may own anything, a handle of this cluster included: drop them unlocked.
        let handlers = std::mem::take(&mut *self.0.write());
        drop(handlers);
    }
}
