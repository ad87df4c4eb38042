//! Processes: how they start and how they end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use peerage::{
    member::{Instance, Peer},
    membership::{Input, Membership, Settings},
};
use rand::Rng;

use super::{Happening, LEAVE_TIMEOUT, Process, World, pauses::Pace, pool::Held};

impl World {
    /// Starts a process on a host, under the id that belongs to the host `named`.
    pub fn start(&mut self, host: usize, named: usize, moved: bool, seeds: &[usize]) -> usize {
        let id = Self::id(named);
        let peer = Peer { id, instance: Instance(self.rng.random()) };
        let mut addr = Self::home(host);
        if moved {
            let moves = self.processes.iter().filter(|p| p.host == host).count();
            addr.set_port(7000 + moves as u16);
        } else if let Some(last) = self.processes.iter().rev().find(|p| p.host == host) {
            addr = last.addr;
        }
        let mut config = self.config.clone();
        config.seeds = seeds
            .iter()
            .map(|s| self.on(*s).map_or(Self::home(*s), |p| p.addr))
            .filter(|a| *a != addr)
            .collect();
        let mut settings = Settings::new(peer.clone(), addr, &config);
        // Hosts agree within 20 ms on what time it is.
        let off = peer.instance.0 % 20_000;
        settings.clock = self.clocks.then(|| Duration::from_micros(self.now + off));
        let mut machine = Membership::new(settings, self.rng.random());
        machine.share(&self.shared);
        if self.rules.is_some() {
            machine.take_touched(); // from now on it notes them
        }
        if let Some(bug) = self.bug {
            machine.plant(bug);
        }
        let p = self.processes.len();
        self.by_instance.insert(peer.instance.0, p);
        self.processes.push(Process {
            host,
            peer,
            addr,
            machine,
            running: true,
            leaving: false,
            refused: false,
            joined: false,
            seeds: config.seeds,
            started: self.now,
            ended: None,
            events: Vec::new(),
            links: Held::default(),
            dials: BTreeMap::new(),
            tick_at: None,
            pace: Pace::new(self.now),
        });
        self.on_host[host] = Some(p);
        self.at.insert(addr, p);
        self.input(p, Input::Start);
        p
    }

    /// The process on a host dies; its links die at the peers later.
    pub fn crash(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        self.gone(p);
        for link in std::mem::take(&mut self.processes[p].links).links().iter().copied() {
            if let Some(l) = self.links.get_mut(link) {
                let end = l.end_of(p);
                l.up[end] = false;
            }
            self.break_link(link);
        }
    }

    /// The process on a host leaves.
    pub fn leave(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        if !self.processes[p].leaving {
            self.processes[p].leaving = true;
            self.push(self.now + LEAVE_TIMEOUT, Happening::LeaveOver(p));
            self.input(p, Input::Leave);
        }
    }

    /// The process on a host announces new tags.
    pub fn change_tags(&mut self, host: usize) {
        let Some(p) = self.on_host[host] else { return };
        let tags = [("at".to_owned(), self.now.to_string())].into();
        self.input(p, Input::SetTags(Arc::new(tags)));
    }

    fn gone(&mut self, p: usize) {
        let process = &mut self.processes[p];
        process.running = false;
        process.ended = Some(self.now);
        process.dials.clear();
        let (host, addr) = (process.host, process.addr);
        if self.at.get(&addr) == Some(&p) {
            self.at.remove(&addr);
        }
        if self.on_host[host] == Some(p) {
            self.on_host[host] = None;
        }
    }

    /// A process ends in good order and closes its links.
    pub(super) fn exit(&mut self, p: usize) {
        if !self.processes[p].running {
            return;
        }
        self.gone(p);
        for link in std::mem::take(&mut self.processes[p].links).links().iter().copied() {
            self.close(link, p);
        }
    }
}
