//! Asking for the memory of what comes next, see `core/src/membership/warm.rs`.

use super::{
    Happening, World,
    queue::{AHEAD, Due, What},
};

/// How many others come before what is asked for: what it is about first, ...
const FIRST: usize = AHEAD - 1;
/// ... and what that leads to later.
const SECOND: usize = 5;
const THIRD: usize = 3;
const FOURTH: usize = 1;

impl World {
    /// Asks for what the next steps will look at.
    pub(super) fn foresee(&self) {
        if let Some(due) = self.queue.ahead(FIRST) {
            self.foresee_first(due);
        }
        if let Some((p, _)) = self.queue.ahead(SECOND).and_then(|due| self.foreseen(due)) {
            self.processes[p].machine.warm_edges(ask_for);
        }
        if let Some((p, due)) =
            self.queue.ahead(THIRD).and_then(|d| Some((self.foreseen(d)?, d))).map(|(f, d)| (f, d))
        {
            match p.1 {
                Some(from) => self.processes[p.0].machine.warm_edge(from, ask_for),
                None => {
                    let process = &self.processes[p.0];
                    process.machine.warm_due(process.pace.time(due.at), ask_for);
                }
            }
        }
        if let Some((p, Some(from))) = self.queue.ahead(FOURTH).and_then(|due| self.foreseen(due)) {
            self.processes[p].machine.warm_past(from, ask_for);
        }
    }

    fn foresee_first(&self, due: Due) {
        let Some((p, from)) = self.foreseen(due) else { return };
        let process = &self.processes[p];
        ask_for(std::ptr::from_ref(&process.running).cast(), 1);
        ask_for(std::ptr::from_ref(&process.pace).cast(), 1);
        ask_for(std::ptr::from_ref(&process.tick_at).cast(), 1);
        process.machine.warm_self(ask_for);
        if from.is_none() {
            process.links.warm();
        }
    }

    /// Whose step it will be, and whose frame it will hear.
    fn foreseen(&self, due: Due) -> Option<(usize, Option<u64>)> {
        match due.what {
            What::Tick(p) => Some((p as usize, None)),
            What::Other(place) => match &self.happenings[place as usize] {
                Some(Happening::Frame { link, from, .. }) => {
                    let link = self.links.get(*link)?;
                    let to = link.at(1 - link.end_of(*from));
                    Some((to, Some(self.processes[*from].peer.instance.0)))
                }
                _ => None,
            },
        }
    }
}

/// A line of the cache.
const LINE: usize = 64;

/// Asks for some memory; does nothing where there is no such instruction.
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
