//! Links as the real transport makes and loses them: dialing, travelling frames, and the end.

use std::net::SocketAddr;

use bytes::Bytes;
use peerage::{
    NodeId,
    member::Peer,
    membership::{Class, Input},
};
use rand::{Rng, seq::IteratorRandom};

use super::{
    CONNECT_TIMEOUT, Dial, Happening, IDLE_TIMEOUT, KEEP_ALIVE, OTHERS_MAX, RESERVE, TROUBLE,
    WAITING_MAX, World,
    pool::{Link, LinkId},
};
use crate::MS;

impl World {
    /// The link of a process to another, if there is one.
    pub(super) fn link_to(&self, p: usize, peer: &Peer) -> Option<LinkId> {
        // No two processes have the same instance.
        let q = self.by_instance.get(&peer.instance.0)?;
        self.processes[p].links.get(*q)
    }

    /// One end closes; the other hears of it if the path is open, and else times out.
    pub(super) fn close(&mut self, link: LinkId, p: usize) {
        let Some(l) = self.links.get_mut(link) else { return };
        let end = l.end_of(p);
        l.up[end] = false;
        let (mine, theirs) = (l.at(end), l.at(1 - end));
        self.processes[mine].links.remove(theirs);
        let (from, to) = (self.processes[mine].host, self.processes[theirs].host);
        if !self.net.loses(from, to, &mut self.rng) {
            let at = self.now + self.net.latency(from, to, &mut self.rng);
            self.push(at, Happening::Closed(link, 1 - end));
        } else {
            self.break_link(link);
        }
    }

    /// The path under a link is gone: it dies unless the path comes back in time, which is counted
    /// from the last packet; an idle link passes one a second.
    pub(super) fn break_link(&mut self, link: LinkId) {
        let Some(l) = self.links.get_mut(link).filter(|l| !l.broken) else { return };
        l.broken = true;
        l.epoch += 1;
        let epoch = l.epoch;
        let kept_alive = self.now.saturating_sub(self.rng.random_range(0..KEEP_ALIVE));
        let last = l.heard[0].min(l.heard[1]).max(kept_alive);
        self.push(last + IDLE_TIMEOUT, Happening::LinkDies(link, epoch));
    }

    /// One end of a link is down and its machine hears of it.
    pub(super) fn end_down(&mut self, link: LinkId, end: usize, broken: bool) {
        let Some(l) = self.links.get_mut(link) else { return };
        l.up[end] = false;
        let (me, other) = (l.at(end), l.at(1 - end));
        if l.up == [false, false] {
            self.links.remove(link);
        }
        if self.processes[me].links.get(other) == Some(link) {
            self.processes[me].links.remove(other);
        }
        let peer = self.processes[other].peer.clone();
        self.input(me, Input::LinkDown { peer, broken });
    }

    pub(super) fn drop_link(&mut self, link: LinkId, broken: [bool; 2]) {
        for (end, broken) in broken.into_iter().enumerate() {
            if self.links.get(link).is_some_and(|l| l.up[end]) {
                self.end_down(link, end, broken);
            }
        }
        self.links.remove(link);
    }

    /// Cuts came or went: links over them begin to die, or live again.
    pub(super) fn network_changed(&mut self) {
        let ids = self.links.ids();
        self.links_changed(&ids);
    }

    /// A process stands still or runs again: the same for its links.
    pub(super) fn links_changed_of(&mut self, p: usize) {
        let ids = self.processes[p].links.links().to_vec();
        self.links_changed(&ids);
    }

    fn links_changed(&mut self, ids: &[LinkId]) {
        for id in ids.iter().copied() {
            let Some(l) = self.links.get(id) else { continue };
            let ends = [l.at(0), l.at(1)];
            let [a, b] = ends.map(|p| self.processes[p].host);
            let awake = ends.iter().all(|p| self.processes[*p].pace.is_awake());
            let path = awake && self.net.open_both(a, b);
            let open = path && l.up == [true, true];
            if !open && !l.broken && !path {
                self.break_link(id);
            } else if open && l.broken {
                let Some(l) = self.links.get_mut(id) else { continue };
                l.broken = false;
                l.epoch += 1;
                l.troubled = [false, false];
                for (from, bytes) in l.held.take().map(|held| *held).unwrap_or_default() {
                    self.travel(id, ends[from], Class::Stream, bytes);
                }
            }
        }
    }

    pub(super) fn send(
        &mut self,
        p: usize,
        to: Peer,
        addr: SocketAddr,
        class: Class,
        bytes: Bytes,
    ) {
        // A process that ended in the same step sends no more.
        if !self.processes[p].running {
            return;
        }
        if let Some(link) = self.link_to(p, &to) {
            return self.travel(link, p, class, bytes);
        }
        let dial = self.dial(p, addr, Some(to.id.clone()));
        if let Some(d) = self.dials.get_mut(&dial)
            && d.frames.len() < WAITING_MAX
        {
            d.frames.push((to, class, bytes));
        }
    }

    /// Puts a frame on a link.
    pub(super) fn travel(&mut self, link: LinkId, from: usize, class: Class, bytes: Bytes) {
        let Some(l) = self.links.get_mut(link) else { return };
        l.used = self.now;
        let (end, to) = (l.end_of(from), l.at(1 - l.end_of(from)));
        l.answered |= end == 1 && class == Class::Stream;
        if l.broken && !l.troubled[end] {
            l.troubled[end] = true;
            let epoch = l.epoch;
            self.push(self.now + TROUBLE, Happening::Trouble(link, epoch, end));
        }
        if self.net.is_clean() {
            let at = self.now + self.net.latency.sample(&mut self.rng);
            return self.push(at, Happening::Frame { link, from, class, bytes });
        }
        let (a, b) = (self.processes[from].host, self.processes[to].host);
        self.feel_loss(link, end, a, b);
        if class == Class::Stream {
            let at = self.now + self.net.reliable(a, b, &mut self.rng);
            return self.push(at, Happening::Frame { link, from, class, bytes });
        }
        if self.net.loses(a, b, &mut self.rng) {
            return;
        }
        let (late, copy) = self.net.disorder(a, b, &mut self.rng);
        let at = self.now + self.net.latency(a, b, &mut self.rng) + late;
        if let Some(later) = copy {
            let bytes = bytes.clone();
            self.push(at + later, Happening::Frame { link, from, class, bytes });
        }
        self.push(at, Happening::Frame { link, from, class, bytes });
    }

    /// What the stack makes of losses: trouble after three probe time-outs in a row, and doubt
    /// whether the link still lives.
    fn feel_loss(&mut self, link: LinkId, end: usize, there: usize, back: usize) {
        let fails = 1.0 - self.answered(there, back);
        let Some(l) = self.links.get_mut(link).filter(|l| !l.broken) else { return };
        if fails <= 0.0 || fails >= 1.0 {
            return; // nothing is lost, or the path is cut
        }
        let doubted = std::mem::replace(&mut l.doubted, true);
        let (epoch, troubled) = (l.epoch, l.troubled[end]);
        if !troubled && self.rng.random_bool(fails.powi(3)) {
            l.troubled[end] = true;
            self.push(self.now + TROUBLE, Happening::Trouble(link, epoch, end));
        }
        if !doubted {
            self.push(self.now + IDLE_TIMEOUT, Happening::Doubt(link));
        }
    }

    /// How likely it is that a packet arrives and its acknowledgement as well.
    fn answered(&self, there: usize, back: usize) -> f64 {
        (1.0 - self.net.loss(there, back)) * (1.0 - self.net.loss(back, there))
    }

    /// A lossy link of which an end has heard no frame for the idle time-out dies, unless one of
    /// the packets that carry none came through: nine probes of its own and their
    /// acknowledgements, or three packets that keep the link alive.
    pub(super) fn doubt(&mut self, link: LinkId) {
        let Some(l) = self.links.get_mut(link) else { return };
        l.doubted = false;
        if l.broken || l.up != [true, true] {
            return;
        }
        let (ends, heard) = (l.ends, l.heard);
        for end in [0, 1] {
            if self.now - heard[end] < IDLE_TIMEOUT {
                continue;
            }
            let [me, other] = [ends[end], ends[1 - end]].map(|p| self.processes[p as usize].host);
            let silent =
                (1.0 - self.answered(me, other)).powi(9) * self.net.loss(other, me).powi(3);
            if silent > 0.0 && self.rng.random_bool(silent) {
                return self.drop_link(link, [true, true]);
            }
        }
    }

    pub(super) fn arrive(&mut self, link: LinkId, from: usize, class: Class, bytes: Bytes) {
        let Some(l) = self.links.get_mut(link) else { return };
        let end = l.end_of(from);
        let to = l.at(1 - end);
        if !l.up[1 - end] {
            return;
        }
        if self.net.is_clean() || self.net.open(self.processes[from].host, self.processes[to].host)
        {
            l.heard[1 - end] = self.now;
            let from = self.processes[from].peer.clone();
            self.input(to, Input::Frame { from, bytes });
        } else if class == Class::Stream {
            l.held.get_or_insert_default().push((end, bytes));
        }
    }

    /// Begins to dial, or finds the dial under way.
    pub(super) fn dial(&mut self, by: usize, addr: SocketAddr, expect: Option<NodeId>) -> u64 {
        let key = (addr, expect.clone());
        if let Some(dial) = self.processes[by].dials.get(&key) {
            return *dial;
        }
        self.serial += 1;
        let dial = self.serial;
        self.processes[by].dials.insert(key, dial);
        let (begun, explicit) = (self.now, false);
        self.dials.insert(dial, Dial { by, addr, expect, begun, explicit, frames: Vec::new() });
        // Whoever listens there now, or did, or would: hosts keep to their addresses.
        let (host, other) = (self.processes[by].host, World::host_at(addr));
        match self.net.handshake(host, other, &mut self.rng) {
            late if late > CONNECT_TIMEOUT => {
                self.push(self.now + CONNECT_TIMEOUT, Happening::DialFails(dial));
            }
            takes => self.push(self.now + takes, Happening::Dialed(dial, 200 * MS)),
        }
        dial
    }

    /// A handshake comes to its end, or is tried again after a pause while nobody answers.
    pub(super) fn dialed(&mut self, dial: u64, pause: u64) {
        let Some(d) = self.dials.get(&dial) else { return };
        let by = d.by;
        if !self.processes[by].running {
            self.dials.remove(&dial);
            return;
        }
        let awake = |p: usize| self.processes[p].pace.is_awake();
        let found = self
            .at
            .get(&d.addr)
            .copied()
            .filter(|q| awake(by) && awake(*q))
            .filter(|q| self.net.open_both(self.processes[by].host, self.processes[*q].host));
        let late = self.now - d.begun + pause > CONNECT_TIMEOUT;
        let Some(q) = found else {
            if late {
                self.end_dial(dial);
            } else {
                self.push(self.now + pause, Happening::Dialed(dial, pause * 2));
            }
            return;
        };
        let Some(d) = self.end_dial(dial) else { return };
        let wrong = d.expect.as_ref().is_some_and(|id| *id != self.processes[q].peer.id);
        if q == by || wrong {
            return;
        }
        if self.processes[by].links.get(q).is_none() && self.is_full(q) {
            let others = self.some_others(q);
            return self.input(by, Input::Full { others });
        }
        let link = self.establish(&d, q);
        for (to, class, bytes) in d.frames {
            if to == self.processes[q].peer {
                self.travel(link, by, class, bytes);
            }
        }
    }

    pub(super) fn end_dial(&mut self, dial: u64) -> Option<Dial> {
        let d = self.dials.remove(&dial)?;
        self.processes[d.by].dials.remove(&(d.addr, d.expect.clone()));
        Some(d)
    }

    pub(super) fn establish(&mut self, d: &Dial, q: usize) -> LinkId {
        let by = d.by;
        // Where the other end has closed what we still hold, we have not heard of it yet.
        for (p, other) in [(by, q), (q, by)] {
            if let Some(old) = self.processes[p].links.get(other)
                && self.links.get(old).is_none_or(|l| l.up != [true, true])
            {
                self.drop_link(old, [false, false]);
            }
        }
        let peers = [by, q].map(|p| (self.processes[p].peer.clone(), self.processes[p].addr));
        let [(dialer, dialer_addr), (acceptor, acceptor_addr)] = peers;
        let there = self.processes[by].links.get(q);
        let link = there.unwrap_or_else(|| {
            self.serial += 1;
            let link = self.links.insert(self.serial, Link::new([by, q], self.now));
            self.processes[by].links.insert(q, link);
            self.processes[q].links.insert(by, link);
            link
        });
        if there.is_none() {
            self.input(q, Input::LinkUp { peer: dialer, addr: dialer_addr, dialed: None });
            for p in [by, q] {
                self.evict(p, link);
            }
        }
        if there.is_none() || d.explicit {
            let (peer, addr) = (acceptor, acceptor_addr);
            self.input(by, Input::LinkUp { peer, addr, dialed: Some(d.addr) });
        }
        link
    }

    pub(super) fn pin(&mut self, p: usize, peer: &Peer, pinned: bool) {
        let link = self.link_to(p, peer);
        if let Some(l) = link.and_then(|link| self.links.get_mut(link)) {
            let end = l.end_of(p);
            l.pinned[end] = pinned;
        }
    }

    /// Whether there is no room for another link at a process, and none that may go for it.
    fn is_full(&self, q: usize) -> bool {
        let links = self.processes[q].links.links();
        let may_go =
            |link: &LinkId| self.links.get(*link).is_none_or(|l| l.may_go(l.end_of(q), self.now));
        links.len() >= self.links_max + RESERVE && !links.iter().any(may_go)
    }

    /// Where some of those listen that a process has links to.
    fn some_others(&mut self, q: usize) -> Vec<SocketAddr> {
        let links = self.processes[q].links.links();
        let others = links.iter().filter_map(|link| self.links.get(*link));
        let others = others.map(|l| self.processes[l.at(1 - l.end_of(q))].addr);
        others.choose_multiple(&mut self.rng, OTHERS_MAX)
    }

    /// The pool is bounded: the link unused for the longest goes.
    pub(super) fn evict(&mut self, p: usize, fresh: LinkId) {
        if self.processes[p].links.len() <= self.links_max {
            return;
        }
        let all = self.processes[p].links.links().iter().copied().filter(|id| *id != fresh);
        let all = all.filter_map(|id| Some((id, self.links.get(id)?)));
        let free = all.filter(|(_, l)| l.may_go(l.end_of(p), self.now));
        let oldest = free.min_by_key(|(id, l)| (l.used, *id)).map(|(id, l)| (id, l.end_of(p)));
        if let Some((oldest, end)) = oldest {
            self.close(oldest, p);
            self.end_down(oldest, end, false);
        }
    }
}
