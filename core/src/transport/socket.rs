//! The socket of an endpoint, and the task that drives both.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use parking_lot::Mutex;
use s2n_quic::provider::io::{self, tokio::Provider as TokioIo};
use s2n_quic_core::{endpoint::Endpoint, inet::SocketAddress};
use tokio::task::JoinHandle;

use super::{admission::Admission, endpoint::not_started, gather::Gathering};
use crate::error::Result;

#[cfg(test)]
pub(super) mod simulated;

/// Receive ring of an endpoint in the stack; its default of 8 MiB is for one endpoint a machine.
const RING_BYTES: usize = 1 << 20;
/// Receive buffer of an endpoint's socket, if the system allows as much: a flood must not push out
/// what honest peers send while our thread waits for its turn.
const SOCKET_BYTES: usize = 1 << 20;

/// The task that drives an endpoint, and with it the socket.
pub(super) type Driver = JoinHandle<()>;

/// I/O of the stack's that hands out the task which drives it.
pub(super) trait Driven: io::Provider {
    fn drive<E: Endpoint<PathHandle = Self::PathHandle>>(
        self,
        endpoint: E,
    ) -> std::result::Result<(Driver, SocketAddress), Self::Error>;
}

impl Driven for TokioIo {
    fn drive<E: Endpoint<PathHandle = Self::PathHandle>>(
        self,
        endpoint: E,
    ) -> std::io::Result<(Driver, SocketAddress)> {
        self.start(endpoint)
    }
}

/// I/O with a socket that is bound.
pub(super) struct Bound<I> {
    io: I,
    pub(super) addr: SocketAddr,
}

/// Binds a socket.
pub(super) fn bind(addr: SocketAddr) -> Result<Bound<TokioIo>> {
    let socket = UdpSocket::bind(addr).map_err(|e| not_started(addr, e))?;
    let bound = socket.local_addr().map_err(|e| not_started(addr, e))?;
    let io = TokioIo::builder()
        .with_rx_socket(socket)
        .and_then(|io| io.with_internal_recv_buffer_size(RING_BYTES))
        .and_then(|io| io.with_recv_buffer_size(SOCKET_BYTES))
        .and_then(|io| io.build())
        .map_err(|e| not_started(addr, e))?;
    Ok(Bound { io, addr: bound })
}

/// Whether something is still bound to this address.
pub(super) fn is_taken(addr: SocketAddr) -> bool {
    #[cfg(test)]
    if turmoil::in_simulation() {
        return simulated::bind(addr).is_err();
    }
    UdpSocket::bind(addr).is_err()
}

/// s2n-quic's own I/O, except that we bind the socket, let the endpoint gather what it sends and
/// leave out what is not to be heard, and keep a hold on the task that drives it: ending it ends the
/// socket, whatever connections still linger.
pub(super) struct Guarded<I> {
    inner: I,
    driver: Handover,
    admission: Arc<Admission>,
}

/// Where the stack leaves the driver of an endpoint that it starts.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Mutex<Option<Driver>>>);

impl Handover {
    pub(super) fn taken(&self) -> Option<Driver> {
        self.0.lock().take()
    }
}

impl<I> Bound<I> {
    pub(super) fn guarded(self, admission: Arc<Admission>) -> (Guarded<I>, Handover) {
        let driver = Handover::default();
        (Guarded { inner: self.io, driver: driver.clone(), admission }, driver)
    }
}

impl<I: Driven> io::Provider for Guarded<I> {
    type PathHandle = I::PathHandle;
    type Error = I::Error;

    fn start<E: Endpoint<PathHandle = Self::PathHandle>>(
        self,
        endpoint: E,
    ) -> std::result::Result<SocketAddress, Self::Error> {
        let (driver, addr) = self.inner.drive(Gathering::new(endpoint, self.admission))?;
        *self.driver.0.lock() = Some(driver);
        Ok(addr)
    }
}
