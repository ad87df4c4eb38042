//! Questions to a program's own loop, which C does not know: the program passes them on.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use peerage::{Cluster, Error, Result, boundary::run};
use tokio::sync::Notify;

use crate::{
    call::{PEERAGE_FOREVER, argument, call, null, peerage_status},
    cancel::{Cancel, cancel_of, peerage_cancel, wait},
    cluster::peerage_cluster,
    error::peerage_error,
};

/// The questions that the program has not fetched yet: at most one, since the next comes when the
/// last was answered. Nobody asks before the program has first looked for one.
#[derive(Default)]
pub(crate) struct Questions(Mutex<Option<Arc<Slot>>>);

impl Questions {
    fn of(&self, cluster: &Cluster) -> Arc<Slot> {
        let begin = || {
            let slot = Arc::new(Slot::default());
            let mut questions = cluster.loop_questions();
            let giver = Giver(Arc::downgrade(&slot));
            let pump = async move {
                while let Some(question) = questions.next().await {
                    // While it waits there, the core counts the time.
                    let Some(slot) = giver.0.upgrade() else { break }; // the handle was freed
                    slot.put(question);
                }
                Ok(())
            };
            run(pump, |_| {});
            slot
        };
        self.0.lock().get_or_insert_with(begin).clone()
    }
}

/// Where a question waits to be fetched.
#[derive(Default)]
struct Slot {
    held: Mutex<Held>,
    /// Told whenever `held` changes.
    changed: Notify,
}

#[derive(Default)]
struct Held {
    question: Option<u64>,
    /// None will come any more.
    ended: bool,
}

/// The pump's end of a slot: however the pump ends, nobody waits any longer.
struct Giver(Weak<Slot>);

impl Drop for Giver {
    fn drop(&mut self) {
        if let Some(slot) = self.0.upgrade() {
            slot.end();
        }
    }
}

impl Slot {
    /// One that was not fetched gives way: it was answered, or no other would come.
    fn put(&self, question: u64) {
        self.held.lock().question = Some(question);
        // Each is given to one, and whoever is told but gives up tells the next.
        self.changed.notify_one();
    }

    fn end(&self) {
        self.held.lock().ended = true;
        self.changed.notify_waiters();
    }

    /// The next question, or nothing once none will come any more.
    async fn take(&self) -> Option<u64> {
        loop {
            // From here on, before the look, no change is missed.
            let changed = self.changed.notified();
            {
                let mut held = self.held.lock();
                if held.question.is_some() || held.ended {
                    return held.question.take();
                }
            }
            changed.await;
        }
    }
}

/// The next question, or nothing if the time passes first.
fn fetch(
    slot: Arc<Slot>,
    timeout: Option<Duration>,
    cancel: Option<Arc<Cancel>>,
) -> Result<Option<u64>> {
    wait(cancel, async move {
        let next = slot.take();
        let question = match timeout {
            None => next.await,
            Some(timeout) => match tokio::time::timeout(timeout, next).await {
                Ok(question) => question,
                Err(_) => return Ok(None),
            },
        };
        question.map(Some).ok_or_else(|| Error::Closed("the node has ended".into()))
    })
}

/// For a program with a loop of its own (an event loop, a game loop) that wants the others to know
/// when that loop hangs: waits for the next question to the loop. Pass it to the loop, and let the
/// loop give it to `peerage_cluster_loop_answer`; or call both in the loop itself, with 0 for the
/// time-out. While a question is left unanswered for `unresponsive_after`, the others see this
/// member as unresponsive: it is alive, and nobody suspects it. Nobody asks before the first call;
/// a program that never calls this counts as responsive.
///
/// `timeout_ms`: milliseconds, 0 does not wait, `PEERAGE_FOREVER` waits until there is one. When
/// the time passes it is `PEERAGE_OK` and `question` is 0, which no question is. Each question is
/// given once, to one thread. Fails with Closed once the node has ended; Cancelled; Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_loop_question(
    cluster: *const peerage_cluster,
    timeout_ms: u64,
    cancel: *const peerage_cancel,
    question: *mut u64,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, a place for a number, and one for a
    // pointer or NULL.
    unsafe {
        call(error, || {
            if question.is_null() {
                return Err(null("question"));
            }
            question.write(0);
            let cluster = argument(cluster, "cluster")?;
            let timeout = match timeout_ms {
                PEERAGE_FOREVER => None,
                given => Some(Duration::from_millis(given)),
            };
            let slot = cluster.questions.of(&cluster.cluster);
            question.write(fetch(slot, timeout, cancel_of(cancel))?.unwrap_or(0));
            Ok(())
        })
    }
}

/// The loop's answer to a question, and to all before it; one that was not asked yet is not
/// answered in advance. Never waits; any thread, but it is the loop that should call it. Fails with
/// Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_loop_answer(
    cluster: *const peerage_cluster,
    question: u64,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a place for a pointer or NULL.
    unsafe {
        call(error, || {
            argument(cluster, "cluster")?.cluster.answer_loop(question);
            Ok(())
        })
    }
}
