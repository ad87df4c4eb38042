//! A panic is caught where its cause can still be named.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
};

/// Runs a future; a panic in it becomes its message. The future is not polled again after it.
///
/// It is put on the heap, once. An `async fn` would hold what it was given twice, and a task around
/// it a third time: of a request, whose future has 2 KiB, the copying was a tenth of the CPU.
pub(crate) fn caught<F: Future>(future: F) -> impl Future<Output = Result<F::Output, String>> {
    caught_box(Box::pin(future))
}

/// The same of one that is on the heap already.
pub(crate) fn caught_box<F: Future + ?Sized>(
    mut future: Pin<Box<F>>,
) -> impl Future<Output = Result<F::Output, String>> {
    std::future::poll_fn(move |cx| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(message(payload.as_ref()))),
        }
    })
}

/// Runs a call; a panic in it becomes its message.
pub(crate) fn caught_here<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| message(payload.as_ref()))
}

/// The words of a panic.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
