//! What waits for JavaScript: outcomes of calls, requests from peers, subscriptions that have
//! events, nodes that have ended. Any thread puts in and wakes JavaScript once; JavaScript then
//! takes everything out in batches.
//!
//! Everything in it is bounded by something else: outcomes by the calls that JavaScript has under
//! way, requests and streams by the core's `requests_max` and `streams_max` (a request whose caller has
//! gone is taken out again; a stream stays, and is handled to its end), the rest by the number of subscriptions and nodes: the core asks a node's loop the next question
//! when the last was answered.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use napi::{
    Status,
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode},
};
use parking_lot::Mutex;
use peerage::{
    Cluster, Explanation, LeaveReport, Request,
    boundary::{Chunk, Gate, SharedStream},
};
use tokio::sync::oneshot;

/// Never keeps the process alive by itself, never holds more than one call.
pub(crate) type Wake = ThreadsafeFunction<(), (), (), Status, false, true, 1>;

/// How a call that JavaScript waits for has ended.
pub(crate) enum Outcome {
    Nothing,
    Flag(bool),
    Answer(Bytes),
    Read(Chunk),
    /// A list with one, or none.
    Explained(Option<Explanation>),
    Left(Arc<LeaveReport>),
    Started(Cluster, Gate),
    Opened(SharedStream),
    /// The error as JSON.
    Failed(String),
}

/// Something for JavaScript.
pub(crate) enum Item {
    Done {
        call: i64,
        outcome: Outcome,
    },
    Request {
        id: i64,
        handler: i64,
        request: Asked,
    },
    Ready {
        subscription: i64,
    },
    Ended {
        cluster: i64,
    },
    /// Whether the JavaScript loop responds.
    Question {
        cluster: i64,
        question: u64,
    },
}

/// What a handler is to deal with.
pub(crate) enum Asked {
    Request(Request),
    Stream(SharedStream),
}

/// What a handler said.
pub(crate) type Answer = Result<Bytes, String>;

pub(crate) struct Inbox {
    state: Mutex<State>,
    /// A call of `wake` is on its way; nobody needs another.
    woken: AtomicBool,
    wake: Wake,
}

#[derive(Default)]
struct State {
    /// The JavaScript environment is gone: nothing is taken in any more.
    closed: bool,
    items: VecDeque<Item>,
    next_request: i64,
    /// Requests that are with JavaScript or on their way to it.
    answers: BTreeMap<i64, oneshot::Sender<Answer>>,
    /// Those that JavaScript has not taken yet, in their order.
    requests: BTreeMap<i64, (i64, Asked)>,
}

impl Inbox {
    pub(crate) fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), woken: AtomicBool::new(false), wake })
    }

    pub(crate) fn wake_function(&self) -> &Wake {
        &self.wake
    }

    pub(crate) fn put(&self, item: Item) {
        {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            state.items.push_back(item);
        }
        self.wake();
    }

    /// Hands a request to a JavaScript handler and waits for its answer.
    pub(crate) async fn handle(self: Arc<Self>, handler: i64, request: Request) -> Answer {
        self.ask(handler, Asked::Request(request)).await
    }

    /// Hands a stream to a JavaScript handler and waits until that is done with it.
    pub(crate) async fn handle_stream(
        self: Arc<Self>,
        handler: i64,
        stream: SharedStream,
    ) -> Result<(), String> {
        self.ask(handler, Asked::Stream(stream)).await.map(drop)
    }

    async fn ask(&self, handler: i64, request: Asked) -> Answer {
        const GONE: &str = "the handler's JavaScript environment has ended";
        let (answer, wait) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(GONE.into());
            }
            let id = state.next_request;
            state.next_request += 1;
            state.answers.insert(id, answer);
            state.requests.insert(id, (handler, request));
            id
        };
        self.wake();
        let _ticket = Ticket { inbox: self, id };
        wait.await.unwrap_or_else(|_| Err(GONE.into()))
    }

    /// What a handler said; whoever asked may have gone.
    pub(crate) fn answer(&self, id: i64, answer: Answer) {
        let waiting = self.state.lock().answers.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Whether a request that this handler is to deal with was not taken yet.
    pub(crate) fn waits(&self, handler: i64) -> bool {
        self.state.lock().requests.values().any(|(of, _)| *of == handler)
    }

    /// Up to `max` items; wakes JavaScript again if there are more.
    pub(crate) fn take(&self, max: usize) -> Vec<Item> {
        // Before looking: what is put in from here on wakes anew.
        self.woken.store(false, Ordering::SeqCst);
        let mut state = self.state.lock();
        let mut taken: Vec<_> = {
            let count = state.items.len().min(max);
            state.items.drain(..count).collect()
        };
        while taken.len() < max {
            let Some((id, (handler, request))) = state.requests.pop_first() else { break };
            taken.push(Item::Request { id, handler, request });
        }
        let more = !state.items.is_empty() || !state.requests.is_empty();
        drop(state);
        if more {
            self.wake();
        }
        taken
    }

    /// The JavaScript environment goes: whatever waits for it gets to know.
    pub(crate) fn close(&self) {
        let gone =
            mem::replace(&mut *self.state.lock(), State { closed: true, ..State::default() });
        drop(gone); // unlocked: it may hold the last handle of a cluster
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            // It fails only when the environment is going down, and then nobody is left to wake.
            let _ = self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// A request that somebody waits for; without it, the answer is not wanted.
struct Ticket<'a> {
    inbox: &'a Inbox,
    id: i64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.state.lock();
        let answer = state.answers.remove(&self.id);
        let request = state.requests.remove(&self.id);
        drop(state);
        drop((answer, request));
    }
}
