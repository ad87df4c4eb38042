//! Whether anybody listens at a peer's address any more, as far as its host says.
//!
//! A process that ended without a word and one that was stopped for a moment are silent alike, and
//! QUIC cannot tell them apart. Their hosts do: a packet to a port that nobody has any more is answered
//! by "port unreachable" (RFC 1122, 4.1.3.1), which a *connected* UDP socket gets to hear of; those of
//! the endpoints are not. Where the host is gone as well, or a firewall swallows the word, nothing is
//! heard, and whoever asks has to wait as before. A firewall that rejects says the same as a closed port,
//! so it is asked about links in trouble only, and believed where nothing of the peer's comes any more.

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

/// At how many doors a node stands at once: each takes a socket. Further ones wait their turn, which comes
/// after [`AGAIN`] at the latest.
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
        let mut again = interval(AGAIN);
        loop {
            again.tick().await;
            // For one knock only: those who wait behind silent doors keep nobody from others.
            let Ok(_place) = self.places.acquire().await else { return pending().await };
            let Ok(socket) = self.connected(at).await else { return pending().await };
            // The answer is told by the next call, whichever it is.
            let refused = async {
                is_refusal(socket.send(KNOCK).await) || is_refusal(socket.recv(&mut [0]).await)
            };
            if timeout(AGAIN, refused).await == Ok(true) {
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
fn is_refusal<T>(result: io::Result<T>) -> bool {
    let kind = result.err().map(|error| error.kind());
    matches!(kind, Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

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
    async fn silent_doors_keep_nobody_from_others() {
        let (doors, (_open, at)) = (Arc::new(Doors::from(HERE)), open());
        let mut standing = JoinSet::new();
        for _ in 0..2 * DOORS_MAX {
            let doors = doors.clone();
            standing.spawn(async move { doors.nobody_at(at).await });
        }
        while doors.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (closed, nobody) = open();
        drop(closed);
        timeout(Duration::from_secs(10), doors.nobody_at(nobody)).await.expect("its turn comes");
        assert_eq!(standing.len(), 2 * DOORS_MAX);
    }
}
