//! Requests and messages to other members.

use std::ffi::c_void;

use peerage::boundary::Face;

use crate::{
    bytes::peerage_bytes,
    call::{Out, argument, call, peerage_status},
    cancel::{cancel_of, peerage_cancel, wait},
    cluster::{deadline, peerage_cluster},
    error::peerage_error,
    text::{peerage_slice, peerage_str},
};

/// Asks a live member and waits for its handler's answer, which is to be freed with
/// `peerage_bytes_free`. The payload is copied. The deadline covers everything, the making of a
/// link included: milliseconds, 1 to 3,600,000; `PEERAGE_DEFAULT` takes `request_timeout`. Fails
/// with UnknownMember, UnknownTopic, Handler, Timeout, Unreachable, LinkLost, PoolFull, TooLarge,
/// Busy, Cancelled, Closed, Argument; each says whether the request may have been handled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_request(
    cluster: *const peerage_cluster,
    target: peerage_str,
    topic: peerage_str,
    payload: *const c_void,
    payload_len: usize,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    answer: *mut *mut peerage_bytes,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, text and bytes that are there, and places for
    // pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(answer, "answer")?;
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let target = Face::C.text("target", target.value())?;
            let topic = Face::C.text("topic", topic.value())?;
            let payload = peerage_slice { data: payload.cast(), len: payload_len };
            let payload = Face::C.payload("payload", payload.value())?;
            let deadline = deadline(deadline_ms)?;
            let answer = wait(cancel_of(cancel), async move {
                cluster.request(&target, &topic, payload, deadline).await
            })?;
            out.give(peerage_bytes(answer));
            Ok(())
        })
    }
}

/// Sends a live member a message that its handler gets like a request, without an answer. The
/// payload is copied. Waits until the link has taken the message whole; nobody says whether it was
/// handled. While the member does not read, that waits until the deadline, which is given as for a
/// request: a short one fails rather than waits. What has not gone by then is taken back. Fails like
/// a request, except for what only an answer can say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_send(
    cluster: *const peerage_cluster,
    target: peerage_str,
    topic: peerage_str,
    payload: *const c_void,
    payload_len: usize,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, and text and bytes that are there, or NULL.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let target = Face::C.text("target", target.value())?;
            let topic = Face::C.text("topic", topic.value())?;
            let payload = peerage_slice { data: payload.cast(), len: payload_len };
            let payload = Face::C.payload("payload", payload.value())?;
            let deadline = deadline(deadline_ms)?;
            wait(cancel_of(cancel), async move {
                cluster.send(&target, &topic, payload, deadline).await
            })
        })
    }
}
