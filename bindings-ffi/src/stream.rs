//! Streams: both directions at once, each ended on its own.

use std::{ffi::c_void, sync::Arc};

use parking_lot::Mutex;
use peerage::{
    Result,
    boundary::{Face, SharedStream, Value},
};
use tokio::sync::oneshot;

use crate::{
    bytes::peerage_bytes,
    call::{Out, argument, call, free, null, peerage_status, read, wrong},
    cancel::{cancel_of, peerage_cancel, wait},
    cluster::{deadline, peerage_cluster},
    error::peerage_error,
    handler::{Registration, peerage_destructor},
    text::{peerage_slice, peerage_str},
    threads,
};

/// A stream to another node, or from one. What one side writes, the other reads in order and whole,
/// in chunks of any size. A direction ends cleanly with `peerage_stream_finish`; what is unfinished
/// when the stream is freed is given up, and the other side gets StreamReset instead of an end.
/// Every function may be called on it from any number of threads at once, except
/// `peerage_stream_free`, which must be the last: calls take effect in the order in which they were
/// made, and the two directions do not wait for one another.
pub struct peerage_stream {
    stream: SharedStream,
    /// Where another node opened it: its handler is done when this goes.
    handled: Mutex<Option<oneshot::Sender<Result<(), String>>>>,
}

impl Drop for peerage_stream {
    fn drop(&mut self) {
        self.stream.close(); // now, not when the runtime comes to it
    }
}

/// Called for each stream that another node opens. It runs on one of our threads that are there for
/// streams alone, many at once (at most 4,096 in a process; more wait for their turn): it may block
/// for as long as its peer does, and may call anything in this header. It must not unwind (no C++
/// exception, no longjmp). The stream belongs to it, and is to be freed with `peerage_stream_free`,
/// then or later, on any thread.
pub type peerage_stream_handler =
    Option<unsafe extern "C" fn(user_data: *mut c_void, stream: *mut peerage_stream)>;

type Callback = unsafe extern "C" fn(*mut c_void, *mut peerage_stream);

/// Opens a stream to a live member, and waits until that has taken it. The deadline is for the
/// opening, the making of a link included: milliseconds, 1 to 3,600,000; `PEERAGE_DEFAULT` takes
/// `request_timeout`. Fails with UnknownMember, UnknownTopic, Timeout, Unreachable, LinkLost,
/// PoolFull, Busy, Cancelled, Closed, Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_open_stream(
    cluster: *const peerage_cluster,
    target: peerage_str,
    topic: peerage_str,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    stream: *mut *mut peerage_stream,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, text that is there, and places for pointers, or
    // NULL.
    unsafe {
        call(error, || {
            let out = Out::new(stream, "stream")?;
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let target = Face::C.text("target", target.value())?;
            let topic = Face::C.text("topic", topic.value())?;
            let deadline = deadline(deadline_ms)?;
            let stream = wait(cancel_of(cancel), async move {
                cluster.open_stream(&target, &topic, deadline).await
            })?;
            let stream = SharedStream::new(stream);
            out.give(peerage_stream { stream, handled: Mutex::new(None) });
            Ok(())
        })
    }
}

/// Who is at the other end. It belongs to the stream; nothing for NULL. Never waits; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_peer(stream: *const peerage_stream) -> peerage_str {
    // SAFETY: the header demands a living handle or NULL.
    let stream = unsafe { stream.as_ref() };
    read(peerage_str::NONE, || {
        stream.map_or(peerage_str::NONE, |stream| peerage_str::of(stream.stream.peer()))
    })
}

/// What it is about. It belongs to the stream; nothing for NULL. Never waits; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_topic(stream: *const peerage_stream) -> peerage_str {
    // SAFETY: the header demands a living handle or NULL.
    let stream = unsafe { stream.as_ref() };
    read(peerage_str::NONE, || {
        stream.map_or(peerage_str::NONE, |stream| peerage_str::of(stream.stream.topic()))
    })
}

/// How many bytes were sent in all, by writes that failed as well; 0 for NULL. Never waits; any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_sent(stream: *const peerage_stream) -> u64 {
    // SAFETY: the header demands a living handle or NULL.
    read(0, || unsafe { stream.as_ref() }.map_or(0, |stream| stream.stream.sent()))
}

/// Sends all these bytes, of which a copy is made. Waits until the last are on their way, which they
/// are not while the other side does not read; milliseconds, 1 to 3,600,000, or `PEERAGE_FOREVER`:
/// for as long as the link lives. Fails with Timeout and Cancelled (the stream stays open, and
/// `peerage_stream_sent` says how far it came), StreamReset, Handler, LinkLost, Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_write(
    stream: *const peerage_stream,
    bytes: *const c_void,
    bytes_len: usize,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, and bytes that are there, or NULL.
    unsafe {
        call(error, || {
            let stream = argument(stream, "stream")?;
            let bytes = peerage_slice { data: bytes.cast(), len: bytes_len };
            let bytes = Face::C.payload("bytes", bytes.value())?;
            wait(cancel_of(cancel), stream.stream.write(bytes, deadline(deadline_ms)?))
        })
    }
}

/// Ends our direction; the other side reads what was sent and then the end. Waits until its node has
/// all of it, be it read there or not. Deadline and errors are those of a write; what was finished
/// stays so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_finish(
    stream: *const peerage_stream,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, and a place for a pointer, or NULL.
    unsafe {
        call(error, || {
            let stream = argument(stream, "stream")?;
            wait(cancel_of(cancel), stream.stream.finish(deadline(deadline_ms)?))
        })
    }
}

/// The next bytes, none of them empty, to be freed with `peerage_bytes_free`; NULL once the other
/// side has finished and all was read. Deadline and errors are those of a write; a call that ends at
/// its deadline, or is cancelled, has lost nothing: the next one has it. After StreamReset, Handler
/// and LinkLost nothing more comes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_read(
    stream: *const peerage_stream,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    bytes: *mut *mut peerage_bytes,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(bytes, "bytes")?;
            let stream = argument(stream, "stream")?;
            let chunk = wait(cancel_of(cancel), stream.stream.read(deadline(deadline_ms)?))?;
            if let Some(chunk) = chunk.take() {
                out.give(peerage_bytes(chunk));
            }
            Ok(())
        })
    }
}

/// Gives our direction up: the other side gets StreamReset with this code, 0 to 2,147,483,647, and
/// what it has not read is lost. A write under way on another thread fails with Cancelled. Never
/// waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_reset(
    stream: *const peerage_stream,
    code: u32,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a place for a pointer or NULL.
    unsafe { call(error, || argument(stream, "stream")?.stream.reset(code)) }
}

/// Tells the other side to stop sending: its writing fails with StreamReset and this code, 0 to
/// 2,147,483,647. What was not read is lost. A read under way on another thread fails with
/// Cancelled. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_stop(
    stream: *const peerage_stream,
    code: u32,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a place for a pointer or NULL.
    unsafe { call(error, || argument(stream, "stream")?.stream.stop(code)) }
}

/// For a handler: says that it failed. Its opener gets Handler with this message, of which nothing
/// at all stands for an empty one. The stream is closed soon after, and still to be freed. Never waits; any
/// thread. Fails with Argument, also where we opened the stream, or said so before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_fail(
    stream: *const peerage_stream,
    message: peerage_str,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and text that is there.
    unsafe {
        call(error, || {
            let stream = argument(stream, "stream")?;
            let message = match message.value() {
                Value::Null => String::new(),
                given => Face::C.text("message", given)?,
            };
            let Some(handled) = stream.handled.lock().take() else {
                return Err(wrong("stream", "not handled", "must be a handler's, and not failed"));
            };
            // Its node may have ended; there is nobody to tell then.
            let _ = handled.send(Err(message));
            Ok(())
        })
    }
}

/// Frees a stream; what is unfinished is given up. No call on it may be under way: end those that are
/// by `peerage_stream_reset` and `peerage_stream_stop`, or by their cancel, and wait for their threads.
/// NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_stream_free(stream: *mut peerage_stream) {
    // SAFETY: the header demands a stream that was not freed, or NULL.
    unsafe { free(stream) };
}

/// Handles the streams that other nodes open for a topic (1 to 256 bytes) by the callback. A topic
/// has one handler for streams, and another one for requests; a second one is refused.
/// `destructor` may be NULL; when this call fails it is not called. Never waits; any thread. Fails
/// with Argument, Busy (4096 topics), Closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_handle_streams(
    cluster: *const peerage_cluster,
    topic: peerage_str,
    handler: peerage_stream_handler,
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
            let handled = cluster.handle_streams(&topic, move |stream| {
                let registration = shared.clone();
                SharedStream::serve(stream, move |stream| take(registration, stream))
            });
            if handled.is_err() {
                registration.forget();
            }
            handled
        })
    }
}

/// Stops handling the streams of a topic; those that are open go on. `was_handled` says whether
/// there was a handler; it may be NULL. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_unhandle_streams(
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
            let was = cluster.unhandle_streams(&topic);
            if !was_handled.is_null() {
                was_handled.write(was);
            }
            Ok(())
        })
    }
}

/// Has the callback run, and waits until the stream is freed, or failed.
async fn take(
    registration: Arc<Registration<Callback>>,
    stream: SharedStream,
) -> Result<(), String> {
    let (handled, wait) = oneshot::channel();
    // Taken back when the node ends before a thread was free.
    let _waiting = threads::STREAMS.run_unless_dropped(move || {
        let handled = Mutex::new(Some(handled));
        let stream = Box::into_raw(Box::new(peerage_stream { stream, handled }));
        // SAFETY: the header demands a function that takes these; the stream now belongs to it.
        unsafe { (registration.callback)(registration.user_data(), stream) };
    });
    wait.await.unwrap_or(Ok(()))
}
