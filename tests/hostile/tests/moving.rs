//! A member whose link moves: a NAT may give it another port, but it does not take it to another
//! address, where nobody can tell who has it.
#![cfg(target_os = "linux")] // it answers on all of 127/8
#![allow(missing_docs, clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use peerage::Secret;
use peerage_hostile::{Honest, Intruder, PATIENCE, linked, until};
use s2n_quic::connection::Handle;
use tokio::{net::UdpSocket, sync::watch, time::timeout};

/// What the process may grow, in KiB: one link, and what the allocator keeps.
const GROWTH_MAX_KIB: u64 = 8 << 10;

/// Forwards to the node from whatever socket it is told.
async fn forward(front: UdpSocket, node: SocketAddr, mut back: watch::Receiver<Arc<UdpSocket>>) {
    let (mut there, mut here) = ([0; 65536], [0; 65536]);
    let mut caller = None;
    loop {
        let socket = back.borrow_and_update().clone();
        tokio::select! {
            changed = back.changed() => if changed.is_err() { return },
            Ok((length, from)) = front.recv_from(&mut there) => {
                caller = Some(from);
                let _ = socket.send_to(&there[..length], node).await;
            }
            Ok(length) = socket.recv(&mut here) => if let Some(caller) = caller {
                let _ = front.send_to(&here[..length], caller).await;
            }
        }
    }
}

async fn socket(ip: [u8; 4]) -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind((std::net::Ipv4Addr::from(ip), 0)).await.unwrap())
}

/// Whether a request on the link is answered.
async fn answered(handle: &mut Handle) -> bool {
    timeout(Duration::from_secs(5), Intruder::ask(handle)).await.is_ok_and(|answer| answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_may_change_its_port_and_not_its_address() {
    let secret = Secret::generate();
    let honest = Honest::start(&secret).await;
    let node = &honest.nodes[0];
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    let (back, told) = watch::channel(socket([127, 0, 7, 1]).await);
    let forwarding = tokio::spawn(forward(front, node.addr(), told));
    let intruder = Intruder::new(Some(&secret), "intruder");
    let attack = async {
        let mut handle = intruder.deaf_link(addr).await;
        until("it has a link", || linked(node, "intruder")).await;
        assert!(answered(&mut handle).await);

        back.send(socket([127, 0, 7, 1]).await).unwrap();
        assert!(answered(&mut handle).await, "after a change of the port");
        assert!(linked(node, "intruder"));

        back.send(socket([127, 0, 7, 2]).await).unwrap();
        let _ = answered(&mut handle).await; // it may get through before the move is noticed
        until("the link is given up", || !linked(node, "intruder")).await;
        let ended = async { while answered(&mut handle).await {} };
        timeout(PATIENCE, ended).await.expect("nobody is served there");
    };
    let outcome = honest.withstand(attack).await;
    eprintln!("{outcome:?}");
    assert!(outcome.grown_kib <= GROWTH_MAX_KIB);
    forwarding.abort();
    honest.end().await;
}
