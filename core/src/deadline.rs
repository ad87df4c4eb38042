//! What a deadline may be, and waiting no longer than that.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::error::{Error, Result};

/// The longest time that a call may be given.
pub(crate) const MAX: Duration = Duration::from_secs(3600);

/// Refuses a deadline that is too short or too long.
pub(crate) fn check(deadline: Duration) -> Result<()> {
    if deadline < Duration::from_millis(1) || deadline > MAX {
        let expected = format!("must be 1ms to {MAX:?}");
        return Err(Error::Argument {
            field: "deadline",
            value: format!("{deadline:?}"),
            expected,
        });
    }
    Ok(())
}

/// Waits for the work, where there is a deadline at most so long. What was to be heard of the
/// target is for the error.
pub(crate) async fn within<T>(
    deadline: Option<Duration>,
    target: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = deadline else { return work.await };
    check(deadline)?;
    let late = || Error::Timeout { target: target.into(), after: deadline };
    timeout(deadline, work).await.unwrap_or_else(|_| Err(late()))
}

/// It is not done in time.
#[derive(Debug)]
pub(crate) struct Late;

/// Waits for the work, at most until then. What is done without waiting costs no timer and no look at the
/// clock: most steps of a small request are. Where it is pinned already, nothing of it is copied. It must not
/// use up what tokio lets a task do at a time, or the timer is not looked at: QUIC streams do not.
pub(crate) async fn in_time<F: Future>(
    mut work: Pin<&mut F>,
    until: impl FnOnce() -> Instant,
) -> Result<F::Output, Late> {
    let (mut timer, mut until) = (pin!(None::<Sleep>), Some(until));
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if let Some(until) = until.take() {
            timer.set(Some(sleep_until(until())));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| Err(Late)),
            None => Poll::Pending, // it was set just before
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_done_needs_no_clock_and_what_waits_ends_in_time() {
        let done = in_time(pin!(async { 7 }), || panic!("nobody waits")).await;
        assert_eq!(done.ok(), Some(7));
        let began = Instant::now();
        let until = || began + Duration::from_secs(2);
        let late = in_time(pin!(pending::<()>()), until).await;
        assert!(late.is_err());
        assert!((Duration::from_secs(2)..Duration::from_millis(2010)).contains(&began.elapsed()));
        let began = Instant::now();
        let until = || began + Duration::from_secs(2);
        let done = in_time(pin!(sleep(Duration::from_secs(1))), until).await;
        assert!(done.is_ok() && began.elapsed() < Duration::from_secs(2));
    }
}
