//! What happens to a cluster besides its own doing, as data.

use crate::world::World;

/// One thing that happens. Hosts are numbers; a host runs one process at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A host's process starts for the first time, joining through these hosts.
    Start {
        /// Which.
        host: usize,
        /// Through whom.
        seeds: Vec<usize>,
    },
    /// This share of all packets is lost from now on.
    Loss(f64),
    /// Packets pass only from the second host to the first.
    CutOneWay(usize, usize),
    /// No packets pass between two hosts.
    CutPair(usize, usize),
    /// No packets pass between these hosts and all others.
    Split(Vec<usize>),
    /// All cuts end.
    Heal,
    /// A host's process dies without a word.
    Crash(usize),
    /// A host's process stands still for so long: it hears and says nothing, and does not know.
    Pause(usize, u64),
    /// A host's process starts again under its id, after dying if it still runs.
    Restart {
        /// Which.
        host: usize,
        /// On another address.
        moved: bool,
        /// Through whom it joins.
        seeds: Vec<usize>,
    },
    /// A host's process leaves.
    Leave(usize),
    /// A host's process announces other tags.
    Tags(usize),
    /// A new host starts a process under the id of another.
    Namesake {
        /// The new host's number.
        host: usize,
        /// Whose id it takes.
        of: usize,
        /// Through whom it joins.
        seeds: Vec<usize>,
    },
}

impl Fault {
    /// Makes it happen now.
    pub fn apply(&self, world: &mut World) {
        match self {
            Fault::Start { host, seeds } => {
                world.start(*host, *host, false, seeds);
            }
            Fault::Loss(share) => world.net.loss = *share,
            Fault::CutOneWay(from, to) => world.net.cut(*from, *to),
            Fault::CutPair(a, b) => {
                world.net.cut(*a, *b);
                world.net.cut(*b, *a);
            }
            Fault::Split(part) => {
                for a in part {
                    for b in (0..world.hosts()).filter(|b| !part.contains(b)) {
                        world.net.cut(*a, b);
                        world.net.cut(b, *a);
                    }
                }
            }
            Fault::Heal => world.net.heal(),
            Fault::Crash(host) => world.crash(*host),
            Fault::Pause(host, time) => world.pause(*host, *time),
            Fault::Restart { host, moved, seeds } => {
                world.crash(*host);
                world.start(*host, *host, *moved, seeds);
            }
            Fault::Leave(host) => world.leave(*host),
            Fault::Tags(host) => world.change_tags(*host),
            Fault::Namesake { host, of, seeds } => {
                world.start(*host, *of, false, seeds);
            }
        }
        if matches!(self, Fault::CutOneWay(..) | Fault::CutPair(..) | Fault::Split(_) | Fault::Heal)
        {
            world.network_changed();
        }
    }
}
