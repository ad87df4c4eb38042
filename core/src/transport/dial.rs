//! How a link comes to be: dialing, accepting, the hello on both sides, and its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use s2n_quic::{
    Connection, Server, client::Connect, connection, connection::StreamAcceptor, stream,
};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    TransportEvent,
    datagram::{Inbox, Incoming, Outbox},
    end::{Code, describe},
    health::Health,
    hello::{self, Answer, Failure, Hello},
    identity,
    link::{self, Link},
    node::Node,
    pool::{DialKey, Installed},
    tls,
};
use crate::{
    error::{Error, Result},
    member::NodeId,
};

/// How many hellos of strangers are heard at once.
const HELLOS_MAX: usize = 256;
/// A surplus link stays at least so long, since the peer may have begun to use it, ...
const SURPLUS_MIN: Duration = Duration::from_millis(500);
/// ... and at most so long, whatever is still under way on it.
const SURPLUS_MAX: Duration = Duration::from_secs(5);
/// TLS alerts, as QUIC carries them (RFC 9001, section 4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// A connection before it is a link.
struct Fresh {
    handle: connection::Handle,
    acceptor: StreamAcceptor,
    health: Arc<Health>,
    outgoing: Arc<super::datagram::Outgoing>,
    incoming: Arc<Incoming>,
    /// The node ids that the peer's certificate speaks for.
    ids: Vec<NodeId>,
}

impl Fresh {
    /// `None` when the connection is gone already.
    fn new(connection: Connection) -> Option<Self> {
        let (mut handle, acceptor) = connection.split();
        handle.keep_alive(true).ok()?;
        let health = handle.query_event_context(|health: &Arc<Health>| health.clone()).ok()?;
        let outgoing = handle.datagram_mut(|outbox: &mut Outbox| outbox.outgoing()).ok()?;
        let incoming = handle.datagram_mut(|inbox: &mut Inbox| inbox.incoming()).ok()?;
        let ids =
            health.leaf.lock().take().map(|leaf| identity::node_ids(&leaf)).unwrap_or_default();
        Some(Self { handle, acceptor, health, outgoing, incoming, ids })
    }
}

impl Node {
    /// Dials, says hello, and puts the link into the pool. Returns the link that stays.
    pub(super) async fn dial(self: &Arc<Self>, key: &DialKey) -> Result<Arc<Link>> {
        let (addr, expect) = key;
        let limit = self.connect_timeout;
        let made = timeout(limit, self.connect(*addr, expect.clone())).await;
        let (fresh, theirs, serial) = made.unwrap_or_else(|_| {
            let reason = format!("no answer within {limit:?}");
            Err(Error::Unreachable { target: addr.to_string(), reason })
        })?;
        self.establish(fresh, theirs, Some(*addr), serial).ok_or_else(|| self.closed())
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        expect: Option<NodeId>,
    ) -> Result<(Fresh, Hello, u64)> {
        let serial = self.next_serial();
        let ours = Hello { expect, serial, ..self.hello() };
        let client = self.client.lock().clone().ok_or_else(|| self.closed())?;
        let attempt = client.connect(Connect::new(addr).with_server_name(tls::SERVER_NAME));
        drop(client); // a handle held over the wait would keep the endpoint open
        let connection = attempt.await.map_err(|error| not_connected(addr, &error))?;
        let gone = || Error::Unreachable {
            target: addr.to_string(),
            reason: "it closed the connection".into(),
        };
        let mut fresh = Fresh::new(connection).ok_or_else(gone)?;
        let refuse = RefuseOnDrop(Some(fresh.handle.clone()));
        let answer: Answer = async {
            let stream =
                fresh.handle.open_bidirectional_stream().await.map_err(stream::Error::from)?;
            let (mut receive, mut send) = stream.split();
            hello::send(&mut send, &ours).await?;
            hello::receive(&mut receive).await
        }
        .await
        .map_err(|failure| hello_failed(addr, failure))?;
        if let Answer::Full(_, others) = &answer {
            let others = others.iter().take(hello::OTHERS_MAX).copied().collect();
            self.emit(TransportEvent::Full { addr, others });
        }
        let theirs = hello::accept(&ours, addr, answer, &fresh.ids)?;
        refuse.keep();
        Ok((fresh, theirs, serial))
    }

    /// Accepts connections until the transport stops.
    pub(super) async fn accept(self: Arc<Self>, mut server: Server) {
        let hellos = Arc::new(Semaphore::new(HELLOS_MAX));
        loop {
            let connection = tokio::select! {
                () = self.stop.cancelled() => return,
                connection = server.accept() => connection,
            };
            let Some(connection) = connection else {
                let message = "it ended by itself".into();
                return self.emit(TransportEvent::Panic { what: "endpoint", message });
            };
            let Ok(permit) = hellos.clone().try_acquire_owned() else {
                connection.close(Code::Refused.into());
                self.stats.refused.up();
                continue;
            };
            let node = self.clone();
            self.spawn("accept", async move {
                let _permit = permit;
                let heard = tokio::select! {
                    () = node.stop.cancelled() => return,
                    heard = timeout(node.connect_timeout, node.welcome(connection)) => heard,
                };
                match heard {
                    Ok(Some((fresh, theirs))) => {
                        let serial = theirs.serial;
                        if node.establish(fresh, theirs, None, serial).is_some() {
                            node.stats.accepted.up();
                        }
                    }
                    Ok(None) | Err(_) => node.stats.refused.up(),
                }
            });
        }
    }

    /// Hears a dialer's hello and answers it. `None` when it was refused.
    async fn welcome(&self, connection: Connection) -> Option<(Fresh, Hello)> {
        let mut fresh = Fresh::new(connection)?;
        let refuse = RefuseOnDrop(Some(fresh.handle.clone()));
        let stream = fresh.acceptor.accept_bidirectional_stream().await.ok()??;
        let (mut receive, mut send) = stream.split();
        let (answer, theirs) = match hello::receive::<Hello>(&mut receive).await {
            Ok(theirs) => match hello::judge(&self.hello(), &theirs, &fresh.ids) {
                Some(refusal) => (refusal, None),
                None if self.is_draining() => (Answer::Closing, None),
                None if !self.admit_link(&theirs.peer()) => {
                    let others = self.pool.some(hello::OTHERS_MAX);
                    (Answer::Full(self.pool.max as u32, others), None)
                }
                None => (Answer::Welcome(self.hello()), Some(theirs)),
            },
            Err(Failure::Versions(..)) => {
                (Answer::WrongVersion(hello::VERSIONS.0, hello::VERSIONS.1), None)
            }
            Err(Failure::Nonsense(why)) => {
                tracing::debug!(why, "a hello made no sense");
                return None;
            }
            Err(Failure::Stream(_)) => return None,
        };
        hello::send(&mut send, &answer).await.ok()?;
        let Some(theirs) = theirs else {
            // The refusal must arrive before the connection goes; the whole is under a deadline.
            let _ = send.close().await; // it may be gone already
            return None;
        };
        refuse.keep();
        Some((fresh, theirs))
    }

    /// Makes a link of a connection that passed the hello, and serves it in a task of its own.
    /// Returns the link to that peer that stays; `None` when the transport is closed.
    fn establish(
        self: &Arc<Self>,
        fresh: Fresh,
        theirs: Hello,
        dialed: Option<SocketAddr>,
        serial: u64,
    ) -> Option<Arc<Link>> {
        let Fresh { handle, acceptor, health, outgoing, incoming, ids: _ } = fresh;
        let peer = theirs.peer();
        // The link dialed by the smaller of the two stays; in the same direction, the newest.
        let dialed_by_us = dialed.is_some();
        let by_smaller = dialed_by_us == (self.me < peer);
        let rank = (by_smaller, serial);
        let link = Link::new(peer, theirs.listen, dialed_by_us, rank, handle, health, outgoing);
        let link = Arc::new(link);
        let (stays, surplus) = match self.install(&link, dialed) {
            Installed::Up => (link.clone(), None),
            Installed::Instead(old) => (link.clone(), Some(old)),
            Installed::Surplus(held) => (held, Some(link.clone())),
            Installed::Closed => {
                link.close(Code::Shutdown);
                return None;
            }
        };
        if let Some(surplus) = surplus {
            let node = self.clone();
            self.spawn("drain", async move { node.drain(&surplus).await });
        }
        self.pool.stir();
        let node = self.clone();
        self.spawn("link", async move {
            let end = link::run(&node, &link, acceptor, incoming).await;
            link.close(Code::Closed);
            node.drop_link(&link, end);
        });
        Some(stays)
    }

    /// Lets a surplus link finish what is under way, and closes it. The side that dialed it does
    /// so as soon as it is quiet; the other only when that does not happen.
    async fn drain(&self, link: &Link) {
        let quiet = async {
            tokio::time::sleep(SURPLUS_MIN).await;
            while !(link.dialed && link.quiet()) {
                tokio::time::sleep(SURPLUS_MIN / 10).await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = timeout(SURPLUS_MAX, quiet) => {}
        }
        link.close(Code::Duplicate);
    }
}

/// Closes a connection that does not become a link.
struct RefuseOnDrop(Option<connection::Handle>);

impl RefuseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RefuseOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.close(Code::Refused.into());
        }
    }
}

fn not_connected(addr: SocketAddr, error: &connection::Error) -> Error {
    match error {
        connection::Error::Transport { code, .. } if CRYPTO_ERRORS.contains(&code.as_u64()) => {
            Error::Unauthenticated { addr, reason: error.to_string() }
        }
        _ => Error::Unreachable { target: addr.to_string(), reason: describe(error) },
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
