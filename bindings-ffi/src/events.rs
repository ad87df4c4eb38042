//! Events by pull: batches with a time-out, and a level-triggered descriptor.

use std::{
    ptr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use peerage::{
    Error, Event, Events, Result,
    boundary::{Call, Face, Value, run},
};
use tokio::sync::Notify;

use crate::{
    arena::Arena,
    call::{Out, PEERAGE_FOREVER, argument, call, free, peerage_status, read, wrong},
    cancel::{cancel_of, peerage_cancel},
    cluster::peerage_cluster,
    descriptor::Descriptor,
    error::peerage_error,
    generated::event::{flat, peerage_event},
};

/// A subscription: everything that happens from its beginning on, behind a queue of `event_queue`
/// events. A reader that falls behind gets EventsDropped, with all members as they are by then.
/// It ends when the node does, and outlives the cluster's handle. Freed with
/// `peerage_events_free`.
pub struct peerage_events {
    stream: Arc<Stream>,
    pump: OnceLock<Call>,
}

struct Stream {
    events: Events,
    gate: Mutex<Gate>,
    /// Something waits, the stream ended, was freed, or a call was cancelled.
    changed: Condvar,
    /// What waited was taken: the pump may look for more.
    drained: Notify,
}

#[derive(Default)]
struct Gate {
    /// Whether something waits or the stream has ended, as of the last look. Looked at and changed
    /// under the lock only, so that the descriptor never says "readable" when nothing waits.
    raised: bool,
    descriptor: Option<Descriptor>,
    freed: bool,
}

impl peerage_events {
    pub(crate) fn new(events: Events) -> Self {
        let stream = Arc::new(Stream {
            events,
            gate: Mutex::default(),
            changed: Condvar::new(),
            drained: Notify::new(),
        });
        let pump = OnceLock::new();
        // A runtime that cannot be had gives events to those who ask, and wakes nobody.
        let _ = pump.set(run(Stream::pump(stream.clone()), |_| {}));
        Self { stream, pump }
    }
}

impl Drop for peerage_events {
    fn drop(&mut self) {
        {
            let mut gate = self.stream.gate.lock();
            gate.freed = true;
            // At once: the pump may hold the stream for a moment longer.
            gate.descriptor = None;
        }
        self.stream.changed.notify_all();
        if let Some(pump) = self.pump.get() {
            pump.cancel();
        }
    }
}

impl Stream {
    /// One wake for whatever has come, then none until it was taken.
    async fn pump(self: Arc<Self>) -> Result<()> {
        loop {
            let more = self.events.ready().await;
            let raised = self.settle(&mut self.gate.lock());
            if !more {
                return Ok(());
            }
            // Somebody may have taken it all between the two lines.
            if raised {
                self.drained.notified().await;
            }
        }
    }

    /// Makes the gate say what is true now; whether it is raised.
    fn settle(&self, gate: &mut Gate) -> bool {
        let ready = self.events.is_ready();
        if ready != gate.raised {
            gate.raised = ready;
            match &gate.descriptor {
                Some(descriptor) if ready => descriptor.raise(),
                Some(descriptor) => descriptor.clear(),
                None => {}
            }
            if !ready {
                self.drained.notify_one();
            }
        }
        if ready {
            self.changed.notify_all();
        }
        gate.raised
    }

    /// Up to `max` events; none if the time passes first.
    fn take(
        &self,
        max: usize,
        timeout: Option<Duration>,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Vec<Event>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut gate = self.gate.lock();
        loop {
            if gate.freed {
                return Err(Error::Closed("the subscription was freed".into()));
            }
            if is_cancelled() {
                return Err(Error::Cancelled);
            }
            let taken = self.events.take(max);
            self.settle(&mut gate);
            if !taken.is_empty() {
                return Ok(taken);
            }
            if self.events.ended() {
                return Err(Error::Closed("the stream of events has ended".into()));
            }
            match until {
                Some(until) if self.changed.wait_until(&mut gate, until).timed_out() => {
                    // What came at the last moment still counts.
                    let taken = self.events.take(max);
                    self.settle(&mut gate);
                    return Ok(taken);
                }
                Some(_) => {}
                None => self.changed.wait(&mut gate),
            }
        }
    }
}

/// Events that were taken together. A batch owns all that its events point to. Freed with
/// `peerage_batch_free`, in any order with everything else; may be read by any number of threads.
pub struct peerage_batch {
    flat: Vec<peerage_event>,
    _arena: Arena,
    _events: Vec<Event>,
}

impl peerage_batch {
    fn new(events: Vec<Event>) -> Self {
        let mut arena = Arena::default();
        let flat = events.iter().map(|event| flat(event, &mut arena)).collect();
        Self { flat, _arena: arena, _events: events }
    }
}

/// Subscribes to everything that happens from now on. Do it before asking for the members, so
/// that nothing falls between. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_events(
    cluster: *const peerage_cluster,
    events: *mut *mut peerage_events,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(events, "events")?;
            out.give(peerage_events::new(argument(cluster, "cluster")?.cluster.events()));
            Ok(())
        })
    }
}

/// Takes the events that wait, at most `max` (1 to 4,294,967,295), in their order; waits for the
/// first one if there is none. `timeout_ms`: milliseconds, 0 does not wait, `PEERAGE_FOREVER`
/// waits until something happens. When the time passes it is `PEERAGE_OK` and the batch is NULL,
/// which counts as an empty one everywhere. Fails with Closed once the node has ended and
/// everything was taken; Cancelled; Argument. Several threads may take from one subscription.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_events_next_batch(
    events: *const peerage_events,
    max: usize,
    timeout_ms: u64,
    cancel: *const peerage_cancel,
    batch: *mut *mut peerage_batch,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(batch, "batch")?;
            let stream = argument(events, "events")?.stream.clone();
            let given = Value::from(u64::try_from(max).unwrap_or(u64::MAX));
            let max = Face::C.count("max", given, 1, u32::MAX)? as usize;
            let timeout = match timeout_ms {
                PEERAGE_FOREVER => None,
                given => Some(Duration::from_millis(given)),
            };
            let cancel = cancel_of(cancel);
            let waiter = stream.clone();
            let _registered = cancel.as_ref().map(|cancel| {
                cancel.register(Arc::new(move || {
                    // Under the lock, so that it does not fall between a look and a wait.
                    let _gate = waiter.gate.lock();
                    waiter.changed.notify_all();
                }))
            });
            let is_cancelled = || cancel.as_ref().is_some_and(|cancel| cancel.is_triggered());
            let taken = stream.take(max, timeout, is_cancelled)?;
            if !taken.is_empty() {
                out.give(peerage_batch::new(taken));
            }
            Ok(())
        })
    }
}

/// A descriptor for `poll`, `select`, `epoll` or `kqueue`: readable exactly as long as events wait
/// or the stream has ended (then for ever). It is level-triggered, and `peerage_events_next_batch`
/// alone makes it unreadable again: do not read, write or close it. It is the same one at every
/// call, belongs to the subscription and is closed with it. Never waits; any thread. Fails with
/// Argument; Internal where none can be had (no descriptors left, Windows).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_events_fd(
    events: *const peerage_events,
    fd: *mut i32,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, a place for a number, and one for a pointer.
    unsafe {
        call(error, || {
            let stream = &argument(events, "events")?.stream;
            if fd.is_null() {
                return Err(wrong("fd", "NULL", "must not be NULL"));
            }
            let gate = &mut *stream.gate.lock();
            let descriptor = match gate.descriptor.take() {
                Some(descriptor) => descriptor,
                None => {
                    let new = Descriptor::new()?;
                    if gate.raised {
                        new.raise();
                    }
                    new
                }
            };
            fd.write(gate.descriptor.insert(descriptor).number());
            Ok(())
        })
    }
}

/// Ends a subscription; NULL is fine. Whoever waits in `peerage_events_next_batch` gets Closed.
/// Batches stay valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_events_free(events: *mut peerage_events) {
    // SAFETY: the header demands a subscription that was not freed, or NULL.
    unsafe { free(events) };
}

/// How many events it has; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_batch_count(batch: *const peerage_batch) -> usize {
    // SAFETY: the header demands a living batch or NULL.
    read(0, || unsafe { batch.as_ref() }.map_or(0, |batch| batch.flat.len()))
}

/// One of them, counted from 0. It belongs to the batch; NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_batch_at(
    batch: *const peerage_batch,
    index: usize,
) -> *const peerage_event {
    read(ptr::null(), || {
        // SAFETY: the header demands a living batch or NULL.
        let batch = unsafe { batch.as_ref() };
        batch.and_then(|batch| batch.flat.get(index)).map_or(ptr::null(), ptr::from_ref)
    })
}

/// Frees a batch with its events and everything that they point to; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_batch_free(batch: *mut peerage_batch) {
    // SAFETY: the header demands a batch that was not freed, or NULL.
    unsafe { free(batch) };
}
