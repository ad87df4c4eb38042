//! The one way between a JavaScript environment (the main thread's, or a worker's) and the core.

use std::{collections::HashMap, mem, sync::Arc};

use napi::{
    bindgen_prelude::{Env, Function, Unknown},
    sys,
};
use napi_derive::napi;
use parking_lot::Mutex;
use peerage::{
    Cluster,
    boundary::{self, Call, Face, Gate, SharedStream, Value},
};

use crate::{
    cluster::NativeCluster,
    failure::{Fault, attempt, to_json},
    generated,
    inbox::{Asked, Inbox, Item, Outcome},
    read,
    stream::NativeStream,
    writer::{Batch, Writer},
};

/// Items that cross at once: enough to make the crossing cheap, few enough for other work of the
/// JavaScript loop to have its turn.
const ITEMS_MAX: usize = 256;

/// What all clusters of one JavaScript environment share. It goes with that environment.
#[napi]
pub struct Bridge {
    pub(crate) inbox: Arc<Inbox>,
    /// Calls under way, to cancel them.
    calls: Arc<Mutex<HashMap<i64, Call>>>,
    /// Clusters that have started and that JavaScript has not fetched yet.
    started: Mutex<HashMap<i64, (Cluster, Gate)>>,
    /// Likewise streams: that this call has opened, or that this request brought.
    streams: Mutex<HashMap<(Origin, i64), SharedStream>>,
}

/// Whose number it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    Call,
    Request,
}

#[napi]
impl Bridge {
    /// `wake` is called, at most once at a time, when there is something to drain.
    #[napi(constructor)]
    pub fn new(wake: Function<(), ()>) -> napi::Result<Self> {
        let wake = wake
            .build_threadsafe_function()
            .callee_handled::<false>()
            .weak::<true>()
            .max_queue_size::<1>()
            .build()?;
        Ok(Self {
            inbox: Inbox::new(wake),
            calls: Arc::default(),
            started: Mutex::default(),
            streams: Mutex::default(),
        })
    }

    /// From here on the event loop goes on as long as this environment lives.
    #[napi(js_name = "ref")]
    pub fn keep_alive(&self, env: Env) {
        let wake = self.inbox.wake_function();
        wake.handle.with_read_aborted(|aborted| {
            if !aborted {
                // SAFETY: we are on the thread of `env`, which made this function, and it was not
                // released, since it is not aborted and we hold the lock that aborting takes.
                unsafe { sys::napi_ref_threadsafe_function(env.raw(), wake.raw()) };
            }
        });
    }

    /// From here on the event loop ends when nothing else is left.
    #[napi]
    pub fn unref(&self, env: Env) {
        let wake = self.inbox.wake_function();
        wake.handle.with_read_aborted(|aborted| {
            if !aborted {
                // SAFETY: as in `keep_alive`.
                unsafe { sys::napi_unref_threadsafe_function(env.raw(), wake.raw()) };
            }
        });
    }

    /// What waits for JavaScript: a number for the kind of each item, then what it says.
    #[napi]
    pub fn drain<'env>(&self, env: &'env Env) -> napi::Result<Batch<'env>> {
        let mut items = self.inbox.take(ITEMS_MAX);
        // First whatever resolves a promise: what the program's handlers abort then comes too late,
        // and not between an outcome and its delivery.
        items.sort_by_key(|item| !matches!(item, Item::Done { .. }));
        for item in &mut items {
            if let Item::Request { id, request: Asked::Stream(stream), .. } = item {
                self.streams.lock().insert((Origin::Request, *id), stream.clone());
            }
            let Item::Done { call, outcome } = item else { continue };
            let cancelled = self.calls.lock().remove(call).is_none();
            match mem::replace(outcome, Outcome::Nothing) {
                // Nobody waits for it any more: dropped, it is the next read's.
                Outcome::Read(_) if cancelled => {}
                Outcome::Read(chunk) => {
                    *outcome = chunk.take().map_or(Outcome::Nothing, Outcome::Answer);
                }
                Outcome::Opened(stream) => {
                    self.streams.lock().insert((Origin::Call, *call), stream.clone());
                    *outcome = Outcome::Opened(stream);
                }
                Outcome::Started(cluster, gate) => {
                    self.started.lock().insert(*call, (cluster, gate));
                }
                other => *outcome = other,
            }
        }
        let mut out = Writer::new(items.len() * 8);
        items.iter().for_each(|item| write(&mut out, item));
        out.finish(env)
    }

    /// Whether something waits for JavaScript that this handler is to deal with.
    #[napi]
    pub fn waits(&self, handler: i64) -> bool {
        self.inbox.waits(handler)
    }

    /// Starts a node.
    #[napi]
    pub fn start(&self, call: i64, config: Unknown) -> napi::Result<()> {
        attempt(|| {
            let given = match read::value(config)? {
                Value::Null => Vec::new(),
                Value::Map(fields) => fields,
                other => vec![("config".into(), other)],
            };
            let config = Face::NODE.config(given)?;
            self.run(call, boundary::start(config), |(cluster, gate)| {
                Outcome::Started(cluster, gate)
            });
            Ok(())
        })
    }

    /// The cluster that a call has started, once; nothing if the environment was faster to go.
    #[napi]
    pub fn started(&self, call: i64) -> Option<NativeCluster> {
        let (cluster, gate) = self.started.lock().remove(&call)?;
        // Not the future's outcome but its end is of interest: the reason is in `closed`.
        let (ended, inbox) = (cluster.ended(), self.inbox.clone());
        boundary::run(
            async move {
                let _ = ended.await;
                Ok(())
            },
            move |_| inbox.put(Item::Ended { cluster: call }),
        );
        let (mut questions, inbox) = (cluster.loop_questions(), self.inbox.clone());
        boundary::run(
            async move {
                while let Some(question) = questions.next().await {
                    inbox.put(Item::Question { cluster: call, question });
                }
                Ok(())
            },
            |_| {},
        );
        Some(NativeCluster { cluster, gate: Some(gate) })
    }

    /// The stream that a call has opened, once.
    #[napi]
    pub fn opened(&self, call: i64) -> Option<NativeStream> {
        self.streams.lock().remove(&(Origin::Call, call)).map(NativeStream::new)
    }

    /// The stream that a request brought, once.
    #[napi]
    pub fn brought(&self, request: i64) -> Option<NativeStream> {
        self.streams.lock().remove(&(Origin::Request, request)).map(NativeStream::new)
    }

    /// Ends a call where it stands, on the other node too. It has no outcome then.
    #[napi]
    pub fn cancel(&self, call: i64) {
        let call = self.calls.lock().remove(&call);
        if let Some(call) = call {
            call.cancel();
        }
    }

    /// A handler's answer.
    #[napi]
    pub fn answer(&self, request: i64, answer: Unknown) -> napi::Result<()> {
        attempt(|| {
            let answer = Face::NODE.payload("answer", read::value(answer)?);
            self.inbox.answer(request, answer.map_err(|error| error.to_string()));
            Ok(())
        })
    }

    /// A handler threw or rejected.
    #[napi]
    pub fn refuse(&self, request: i64, message: String) {
        self.inbox.answer(request, Err(message));
    }
}

impl Bridge {
    /// Runs a future on the core's runtime; its outcome is drained by JavaScript.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        call: i64,
        work: impl Future<Output = peerage::Result<T>> + Send + 'static,
        outcome: impl FnOnce(T) -> Outcome + Send + 'static,
    ) {
        let inbox = self.inbox.clone();
        let running = boundary::run(work, move |result| {
            let outcome = result.map_or_else(|e| Outcome::Failed(to_json(&e)), outcome);
            inbox.put(Item::Done { call, outcome });
        });
        // It is drained, and removed, on this thread and therefore later.
        self.calls.lock().insert(call, running);
    }

    /// As [`Bridge::run`], with a part before it that may refuse.
    pub(crate) fn attempt<T, F>(
        &self,
        call: i64,
        begin: impl FnOnce() -> Result<F, Fault>,
        outcome: impl FnOnce(T) -> Outcome + Send + 'static,
    ) -> napi::Result<()>
    where
        T: Send + 'static,
        F: Future<Output = peerage::Result<T>> + Send + 'static,
    {
        attempt(|| {
            self.run(call, begin()?, outcome);
            Ok(())
        })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.inbox.close();
        for (_, call) in self.calls.lock().drain() {
            call.cancel();
        }
    }
}

/// The kinds of items as `ts/bridge.ts` knows them.
fn write<'a>(out: &mut Writer<'a>, item: &'a Item) {
    let head = |out: &mut Writer<'a>, kind: u8, id: i64| {
        out.count(f64::from(kind));
        out.count(id as f64);
    };
    match item {
        Item::Done { call, outcome } => match outcome {
            Outcome::Nothing | Outcome::Started(..) | Outcome::Read(_) => head(out, 0, *call),
            Outcome::Answer(bytes) => {
                head(out, 1, *call);
                out.bytes(bytes);
            }
            Outcome::Left(report) => {
                head(out, 2, *call);
                generated::write_leave_report(out, report);
            }
            Outcome::Failed(error) => {
                head(out, 3, *call);
                out.text(error);
            }
            Outcome::Flag(value) => {
                head(out, 7, *call);
                out.flag(*value);
            }
            Outcome::Opened(_) => head(out, 10, *call),
            Outcome::Explained(found) => {
                head(out, 8, *call);
                out.list(found.as_slice(), generated::write_explanation);
            }
        },
        Item::Request { id, handler, request: Asked::Stream(_) } => {
            head(out, 11, *id);
            out.count(*handler as f64);
        }
        Item::Request { id, handler, request: Asked::Request(request) } => {
            head(out, 4, *id);
            out.count(*handler as f64);
            out.text(request.from.as_str());
            out.text(&request.topic);
            out.bytes(&request.payload);
        }
        Item::Ready { subscription } => head(out, 5, *subscription),
        Item::Ended { cluster } => head(out, 6, *cluster),
        Item::Question { cluster, question } => {
            head(out, 9, *cluster);
            out.count(*question as f64);
        }
    }
}
