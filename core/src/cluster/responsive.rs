//! Whether the program's own loop responds: the binding asks it, and the others are told when it
//! has left a question unanswered for too long.
//!
//! Our threads do not stop when a program's loop is blocked or its interpreter lock is held, so the
//! node stays alive; only whoever knows the loop can ask it. The binding passes questions on and
//! answers back; when to ask, and what a missing answer means, is decided here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{driver::Command, leave::LeaveReport};

/// A loop is asked so many times within `unresponsive_after`, ...
const QUESTIONS: u32 = 4;
/// ... but no more often than this.
const ASK_EVERY_MIN: Duration = Duration::from_millis(50);

/// What was asked, and where answers arrive.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: AtomicU64,
    last: AtomicU64,
    answered: Notify,
}

impl Answers {
    /// Answers this question and all before it; one that nobody asked is not answered in advance.
    pub(super) fn answer(&self, question: u64) {
        if question > self.asked.load(Ordering::Acquire) {
            return;
        }
        self.last.fetch_max(question, Ordering::AcqRel);
        self.answered.notify_one();
    }
}

/// The questions to a program's loop, from [`Cluster::loop_questions`](super::Cluster): one after
/// the other; the next comes when the last was answered. It is no handle: it does not keep the
/// node running. Whoever drops it asks no more, and the node counts as responsive from then on.
#[derive(Debug)]
pub struct LoopQuestions {
    pub(super) answers: Arc<Answers>,
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) ended: watch::Receiver<Option<Arc<LeaveReport>>>,
    pub(super) after: Duration,
    /// The last question, 0 before the first.
    pub(super) asked: u64,
    pub(super) next_at: Instant,
    /// The others were told that the loop is late.
    pub(super) told: bool,
}

impl LoopQuestions {
    /// The next question: wake the loop with it, and let the loop give it to
    /// [`Cluster::answer_loop`](super::Cluster::answer_loop). Nothing once the node has ended. The
    /// future may be dropped and asked for anew; only while one is waited for is an answer missed.
    pub async fn next(&mut self) -> Option<u64> {
        let mut ended = self.ended.clone();
        tokio::select! {
            biased;
            _ = ended.wait_for(Option::is_some) => None,
            question = self.question() => question,
        }
    }

    async fn question(&mut self) -> Option<u64> {
        if self.asked > 0 {
            self.wait_for_the_answer().await?;
        }
        sleep_until(self.next_at).await;
        self.asked = self.answers.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.next_at = Instant::now() + self.every();
        Some(self.asked)
    }

    async fn wait_for_the_answer(&mut self) -> Option<()> {
        if !self.told {
            let late_at = self.next_at - self.every() + self.after;
            if timeout_at(late_at, self.answered()).await.is_ok() {
                return Some(());
            }
            self.tell(true).await?;
        }
        self.answered().await;
        self.tell(false).await
    }

    async fn answered(&self) {
        while self.answers.last.load(Ordering::Acquire) < self.asked {
            self.answers.answered.notified().await;
        }
    }

    async fn tell(&mut self, unresponsive: bool) -> Option<()> {
        let commands = self.commands.upgrade()?;
        commands.send(Command::Unresponsive(unresponsive)).await.ok()?;
        self.told = unresponsive;
        Some(())
    }

    fn every(&self) -> Duration {
        (self.after / QUESTIONS).max(ASK_EVERY_MIN)
    }
}

impl Drop for LoopQuestions {
    fn drop(&mut self) {
        if self.told
            && let Some(commands) = self.commands.upgrade()
        {
            // It is refused only by a driver that has ended or is far behind.
            let _ = commands.try_send(Command::Unresponsive(false));
        }
    }
}
