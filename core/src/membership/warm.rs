//! Where the memory lies that the next calls will look at.
//!
//! In a simulator each call is to another machine, whose memory nobody has looked at for some
//! thousands of calls. Waiting for it, one cache line after the other, takes longer than all else.
//! The simulator knows whom it will call next, so it asks for what those calls look at, in four
//! steps of which each needs what the one before has asked for. Nothing here changes anything.

use super::Membership;

/// What nearly every call looks at lies at the beginning of a machine: so many bytes.
const OFTEN: usize = 13 * 64;

/// How memory is asked for: from where, and how many bytes.
pub type Ask = fn(*const u8, usize);

impl Membership {
    /// First the machine itself.
    pub fn warm_self(&self, ask: Ask) {
        ask(std::ptr::from_ref(self).cast(), OFTEN);
        for field in [&self.settings.heartbeat_interval, &self.settings.heartbeat_pause] {
            ask(std::ptr::from_ref(field).cast(), 1);
        }
    }
}
