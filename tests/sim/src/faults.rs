//! What happens to a cluster besides its own doing, as data.

use crate::{
    network::{Between, Hosts, Latency, Trouble, TroubleId},
    world::World,
};

/// One thing that happens. Hosts are numbers; a host runs one process at a time. Times are in
/// microseconds.
///
/// A step of the wall clock is not among them: a machine is told of it once, at its start, and there
/// is nothing that a driver would do about one. What a machine can see is a jump of its monotonic
/// clock, and a suspension during which that clock stood still.
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
    /// All packets are under way for so long from now on.
    Latency(Latency),
    /// Something is wrong between some hosts, under a name by which it ends.
    Begin(TroubleId, Trouble),
    /// That ends.
    End(TroubleId),
    /// Packets pass only from the second host to the first.
    CutOneWay(usize, usize),
    /// No packets pass between two hosts.
    CutPair(usize, usize),
    /// No packets pass between these hosts and all others.
    Split(Vec<usize>),
    /// Every host reaches only so many neighbours on either side, on a ring of all.
    Ring(usize),
    /// All cuts and other troubles between hosts end.
    Heal,
    /// A host's process dies without a word.
    Crash(usize),
    /// A host's process stands still for so long: it hears and says nothing, and does not know.
    Pause(usize, u64),
    /// The same, and its monotonic clock stands still as well: a virtual machine is suspended.
    Suspend(usize, u64),
    /// A host's process runs for the first time, stands still for the second, and again.
    Starve(usize, u64, u64),
    /// A host's process needs so long for whatever it does, on average.
    Slow(usize, u64),
    /// A host's process is neither starved nor slow any more.
    Fit(usize),
    /// A host's monotonic clock is suddenly so much later.
    ClockJump(usize, u64),
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
        let hosts = world.hosts();
        let one = |host: &usize| Hosts::these(&[*host], hosts);
        match self {
            Fault::Start { host, seeds } => {
                world.start(*host, *host, false, seeds);
            }
            Fault::Loss(share) => world.net.loss = *share,
            Fault::Latency(latency) => world.net.latency = *latency,
            Fault::Begin(id, trouble) => world.begin_trouble(*id, trouble.clone()),
            Fault::End(id) => world.end_trouble(*id),
            Fault::CutOneWay(from, to) => world.cut(Between::OneWay(one(from), one(to))),
            Fault::CutPair(a, b) => world.cut(Between::BothWays(one(a), one(b))),
            Fault::Split(part) => {
                let (part, rest) = (Hosts::these(part, hosts), Hosts::but(part, hosts));
                world.cut(Between::BothWays(part, rest));
            }
            Fault::Ring(reach) => world.cut(Between::FurtherThan(*reach, hosts)),
            Fault::Heal => world.heal(),
            Fault::Crash(host) => world.crash(*host),
            Fault::Pause(host, time) => world.pause(*host, *time, false),
            Fault::Suspend(host, time) => world.pause(*host, *time, true),
            Fault::Starve(host, run, stop) => world.starve(*host, *run, *stop),
            Fault::Slow(host, time) => world.slow(*host, *time),
            Fault::Fit(host) => world.fit(*host),
            Fault::ClockJump(host, by) => world.clock_jump(*host, *by),
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
    }
}
