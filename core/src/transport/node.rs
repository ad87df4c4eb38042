//! What all tasks of one transport share, how it is started, watched and ended.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use s2n_quic::Client;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    EVENTS_MAX, Inbound, Options, TransportEvent,
    check::KEEP_EVERY,
    end::{Code, LinkEnd, MOVED},
    endpoint::Setup,
    hello::Hello,
    identity::Identity,
    keys::Keys,
    knock::Doors,
    places::Places,
    pool::{Limits, Pool, RESERVE},
    shelf::Shelf,
    socket::{self, Driver},
    stats::Stats,
};
use crate::{
    config::Security,
    error::{Error, Result},
    member::Peer,
    moments::Moments,
    seldom::Seldom,
};

/// How long the tasks have to end once they are told to. They are told where they wait, so this
/// is reached only by a handler that blocks its thread.
const TASKS_END: Duration = Duration::from_secs(2);
/// How long closed connections may linger to repeat their farewell before the endpoints go.
const LINGER: Duration = Duration::from_millis(250);
/// How often a link is looked at on which something of ours waits: a peer that dies over it is known
/// to be in trouble after that and three probe time-outs.
const PING: Duration = Duration::from_millis(100);
/// How long answers that are finished have to leave before the links are closed.
const FLUSH: Duration = Duration::from_millis(20);
/// How long the stack's own tasks have to close the socket after their endpoint went.
const SOCKET_END: Duration = Duration::from_secs(2);

/// Lines about a driver that does not take its events: peers that come and go can cause them.
static NOT_TAKEN: Seldom = Seldom::new(10);
/// How many links may still be in use in whose place there are others, in all and of one node.
const RETIRED_MAX: (usize, usize) = (256, 4);

/// The inside of a transport.
pub(super) struct Node {
    pub(super) me: Peer,
    /// What all tasks of this node run in, for logs.
    pub(super) span: tracing::Span,
    pub(super) local: SocketAddr,
    pub(super) advertised: SocketAddr,
    cluster: String,
    pub(super) connect_timeout: Duration,
    pub(super) payload_max: u64,
    pub(super) requests_max: usize,
    pub(super) streams_max: usize,
    pub(super) pool: Pool,
    pub(super) stats: Arc<Stats>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) events: mpsc::Sender<TransportEvent>,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) client: Mutex<Option<Client>>,
    /// Until the end: whoever still holds the node then must not hold the runtime with it.
    pub(super) runtime: Mutex<Option<Handle>>,
    pub(super) tasks: TaskTracker,
    /// Everything ends.
    pub(super) stop: CancellationToken,
    /// Everything has ended.
    pub(super) finished: CancellationToken,
    /// Something of ours is under way, and links are not pinged for it yet.
    pub(super) asked: Notify,
    /// They are.
    pub(super) asking: AtomicBool,
    /// What this node proves itself by and whom it believes.
    pub(super) keys: Arc<Keys>,
    /// A link may have keys that are not those any more.
    pub(super) keys_changed: Notify,
    /// What the keys were made of.
    pub(super) security: Mutex<Security>,
    /// Links in the place of which there are others.
    pub(super) retired: Arc<Places>,
    /// Whether anybody is behind a link in trouble.
    pub(super) doors: Doors,
    draining: AtomicBool,
    settled: Notify,
    serial: AtomicU64,
    /// Of the accepting endpoint and of the dialing one.
    #[cfg(test)]
    pub(super) admissions: [Arc<super::admission::Admission>; 2],
}

impl Node {
    /// Binds the sockets and starts the tasks.
    pub(super) fn start(
        options: Options,
        identity: Identity,
        inbound: Arc<dyn Inbound>,
    ) -> Result<(Arc<Self>, mpsc::Receiver<TransportEvent>)> {
        let runtime = Handle::try_current().map_err(|e| Error::Internal(e.to_string()))?;
        let (stats, trouble) = (Arc::<Stats>::default(), Arc::<Notify>::default());
        let keys = Arc::new(Keys::new(identity, options.node_id.clone())?);
        let setup = Setup {
            keys: &keys,
            #[cfg(test)]
            instance: options.instance.0,
            connect_timeout: options.connect_timeout,
            connections_max: options.links_max + RESERVE,
            stats: &stats,
            trouble: &trouble,
        };
        let server = setup.server(options.listen)?;
        let client = setup.client(options.listen)?;
        let local = server.addr;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let span = tracing::info_span!(
            target: "peerage::node",
            "node",
            cluster = %options.cluster,
            id = %options.node_id,
        );
        let node = Arc::new(Self {
            span,
            me: Peer { id: options.node_id, instance: options.instance },
            local,
            advertised: options.advertise.unwrap_or(local),
            cluster: options.cluster,
            connect_timeout: options.connect_timeout,
            payload_max: options.payload_max,
            requests_max: options.requests_max,
            streams_max: options.streams_max,
            pool: Pool::new(
                Limits { total: options.links_max, per_peer: options.links_per_peer },
                options.instance.0,
            ),
            stats,
            shelf: Arc::default(),
            events,
            inbound,
            client: Mutex::new(Some(client.endpoint)),
            runtime: Mutex::new(Some(runtime.clone())),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            finished: CancellationToken::new(),
            asked: Notify::new(),
            asking: AtomicBool::new(false),
            keys,
            keys_changed: Notify::new(),
            security: Mutex::new(options.security),
            retired: Places::new(RETIRED_MAX.0, RETIRED_MAX.1),
            doors: Doors::from(local.ip()),
            draining: AtomicBool::new(false),
            settled: Notify::new(),
            serial: AtomicU64::new(0),
            #[cfg(test)]
            admissions: [server.admission, client.admission],
        });
        let accept = node.clone();
        node.spawn("accept loop", async move { accept.accept(server.endpoint).await });
        let (watch, moments) = (node.clone(), Moments::new(options.clock));
        node.spawn("link watch", async move {
            watch.watch(&trouble, options.link_idle_timeout, moments).await
        });
        let check = node.clone();
        node.spawn("link checks", async move {
            check.keep_checking(options.health_check_interval).await;
        });
        let keep = node.clone();
        node.spawn("keys", async move {
            tokio::join!(keep.keep_keys(), keep.watch_files());
        });
        // Outlives the tasks that it waits for, so it is none of them.
        runtime.spawn(node.clone().bury([(server.driver, local), (client.driver, client.addr)]));
        Ok((node, receiver))
    }

    /// What this node says about itself on a link.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            cluster: self.cluster.clone(),
            id: self.me.id.clone(),
            instance: self.me.instance,
            listen: self.advertised,
            expect: None,
            serial: 0,
            generation: 0,
            slot: 0,
        }
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Relaxed) + 1
    }

    /// Tells the driver what it must hear; it has room for that which frames may not take.
    pub(super) fn emit(&self, event: TransportEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.stats.events_dropped.up();
            if let Some(kept_back) = NOT_TAKEN.now() {
                tracing::error!(target: "peerage::node", ?event, kept_back, "the driver does not take its events");
            }
        }
    }

    pub(super) fn closed(&self) -> Error {
        Error::Closed("its transport was shut down".into())
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Reports links in trouble as soon as the stack notices, pings those on which a request waits,
    /// keeps the quiet ones up, closes unused ones, and lets go of memory that nobody wants again.
    async fn watch(self: &Arc<Self>, trouble: &Notify, unused_max: Duration, moments: Moments) {
        let period = (unused_max / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
        let mut sweep = interval(period);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keep = interval_at(moments.first(KEEP_EVERY, self.me.instance.0), KEEP_EVERY);
        keep.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = trouble.notified() => {
                    for link in self.pool.links_and_retired() {
                        if link.health.moved() {
                            self.drop_link(&link, LinkEnd::Broken(MOVED.into()));
                            link.close(Code::Closed);
                        }
                        if link.health.trouble.swap(false, Relaxed) {
                            self.emit(TransportEvent::LinkTrouble { peer: link.peer.clone() });
                            self.check(&link);
                        }
                    }
                }
                () = self.asked.notified(), if !self.asking.load(Relaxed) => {
                    self.asking.store(true, Relaxed);
                    ping.reset();
                }
                _ = ping.tick(), if self.asking.load(Relaxed) => {
                    if !self.ping_where_something_waits(trouble) {
                        self.asking.store(false, SeqCst);
                        fence(SeqCst);
                        // What began just before saw that it was asked for.
                        self.asking.store(self.something_waits(), Relaxed);
                    }
                }
                _ = keep.tick() => {
                    self.keep_links_up();
                    self.shelf.tidy();
                }
                _ = sweep.tick() => {
                    for link in self.pool.links() {
                        if link.has_served_its_purpose(unused_max) {
                            self.close_unused(&link);
                        }
                    }
                    self.close_surplus();
                }
            }
        }
    }

    /// How much is under way, in both directions.
    fn under_way(&self) -> u64 {
        let stats = &self.stats;
        let requests = stats.requests_in.get() + stats.requests_out.get();
        requests + stats.streams_in.get() + stats.streams_out.get()
    }

    /// Something that was under way has ended.
    pub(super) fn settled(&self) {
        if self.is_draining() {
            self.settled.notify_waiters();
        }
    }

    /// Lets what is under way finish, takes nothing new, and ends everything. Returns how much
    /// was cut off.
    pub(super) async fn shutdown(&self, drain: Duration) -> usize {
        self.draining.store(true, Relaxed);
        self.pool.stir();
        let until = Instant::now() + drain;
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable(); // before the look, so that no wake is missed
            if self.under_way() == 0 || timeout_at(until, settled).await.is_err() {
                break;
            }
        }
        let cut = self.under_way();
        if self.stats.requests_handled.get() > 0 {
            sleep(FLUSH).await;
        }
        self.abort();
        self.finished.cancelled().await;
        usize::try_from(cut).unwrap_or(usize::MAX)
    }

    /// Ends everything without waiting for it.
    pub(super) fn abort(&self) {
        self.draining.store(true, Relaxed);
        for link in self.close_pool("this node shuts down") {
            link.close(Code::Shutdown);
        }
        self.stop.cancel();
        self.tasks.close();
        self.shelf.close();
    }

    /// Waits for the end, then sees to it that nothing is left.
    async fn bury(self: Arc<Self>, mut drivers: [(Driver, SocketAddr); 2]) {
        self.stop.cancelled().await;
        self.client.lock().take(); // the dialing endpoint ends with its last handle and connection
        if timeout(TASKS_END, self.tasks.wait()).await.is_err() {
            tracing::warn!(target: "peerage::node", tasks = self.tasks.len(), "tasks of the transport do not end");
        }
        let until = Instant::now() + LINGER;
        for (driver, _) in &mut drivers {
            if timeout_at(until, &mut *driver).await.is_err() {
                driver.abort();
                let _ = driver.await; // cancelled, as told
            }
        }
        // The stack's receiving and sending tasks end when they see that their endpoint is gone,
        // and offer nothing to wait on; the ports tell.
        let until = Instant::now() + SOCKET_END;
        for (_, addr) in drivers {
            while socket::is_taken(addr) && Instant::now() < until {
                sleep(Duration::from_millis(1)).await;
            }
        }
        self.runtime.lock().take();
        self.finished.cancel();
    }
}
