//! Troubles between hosts: they begin, go on and off, and end, and links feel it.

use crate::network::{Between, Trouble, TroubleId};

use super::{Happening, World};

/// From here on names of troubles are the world's own.
const OWN_NAMES: TroubleId = 1 << 30;

impl World {
    /// Something is wrong between some hosts.
    pub fn begin_trouble(&mut self, id: TroubleId, trouble: Trouble) {
        let flips = trouble.flips;
        if self.net.begin(id, trouble) {
            self.network_changed();
        }
        if let Some((on, _)) = flips {
            self.push(self.now + on, Happening::Flip(id));
        }
    }

    /// It is wrong no more.
    pub fn end_trouble(&mut self, id: TroubleId) {
        if self.net.end(id) {
            self.network_changed();
        }
    }

    pub(super) fn flip_trouble(&mut self, id: TroubleId) {
        let Some((lasts, paths_changed)) = self.net.flip(id) else { return };
        self.push(self.now + lasts, Happening::Flip(id));
        if paths_changed {
            self.network_changed();
        }
    }

    /// Nothing passes there until all is healed.
    pub fn cut(&mut self, between: Between) {
        self.cuts += 1;
        self.begin_trouble(OWN_NAMES + self.cuts, Trouble::cut(between));
    }

    /// Ends all troubles between hosts.
    pub fn heal(&mut self) {
        if self.net.is_troubled() {
            self.net.heal();
            self.network_changed();
        }
    }
}
