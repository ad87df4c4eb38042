//! The two QUIC endpoints of a node: one that accepts and one that dials, with their limits.
//!
//! s2n-quic gives each role a socket of its own, so a dial leaves from another port than the one
//! we listen on; where a node listens is said in the hello.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use s2n_quic::{Client, Server, provider::limits::Limits};
use tokio::sync::Notify;

use super::{
    admission::{Admission, Newcomers, Tokens},
    datagram::Datagrams,
    end::Farewells,
    health::Observer,
    keys::Keys,
    reset::Role,
    socket::{self, Bound, Driven, Driver},
    stats::Stats,
    tls,
};
use crate::error::{Error, Result};

/// A link without traffic for this long is dead. Keep-alives keep it up, so that QUIC never thinks
/// a link dead that the pool thinks alive, nor the other way round.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Only until the hello has been heard, which a peer under load may take its time for: links are kept up
/// by [`Node::keep_links_up`](super::node::Node::keep_links_up).
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// Instead of the 333 ms of the RFC: lost handshake packets are repeated soon enough that a dial
/// at 5 % loss does not fail.
const INITIAL_RTT: Duration = Duration::from_millis(30);
/// Requests at once, and messages and frames at once, on one link.
const STREAMS_MAX: u64 = 4096;
/// Receive windows: what a peer may make us hold.
const LINK_WINDOW: u64 = 4 << 20;
const STREAM_WINDOW: u64 = 1 << 20;

/// What an endpoint is built from.
pub(super) struct Setup<'a> {
    pub(super) keys: &'a Arc<Keys>,
    #[cfg(test)]
    pub(super) instance: u64,
    pub(super) connect_timeout: Duration,
    /// The most connections the accepting endpoint holds, refused and draining ones included.
    pub(super) connections_max: usize,
    pub(super) stats: &'a Arc<Stats>,
    pub(super) trouble: &'a Arc<Notify>,
}

/// An endpoint that runs.
pub(super) struct Started<E> {
    pub(super) endpoint: E,
    pub(super) driver: Driver,
    /// Where its socket is bound.
    pub(super) addr: SocketAddr,
    /// So that tests see that no connection is left.
    #[cfg(test)]
    pub(super) admission: Arc<Admission>,
}

impl Setup<'_> {
    /// Starts the accepting endpoint.
    pub(super) fn server(&self, listen: SocketAddr) -> Result<Started<Server>> {
        #[cfg(test)]
        if turmoil::in_simulation() {
            return self.server_on(socket::simulated::bind(listen)?);
        }
        self.server_on(socket::bind(listen)?)
    }

    fn server_on<I: Driven>(&self, bound: Bound<I>) -> Result<Started<Server>> {
        let listen = bound.addr;
        let admission = Admission::new(self.connections_max, self.stats.clone());
        let (io, driver) = bound.guarded(admission.clone());
        let server = Server::builder();
        #[cfg(test)]
        let mut chance = super::chance::Chance::of(self.instance, Role::Accepts);
        #[cfg(test)]
        let server = server
            .with_connection_id(chance.ids())
            .and_then(|server| server.with_random(chance))
            .map_err(|e| not_started(listen, e))?;
        let server = server
            .with_tls(s2n_quic::provider::tls::rustls::Server::from(tls::server(self.keys)?))
            .map_err(|e| not_started(listen, e))?
            .with_io(io)
            .map_err(|e| not_started(listen, e))?
            .with_limits(self.limits().map_err(|e| not_started(listen, e))?)
            .map_err(|e| not_started(listen, e))?
            .with_stateless_reset_token(self.keys.reset_tokens(Role::Accepts))
            .map_err(|e| not_started(listen, e))?
            .with_endpoint_limits(Newcomers(admission.clone()))
            .map_err(|e| not_started(listen, e))?
            .with_address_token(Tokens::new(admission.clone()))
            .map_err(|e| not_started(listen, e))?
            .with_datagram(Datagrams { stats: self.stats.clone() })
            .map_err(|e| not_started(listen, e))?
            .with_connection_close_formatter(Farewells)
            .map_err(|e| not_started(listen, e))?
            .with_event(self.observer(true, &admission))
            .map_err(|e| not_started(listen, e))?
            .start()
            .map_err(|e| not_started(listen, e))?;
        Ok(Started {
            endpoint: server,
            driver: driver.taken().ok_or_else(|| not_started(listen, NO_DRIVER))?,
            addr: listen,
            #[cfg(test)]
            admission,
        })
    }

    /// Starts the dialing endpoint, on a free port of the same interface.
    pub(super) fn client(&self, listen: SocketAddr) -> Result<Started<Client>> {
        let local = SocketAddr::new(listen.ip(), 0);
        #[cfg(test)]
        if turmoil::in_simulation() {
            return self.client_on(socket::simulated::bind(local)?);
        }
        self.client_on(socket::bind(local)?)
    }

    fn client_on<I: Driven>(&self, bound: Bound<I>) -> Result<Started<Client>> {
        let local = bound.addr;
        let admission = Admission::new(self.connections_max, self.stats.clone());
        let (io, driver) = bound.guarded(admission.clone());
        let client = Client::builder();
        #[cfg(test)]
        let mut chance = super::chance::Chance::of(self.instance, Role::Dials);
        #[cfg(test)]
        let client = client
            .with_connection_id(chance.ids())
            .and_then(|client| client.with_random(chance))
            .map_err(|e| not_started(local, e))?;
        let client = client
            .with_tls(s2n_quic::provider::tls::rustls::Client::from(tls::client(self.keys)?))
            .map_err(|e| not_started(local, e))?
            .with_io(io)
            .map_err(|e| not_started(local, e))?
            .with_limits(self.limits().map_err(|e| not_started(local, e))?)
            .map_err(|e| not_started(local, e))?
            .with_stateless_reset_token(self.keys.reset_tokens(Role::Dials))
            .map_err(|e| not_started(local, e))?
            .with_datagram(Datagrams { stats: self.stats.clone() })
            .map_err(|e| not_started(local, e))?
            .with_connection_close_formatter(Farewells)
            .map_err(|e| not_started(local, e))?
            .with_event(self.observer(false, &admission))
            .map_err(|e| not_started(local, e))?
            .start()
            .map_err(|e| not_started(local, e))?;
        Ok(Started {
            endpoint: client,
            driver: driver.taken().ok_or_else(|| not_started(local, NO_DRIVER))?,
            addr: local,
            #[cfg(test)]
            admission,
        })
    }

    fn observer(&self, accepts: bool, admission: &Arc<Admission>) -> Observer {
        Observer {
            stats: self.stats.clone(),
            keys: self.keys.clone(),
            accepts,
            trouble: self.trouble.clone(),
            admission: admission.clone(),
        }
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

const NO_DRIVER: &str = "the endpoint did not start";

pub(super) fn not_started(addr: SocketAddr, why: impl ToString) -> Error {
    Error::Bind { addr, reason: why.to_string() }
}
