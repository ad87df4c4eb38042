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
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout_at},
};

use super::driver::Command;

/// A loop is asked so many times within `unresponsive_after`, ...
const QUESTIONS: u32 = 4;
/// ... but no more often than this.
const ASK_EVERY_MIN: Duration = Duration::from_millis(50);

/// Where answers arrive.
#[derive(Debug, Default)]
pub(super) struct Answers {
    last: AtomicU64,
    answered: Notify,
}

impl Answers {
    pub(super) fn answer(&self, question: u64) {
        self.last.fetch_max(question, Ordering::AcqRel);
        self.answered.notify_one();
    }
}

/// The questions to a program's loop, from [`Cluster::loop_questions`](super::Cluster): one after
/// the other; the next comes when the last was answered. It is no handle: it does not keep the
/// node running.
#[derive(Debug)]
pub struct LoopQuestions {
    pub(super) answers: Arc<Answers>,
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) after: Duration,
    pub(super) asked: u64,
    pub(super) next_at: Instant,
}

impl LoopQuestions {
    /// The next question: wake the loop with it, and let the loop give it to
    /// [`Cluster::answer_loop`](super::Cluster::answer_loop). Nothing once the node has ended.
    pub async fn next(&mut self) -> Option<u64> {
        if self.asked > 0 {
            self.wait_for_the_answer().await?;
        }
        sleep_until(self.next_at).await;
        // Nobody is asked on behalf of a node that has ended.
        self.commands.upgrade().filter(|c| !c.is_closed())?;
        self.asked += 1;
        let every = (self.after / QUESTIONS).max(ASK_EVERY_MIN);
        self.next_at = Instant::now() + every;
        Some(self.asked)
    }

    async fn wait_for_the_answer(&mut self) -> Option<()> {
        let every = (self.after / QUESTIONS).max(ASK_EVERY_MIN);
        let late_at = self.next_at - every + self.after;
        if timeout_at(late_at, self.answered()).await.is_ok() {
            return Some(());
        }
        self.tell(true).await?;
        self.answered().await;
        self.tell(false).await
    }

    async fn answered(&self) {
        while self.answers.last.load(Ordering::Acquire) < self.asked {
            self.answers.answered.notified().await;
        }
    }

    async fn tell(&self, unresponsive: bool) -> Option<()> {
        let commands = self.commands.upgrade()?;
        commands.send(Command::Unresponsive(unresponsive)).await.ok()
    }
}
