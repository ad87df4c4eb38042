//! Whether the watch edges are as they should be once all is quiet: both ends agree, heartbeats
//! pass, links are held, and everybody is watched.

use std::collections::BTreeMap;

use peerage::NodeId;

use super::World;
use crate::S;

/// No heartbeat between two that are well comes later than this, ...
const SILENCE_MAX: u64 = 3 * S;
/// ... where somebody is watched; else than this.
const RARE_SILENCE_MAX: u64 = 8 * S;

/// Nobody has fewer watchers where there are as many others.
const WATCHERS_MIN: usize = 3;

impl World {
    /// What is wrong with the watch edges; empty if nothing is.
    pub fn edges_amiss(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut watched_by: BTreeMap<NodeId, usize> = BTreeMap::new();
        let all: Vec<_> = self.members().filter(|p| !self.forlorn(p)).collect();
        let rings = self.config.watch_rings as usize;
        for p in &all {
            let name = &p.peer.id;
            let edges: Vec<_> = p.machine.watch_edges(p.pace.time(self.now)).collect();
            let wanted = edges.iter().filter(|e| e.wanted).count();
            let most = (all.len() - 1).min(2 * rings);
            let all_watch_all = all.len() <= rings + 1;
            if wanted > most || wanted < most && all_watch_all || edges.len() > wanted {
                let rest = edges.iter().filter(|e| !e.wanted).map(|e| e.peer.id.as_str());
                let rest: Vec<_> = rest.collect();
                found.push(format!("{name} has {wanted} edges, and besides to {rest:?}"));
            }
            for edge in edges.iter().filter(|e| e.wanted) {
                let there = &edge.peer.id;
                if edge.watched {
                    *watched_by.entry(there.clone()).or_default() += 1;
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
        for p in &all {
            let watchers = watched_by.get(&p.peer.id).copied().unwrap_or_default();
            // Several rings may give the same watcher; with three of them it is corroborated.
            let fewest = (all.len() - 1).min(rings).min(WATCHERS_MIN);
            if watchers < fewest {
                found.push(format!("{} is watched by {watchers}", p.peer.id));
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
