//! Waiting until a link becomes free. Hardly ever does anybody, and each use of a link that ends would
//! have to tell them, so who waits is counted and where nobody does nothing is told.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};

use tokio::sync::{Notify, futures::Notified};

/// Who waits.
#[derive(Default)]
pub(in crate::transport) struct Room {
    waiting: AtomicUsize,
    freed: Notify,
}

impl Room {
    /// Completes when something has become free, if it is wanted by then and was enabled.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// While this is held, its holder is told. It has to look once more whether something is free after
    /// it has got this: who frees something later sees that it is wanted.
    pub(super) fn want(&self) -> Wanted<'_> {
        self.waiting.fetch_add(1, SeqCst);
        fence(SeqCst);
        Wanted(self)
    }

    /// Whether anybody waits. Who has freed something by a sequentially consistent write asks after it.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Something may have become free.
    pub(super) fn stir(&self) {
        fence(SeqCst);
        if self.is_wanted() {
            self.freed.notify_waiters();
        }
    }
}

/// Something is wanted.
pub(super) struct Wanted<'a>(&'a Room);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc, time::Duration};

    use super::*;

    /// Two threads take turns with one thing that is free or not; none of them may sleep while it is.
    #[test]
    fn whoever_wants_something_is_told_or_finds_it_free() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let (room, free) = (Arc::new(Room::default()), Arc::new(AtomicUsize::new(1)));
        let take = |free: &AtomicUsize| free.swap(0, SeqCst) == 1;
        let work = |room: Arc<Room>, free: Arc<AtomicUsize>| async move {
            for _ in 0..20_000 {
                loop {
                    let mut freed = pin!(room.freed());
                    if take(&free) {
                        break;
                    }
                    let _wanted = room.want();
                    freed.as_mut().enable();
                    if take(&free) {
                        break;
                    }
                    freed.await;
                }
                free.store(1, SeqCst);
                if room.is_wanted() {
                    room.stir();
                }
            }
        };
        runtime.block_on(async {
            let all = [(); 4].map(|()| tokio::spawn(work(room.clone(), free.clone())));
            for one in all {
                let done = tokio::time::timeout(Duration::from_secs(60), one).await;
                done.expect("somebody sleeps although it is free").unwrap();
            }
        });
        assert!(!room.is_wanted());
    }
}
