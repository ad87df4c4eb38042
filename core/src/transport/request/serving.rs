//! Which requests of peers are taken, and how many are under way.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::transport::{Refusal, link::Link, node::Node, share};

/// One request of a peer's being dealt with.
pub(super) struct Serving {
    node: Arc<Node>,
    link: Arc<Link>,
    pub(super) settled: bool,
    /// It turned out to be none.
    pub(super) is_stream: bool,
}

impl Serving {
    pub(super) fn admit(node: &Arc<Node>, link: &Arc<Link>) -> Result<Self, Refusal> {
        link.serving.fetch_add(1, Relaxed);
        let of_peer = link.share.serving.fetch_add(1, Relaxed) + 1;
        let of_peer_max = share::requests_per_peer(node.requests_max);
        node.stats.requests_in.up();
        let mut serving =
            Self { node: node.clone(), link: link.clone(), settled: true, is_stream: false };
        if node.is_draining() {
            Err(Refusal::Closed)
        } else if node.stats.requests_in.get() > node.requests_max as u64 {
            node.stats.requests_refused.up();
            Err(Refusal::Busy(node.requests_max))
        } else if of_peer > of_peer_max {
            node.stats.requests_refused.up();
            Err(Refusal::Busy(of_peer_max))
        } else {
            serving.settled = false; // until its answer is on its way
            Ok(serving)
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let stats = &self.node.stats;
        match (self.is_stream, self.settled) {
            (true, _) => {}
            (false, true) => stats.requests_handled.up(),
            (false, false) => stats.requests_abandoned.up(),
        }
        stats.requests_in.down();
        self.link.served();
        self.link.serving.fetch_sub(1, Relaxed);
        self.link.share.serving.fetch_sub(1, Relaxed);
        self.node.settled();
    }
}
