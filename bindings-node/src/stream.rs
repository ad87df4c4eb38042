//! Streams, as JavaScript holds them.

use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use peerage::boundary::{Face, SharedStream};

use crate::{
    bridge::Bridge,
    cluster::NativeCluster,
    failure::{attempt, text},
    inbox::Outcome,
    read,
};

/// A stream. When it is collected, what is unfinished is given up.
#[napi]
pub struct NativeStream {
    stream: SharedStream,
}

impl NativeStream {
    pub(crate) fn new(stream: SharedStream) -> Self {
        Self { stream }
    }
}

#[napi]
impl NativeStream {
    /// Who is at the other end.
    #[napi]
    pub fn peer(&self) -> String {
        self.stream.peer().to_owned()
    }

    /// What it is about.
    #[napi]
    pub fn topic(&self) -> String {
        self.stream.topic().to_owned()
    }

    /// How many bytes were sent in all.
    #[napi]
    pub fn sent(&self) -> f64 {
        self.stream.sent() as f64
    }

    /// Sends bytes.
    #[napi]
    pub fn write(
        &self,
        bridge: &Bridge,
        call: i64,
        chunk: Unknown,
        deadline: Unknown,
    ) -> napi::Result<()> {
        let begin = || {
            let chunk = Face::NODE.payload("chunk", read::value(chunk)?)?;
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            Ok(self.stream.write(chunk, deadline))
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// Ends our direction.
    #[napi]
    pub fn finish(&self, bridge: &Bridge, call: i64, deadline: Unknown) -> napi::Result<()> {
        let begin = || {
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            Ok(self.stream.finish(deadline))
        };
        bridge.attempt(call, begin, |()| Outcome::Nothing)
    }

    /// The next bytes, or nothing at the end.
    #[napi]
    pub fn read(&self, bridge: &Bridge, call: i64, deadline: Unknown) -> napi::Result<()> {
        let begin = || {
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            Ok(self.stream.read(deadline))
        };
        bridge.attempt(call, begin, Outcome::Read)
    }

    /// Gives our direction up.
    #[napi]
    pub fn reset(&self, code: Unknown) -> napi::Result<()> {
        attempt(|| {
            let code = Face::NODE.stream_code("code", read::value(code)?)?;
            Ok(self.stream.reset(code)?)
        })
    }

    /// Tells the other side to stop sending.
    #[napi]
    pub fn stop(&self, code: Unknown) -> napi::Result<()> {
        attempt(|| {
            let code = Face::NODE.stream_code("code", read::value(code)?)?;
            Ok(self.stream.stop(code)?)
        })
    }

    /// Gives up what is unfinished.
    #[napi]
    pub fn close(&self) {
        self.stream.close();
    }
}

#[napi]
impl NativeCluster {
    /// Opens a stream to a member.
    #[napi]
    pub fn open_stream(
        &self,
        bridge: &Bridge,
        call: i64,
        target: Unknown,
        topic: Unknown,
        deadline: Unknown,
    ) -> napi::Result<()> {
        let begin = || {
            let (target, topic) = (text("target", target)?, text("topic", topic)?);
            let deadline = Face::NODE.deadline("deadline", read::value(deadline)?)?;
            let cluster = self.cluster.clone();
            Ok(async move { cluster.open_stream(&target, &topic, deadline).await })
        };
        bridge.attempt(call, begin, |stream| Outcome::Opened(SharedStream::new(stream)))
    }

    /// Hands streams for a topic to the JavaScript handler of that number.
    #[napi]
    pub fn handle_streams(
        &self,
        bridge: &Bridge,
        topic: Unknown,
        handler: i64,
    ) -> napi::Result<()> {
        attempt(|| {
            let inbox = bridge.inbox.clone();
            let topic = text("topic", topic)?;
            let to_script = move |stream| {
                let inbox = inbox.clone();
                SharedStream::serve(stream, move |stream| inbox.handle_stream(handler, stream))
            };
            Ok(self.cluster.handle_streams(&topic, to_script)?)
        })
    }

    /// Stops handling the streams of a topic.
    #[napi]
    pub fn unhandle_streams(&self, topic: Unknown) -> napi::Result<bool> {
        attempt(|| Ok(self.cluster.unhandle_streams(&text("topic", topic)?)))
    }
}
