//! What a deadline may be, and waiting no longer than that.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

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
