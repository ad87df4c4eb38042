//! A use of a link.

use std::sync::{
    Arc,
    atomic::Ordering::{Relaxed, SeqCst},
};

use crate::transport::{link::Link, node::Node};

/// A use of a link; while it lasts, the link is not evicted. Dropping it ends it, whatever the
/// reason: an answer, an error, a panic, or a caller who has gone.
///
/// That of a request borrows the node, whose count of holders all processors would have to agree on;
/// that of a stream, which outlives its call, holds it.
pub(in crate::transport) struct Lease<N: AsRef<Node> = Arc<Node>> {
    pub(in crate::transport) link: Arc<Link>,
    node: N,
    /// It is a stream's and counts as such, not as a request.
    is_stream: bool,
}

/// That of a request or a message.
pub(in crate::transport) type CallLease<'a> = Lease<&'a Arc<Node>>;

impl<'a> CallLease<'a> {
    /// To be taken under the table's lock, so that the link is not evicted meanwhile. What it counts is
    /// counted there as well: in turn that takes less than in the other processors' way.
    pub(super) fn of(link: Arc<Link>, node: &'a Arc<Node>) -> Self {
        link.leases.fetch_add(1, Relaxed);
        node.stats.requests_out.up_in_order();
        node.ask_from_now_on();
        Self { link, node, is_stream: false }
    }

    /// One of a stream instead, counted before this one ends.
    pub(in crate::transport) fn for_stream(self) -> Lease {
        self.link.leases.fetch_add(1, Relaxed);
        self.node.stats.streams_out.up();
        Lease { link: self.link.clone(), node: self.node.clone(), is_stream: true }
    }
}

impl<N: AsRef<Node>> Drop for Lease<N> {
    fn drop(&mut self) {
        let node = self.node.as_ref();
        self.link.touch();
        if self.is_stream {
            node.stats.streams_out.down();
        } else {
            node.stats.requests_out.down();
        }
        if self.link.leases.fetch_sub(1, SeqCst) == 1 && node.pool.room.is_wanted() {
            node.pool.stir();
        }
        node.settled();
    }
}
