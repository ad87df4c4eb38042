//! Asking for the memory of what comes next, see `core/src/membership/warm.rs`.

use super::{
    Happening, World,
    queue::{AHEAD, Due, What},
};

/// How many others come before what is asked for: the link on which it comes, ...
const LINK: usize = AHEAD - 1;
/// ... then whom it is about, and what that leads to.
const PROCESS: usize = 8;
const EDGES: usize = 6;
const EDGE: usize = 4;
const REST: usize = 2;

/// What comes, as far as memory goes.
enum Foreseen {
    Tick(usize),
    Frame { to: usize, from: usize },
}

impl World {
    /// Asks for what the next steps will look at.
    pub(super) fn foresee(&self) {
        if let Some(Due { what: What::Other(place), .. }) = self.queue.ahead(LINK)
            && let Some(Happening::Frame { link, .. }) = &self.happenings[place as usize]
        {
            self.links.warm(*link);
        }
        match self.ahead(PROCESS) {
            Some((_, Foreseen::Tick(p))) => {
                self.warm_process(p, true);
                ask_for(std::ptr::from_ref(&self.processes[p].links).cast(), 48);
            }
            Some((_, Foreseen::Frame { to, from })) => {
                self.warm_process(to, false);
                ask_for(std::ptr::from_ref(&self.processes[from].peer).cast(), 24);
            }
            None => {}
        }
        match self.ahead(EDGES) {
            Some((_, Foreseen::Tick(p))) => {
                self.processes[p].machine.warm_edges(ask_for);
                self.processes[p].links.warm();
            }
            Some((_, Foreseen::Frame { to, from })) => {
                self.processes[to].machine.warm_edges(ask_for);
                // Its name is counted once more.
                let name = self.processes[from].peer.id.as_str().as_ptr();
                ask_for(name.wrapping_sub(16), 16);
            }
            None => {}
        }
        match self.ahead(EDGE) {
            Some((at, Foreseen::Tick(p))) => {
                let process = &self.processes[p];
                process.machine.warm_due(process.pace.time(at), ask_for, |instance| {
                    let q = self.by_instance.get(&instance);
                    if let Some(link) = q.and_then(|q| process.links.get(*q)) {
                        self.links.warm(link);
                    }
                });
            }
            Some((_, Foreseen::Frame { to, from })) => {
                let instance = self.processes[from].peer.instance.0;
                self.processes[to].machine.warm_edge(instance, ask_for);
            }
            None => {}
        }
        if let Some((_, Foreseen::Frame { to, from })) = self.ahead(REST) {
            let instance = self.processes[from].peer.instance.0;
            self.processes[to].machine.warm_past(instance, ask_for);
        }
    }

    fn warm_process(&self, p: usize, tick: bool) {
        let process = &self.processes[p];
        ask_for(std::ptr::from_ref(&process.running).cast(), 1);
        ask_for(std::ptr::from_ref(&process.pace).cast(), 1);
        ask_for(std::ptr::from_ref(&process.tick_at).cast(), 16);
        process.machine.warm_self(tick, ask_for);
    }

    /// What comes after so many others, and when.
    fn ahead(&self, others: usize) -> Option<(u64, Foreseen)> {
        let due = self.queue.ahead(others)?;
        let foreseen = match due.what {
            What::Tick(p) => Foreseen::Tick(p as usize),
            What::Other(place) => match &self.happenings[place as usize] {
                Some(Happening::Frame { link, from, .. }) => {
                    let link = self.links.get(*link)?;
                    Foreseen::Frame { to: link.at(1 - link.end_of(*from)), from: *from }
                }
                _ => return None,
            },
        };
        Some((due.at, foreseen))
    }
}

/// A line of the cache.
const LINE: usize = 64;

/// Asks for some memory; does nothing where there is no such instruction.
#[inline]
pub(super) fn ask_for(from: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = (from as usize) % LINE;
        for at in (0..first + bytes).step_by(LINE) {
            let line = from.wrapping_sub(first).wrapping_add(at).cast();
            // SAFETY: asking for memory never faults and changes nothing, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes, LINE);
}
