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

/// How long one that dribbles waits before the next byte. A hello has some 60.
const DRIBBLE: Duration = Duration::from_millis(500);

/// A connection on which the hello never ends.
struct Slow {
    connection: Connection,
    began: Instant,
    /// That of the hello, if it says no more. One that dribbles has a task, which ends with the connection.
    _silent: Option<SendStream>,
}

impl Slow {
    async fn begin(intruder: &Intruder, addr: SocketAddr, dribbles: bool) -> Option<Self> {
        let mut connection = intruder.connect(addr).await.ok()?;
        let began = Instant::now();
        let hello = intruder.hello();
        let mut stream = connection.open_send_and_say(&hello[..7]).await?;
        stream.flush().await.ok()?;
        let silent = if dribbles {
            let needs = DRIBBLE * (hello.len() - 7) as u32;
            assert!(needs > HELLO_MAX, "it would be finished after {needs:?}");
            tokio::spawn(dribble(stream, hello[7..].to_vec()));
            None
        } else {
            Some(stream)
        };
        Some(Self { connection, began, _silent: silent })
    }

    /// How long it was listened to.
    async fn end(mut self) -> Duration {
        let accept = self.connection.accept();
        tokio::time::timeout(PATIENCE, accept).await.expect("a hello that never ends").ok();
        self.began.elapsed()
    }
}

async fn dribble(mut stream: SendStream, bytes: Vec<u8>) {
    for byte in bytes {
        tokio::time::sleep(DRIBBLE).await;
        if stream.send(vec![byte].into()).await.is_err() {
            return; // nobody listens any more
        }
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
async fn attack(secret: &Secret, names: &[String], addr: SocketAddr, dribbles: bool) -> Vec<Slow> {
    let (mut slow, intruder) = (Vec::new(), Intruder::of_many(Some(secret), names));
    for _ in 0..CONNECTIONS {
        slow.extend(Slow::begin(&intruder, addr, dribbles).await);
    }
    slow
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_that_do_not_end_keep_nobody_out() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let addr = honest.nodes[0].addr();

    // One certificate, then a hundred: whoever holds the secret makes as many as it likes.
    for (names, dribbles) in [(1, false), (100, false), (100, true)] {
        let names: Vec<_> = (0..names).map(|n| format!("slow{n}")).collect();
        let before = honest.nodes[0].stats().transport;
        let outcome = honest.withstand(attack(&secret, &names, addr, dribbles)).await;
        let newcomer = honest.admit(0).await;
        let displaced =
            honest.nodes[0].stats().transport.hellos_displaced - before.hellos_displaced;
        let slow = outcome.attack;
        eprintln!(
            "{} names, dribbling {dribbles}: {} connections, {displaced} displaced, {} requests, slowest {:?}, grown by {} KiB; a newcomer after {newcomer:?}",
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
