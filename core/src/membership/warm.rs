//! Where the memory lies that the next calls will look at.
//!
//! In a simulator each call is to another machine, whose memory nobody has looked at for some
//! thousands of calls. Waiting for it, one cache line after the other, takes longer than all else.
//! The simulator knows whom it will call next, so it asks for what those calls look at, in four
//! steps of which each needs what the one before has asked for. Nothing here changes anything.

use std::mem::offset_of;

use super::Membership;

/// How memory is asked for: from where, and how many bytes.
pub type Ask = fn(*const u8, usize);

impl Membership {
    /// First the machine itself, as far as a tick looks at it, or a heartbeat that comes.
    pub fn warm_self(&self, tick: bool, ask: Ask) {
        let upto = if tick { offset_of!(Self, started) } else { offset_of!(Self, conflict) };
        ask(std::ptr::from_ref(self).cast(), upto);
        for field in [&self.settings.heartbeat_interval, &self.settings.heartbeat_pause] {
            ask(std::ptr::from_ref(field).cast(), 1);
        }
        if !tick {
            self.table.warm(ask);
        }
    }
}
