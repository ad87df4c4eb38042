//! The same on the network that turmoil makes up, for the tests that run there.
//!
//! s2n-quic has I/O for turmoil of its own, which spins for ever once its ring of 1024 packets was
//! emptied (1.91, `run_io`: where `poll_producer` is set and the ring has room, it does not wait).
//! This has no ring and no second task: an endpoint takes from the socket and hands to it directly.

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use s2n_quic::provider::io;
use s2n_quic_core::{
    endpoint::Endpoint,
    event::EndpointPublisher,
    inet::{SocketAddress, datagram},
    io::{
        event_loop::{EventLoop, Stats},
        rx, tx,
    },
    path::{Tuple, mtu},
    task::cooldown::Cooldown,
    time::{Clock, ClockWithTimer, NoopClock, Timestamp, clock::Timer},
};
use tokio::time::{Instant, Sleep, sleep_until};
use turmoil::net::UdpSocket;

use super::{Bound, Driven, Driver};
use crate::{error::Result, transport::endpoint::not_started};

/// Binds a socket of the host whose turn it is.
pub(in crate::transport) fn bind(addr: SocketAddr) -> Result<Bound<Simulated>> {
    let binding = std::pin::pin!(UdpSocket::bind(addr));
    let Poll::Ready(socket) = binding.poll(&mut Context::from_waker(Waker::noop())) else {
        return Err(not_started(addr, "turmoil binds at once, or did"));
    };
    let socket = socket.map_err(|e| not_started(addr, e))?;
    let bound = socket.local_addr().map_err(|e| not_started(addr, e))?;
    Ok(Bound { io: Simulated { socket: Arc::new(socket), addr: bound.into() }, addr: bound })
}

/// I/O over a simulated socket.
pub(in crate::transport) struct Simulated {
    socket: Arc<UdpSocket>,
    addr: SocketAddress,
}

impl io::Provider for Simulated {
    type PathHandle = Tuple;
    type Error = std::io::Error;

    fn start<E: Endpoint<PathHandle = Tuple>>(self, endpoint: E) -> std::io::Result<SocketAddress> {
        self.drive(endpoint).map(|(_, addr)| addr)
    }
}

impl Driven for Simulated {
    fn drive<E: Endpoint<PathHandle = Tuple>>(
        self,
        mut endpoint: E,
    ) -> std::io::Result<(Driver, SocketAddress)> {
        let mtu = mtu::Builder::default().build().map_err(std::io::Error::other)?;
        endpoint.set_mtu_config(mtu);
        let rx = Rx { socket: self.socket.clone(), readable: None, heard: VecDeque::new() };
        let event_loop = EventLoop {
            endpoint,
            clock: Time(Instant::now()),
            rx: Receiving { rx, addr: self.addr },
            tx: Tx { socket: self.socket, buffer: vec![0; mtu.max_mtu().into()] },
            cooldown: Cooldown::default(),
            stats: NoStats,
        };
        Ok((tokio::spawn(event_loop.start(self.addr)), self.addr))
    }
}

type Readable = Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

struct Rx {
    socket: Arc<UdpSocket>,
    /// Holds the socket's lock while it waits.
    readable: Option<Readable>,
    heard: VecDeque<(Vec<u8>, SocketAddr)>,
}

struct Receiving {
    rx: Rx,
    addr: SocketAddress,
}

impl rx::Rx for Receiving {
    type PathHandle = Tuple;
    type Queue = Self;
    type Error = std::io::Error;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let rx = &mut self.rx;
        loop {
            rx.readable = None;
            let mut packet = [0; 1 << 11];
            while let Ok((length, from)) = rx.socket.try_recv_from(&mut packet) {
                rx.heard.push_back((packet[..length].to_vec(), from));
            }
            if !rx.heard.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let socket = rx.socket.clone();
            let readable = rx.readable.insert(Box::pin(async move { socket.readable().await }));
            match readable.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn queue<F: FnOnce(&mut Self)>(&mut self, f: F) {
        f(self);
    }

    fn handle_error<E: EndpointPublisher>(self, _: std::io::Error, _: &mut E) {}
}

impl rx::Queue for Receiving {
    type Handle = Tuple;

    fn for_each<F: FnMut(datagram::Header<Tuple>, &mut [u8])>(&mut self, mut on_packet: F) {
        for (mut packet, from) in self.rx.heard.drain(..) {
            let remote_address = SocketAddress::from(from).into();
            let path = Tuple { remote_address, local_address: self.addr.into() };
            on_packet(datagram::Header { path, ecn: Default::default() }, &mut packet);
        }
    }

    fn is_empty(&self) -> bool {
        self.rx.heard.is_empty()
    }
}

struct Tx {
    socket: Arc<UdpSocket>,
    buffer: Vec<u8>,
}

impl tx::Tx for Tx {
    type PathHandle = Tuple;
    type Queue = Self;
    type Error = std::io::Error;

    /// There is room always, so nobody waits for it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }

    fn queue<F: FnOnce(&mut Self)>(&mut self, f: F) {
        f(self);
    }

    fn handle_error<E: EndpointPublisher>(self, _: std::io::Error, _: &mut E) {}
}

impl tx::Queue for Tx {
    type Handle = Tuple;

    fn push<M: tx::Message<Handle = Tuple>>(
        &mut self,
        mut message: M,
    ) -> std::result::Result<tx::Outcome, tx::Error> {
        let to = SocketAddr::from(*message.path_handle().remote_address);
        let len = message.write_payload(tx::PayloadBuffer::new(&mut self.buffer), 0)?;
        // To a host that there is not it fails; a real network says nothing either.
        let _ = self.socket.try_send_to(&self.buffer[..len], to);
        Ok(tx::Outcome { len, index: 0 })
    }

    fn capacity(&self) -> usize {
        1024
    }
}

struct NoStats;

impl Stats for NoStats {
    fn publish<P: EndpointPublisher>(&mut self, _: &mut P) {}
}

/// The host's time, since it began.
#[derive(Clone)]
struct Time(Instant);

/// Where the stack's time begins: it takes 0 for no time.
fn epoch() -> Timestamp {
    NoopClock.get_time()
}

impl Clock for Time {
    fn get_time(&self) -> Timestamp {
        epoch() + self.0.elapsed()
    }
}

impl ClockWithTimer for Time {
    type Timer = Alarm;

    fn timer(&self) -> Alarm {
        Alarm { began: self.0, sleep: Box::pin(sleep_until(self.0)), is_set: false }
    }
}

struct Alarm {
    began: Instant,
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Timer for Alarm {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_set || self.sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_set = false;
        Poll::Ready(())
    }

    fn update(&mut self, timestamp: Timestamp) {
        let since = timestamp.saturating_duration_since(epoch());
        self.sleep.as_mut().reset(self.began + since);
        self.is_set = true;
    }
}
