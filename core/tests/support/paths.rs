//! Paths that can be cut between real nodes, without privileges: each node has a loopback
//! address of its own (Linux answers on all of 127/8) and announces a forwarder in front of its
//! socket, which knows from the source address who is calling and can drop what it sends.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use peerage::{Builder, Cluster, Secret};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// All paths of one test.
#[derive(Clone, Default)]
pub struct Paths {
    cut: Arc<Mutex<HashSet<(IpAddr, IpAddr)>>>,
}

/// A node behind a forwarder.
pub struct Behind {
    pub cluster: Cluster,
    _forwarder: AbortOnDropHandle<()>,
}

impl Paths {
    /// Starts node `n<i>` on its own address. `group` keeps tests that run at once apart.
    pub async fn start(&self, group: u8, i: u8, secret: &Secret, adapt: impl FnOnce(Builder) -> Builder) -> Behind {
        let ip = ip(group, i);
        let front = UdpSocket::bind((ip, 0)).await.unwrap();
        let addr = front.local_addr().unwrap();
        let builder = super::node(&format!("n{i}"), secret);
        let builder = adapt(builder.listen(SocketAddr::new(ip, 0)).advertise(addr));
        let cluster = builder.start().await.unwrap();
        let forwarding = forward(front, cluster.bound_addr(), self.cut.clone());
        Behind { cluster, _forwarder: AbortOnDropHandle::new(tokio::spawn(forwarding)) }
    }

    /// Drops whatever `from` sends to `to`, whoever opened the connection.
    pub fn cut_one_way(&self, from: IpAddr, to: IpAddr) {
        self.cut.lock().insert((from, to));
    }

    pub fn cut(&self, a: IpAddr, b: IpAddr) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub fn heal(&self) {
        self.cut.lock().clear();
    }
}

pub fn ip(group: u8, i: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, group, i + 1))
}

/// Forwards to the node, from one socket for each caller, and its answers back.
async fn forward(front: UdpSocket, node: SocketAddr, cut: Arc<Mutex<HashSet<(IpAddr, IpAddr)>>>) {
    let front = Arc::new(front);
    let mut callers: HashMap<SocketAddr, (Arc<UdpSocket>, AbortOnDropHandle<()>)> = HashMap::new();
    let mut packet = vec![0; 65536];
    loop {
        let Ok((size, caller)) = front.recv_from(&mut packet).await else { continue };
        if cut.lock().contains(&(caller.ip(), node.ip())) {
            continue;
        }
        if !callers.contains_key(&caller) {
            let back = Arc::new(UdpSocket::bind((node.ip(), 0)).await.unwrap());
            let answers = answer(back.clone(), front.clone(), caller, node, cut.clone());
            callers.insert(caller, (back, AbortOnDropHandle::new(tokio::spawn(answers))));
        }
        let _ = callers[&caller].0.send_to(&packet[..size], node).await;
    }
}

async fn answer(
    back: Arc<UdpSocket>, front: Arc<UdpSocket>, caller: SocketAddr, node: SocketAddr,
    cut: Arc<Mutex<HashSet<(IpAddr, IpAddr)>>>,
) {
    let mut packet = vec![0; 65536];
    loop {
        let Ok((size, _)) = back.recv_from(&mut packet).await else { continue };
        if !cut.lock().contains(&(node.ip(), caller.ip())) {
            let _ = front.send_to(&packet[..size], caller).await;
        }
    }
}
