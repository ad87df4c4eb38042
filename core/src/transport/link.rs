//! One link: an authenticated QUIC connection to one peer, shared by any number of users.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use s2n_quic::{
    connection::{Handle, StreamAcceptor},
    stream::{PeerStream, ReceiveStream},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Class, TransportEvent,
    check::Awaited,
    datagram::{Incoming, Outgoing},
    end::{Code, LinkEnd, MOVED, Taken},
    health::Health,
    intake::Intake,
    node::Node,
    panics::caught,
    pool::{Entry, Rank},
    reader::{ReadError, Reader},
    request,
    share::{PeerShare, Tally},
    stream as streams,
};
use crate::{member::Peer, seldom::seldom};

/// The largest membership frame on a stream.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How many membership frames one link may send, and receive, on streams at once.
const FRAMES_AT_ONCE: usize = 32;
/// How long a peer may take over the first byte of a stream, ...
const KIND_TIMEOUT: Duration = Duration::from_secs(10);
/// ... and over a whole frame.
const FRAME_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a link must not have served the peer before it may be evicted: the last answer may
/// still be on its way.
const SERVED_QUIET: Duration = Duration::from_millis(500);

/// How long a link that a peer opened is kept for what it came for: evicted before the answer, it
/// would be dialed anew, and whoever has many newcomers would serve none of them.
const YOUNG: Duration = Duration::from_secs(1);

/// What a link begins with, and keeps.
pub(super) struct Beginning {
    pub(super) peer: Peer,
    /// Where the peer listens.
    pub(super) addr: SocketAddr,
    /// Whether we dialed it.
    pub(super) dialed: bool,
    /// Which of several links between the same two it is, from 0.
    pub(super) slot: u16,
    /// Which of two in the same slot stays: the greater, at both ends alike.
    pub(super) rank: Rank,
    pub(super) handle: Handle,
    pub(super) health: Arc<Health>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) incoming: Arc<Incoming>,
    /// What the peer proved itself by.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// How long a link stays that we dialed for the membership alone, after its last frame on a stream:
/// longer than a probe takes, and those that others are asked for.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);

/// An established link.
pub(super) struct Link {
    beginning: Beginning,
    /// Our requests under way, and the streams that we opened.
    pub(super) leases: AtomicUsize,
    /// The peer's requests under way.
    pub(super) serving: AtomicUsize,
    /// The streams that the peer opened: they stay for long, and take no place of its requests.
    pub(super) streaming: AtomicUsize,
    /// Another one is being made in its place.
    pub(super) renewing: AtomicBool,
    /// It is going to be closed, since the peer's keys are accepted no more.
    pub(super) distrusted: AtomicBool,
    /// A ping decides over it.
    pub(super) checking: AtomicBool,
    /// How many of the peer's were, in both directions and in one.
    taken: [AtomicU64; 2],
    /// Its peer did not answer that.
    pub(super) given_up: AtomicBool,
    /// What the peer has yet to acknowledge, where something of ours waits for it.
    pub(super) awaited: Mutex<Option<Awaited>>,
    /// The connection has ended.
    ended: CancellationToken,
    /// Streams of programs that are open on it, in either direction.
    pub(super) streams: streams::Streams,
    /// A frame of ours on a stream has reached the peer.
    answered: AtomicBool,
    /// When a program, and when the membership used it last, after it began; 0 is never.
    used_millis: AtomicU64,
    framed_millis: AtomicU64,
    served_millis: AtomicU64,
    began: Instant,
    frames_out: Arc<Semaphore>,
    frames_in: Semaphore,
    /// What all links of the same node have in common: the limits are kept there.
    pub(super) share: Arc<PeerShare>,
    /// Where the peer's membership frames go. Closed when the link is being closed: no further stream of
    /// the peer's is taken then either.
    pub(super) intake: Arc<Intake>,
    /// Room taken by what the peer's requests and messages bring.
    pub(super) payloads: Tally,
    /// Bytes of our handlers' answers that the peer has yet to read.
    pub(super) answers: Tally,
}

impl Deref for Link {
    type Target = Beginning;

    fn deref(&self) -> &Beginning {
        &self.beginning
    }
}

impl Link {
    pub(super) fn new(beginning: Beginning, share: Arc<PeerShare>, intake: Arc<Intake>) -> Self {
        let began = Instant::now();
        Self {
            beginning,
            leases: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
            taken: Default::default(),
            streaming: AtomicUsize::new(0),
            renewing: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            awaited: Mutex::new(None),
            ended: CancellationToken::new(),
            streams: streams::Streams::default(),
            answered: AtomicBool::new(false),
            used_millis: AtomicU64::new(0),
            framed_millis: AtomicU64::new(0),
            served_millis: AtomicU64::new(0),
            began,
            frames_out: Arc::new(Semaphore::new(FRAMES_AT_ONCE)),
            frames_in: Semaphore::new(FRAMES_AT_ONCE),
            share,
            intake,
            payloads: Tally::default(),
            answers: Tally::default(),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes a use.
    pub(super) fn touch(&self) {
        self.note_use(self.millis().max(1));
    }

    /// Many do so in one millisecond: what is written takes it from the other processors' caches.
    fn note_use(&self, now: u64) {
        if self.used_millis.load(Relaxed) != now {
            self.used_millis.store(now, Relaxed);
        }
    }

    /// Notes that a request of the peer's has been dealt with.
    pub(super) fn served(&self) {
        let now = self.millis().max(1);
        self.served_millis.store(now, Relaxed);
        self.note_use(now);
    }

    /// Notes a frame of the membership's that is no datagram.
    fn framed(&self) {
        self.framed_millis.store(self.millis().max(1), Relaxed);
    }

    /// How long nobody has used it.
    pub(super) fn unused(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.last_millis()))
    }

    /// Whether nobody needs it any more: unused for so long, or dialed for the membership alone,
    /// whose exchange is over. The other end leaves it to us then: we may be about to use it.
    pub(super) fn has_served_its_purpose(&self, unused_max: Duration) -> bool {
        let of_membership = self.dialed && self.used_millis.load(Relaxed) == 0;
        let enough = if of_membership { unused_max.min(EXCHANGE_MAX) } else { unused_max };
        self.unused() >= enough
    }

    /// The moment of the last use.
    pub(super) fn last_use(&self) -> Instant {
        self.began + Duration::from_millis(self.last_millis())
    }

    fn last_millis(&self) -> u64 {
        self.used_millis.load(Relaxed).max(self.framed_millis.load(Relaxed))
    }

    /// Whether nothing is under way on it, in either direction.
    pub(super) fn quiet(&self) -> bool {
        [&self.leases, &self.serving, &self.streaming].iter().all(|count| count.load(Relaxed) == 0)
    }

    /// Whether it is quiet, and the last answer to the peer has had its time to get there.
    pub(super) fn settled(&self) -> bool {
        let served = self.served_millis.load(Relaxed);
        let settled =
            served == 0 || self.millis().saturating_sub(served) >= SERVED_QUIET.as_millis() as u64;
        self.quiet() && settled
    }

    /// Whether it may be closed, if no pin keeps it.
    pub(super) fn evictable(&self) -> bool {
        let served = self.dialed || self.answered.load(Relaxed) || self.began.elapsed() >= YOUNG;
        self.settled() && served
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How many datagrams wait, to be sent or to be looked at.
    pub(super) fn datagrams_waiting(&self) -> usize {
        self.outgoing.waiting() + self.incoming.waiting()
    }

    /// Where new packets reach the peer, if that is known: where we dialed it, or where it says that it
    /// listens if that is the host that its packets come from. What it dialed from may take ours on
    /// this connection only, and another host's word says nothing about it.
    pub(super) fn door(&self) -> Option<SocketAddr> {
        let remote = self.handle.remote_addr().ok()?;
        let same_host = remote.ip().to_canonical() == self.addr.ip().to_canonical();
        if self.dialed { Some(remote) } else { same_host.then_some(self.addr) }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Notes that the connection has ended.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Takes nothing from the peer any more: it is about to be closed.
    pub(super) fn hear_no_more(&self) {
        self.intake.close();
    }

    /// Closes the connection; whoever uses it gets an error at once.
    ///
    /// The peer is told which of its streams were taken, so that it asks again for no request that may have
    /// been handled. Either this sees a stream in the count, or whoever takes it sees that it came too late.
    pub(super) fn close(&self, code: Code) {
        self.hear_no_more();
        let [bidirectional, unidirectional] = [0, 1].map(|kind| self.taken[kind].load(SeqCst));
        self.handle.close(Taken { bidirectional, unidirectional }.with(code));
    }

    /// Takes a stream of the peer's, unless the link is being closed.
    fn take(&self, stream: u64) -> bool {
        if self.intake.is_closed() {
            return false;
        }
        let kind = usize::from(stream & 2 != 0);
        self.taken[kind].fetch_max((stream >> 2) + 1, SeqCst);
        !self.intake.is_closed()
    }

    /// Sends a membership frame, best effort. Datagrams are no use of the link: probes and gossip
    /// go over whatever links there are, and would keep as many as there may be for ever.
    pub(super) fn send_frame(self: &Arc<Self>, node: &Arc<Node>, class: Class, bytes: Bytes) {
        if class == Class::Datagram && self.outgoing.fits(bytes.len()) {
            return self.outgoing.push(bytes);
        }
        self.framed();
        let permit = self.frames_out.clone().try_acquire_owned();
        let (Ok(permit), true) = (permit, bytes.len() <= FRAME_BYTES_MAX) else {
            return node.stats.frames_dropped.up();
        };
        let (link, inner) = (self.clone(), node.clone());
        node.spawn("frame", async move {
            let _permit = permit;
            match link.stream_frame(bytes).await {
                Ok(()) => {
                    inner.stats.frames_sent.up();
                    if !link.answered.swap(true, Relaxed) {
                        inner.pool.stir();
                    }
                }
                Err(_) => inner.stats.frames_dropped.up(), // the link's own end is reported elsewhere
            }
        });
    }

    async fn stream_frame(&self, bytes: Bytes) -> s2n_quic::stream::Result<()> {
        let mut stream = self.handle.clone().open_send_stream().await?;
        stream.send_vectored(&mut [Bytes::from_static(&[request::KIND_FRAME]), bytes]).await?;
        // Waits until the peer has it all: the permit bounds what is under way.
        stream.close().await
    }
}

/// What the pool decides by.
impl Entry for Arc<Link> {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn slot(&self) -> u16 {
        self.slot
    }

    fn rank(&self) -> Rank {
        self.rank
    }

    fn is(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }

    fn load(&self) -> usize {
        self.leases.load(Relaxed)
    }

    fn in_trouble(&self) -> bool {
        self.health.in_trouble()
    }

    fn may_go(&self) -> bool {
        self.evictable()
    }

    fn last_use(&self) -> Instant {
        Link::last_use(self)
    }
}

/// Serves a link until it ends, and says why it did.
pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, acceptor: StreamAcceptor) -> LinkEnd {
    link.incoming.flow_to(link.intake.clone());
    let end = serve(node, link, acceptor).await;
    link.hear_no_more();
    link.streams.end(end.to_string());
    end
}

async fn serve(node: &Arc<Node>, link: &Arc<Link>, mut acceptor: StreamAcceptor) -> LinkEnd {
    if link.health.moved() {
        return LinkEnd::Broken(MOVED.into()); // before it was in the pool, where that is looked for
    }
    let mut stopped = std::pin::pin!(node.stop.cancelled());
    let mut late = Vec::new(); // no more than the stack lets the peer open
    loop {
        tokio::select! {
            () = &mut stopped => return LinkEnd::Closed("this node shuts down".into()),
            stream = acceptor.accept() => match stream {
                // Dropped after the link has ended: until then the peer would take that for an answer.
                Ok(Some(stream)) if !link.take(stream.id()) => {
                    late.push(stream);
                }
                Ok(Some(PeerStream::Bidirectional(stream))) => request::serve(node, link, stream),
                Ok(Some(PeerStream::Receive(stream))) => receive(node, link, stream),
                // A clean close ends this way, and so does silence: the connection knows which.
                Ok(None) => {
                    let error = link.handle.clone().ping().err();
                    return error.as_ref().map_or(LinkEnd::UnusedByPeer, LinkEnd::of);
                }
                Err(error) => return LinkEnd::of(&error),
            }
        }
    }
}

/// Takes a unidirectional stream: a membership frame, a message, or what there is to tell about
/// streams of programs.
fn receive(node: &Arc<Node>, link: &Arc<Link>, stream: ReceiveStream) {
    let (inner, link) = (node.clone(), link.clone());
    node.spawn("stream", async move {
        let mut reader = Reader::new(stream);
        let Ok(kind) = timeout(KIND_TIMEOUT, reader.exact(1)).await else {
            return inner.stats.stalled.up();
        };
        match kind.as_deref() {
            Ok([request::KIND_FRAME]) => receive_frame(&inner, &link, reader).await,
            Ok([request::KIND_MESSAGE]) => request::receive_message(&inner, &link, reader).await,
            Ok([streams::KIND]) => streams::hear(&inner, &link, reader).await,
            // Unknown kinds are of later versions; dropping the stream tells the peer to stop.
            _ => {}
        }
    });
}

async fn receive_frame(node: &Arc<Node>, link: &Arc<Link>, mut reader: Reader) {
    let received = timeout(FRAME_TIMEOUT, async {
        let _permit = link.frames_in.acquire().await.ok()?; // it is never closed
        Some(reader.rest(FRAME_BYTES_MAX).await)
    });
    match received.await {
        Ok(Some(Ok(bytes))) => {
            link.framed();
            node.stats.frames_received.up();
            link.intake.frame(bytes);
        }
        Ok(Some(Err(ReadError::TooLong))) => {
            node.stats.frames_dropped.up();
            // No honest peer sends it, and the next one would take as much room until it is given up.
            seldom!(DEBUG, 10, target: "peerage::link", peer = ?link.peer, "a frame is too long");
            link.hear_no_more();
            node.drop_link(link, LinkEnd::Closed("a frame that is too long".into()));
            link.close(Code::Closed);
        }
        Ok(Some(Err(_)) | None) => node.stats.frames_dropped.up(),
        Err(_) => node.stats.stalled.up(),
    }
}

impl Node {
    /// Runs a task that ends with the transport, or does nothing when that has ended; a panic in
    /// it is reported.
    pub(super) fn spawn<F>(self: &Arc<Self>, what: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(runtime) = self.runtime.lock().clone() else { return };
        let (node, work) = (self.clone(), caught(future.instrument(self.span.clone())));
        self.tasks.spawn_on(
            async move {
                if let Err(message) = work.await {
                    node.emit(TransportEvent::Panic { what, message });
                }
            },
            &runtime,
        );
    }
}
