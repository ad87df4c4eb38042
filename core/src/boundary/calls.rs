//! Calls that run on our own runtime and end in a callback, for languages without a tokio.

use std::future::Future;

use crate::{
    cluster::Runtime,
    error::{Error, Result},
    panics::{caught, caught_here},
};

/// A call under way. Dropping it changes nothing; [`Call::cancel`] ends it.
#[derive(Clone, Debug)]
pub struct Call(Option<tokio::task::AbortHandle>);

impl Call {
    /// Ends the call where it stands: what it held is released, on the other node too. `done` is
    /// dropped without having been called, unless the call had ended already.
    pub fn cancel(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Runs a future on the library's one runtime and hands its outcome to `done`, there too and once.
/// A panic in it is an outcome as well. The runtime lives at least until then.
pub fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
    done: impl FnOnce(Result<T>) + Send + 'static,
) -> Call {
    let runtime = match Runtime::shared() {
        Ok(runtime) => runtime,
        Err(error) => {
            done(Err(error));
            return Call(None);
        }
    };
    let handle = runtime.handle();
    let task = handle.spawn(async move {
        done(caught(work).await.unwrap_or_else(|panic| Err(Error::Panic(panic))));
        drop(runtime);
    });
    Call(Some(task.abort_handle()))
}

/// Makes a call from another language: a panic of ours ends here, as an error.
pub fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    caught_here(call).unwrap_or_else(|panic| Err(Error::Panic(panic)))
}
