//! A subscription: woken once per batch, drained by JavaScript, bounded by the core's queue.

use std::sync::Arc;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use peerage::{
    Events,
    boundary::{self, Call},
};
use tokio::sync::Notify;

use crate::{
    generated,
    inbox::{Inbox, Item},
    writer::{Batch, Writer},
};

/// Events that cross at once. What JavaScript has not taken waits in the core, whose queue is
/// bounded.
const EVENTS_MAX: usize = 512;

/// A subscription to a node's events. Dropping it ends it.
#[napi]
pub struct Subscription {
    /// Nothing once it was closed.
    events: Option<Arc<Events>>,
    /// JavaScript has taken everything and waits for more.
    drained: Arc<Notify>,
    /// Let go of with the events: it holds on to the runtime, even when it has ended.
    pump: Option<Call>,
}

#[napi]
impl Subscription {
    /// Up to a batch of events; an empty one if none waits; nothing once all were taken and none
    /// will come.
    #[napi]
    pub fn take<'env>(&self, env: &'env Env) -> napi::Result<Option<Batch<'env>>> {
        let Some(events) = &self.events else { return Ok(None) };
        let taken = events.take(EVENTS_MAX);
        if taken.is_empty() && events.ended() {
            return Ok(None);
        }
        let mut out = Writer::new(taken.len() * 16);
        for event in &taken {
            generated::write_event(&mut out, event);
        }
        out.finish(env).map(Some)
    }

    /// Asks for one wake, as soon as there is something to take or the end has come.
    #[napi]
    pub fn wait(&self) {
        self.drained.notify_one();
    }

    /// The node has ended: what is asked for comes at once.
    #[napi]
    pub fn closed(&self) -> bool {
        self.events.as_ref().is_none_or(|events| events.closed())
    }

    /// Ends the subscription.
    #[napi]
    pub fn close(&mut self) {
        self.events = None;
        if let Some(pump) = self.pump.take() {
            pump.cancel();
        }
    }
}

impl Subscription {
    pub(crate) fn new(events: Events, inbox: Arc<Inbox>, id: i64) -> Self {
        let events = Arc::new(events);
        let drained = Arc::new(Notify::new());
        let pump = {
            let (events, drained) = (events.clone(), drained.clone());
            async move {
                loop {
                    drained.notified().await;
                    let more = events.ready().await;
                    inbox.put(Item::Ready { subscription: id });
                    if !more {
                        return Ok(());
                    }
                }
            }
        };
        Self { events: Some(events), drained, pump: Some(boundary::run(pump, |_| {})) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.close();
    }
}
