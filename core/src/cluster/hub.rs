//! Events to any number of subscribers, each behind a bounded queue.
//!
//! A subscriber that falls behind loses what was queued for it and gets, in its place, one
//! `EventsDropped` with the members as of that very point in the order of events: so it is never
//! wrong for longer than it is slow, and costs no more memory than its queue.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::{
    event::{Event, EventKind},
    member::Member,
};

/// All members in order of their ids.
pub(crate) type Members = Arc<[Arc<Member>]>;

/// How many tasks may wait on one subscription without waking one another.
const WAKERS_MAX: usize = 8;

/// The publisher's side.
pub(crate) struct Hub(Arc<Mutex<State>>);

struct State {
    queue_max: usize,
    seq: u64,
    /// As of the last published event.
    members: Members,
    next_subscriber: u64,
    subscribers: BTreeMap<u64, Subscriber>,
    closed: bool,
    dropped: u64,
}

#[derive(Default)]
struct Subscriber {
    queue: VecDeque<Event>,
    /// Events lost since it was last right; nothing is queued while this is not zero.
    lost: u64,
    /// Whoever waits. A wait that was given up may still be polled once beside the next one.
    wakers: Vec<Waker>,
}

impl Hub {
    pub(crate) fn new(queue_max: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            queue_max,
            seq: 0,
            members: Arc::from([]),
            next_subscriber: 0,
            subscribers: BTreeMap::new(),
            closed: false,
            dropped: 0,
        })))
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mut state = self.0.lock();
        let id = state.next_subscriber;
        state.next_subscriber += 1;
        state.subscribers.insert(id, Subscriber::default());
        Events { hub: self.0.clone(), id }
    }

    /// Appends events; `members` is how things stand after them.
    pub(crate) fn publish(&self, kinds: Vec<EventKind>, members: Members) {
        let mut wake = Vec::new();
        {
            let state = &mut *self.0.lock();
            state.members = members;
            for kind in kinds {
                state.seq += 1;
                let event = Event { seq: state.seq, kind };
                for subscriber in state.subscribers.values_mut() {
                    state.dropped += subscriber.push(&event, state.queue_max);
                }
            }
            wake.extend(state.subscribers.values_mut().flat_map(|s| s.wakers.drain(..)));
        }
        wake.into_iter().for_each(Waker::wake);
    }

    /// Ends every stream after what is queued.
    pub(crate) fn close(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.0.lock();
            state.closed = true;
            state.subscribers.values_mut().flat_map(|s| s.wakers.drain(..)).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Events published, events dropped for slow subscribers, subscribers.
    pub(crate) fn stats(&self) -> (u64, u64, usize) {
        let state = self.0.lock();
        (state.seq, state.dropped, state.subscribers.len())
    }

    /// The most events that wait for any subscriber.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().subscribers.values().map(|s| s.queue.len()).max().unwrap_or(0)
    }
}

impl Subscriber {
    fn has_any(&self) -> bool {
        self.lost > 0 || !self.queue.is_empty()
    }

    /// Keeps a waker. Past the limit the oldest is woken, so that it looks again and none is lost.
    fn wait(&mut self, waker: &Waker) {
        if self.wakers.iter().any(|known| known.will_wake(waker)) {
            return;
        }
        if self.wakers.len() >= WAKERS_MAX {
            self.wakers.remove(0).wake();
        }
        self.wakers.push(waker.clone());
    }

    /// Queues an event; how many were lost by it.
    fn push(&mut self, event: &Event, queue_max: usize) -> u64 {
        if self.lost == 0 && self.queue.len() < queue_max {
            self.queue.push_back(event.clone());
            return 0;
        }
        let lost = self.queue.len() as u64 + 1;
        self.queue.clear();
        self.lost += lost;
        lost
    }
}

/// A subscription: a [`Stream`] of events that ends when the node does. Dropping it ends it.
pub struct Events {
    hub: Arc<Mutex<State>>,
    id: u64,
}

impl Events {
    /// The next event; `None` once the node has ended and everything was taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The next event if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        take(&mut self.hub.lock(), self.id)
    }

    /// Waits until at least one event waits, and says so; `false` once the node has ended and
    /// everything was taken. Takes nothing. Several tasks may wait.
    pub async fn ready(&self) -> bool {
        poll_fn(|cx| {
            let state = &mut *self.hub.lock();
            match state.subscribers.get_mut(&self.id) {
                Some(subscriber) if subscriber.has_any() => return Poll::Ready(true),
                Some(subscriber) if !state.closed => subscriber.wait(cx.waker()),
                _ => return Poll::Ready(false),
            }
            Poll::Pending
        })
        .await
    }

    /// Whether [`Events::ready`] would return at once. Never waits.
    pub fn is_ready(&self) -> bool {
        let state = self.hub.lock();
        state.closed || state.subscribers.get(&self.id).is_some_and(Subscriber::has_any)
    }

    /// Up to `max` events that wait, in their order. Never waits.
    pub fn take(&self, max: usize) -> Vec<Event> {
        let state = &mut *self.hub.lock();
        let mut taken = Vec::new();
        while taken.len() < max {
            match take(state, self.id) {
                Some(event) => taken.push(event),
                None => break,
            }
        }
        taken
    }

    /// Whether the node has ended: what waits is the last.
    pub fn closed(&self) -> bool {
        self.hub.lock().closed
    }

    /// Whether the node has ended and everything was taken.
    pub fn ended(&self) -> bool {
        let state = self.hub.lock();
        state.closed && !state.subscribers.get(&self.id).is_some_and(Subscriber::has_any)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.hub.lock();
        if let Some(event) = take(&mut state, self.id) {
            return Poll::Ready(Some(event));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        if let Some(subscriber) = state.subscribers.get_mut(&self.id) {
            subscriber.wait(cx.waker());
        }
        Poll::Pending
    }
}

fn take(state: &mut State, id: u64) -> Option<Event> {
    let subscriber = state.subscribers.get_mut(&id)?;
    if subscriber.lost > 0 {
        let count = std::mem::take(&mut subscriber.lost);
        let kind = EventKind::EventsDropped { count, members: state.members.clone() };
        return Some(Event { seq: state.seq, kind });
    }
    subscriber.queue.pop_front()
}

impl Stream for Events {
    type Item = Event;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.hub.lock().subscribers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    fn events_of(n: u32) -> Vec<EventKind> {
        (0..n).map(|score| EventKind::LocalHealthChanged { score }).collect()
    }

    #[test]
    fn a_slow_subscriber_gets_events_dropped_with_a_snapshot_and_is_right_again() {
        let hub = Hub::new(4);
        let mut slow = hub.subscribe();
        assert!(!slow.is_ready());
        hub.publish(events_of(4), Arc::from([]));
        hub.publish(events_of(3), Arc::from([]));
        assert!(slow.is_ready());
        let event = slow.try_next().unwrap();
        assert_eq!(event.seq, 7);
        let EventKind::EventsDropped { count, .. } = event.kind else { panic!("{event:?}") };
        assert_eq!(count, 7);
        assert_eq!(slow.try_next(), None);
        assert!(!slow.is_ready());
        hub.publish(events_of(1), Arc::from([]));
        assert_eq!(slow.try_next().unwrap().seq, 8);
        hub.close();
        assert!(slow.is_ready() && slow.ended());
        assert_eq!(hub.stats().1, 7);
    }

    #[test]
    fn a_wait_that_was_given_up_takes_no_wake_from_the_next() {
        let hub = Hub::new(4);
        let events = hub.subscribe();
        let mut old = std::pin::pin!(events.ready());
        // Two waits on one subscription, the older polled last; both see the event.
        let mut next = std::pin::pin!(events.ready());
        let woken = Arc::new(Counting::default());
        let (first, second) =
            (Waker::from(woken.clone()), Waker::from(Arc::new(Counting::default())));
        assert!(next.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
        assert!(old.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        hub.publish(events_of(1), Arc::from([]));
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[derive(Default)]
    struct Counting(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn one_slow_subscriber_costs_the_others_nothing() {
        let hub = Hub::new(2);
        let _slow = hub.subscribe();
        let mut quick = hub.subscribe();
        for seq in 1..=100 {
            hub.publish(events_of(1), Arc::from([]));
            assert_eq!(quick.try_next().unwrap().seq, seq);
        }
    }
}
