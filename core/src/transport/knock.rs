//! Whether anybody listens at a peer's address any more, as far as its host says.
//!
//! A process that ended without a word and one that was stopped for a moment are silent alike, and
//! QUIC cannot tell them apart. Their hosts do: a packet to a port that nobody has any more is answered
//! by "port unreachable" (RFC 1122, 4.1.3.1), which a *connected* UDP socket gets to hear of; those of
//! the endpoints are not. Where the host is gone as well, or a firewall swallows the word, nothing is
//! heard, and whoever asks has to wait as before.

use std::{
    future::pending,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    time::{interval, timeout},
};

/// At how many doors a node stands at once: each takes a socket. Further ones wait their turn.
const DOORS_MAX: usize = 32;
/// How often it is tried: a host may keep an answer back, since it gives so many a second only.
const AGAIN: Duration = Duration::from_millis(250);
/// No packet of QUIC, so that nobody answers it who does listen.
const KNOCK: &[u8] = &[0];

/// Asks hosts whether somebody listens.
pub(super) struct Doors {
    /// Where we are ourselves.
    from: IpAddr,
    places: Semaphore,
}

impl Doors {
    pub(super) fn from(from: IpAddr) -> Self {
        Self { from, places: Semaphore::new(DOORS_MAX) }
    }

    /// Returns once the host says that nobody listens there, and not before. To be dropped.
    pub(super) async fn nobody_at(&self, at: SocketAddr) {
        #[cfg(test)]
        if turmoil::in_simulation() {
            return pending().await; // there, such answers are not simulated
        }
        let Ok(_place) = self.places.acquire().await else { return pending().await };
        let Ok(socket) = self.connected(at).await else { return pending().await };
        let mut again = interval(AGAIN);
        loop {
            again.tick().await;
            // The answer to an earlier one is told by the next call, whichever it is.
            let sent = socket.send(KNOCK).await.map(drop);
            if is_refusal(&sent) {
                return;
            }
            let heard = timeout(AGAIN, socket.recv(&mut [0])).await;
            if heard.is_ok_and(|heard| is_refusal(&heard.map(drop))) {
                return;
            }
        }
    }

    async fn connected(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let from = match (self.from, at.ip()) {
            (IpAddr::V6(_), IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (IpAddr::V4(_), IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            (alike, _) => alike,
        };
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(at).await?;
        Ok(socket)
    }
}

/// Windows has another word for it.
fn is_refusal(result: &io::Result<()>) -> bool {
    let kind = result.as_ref().err().map(io::Error::kind);
    matches!(kind, Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// An address where somebody listens and reads nothing, as where a process is stopped.
    fn open() -> (std::net::UdpSocket, SocketAddr) {
        let open = std::net::UdpSocket::bind((HERE, 0)).unwrap();
        let at = open.local_addr().unwrap();
        (open, at)
    }

    #[tokio::test]
    async fn a_host_says_that_a_port_is_closed_and_nothing_of_one_that_is_open() {
        for from in [HERE, Ipv6Addr::UNSPECIFIED.into()] {
            let (open, at) = open();
            let doors = Doors::from(from);
            let asking = doors.nobody_at(at);
            tokio::pin!(asking);
            timeout(4 * AGAIN, &mut asking).await.expect_err("somebody does");
            drop(open);
            timeout(Duration::from_secs(10), asking).await.expect("its host says so");
        }
    }

    #[tokio::test]
    async fn it_stands_at_so_many_doors_at_once() {
        let (doors, (_open, at)) = (Doors::from(HERE), open());
        let mut standing: Vec<_> = (0..DOORS_MAX).map(|_| Box::pin(doors.nobody_at(at))).collect();
        for asking in &mut standing {
            timeout(Duration::ZERO, asking).await.expect_err("somebody listens");
        }
        let (closed, nobody) = open();
        drop(closed);
        let further = doors.nobody_at(nobody);
        tokio::pin!(further);
        timeout(2 * AGAIN, &mut further).await.expect_err("it is not its turn");
        standing.pop();
        timeout(Duration::from_secs(10), further).await.expect("now it is");
    }
}
