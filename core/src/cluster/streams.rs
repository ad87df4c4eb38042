//! Streams to other members, and who handles theirs.

use std::{future::Future, sync::Arc, time::Duration};

use super::{Cluster, check_topic};
use crate::{deadline, error::Result, transport::Stream};

impl Cluster {
    /// Opens a stream to a live member and waits until it has taken it. The deadline (1 ms to 1 h;
    /// `None`: [`Config::request_timeout`](crate::Config::request_timeout)) covers the opening, the
    /// making of a link included. Dropping the future cancels it on both sides.
    pub async fn open_stream(
        &self,
        target: &str,
        topic: &str,
        deadline: impl Into<Option<Duration>>,
    ) -> Result<Stream> {
        let within = deadline.into().unwrap_or(self.0.shared.request_timeout);
        check_topic(topic)?;
        deadline::check(within)?;
        let member = self.0.shared.live(target)?;
        if member.instance == self.0.shared.me.instance {
            return self.0.transport.open_stream_here(topic);
        }
        let asking = self.0.shared.measured.stream();
        let opened = self.0.transport.open_stream(&member.peer(), member.addr, topic, within).await;
        asking.over(opened.as_ref().err());
        opened
    }

    /// Handles the streams that others open for a topic (1 to 256 bytes), each in a task of its own
    /// on our runtime: do not block in it. An `Err` reaches the opener as
    /// [`Error::Handler`](crate::Error::Handler) in place of what it has not read, as does a panic.
    /// What the handler drops unfinished is given up; it may also hand the stream on and return. A
    /// topic has one handler for streams, and another one for requests; a second one is refused.
    pub fn handle_streams<F, Fut>(&self, topic: &str, handler: F) -> Result<()>
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        check_topic(topic)?;
        self.0.shared.check_open()?;
        self.0.shared.streams.add(topic, Arc::new(move |stream| Box::pin(handler(stream))))
    }

    /// Stops handling the streams of a topic; those that are open go on. Whether it was handled.
    pub fn unhandle_streams(&self, topic: &str) -> bool {
        self.0.shared.streams.remove(topic)
    }
}
