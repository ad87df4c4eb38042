//! How a link comes to be: dialing, accepting, the hello on both sides, and its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use s2n_quic::{
    Connection, Server, client::Connect, connection, connection::StreamAcceptor, stream,
};
use tokio::time::timeout;
use tracing::Instrument;

use super::{
    TransportEvent,
    datagram::{Inbox, Incoming, Outbox},
    end::{Alert, Code, describe},
    health::Health,
    hello::{self, Answer, Failure, Hello},
    identity,
    link::{self, Beginning, Link},
    node::Node,
    places::Places,
    pool::{Admitted, DialKey, Installed, NoRoom},
    tls,
};
use crate::{
    error::{Error, Result},
    member::NodeId,
    seldom::seldom,
};

/// How many hellos are heard at once, ...
const HELLOS_MAX: usize = 256;
/// ... and how many of one node, which has no use for more than two. One more displaces the oldest.
const HELLOS_PER_NODE_MAX: usize = 4;
/// A link that another one has taken the place of stays at least so long, since the peer may have
/// begun to use it.
const RETIRED_MIN: Duration = Duration::from_millis(500);
/// The end that did not dial it waits so much longer for the other to close it, ...
const RETIRED_OTHER: Duration = Duration::from_secs(5);
/// ... and both at most so long for what is still under way: the longest deadline of a request.
const RETIRED_MAX: Duration = Duration::from_secs(3600);

/// A connection before it is a link.
struct Fresh {
    handle: connection::Handle,
    acceptor: StreamAcceptor,
    health: Arc<Health>,
    outgoing: Arc<super::datagram::Outgoing>,
    incoming: Arc<Incoming>,
    /// What the peer proved itself by, ...
    chain: Vec<CertificateDer<'static>>,
    /// ... and the node ids that it speaks for.
    ids: Vec<NodeId>,
}

/// How a connection was made.
struct Made {
    dialed: bool,
    /// The driver asked for this address, and hears of it.
    tell: Option<SocketAddr>,
    generation: u64,
    serial: u64,
    slot: u16,
    /// Its place in the pool, if the peer dialed.
    admitted: Option<Admitted>,
}

impl Fresh {
    /// `None` when the connection is gone already.
    fn new(connection: Connection) -> Option<Self> {
        let (mut handle, acceptor) = connection.split();
        handle.keep_alive(true).ok()?;
        let health = handle.query_event_context(|health: &Arc<Health>| health.clone()).ok()?;
        let outgoing = handle.datagram_mut(|outbox: &mut Outbox| outbox.outgoing()).ok()?;
        let incoming = handle.datagram_mut(|inbox: &mut Inbox| inbox.incoming()).ok()?;
        let chain = std::mem::take(&mut *health.chain.lock());
        let ids = chain.first().map(|leaf| identity::node_ids(leaf)).unwrap_or_default();
        Some(Self { handle, acceptor, health, outgoing, incoming, chain, ids })
    }
}

impl Node {
    /// Dials, says hello, and puts the link into the pool. Returns the link that stays.
    pub(super) async fn dial(self: &Arc<Self>, key: &DialKey) -> Result<Arc<Link>> {
        #[cfg(test)]
        assert_ne!(key.addr, super::tests::PANIC_ADDR, "the dial was asked to panic");
        let generation = self.keys.generation();
        let (fresh, theirs, serial) = self.connect(key, generation).await?;
        let tell = (key.slot == 0).then_some(key.addr);
        let made = Made { dialed: true, tell, generation, serial, slot: key.slot, admitted: None };
        self.establish(fresh, theirs, made).ok_or_else(|| self.closed())
    }

    /// Makes another link in the place of one, which goes once nothing is under way on it.
    pub(super) async fn dial_instead(self: &Arc<Self>, link: &Link) -> Result<()> {
        let generation = self.keys.generation().max(link.rank.0.saturating_add(1));
        let expect = Some(link.peer.id.clone());
        let key = DialKey { addr: link.addr, expect, slot: link.slot };
        let (fresh, theirs, serial) = self.connect(&key, generation).await?;
        let made =
            Made { dialed: true, tell: None, generation, serial, slot: key.slot, admitted: None };
        self.establish(fresh, theirs, made).map(drop).ok_or_else(|| self.closed())
    }

    async fn connect(&self, key: &DialKey, generation: u64) -> Result<(Fresh, Hello, u64)> {
        let limit = self.connect_timeout;
        let connecting = timeout(limit, self.connect_and_greet(key, generation));
        let connected = connecting.await.unwrap_or_else(|_| {
            let reason = format!("no answer within {limit:?}");
            Err(Error::Unreachable { target: key.addr.to_string(), reason })
        });
        match &connected {
            Err(Error::WrongCluster { .. }) => self.stats.wrong_cluster.up(),
            Err(Error::Unauthenticated { .. }) => self.stats.unauthenticated.up(),
            Err(Error::CertificateExpired { .. }) => {
                self.stats.unauthenticated.up();
                self.stats.expired.up();
            }
            _ => {}
        }
        connected
    }

    async fn connect_and_greet(
        &self,
        key: &DialKey,
        generation: u64,
    ) -> Result<(Fresh, Hello, u64)> {
        let DialKey { addr, slot, .. } = *key;
        let serial = self.next_serial();
        let expect = key.expect.clone();
        let ours = Hello { expect, serial, generation, slot, ..self.hello() };
        let client = self.client.lock().clone().ok_or_else(|| self.closed())?;
        let attempt = client.connect(Connect::new(addr).with_server_name(tls::SERVER_NAME));
        drop(client); // a handle held over the wait would keep the endpoint open
        let connection = attempt.await.map_err(|error| not_connected(addr, &error))?;
        let gone = || Error::Unreachable {
            target: addr.to_string(),
            reason: "it closed the connection".into(),
        };
        let mut fresh = Fresh::new(connection).ok_or_else(gone)?;
        self.note_handshake(&fresh, true);
        let mut refuse = RefuseOnDrop::new(&fresh);
        let answer: Answer = async {
            let stream =
                fresh.handle.open_bidirectional_stream().await.map_err(stream::Error::from)?;
            let (mut receive, mut send) = stream.split();
            hello::send(&mut send, &ours).await?;
            hello::receive(&mut receive).await
        }
        .await
        .map_err(|failure| hello_failed(addr, failure))?;
        if let (Answer::Full(_, others), 0) = (&answer, slot) {
            let others = others.iter().take(hello::OTHERS_MAX).copied().collect();
            self.emit(TransportEvent::Full { addr, others });
        }
        if let Answer::Welcome(theirs) = &answer
            && !fresh.ids.contains(&theirs.id)
        {
            self.stats.wrong_node.up();
            refuse.code = Code::NotProven;
        }
        let theirs = hello::accept(&ours, addr, answer, &fresh.ids)?;
        refuse.keep();
        Ok((fresh, theirs, serial))
    }

    fn note_handshake(&self, fresh: &Fresh, dialed: bool) {
        if let Some(took) = fresh.health.handshake() {
            self.inbound.shook_hands(took, dialed);
        }
    }

    /// Accepts connections until the transport stops.
    pub(super) async fn accept(self: Arc<Self>, mut server: Server) {
        let hellos = Places::new(HELLOS_MAX, HELLOS_PER_NODE_MAX);
        loop {
            let connection = tokio::select! {
                () = self.stop.cancelled() => return,
                connection = server.accept() => connection,
            };
            let Some(connection) = connection else {
                let message = "it ended by itself".into();
                return self.emit(TransportEvent::Panic { what: "endpoint", message });
            };
            let Some(fresh) = Fresh::new(connection) else {
                self.stats.refused.up();
                continue;
            };
            self.note_handshake(&fresh, false);
            let (mut place, displaced) = hellos.take(fresh.ids.first());
            if displaced {
                self.stats.hellos_displaced.up();
            }
            let node = self.clone();
            self.spawn("accept", async move {
                let heard = tokio::select! {
                    () = node.stop.cancelled() => return,
                    () = place.displaced() => Ok(None),
                    heard = timeout(node.connect_timeout, node.welcome(fresh)) => heard,
                };
                match heard {
                    Ok(Some((fresh, theirs, admitted))) => {
                        let Hello { serial, generation, slot, .. } = theirs;
                        let admitted = Some(admitted);
                        let made =
                            Made { dialed: false, tell: None, generation, serial, slot, admitted };
                        if node.establish(fresh, theirs, made).is_some() {
                            node.stats.accepted.up();
                        }
                    }
                    Ok(None) | Err(_) => node.stats.refused.up(),
                }
            });
        }
    }

    /// Hears a dialer's hello and answers it. `None` when it was refused.
    async fn welcome(self: &Arc<Self>, mut fresh: Fresh) -> Option<(Fresh, Hello, Admitted)> {
        let refuse = RefuseOnDrop::new(&fresh);
        let stream = fresh.acceptor.accept_bidirectional_stream().await.ok()??;
        let (mut receive, mut send) = stream.split();
        let (answer, admitted) = match hello::receive::<Hello>(&mut receive).await {
            Ok(theirs) => match hello::judge(&self.hello(), &theirs, &fresh.ids) {
                Some(refusal) => {
                    match &refusal {
                        Answer::WrongCluster => self.stats.wrong_cluster.up(),
                        Answer::NotYourCertificate | Answer::WrongNode(_) => {
                            self.stats.wrong_node.up();
                        }
                        _ => {}
                    }
                    seldom!(DEBUG, 10, target: "peerage::hello", ?refusal, dialer = %theirs.id, "refused");
                    (refusal, None)
                }
                None if self.is_draining() => (Answer::Closing, None),
                None => match self.admit_link(&theirs.peer(), theirs.slot) {
                    Ok(admitted) => (Answer::Welcome(self.hello()), Some((theirs, admitted))),
                    // It has as many as it may: others are no help.
                    Err(NoRoom::Slots(_)) => {
                        (Answer::Full(self.pool.limits.per_peer as u32, Vec::new()), None)
                    }
                    Err(NoRoom::Links | NoRoom::Dials) => {
                        let others = self.pool.some(hello::OTHERS_MAX);
                        (Answer::Full(self.pool.limits.total as u32, others), None)
                    }
                },
            },
            Err(Failure::Versions(..)) => {
                (Answer::WrongVersion(hello::VERSIONS.0, hello::VERSIONS.1), None)
            }
            Err(Failure::Nonsense(why)) => {
                seldom!(DEBUG, 10, target: "peerage::hello", why, "a hello made no sense");
                return None;
            }
            Err(Failure::Stream(_)) => return None,
        };
        hello::send(&mut send, &answer).await.ok()?;
        let Some((theirs, admitted)) = admitted else {
            // The refusal must arrive before the connection goes; the whole is under a deadline.
            let _ = send.close().await; // it may be gone already
            return None;
        };
        refuse.keep();
        Some((fresh, theirs, admitted))
    }

    /// Makes a link of a connection that passed the hello, and serves it in a task of its own.
    /// Returns the link to that peer that stays; `None` when the transport is closed.
    fn establish(self: &Arc<Self>, fresh: Fresh, theirs: Hello, made: Made) -> Option<Arc<Link>> {
        let Fresh { handle, acceptor, health, outgoing, incoming, chain, ids: _ } = fresh;
        let peer = theirs.peer();
        // The link dialed by the smaller of the two stays; in the same direction, the newest.
        let by_smaller = made.dialed == (self.me < peer);
        let beginning = Beginning {
            peer,
            addr: theirs.listen,
            dialed: made.dialed,
            slot: made.slot,
            rank: (made.generation, by_smaller, made.serial),
            handle,
            health,
            outgoing,
            incoming,
            chain,
        };
        let _ = beginning.handle.clone().keep_alive(false); // it may have just ended
        let (link, installed) = self.install(beginning, made.tell, made.admitted);
        let (stays, retired) = match installed {
            Installed::Up(_) => (link.clone(), None),
            Installed::Instead(old) => (link.clone(), Some(old)),
            Installed::Surplus(held) => (held, Some(link.clone())),
            Installed::Closed => {
                link.close(Code::Shutdown);
                return None;
            }
        };
        if let Some(retired) = retired {
            let node = self.clone();
            self.spawn("drain", async move { node.drain(&retired).await });
        }
        self.end_predecessors_of(&link);
        self.pool.stir();
        // The keys may have been changed over the handshake.
        if self.is_stale(&link) {
            self.keys_changed.notify_one();
        }
        let node = self.clone();
        let span = tracing::debug_span!(
            target: "peerage::link",
            "link",
            peer = %link.peer.id,
            slot = link.slot,
            dialed = link.dialed,
        );
        let link_task = async move {
            let end = link::run(&node, &link, acceptor).await;
            seldom!(DEBUG, 10, target: "peerage::link", %end, "down");
            link.close(Code::Closed);
            link.end();
            node.drop_link(&link, end);
        };
        self.spawn("link", link_task.instrument(span));
        Some(stays)
    }

    /// Lets a link that another one has taken the place of finish what is under way, and closes
    /// it. The side that dialed it does so as soon as it is quiet; the other only when that does
    /// not happen. A peer that makes link after link displaces the oldest.
    async fn drain(&self, link: &Arc<Link>) {
        let (mut place, _) = self.retired.take(Some(&link.peer.id));
        let quiet = async {
            tokio::time::sleep(if link.dialed { RETIRED_MIN } else { RETIRED_OTHER }).await;
            while !link.settled() {
                tokio::time::sleep(RETIRED_MIN / 10).await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = link.ended() => {}
            () = place.displaced() => {}
            () = async {
                let _ = timeout(RETIRED_MAX, quiet).await; // either way it may go
                // Streams have no end in sight, and no other link can take them over.
                while link.streams.any() {
                    tokio::time::sleep(RETIRED_MIN / 10).await;
                }
            } => {}
        }
        link.close(Code::Duplicate);
        self.forget_retired(link);
    }
}

/// Closes a connection that does not become a link.
struct RefuseOnDrop {
    handle: Option<connection::Handle>,
    code: Code,
}

impl RefuseOnDrop {
    fn new(fresh: &Fresh) -> Self {
        Self { handle: Some(fresh.handle.clone()), code: Code::Refused }
    }

    fn keep(mut self) {
        self.handle = None;
    }
}

impl Drop for RefuseOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.close(self.code.into());
        }
    }
}

fn not_connected(addr: SocketAddr, error: &connection::Error) -> Error {
    match Alert::of(error) {
        Some(alert) if alert.is_expiry() => {
            Error::CertificateExpired { addr, reason: alert.reason() }
        }
        Some(alert) => Error::Unauthenticated { addr, reason: alert.reason() },
        None => Error::Unreachable { target: addr.to_string(), reason: describe(error) },
    }
}

/// A server that does not like our certificate says so only now: to the dialing side the
/// connection looked good.
fn hello_failed(addr: SocketAddr, failure: Failure) -> Error {
    let unreachable = |reason: String| Error::Unreachable { target: addr.to_string(), reason };
    match failure {
        Failure::Stream(stream::Error::ConnectionError { error, .. }) => {
            not_connected(addr, &error)
        }
        Failure::Stream(error) => unreachable(error.to_string()),
        Failure::Nonsense(why) => {
            unreachable(format!("its answer to the hello makes no sense: {why}"))
        }
        Failure::Versions(min, max) => hello::wrong_version(addr, min, max),
    }
}
