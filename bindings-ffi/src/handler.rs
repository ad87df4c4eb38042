//! Handlers: callbacks on threads of our own, and answers from any thread.

use std::{ffi::c_void, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use peerage::{
    Request, Result,
    boundary::{Face, Value},
};
use tokio::sync::oneshot;

use crate::{
    call::{argument, call, free, null, peerage_status, read, wrong},
    cluster::peerage_cluster,
    error::peerage_error,
    text::{peerage_slice, peerage_str},
    threads,
};

/// A request or a message from another node (or from ourselves). It is valid during the callback,
/// and after it until the responder is freed. New fields are only ever added at the end.
#[repr(C)]
pub struct peerage_request {
    /// Who asks, as its certificate says.
    pub from: peerage_str,
    /// What it is about.
    pub topic: peerage_str,
    /// What was sent.
    pub payload: peerage_slice,
}

/// The right to answer one request. Answer with `peerage_respond` or `peerage_respond_error`,
/// during the callback or later, from any thread, and free it with `peerage_responder_free`. Freed
/// without an answer, the request fails with Handler; neither answered nor freed, it fails with
/// Timeout at the caller's deadline.
pub struct peerage_responder {
    answer: Mutex<Option<oneshot::Sender<Result<Bytes, String>>>>,
    _incoming: Arc<Incoming>,
}

/// Called for each request. It runs on one of our threads that are there for requests and messages
/// alone, many at once (at most 256 in a process; more wait for their turn): it may block, and may
/// call anything in this header. It must not unwind (no C++ exception, no longjmp). The responder
/// belongs to it; for a message the answer goes nowhere, but the responder is to be freed all the
/// same.
pub type peerage_handler = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        request: *const peerage_request,
        responder: *mut peerage_responder,
    ),
>;

/// Called once, on one of the threads for requests, when the handler is gone (unhandled, or the
/// node has ended) and its last callback has returned.
pub type peerage_destructor = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A request with its view for C.
struct Incoming {
    view: peerage_request,
    _request: Request,
}

// SAFETY: the view points into the request beside it, which never changes.
unsafe impl Send for Incoming {}
// SAFETY: as above.
unsafe impl Sync for Incoming {}

impl Incoming {
    fn new(request: Request) -> Self {
        // An id is behind an `Arc`, the others are on the heap: nothing moves with the struct.
        let view = peerage_request {
            from: peerage_str::of(request.from.as_str()),
            topic: peerage_str::of(&request.topic),
            payload: peerage_slice::of(&request.payload),
        };
        Self { view, _request: request }
    }
}

/// What a handler was registered with; the last holder ends it.
pub(crate) struct Registration<C> {
    pub(crate) callback: C,
    user_data: UserData,
    /// Taken away when the registration fails: the caller keeps its data then.
    destructor: Mutex<peerage_destructor>,
}

type Callback = unsafe extern "C" fn(*mut c_void, *const peerage_request, *mut peerage_responder);

#[derive(Clone, Copy)]
struct UserData(*mut c_void);

// SAFETY: the header says that callbacks come from many threads at once; the pointer is never
// followed here.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl<C> Registration<C> {
    pub(crate) fn new(
        callback: C,
        user_data: *mut c_void,
        destructor: peerage_destructor,
    ) -> Arc<Self> {
        let destructor = Mutex::new(destructor);
        Arc::new(Self { callback, user_data: UserData(user_data), destructor })
    }

    pub(crate) fn user_data(&self) -> *mut c_void {
        self.user_data.0
    }

    /// The caller keeps its data.
    pub(crate) fn forget(&self) {
        self.destructor.lock().take();
    }
}

impl<C> Drop for Registration<C> {
    fn drop(&mut self) {
        let Some(destructor) = self.destructor.get_mut().take() else { return };
        let user_data = self.user_data;
        threads::REQUESTS.run(move || {
            let UserData(user_data) = { user_data };
            // SAFETY: the header demands a function that takes this pointer.
            unsafe { destructor(user_data) };
        });
    }
}

/// Has the callback run, and waits for the answer wherever it comes from.
async fn answer(
    registration: Arc<Registration<Callback>>,
    request: Request,
) -> Result<Bytes, String> {
    let (answer, wait) = oneshot::channel();
    // Taken back when the caller goes before a thread was free.
    let _waiting = threads::REQUESTS.run_unless_dropped(move || {
        let incoming = Arc::new(Incoming::new(request));
        let responder = Box::new(peerage_responder {
            answer: Mutex::new(Some(answer)),
            _incoming: incoming.clone(),
        });
        let (callback, user_data) = (registration.callback, registration.user_data());
        // SAFETY: the header demands a function that takes these; the request lives as long as
        // `incoming` here and in the responder, which now belongs to the callback.
        unsafe { callback(user_data, &incoming.view, Box::into_raw(responder)) };
    });
    wait.await.unwrap_or_else(|_| Err("the handler gave no answer".into()))
}

/// Handles requests and messages for a topic (1 to 256 bytes) by the callback. A topic has one
/// handler; a second one is refused. `destructor` may be NULL; when this call fails it is not
/// called. Never waits; any thread. Fails with Argument, Busy (4096 topics), Closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_handle(
    cluster: *const peerage_cluster,
    topic: peerage_str,
    handler: peerage_handler,
    user_data: *mut c_void,
    destructor: peerage_destructor,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, and text that is there, or NULL.
    unsafe {
        call(error, || {
            let cluster = &argument(cluster, "cluster")?.cluster;
            let topic = Face::C.text("topic", topic.value())?;
            let callback = handler.ok_or_else(|| null("handler"))?;
            let registration = Registration::new(callback, user_data, destructor);
            let shared = registration.clone();
            let handled = cluster.handle(&topic, move |request| answer(shared.clone(), request));
            if handled.is_err() {
                registration.forget();
            }
            handled
        })
    }
}

/// Stops handling a topic; callbacks under way go on and may answer. `was_handled` says whether
/// there was a handler; it may be NULL. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_unhandle(
    cluster: *const peerage_cluster,
    topic: peerage_str,
    was_handled: *mut bool,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, text that is there, and a place, or NULL.
    unsafe {
        call(error, || {
            let cluster = &argument(cluster, "cluster")?.cluster;
            let topic = Face::C.text("topic", topic.value())?;
            let was = cluster.unhandle(&topic);
            if !was_handled.is_null() {
                was_handled.write(was);
            }
            Ok(())
        })
    }
}

/// Answers a request; the payload is copied. That the caller has gone meanwhile is no error. Never
/// waits; any thread. Fails with Argument, also when it was answered before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_respond(
    responder: *mut peerage_responder,
    payload: *const c_void,
    payload_len: usize,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living responder or NULL, and bytes that are there.
    unsafe {
        call(error, || {
            let responder = argument(responder, "responder")?;
            let payload = peerage_slice { data: payload.cast(), len: payload_len };
            respond(responder, Ok(Face::C.payload("payload", payload.value())?))
        })
    }
}

/// Answers a request with a failure: its caller gets Handler with this message, of which nothing
/// at all stands for an empty one. Otherwise like `peerage_respond`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_respond_error(
    responder: *mut peerage_responder,
    message: peerage_str,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living responder or NULL, and text that is there.
    unsafe {
        call(error, || {
            let responder = argument(responder, "responder")?;
            let message = match message.value() {
                Value::Null => String::new(),
                given => Face::C.text("message", given)?,
            };
            respond(responder, Err(message))
        })
    }
}

/// Whether somebody still waits for the answer: false once it was given, or the caller cancelled,
/// or its deadline passed. Never waits; any thread. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_responder_is_awaited(responder: *const peerage_responder) -> bool {
    read(false, || {
        // SAFETY: the header demands a living responder or NULL.
        let Some(responder) = (unsafe { responder.as_ref() }) else { return false };
        responder.answer.lock().as_ref().is_some_and(|answer| !answer.is_closed())
    })
}

/// Frees a responder and its request; without an answer the request fails. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_responder_free(responder: *mut peerage_responder) {
    // SAFETY: the header demands a responder that was not freed, or NULL.
    unsafe { free(responder) };
}

fn respond(responder: &peerage_responder, outcome: Result<Bytes, String>) -> Result<()> {
    let Some(answer) = responder.answer.lock().take() else {
        return Err(wrong("responder", "answered", "must be answered once"));
    };
    // Whoever asked may have gone; there is nobody to tell then.
    let _ = answer.send(outcome);
    Ok(())
}
