//! A use of a link.

use std::sync::{
    Arc,
    atomic::Ordering::{Relaxed, SeqCst},
};

use crate::transport::{link::Link, node::Node};

/// A use of a link; while it lasts, the link is not evicted. Dropping it ends it, whatever the
/// reason: an answer, an error, a panic, or a caller who has gone.
pub(in crate::transport) struct Lease {
    pub(in crate::transport) link: Arc<Link>,
    node: Arc<Node>,
    /// It is a stream's and counts as such, not as a request.
    is_stream: bool,
}

impl Lease {
    /// To be taken under the table's lock, so that the link is not evicted meanwhile.
    pub(super) fn of(link: Arc<Link>, node: &Arc<Node>) -> Self {
        link.leases.fetch_add(1, Relaxed);
        node.stats.requests_out.up_in_order();
        node.ask_from_now_on();
        Self { link, node: node.clone(), is_stream: false }
    }

    /// The same lease, from here on a stream's.
    pub(in crate::transport) fn for_stream(mut self) -> Self {
        self.is_stream = true;
        self.node.stats.streams_out.up();
        self.node.stats.requests_out.down();
        self
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.touch();
        if self.is_stream {
            self.node.stats.streams_out.down();
        } else {
            self.node.stats.requests_out.down();
        }
        if self.link.leases.fetch_sub(1, SeqCst) == 1 && self.node.pool.room.is_wanted() {
            self.node.pool.stir();
        }
        self.node.settled();
    }
}
