//! Three honest members with default settings, and what they must not notice.

use std::{
    fs,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::held::held_bytes;
use parking_lot::Mutex;
use peerage::{Builder, Cluster, EventKind, Secret};
use tokio::task::JoinHandle;

/// No test waits longer for a condition.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request between honest members may take under attack. Undisturbed it takes less than
/// a millisecond.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Within which time a newcomer joins, attack or none. Undisturbed it takes 20 to 100 ms; 64
/// handshakes may be before it, and the machine may be slow.
const JOIN_MAX: Duration = Duration::from_secs(3);
/// After so long an attack has begun to tell, and a newcomer comes.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// How many honest members there are.
const MEMBERS: usize = 3;
/// What the process may hold once an attack is over, besides what it held before: histories of who
/// was there, tables that grew.
const KEPT_MAX: usize = 2 << 20;

/// The members, and what they say of each other.
pub struct Honest {
    /// `n0` to `n2`.
    pub nodes: Vec<Cluster>,
    secret: Secret,
    accusations: Arc<Mutex<Vec<String>>>,
    listeners: Vec<JoinHandle<()>>,
    newcomers: AtomicUsize,
    /// What the process held before the first attack: the attackers' stacks are there by then.
    held_before: OnceLock<usize>,
}

/// What an attack came to.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What the attacker has to tell.
    pub attack: T,
    /// How many requests were answered meanwhile, ...
    pub answered: usize,
    /// ... the slowest after this.
    pub slowest: Duration,
    /// By how much the process had grown when it was largest.
    pub grown_kib: u64,
}

/// A node of the cluster `test`.
pub fn node(id: &str, secret: &Secret) -> Builder {
    Cluster::builder("test", id).secret(secret.clone())
}

/// Waits until a condition holds; the panic says what it waited for.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The memory of this process.
pub fn rss_kib() -> u64 {
    // Elsewhere than on Linux the bounds on memory are not looked at.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Honest {
    /// Starts them, with an `echo` each, and listens to their events.
    pub async fn start(secret: &Secret) -> Self {
        let mut nodes: Vec<Cluster> = Vec::new();
        for n in 0..MEMBERS {
            let mut builder = node(&format!("n{n}"), secret);
            if let Some(first) = nodes.first() {
                builder = builder.seed(first.addr());
            }
            let node = builder.start().await.unwrap();
            node.handle("echo", |request| async move { Ok(request.payload) }).unwrap();
            nodes.push(node);
        }
        for node in &nodes {
            node.join(PATIENCE).await.unwrap();
        }
        let accusations = Arc::<Mutex<Vec<String>>>::default();
        let listeners = nodes.iter().map(|node| listen(node, accusations.clone())).collect();
        let honest = Self {
            nodes,
            secret: secret.clone(),
            accusations,
            listeners,
            newcomers: AtomicUsize::new(0),
            held_before: OnceLock::new(),
        };
        honest.are_normal().await;
        honest
    }

    /// Lets an attack happen. Throughout, every member asks every other one, and is answered; and while it
    /// lasts a newcomer joins, as fast as ever.
    pub async fn withstand<T>(&self, attack: impl Future<Output = T>) -> Outcome<T> {
        self.withstand_and(attack, true).await
    }

    /// The same of an attack that keeps newcomers out, or whose effects are counted one by one.
    pub async fn withstand_alone<T>(&self, attack: impl Future<Output = T>) -> Outcome<T> {
        self.withstand_and(attack, false).await
    }

    async fn withstand_and<T>(
        &self,
        attack: impl Future<Output = T>,
        newcomer: bool,
    ) -> Outcome<T> {
        // Whoever measures wants warm buffers, and what a newcomer takes is no attacker's.
        self.ask_all().await;
        if newcomer {
            self.admit(0).await;
        }
        self.held_before.get_or_init(held_bytes);
        let before = rss_kib();
        let (mut most, mut answered, mut slowest) = (before, 0, Duration::ZERO);
        let meanwhile = async {
            if newcomer {
                tokio::time::sleep(UNDER_WAY).await;
                eprintln!("a newcomer meanwhile after {:?}", self.admit(0).await);
            }
        };
        let asking = async {
            loop {
                let took = self.ask_all().await;
                answered += MEMBERS * (MEMBERS - 1);
                slowest = slowest.max(took);
                most = most.max(rss_kib());
            }
        };
        let attack = tokio::select! {
            (attack, ()) = async { tokio::join!(attack, meanwhile) } => attack,
            never = asking => never,
        };
        // Once more: what it left lasts, though it was too quick for a first answer.
        slowest = slowest.max(self.ask_all().await);
        answered += MEMBERS * (MEMBERS - 1);
        most = most.max(rss_kib());
        Outcome { attack, answered, slowest, grown_kib: most - before }
    }

    /// Every member asks every other one; returns how long the slowest took.
    async fn ask_all(&self) -> Duration {
        let mut slowest = Duration::ZERO;
        for (n, node) in self.nodes.iter().enumerate() {
            for other in (0..MEMBERS).filter(|other| *other != n) {
                let begun = Instant::now();
                let answer = node.request(&format!("n{other}"), "echo", "honest", ANSWER_MAX).await;
                assert_eq!(answer.expect("an answer of an honest member"), "honest");
                slowest = slowest.max(begun.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await; // leave some CPU to the attack
        slowest
    }

    /// A newcomer joins through one of them as fast as ever, and leaves again. Returns how long
    /// that took.
    pub async fn admit(&self, seed: usize) -> Duration {
        let id = format!("newcomer{}", self.newcomers.fetch_add(1, Relaxed));
        let begun = Instant::now();
        let newcomer = node(&id, &self.secret).seed(self.nodes[seed].addr()).start().await.unwrap();
        newcomer.join(JOIN_MAX).await.expect("a newcomer joins in its usual time");
        let took = begun.elapsed();
        newcomer.leave().await.unwrap();
        until("the newcomer has gone", || !self.nodes.iter().any(|node| linked(node, &id))).await;
        took
    }

    /// Waits until nothing reminds of the attack: three members, each with a link to both others,
    /// and nothing under way.
    pub async fn are_normal(&self) {
        for node in &self.nodes {
            let id = node.local().id.clone();
            until(&format!("{id} is as before: {:?}", node.stats()), || {
                let stats = node.stats();
                stats.alive == MEMBERS
                    && stats.suspect == 0
                    && stats.transport.pool.links_total == MEMBERS - 1
                    && (stats.transport.requests_in, stats.transport.requests_out) == (0, 0)
            })
            .await;
        }
    }

    /// All is as before they withstood an attack, the memory included, a newcomer joins in its usual
    /// time, and nobody ever accused an honest member. The attackers hold nothing any more.
    pub async fn end(mut self) {
        let before = *self.held_before.get().expect("what was held before is known by `withstand`");
        self.are_normal().await;
        tokio::join!(self.admit(0), self.admit(1), self.admit(2));
        self.are_normal().await;
        let kept = || held_bytes().saturating_sub(before);
        let most = KEPT_MAX >> 10;
        until(&format!("{} KiB kept are {most} at most", kept() >> 10), || kept() <= KEPT_MAX)
            .await;
        eprintln!("{} KiB are held that were not before", kept() >> 10);
        for node in &self.nodes {
            node.shutdown_now().await.unwrap();
        }
        for listener in self.listeners.drain(..) {
            listener.await.unwrap();
        }
        let accusations = std::mem::take(&mut *self.accusations.lock());
        assert!(accusations.is_empty(), "{accusations:#?}");
    }
}

/// Whether a node has a link to one of this name.
pub fn linked(node: &Cluster, id: &str) -> bool {
    node.stats().links.iter().any(|link| link.peer.id.as_str() == id)
}

/// Notes what a member says against an honest one.
fn listen(node: &Cluster, accusations: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let (me, mut events) = (node.local().id.clone(), node.events());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let accuses = matches!(
                event.kind,
                EventKind::MemberSuspected { .. }
                    | EventKind::MemberFailed { .. }
                    | EventKind::HealthCheckFailed { .. }
            );
            let about = event.kind.member().map(|member| member.id.as_str().to_owned());
            // One of those may have been an accusation.
            if matches!(event.kind, EventKind::EventsDropped { .. }) {
                accusations.lock().push(format!("{me}: {event:?}"));
            }
            if accuses && about.is_some_and(|id| id.starts_with('n') && id.len() == 2) {
                accusations.lock().push(format!("{me}: {event:?}"));
            }
        }
    })
}
