//! Whether the watch edges are as they should be once all is quiet: both ends agree, heartbeats
//! pass, links are held, and everybody is watched by those whom the rings name.

use std::collections::{BTreeMap, BTreeSet};

use peerage::{
    NodeId,
    membership::{place_seed, watchers_of},
};

use super::World;
use crate::S;

/// No heartbeat between two that are well comes later than this, ...
const SILENCE_MAX: u64 = 3 * S;
/// ... where somebody is watched; else than this.
const RARE_SILENCE_MAX: u64 = 8 * S;

impl World {
    /// What is wrong with the watch edges; empty if nothing is.
    pub fn edges_amiss(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut watched_by: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        let all: Vec<_> = self.members().filter(|p| !self.forlorn(p)).collect();
        let rings = self.config.watch_rings as usize;
        for p in &all {
            let name = &p.peer.id;
            let edges: Vec<_> = p.machine.watch_edges(p.pace.time(self.now)).collect();
            let wanted = edges.iter().filter(|e| e.wanted).count();
            let most = (all.len() - 1).min(rings + rings % 2);
            let all_watch_all = all.len() <= rings + 1;
            if wanted > most || wanted < most && all_watch_all || edges.len() > wanted {
                let rest = edges.iter().filter(|e| !e.wanted).map(|e| e.peer.id.as_str());
                let rest: Vec<_> = rest.collect();
                found.push(format!("{name} has {wanted} edges, and besides to {rest:?}"));
            }
            for edge in edges.iter().filter(|e| e.wanted) {
                let there = &edge.peer.id;
                if edge.watched {
                    watched_by.entry(there.clone()).or_default().insert(name.clone());
                }
                let q = all.iter().find(|q| q.peer == edge.peer);
                let back = q.and_then(|q| {
                    q.machine.watch_edges(q.pace.time(self.now)).find(|e| e.peer == p.peer)
                });
                if !back.is_some_and(|b| b.wanted && (b.watched || edge.watched)) {
                    found.push(format!("{name} and {there} do not agree on their edge"));
                }
                let most = if edge.watched { SILENCE_MAX } else { RARE_SILENCE_MAX };
                let silence = |at| self.now.saturating_sub(p.pace.when(at));
                if edge.heard.is_none_or(|at| silence(at) > most) {
                    found.push(format!("{name} last heard {there} at {:?}", edge.heard));
                }
                if !self.pinned(p.addr, &edge.peer) {
                    found.push(format!("{name} does not hold the link to {there}"));
                }
            }
        }
        let ids = || all.iter().map(|p| &p.peer.id);
        for p in &all {
            let id = &p.peer.id;
            let by = watched_by.remove(id).unwrap_or_default();
            let due: BTreeSet<NodeId> = if all.len() <= rings + 1 {
                ids().filter(|other| *other != id).cloned().collect()
            } else {
                watchers_of(rings, id, ids().map(|id| (place_seed(id), id))).into_iter().collect()
            };
            if by != due {
                let (lacks, besides): (Vec<_>, Vec<_>) =
                    (due.difference(&by).collect(), by.difference(&due).collect());
                found.push(format!("{id} is not watched by {lacks:?}, but by {besides:?}"));
            }
        }
        found
    }

    fn pinned(&self, addr: std::net::SocketAddr, to: &peerage::member::Peer) -> bool {
        let Some(p) = self.at.get(&addr).copied() else { return false };
        let link = self.link_to(p, to).and_then(|id| self.links.get(id));
        link.is_some_and(|l| l.pinned[l.end_of(p)])
    }
}
