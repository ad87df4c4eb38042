//! Processes that stand still for a while: stopped, starved, or in a debugger.

use super::{Happening, World};

impl World {
    /// The process on a host stands still for so long.
    pub fn pause(&mut self, host: usize, time: u64) {
        let Some(p) = self.on_host[host] else { return };
        if self.processes[p].backlog.is_none() {
            self.processes[p].backlog = Some(Vec::new());
            self.push(self.now + time, Happening::Resume(p));
            // Nobody answers on its links any more.
            self.network_changed();
        }
    }

    pub(super) fn resume(&mut self, p: usize) {
        let Some(backlog) = self.processes[p].backlog.take() else { return };
        self.network_changed();
        for input in backlog {
            self.input(p, input);
        }
        self.schedule(p);
    }
}
