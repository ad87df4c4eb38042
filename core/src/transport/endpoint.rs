//! The two QUIC endpoints of a node: one that accepts and one that dials, with their limits.
//!
//! s2n-quic gives each role a socket of its own, so a dial leaves from another port than the one
//! we listen on; where a node listens is said in the hello.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use s2n_quic::{
    Client, Server,
    provider::{
        endpoint_limits::{ConnectionAttempt, Limiter, Outcome},
        io::{self, tokio::Provider as TokioIo},
        limits::Limits,
    },
};
use s2n_quic_core::{endpoint::Endpoint, inet::SocketAddress};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    datagram::Datagrams, gather::Gathering, health::Observer, identity::Identity, reset::Role,
    stats::Stats, tls,
};
use crate::{
    error::{Error, Result},
    member::NodeId,
};

/// A link without traffic for this long is dead. Keep-alives keep it up, so that QUIC never thinks
/// a link dead that the pool thinks alive, nor the other way round.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Well above the default interval of heartbeats: where they go, a keep-alive as well would double
/// the packets. One that is lost is repeated many times before the link counts as dead.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// Instead of the 333 ms of the RFC: lost handshake packets are repeated soon enough that a dial
/// at 5 % loss does not fail.
const INITIAL_RTT: Duration = Duration::from_millis(30);
/// Requests at once, and messages and frames at once, on one link.
const STREAMS_MAX: u64 = 4096;
/// Receive windows: what a peer may make us hold.
const LINK_WINDOW: u64 = 4 << 20;
const STREAM_WINDOW: u64 = 1 << 20;
/// Receive ring of an endpoint in the stack; its default of 8 MiB is for one endpoint a machine.
const RING_BYTES: usize = 1 << 20;
/// From how many unfinished handshakes on a dialing address must prove itself by a Retry.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// From how many on they are dropped.
const HANDSHAKES_MAX: usize = 1024;

/// What an endpoint is built from.
pub(super) struct Setup<'a> {
    pub(super) identity: &'a Identity,
    pub(super) id: &'a NodeId,
    pub(super) connect_timeout: Duration,
    /// The most connections the accepting endpoint holds, refused and draining ones included.
    pub(super) connections_max: usize,
    pub(super) stats: &'a Arc<Stats>,
    pub(super) trouble: &'a Arc<Notify>,
}

/// The task that drives an endpoint, and with it the socket.
pub(super) type Driver = JoinHandle<()>;

impl Setup<'_> {
    /// Starts the accepting endpoint.
    pub(super) fn server(&self, listen: SocketAddr) -> Result<(Server, Driver, SocketAddr)> {
        let (io, driver, addr) = Io::bind(listen)?;
        let limiter = ConnectionLimits { connections_max: self.connections_max };
        let server = Server::builder()
            .with_tls(s2n_quic::provider::tls::rustls::Server::from(tls::server(self.identity)?))
            .map_err(|e| not_started(listen, e))?
            .with_io(io)
            .map_err(|e| not_started(listen, e))?
            .with_limits(self.limits().map_err(|e| not_started(listen, e))?)
            .map_err(|e| not_started(listen, e))?
            .with_stateless_reset_token(self.identity.resets.tokens(self.id, Role::Accepts))
            .map_err(|e| not_started(listen, e))?
            .with_endpoint_limits(limiter)
            .map_err(|e| not_started(listen, e))?
            .with_datagram(Datagrams { stats: self.stats.clone() })
            .map_err(|e| not_started(listen, e))?
            .with_event(self.observer(true))
            .map_err(|e| not_started(listen, e))?
            .start()
            .map_err(|e| not_started(listen, e))?;
        Ok((server, driver.taken(listen)?, addr))
    }

    /// Starts the dialing endpoint, on a free port of the same interface.
    pub(super) fn client(&self, listen: SocketAddr) -> Result<(Client, Driver, SocketAddr)> {
        let local = SocketAddr::new(listen.ip(), 0);
        let (io, driver, addr) = Io::bind(local)?;
        let client = Client::builder()
            .with_tls(s2n_quic::provider::tls::rustls::Client::from(tls::client(self.identity)?))
            .map_err(|e| not_started(local, e))?
            .with_io(io)
            .map_err(|e| not_started(local, e))?
            .with_limits(self.limits().map_err(|e| not_started(local, e))?)
            .map_err(|e| not_started(local, e))?
            .with_stateless_reset_token(self.identity.resets.tokens(self.id, Role::Dials))
            .map_err(|e| not_started(local, e))?
            .with_datagram(Datagrams { stats: self.stats.clone() })
            .map_err(|e| not_started(local, e))?
            .with_event(self.observer(false))
            .map_err(|e| not_started(local, e))?
            .start()
            .map_err(|e| not_started(local, e))?;
        Ok((client, driver.taken(local)?, addr))
    }

    fn observer(&self, accepts: bool) -> Observer {
        Observer { stats: self.stats.clone(), accepts, trouble: self.trouble.clone() }
    }

    fn limits(
        &self,
    ) -> std::result::Result<Limits, s2n_quic_core::connection::limits::ValidationError> {
        Limits::new()
            .with_max_idle_timeout(IDLE_TIMEOUT)?
            .with_max_keep_alive_period(KEEP_ALIVE)?
            .with_max_handshake_duration(self.connect_timeout)?
            .with_initial_round_trip_time(INITIAL_RTT)?
            .with_active_connection_migration(false)?
            .with_max_open_local_bidirectional_streams(STREAMS_MAX)?
            .with_max_open_remote_bidirectional_streams(STREAMS_MAX)?
            .with_max_open_local_unidirectional_streams(STREAMS_MAX)?
            .with_max_open_remote_unidirectional_streams(STREAMS_MAX)?
            .with_data_window(LINK_WINDOW)?
            .with_bidirectional_local_data_window(STREAM_WINDOW)?
            .with_bidirectional_remote_data_window(STREAM_WINDOW)?
            .with_unidirectional_data_window(STREAM_WINDOW)
    }
}

fn not_started(addr: SocketAddr, why: impl ToString) -> Error {
    Error::Bind { addr, reason: why.to_string() }
}

/// s2n-quic's own I/O, except that we bind the socket, let the endpoint gather what it sends, and
/// keep a hold on the task that drives it: ending it ends the socket, whatever connections still
/// linger.
struct Io {
    inner: TokioIo,
    driver: Handover,
}

#[derive(Clone, Default)]
struct Handover(Arc<Mutex<Option<Driver>>>);

impl Handover {
    fn taken(&self, addr: SocketAddr) -> Result<Driver> {
        self.0.lock().take().ok_or_else(|| not_started(addr, "the endpoint did not start"))
    }
}

impl Io {
    fn bind(addr: SocketAddr) -> Result<(Self, Handover, SocketAddr)> {
        let socket = UdpSocket::bind(addr).map_err(|e| not_started(addr, e))?;
        let bound = socket.local_addr().map_err(|e| not_started(addr, e))?;
        let inner = TokioIo::builder()
            .with_rx_socket(socket)
            .and_then(|io| io.with_internal_recv_buffer_size(RING_BYTES))
            .and_then(|io| io.build())
            .map_err(|e| not_started(addr, e))?;
        let driver = Handover::default();
        Ok((Self { inner, driver: driver.clone() }, driver, bound))
    }
}

impl io::Provider for Io {
    type PathHandle = <TokioIo as io::Provider>::PathHandle;
    type Error = std::io::Error;

    fn start<E: Endpoint<PathHandle = Self::PathHandle>>(
        self,
        endpoint: E,
    ) -> std::result::Result<SocketAddress, Self::Error> {
        let (driver, addr) = self.inner.start(Gathering::new(endpoint))?;
        *self.driver.0.lock() = Some(driver);
        Ok(addr)
    }
}

/// Bounds what strangers can make the accepting endpoint hold.
struct ConnectionLimits {
    connections_max: usize,
}

impl Limiter for ConnectionLimits {
    fn on_connection_attempt(&mut self, attempt: &ConnectionAttempt) -> Outcome {
        if attempt.inflight_handshakes >= HANDSHAKES_MAX {
            Outcome::drop()
        } else if attempt.connection_count >= self.connections_max + HANDSHAKES_MAX {
            Outcome::close()
        } else if attempt.inflight_handshakes >= HANDSHAKES_UNPROVEN_MAX {
            Outcome::retry()
        } else {
            Outcome::allow()
        }
    }
}
