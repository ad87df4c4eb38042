//! Peers with a certificate that come in and say nothing, or next to nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use peerage::Secret;
use peerage_hostile::{Honest, Intruder, PATIENCE, until};
use s2n_quic::{Connection, stream::SendStream};

/// How many connections each attack keeps, if it can; 256 hellos are heard at once.
const CONNECTIONS: usize = 400;
/// How many of one node.
const OF_ONE_MAX: usize = 4;
/// A hello must be finished after 5 s; so long may it take until both ends know.
const HELLO_MAX: Duration = Duration::from_secs(8);
/// What the process may grow, in KiB: both ends of 256 connections, 36 KiB measured each, and as much
/// again for those that are just ending.
const GROWTH_MAX_KIB: u64 = 24 << 10;

/// A connection on which the hello never ends.
struct Slow {
    connection: Connection,
    _stream: SendStream,
    began: Instant,
}

impl Slow {
    async fn begin(intruder: &Intruder, addr: SocketAddr) -> Option<Self> {
        let mut connection = intruder.connect(addr).await.ok()?;
        let began = Instant::now();
        let mut stream = connection.open_send_and_say(&intruder.hello()[..7]).await?;
        stream.flush().await.ok()?;
        Some(Self { connection, _stream: stream, began })
    }

    /// How long it was listened to.
    async fn end(mut self) -> Duration {
        let accept = self.connection.accept();
        tokio::time::timeout(PATIENCE, accept).await.expect("a hello that never ends").ok();
        self.began.elapsed()
    }
}

trait OpenAndSay {
    async fn open_send_and_say(&mut self, bytes: &[u8]) -> Option<SendStream>;
}

impl OpenAndSay for Connection {
    async fn open_send_and_say(&mut self, bytes: &[u8]) -> Option<SendStream> {
        let (_, mut send) = self.open_bidirectional_stream().await.ok()?.split();
        send.send(bytes.to_vec().into()).await.ok()?;
        Some(send)
    }
}

/// Keeps hellos open under these names.
async fn attack(secret: &Secret, names: &[String], addr: SocketAddr) -> Vec<Slow> {
    let (mut slow, intruder) = (Vec::new(), Intruder::of_many(Some(secret), names));
    for _ in 0..CONNECTIONS {
        slow.extend(Slow::begin(&intruder, addr).await);
    }
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_that_do_not_end_keep_nobody_out() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let addr = honest.nodes[0].addr();

    // One certificate, then twenty: whoever holds the secret makes as many as it likes.
    for names in [1, 100] {
        let names: Vec<_> = (0..names).map(|n| format!("slow{n}")).collect();
        let before = honest.nodes[0].stats().transport;
        let outcome = honest.withstand(attack(&secret, &names, addr)).await;
        let newcomer = honest.admit(0).await;
        let displaced =
            honest.nodes[0].stats().transport.hellos_displaced - before.hellos_displaced;
        let slow = outcome.attack;
        eprintln!(
            "{} names: {} connections, {displaced} displaced, {} requests, slowest {:?}, grown by {} KiB; a newcomer after {newcomer:?}",
            names.len(),
            slow.len(),
            outcome.answered,
            outcome.slowest,
            outcome.grown_kib,
        );
        assert!(slow.len() >= CONNECTIONS / 2, "the attack did not come about");
        if names.len() == 1 {
            assert!(displaced as usize >= CONNECTIONS / 2 - OF_ONE_MAX, "{displaced} displaced");
        }
        assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
        for slow in slow {
            let lasted = slow.end().await;
            assert!(lasted <= HELLO_MAX, "heard for {lasted:?}");
        }
        until("all were refused", || {
            honest.nodes[0].stats().transport.refused - before.refused >= CONNECTIONS as u64 / 2
        })
        .await;
    }
    honest.end().await;
}
