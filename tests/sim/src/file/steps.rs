//! What happens in a scenario file, one table each.

use serde::Deserialize;

use super::{Latency, Select, Span};

/// One thing that happens to some hosts. `at` counts from when the cluster stands; what has
/// `lasts` ends so much later, or not at all.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)] // the fields are named for what they are; docs/SIMULATOR.md has them all
pub enum Step {
    /// Processes die without a word.
    Crash { at: Span, hosts: Select },
    /// Processes die, one after the other within a time, and each starts again a while later.
    Restart {
        at: Span,
        hosts: Select,
        #[serde(default)]
        within: Span,
        #[serde(default = "a_second")]
        down: Span,
        #[serde(default)]
        moved: bool,
    },
    /// Processes leave.
    Leave {
        at: Span,
        hosts: Select,
        #[serde(default)]
        within: Span,
    },
    /// Newcomers start.
    Join {
        at: Span,
        hosts: Select,
        #[serde(default)]
        within: Span,
    },
    /// Processes announce other tags.
    Tags { at: Span, hosts: Select },
    /// Processes stand still.
    Pause { at: Span, hosts: Select, lasts: Span },
    /// Processes stand still, and their monotonic clocks as well.
    Suspend { at: Span, hosts: Select, lasts: Span },
    /// Processes run for a while, stand still for a while, and so on.
    Starve { at: Span, hosts: Select, run: Span, stop: Span, lasts: Option<Span> },
    /// Processes take so long for each thing they do, on average.
    Slow { at: Span, hosts: Select, takes: Span, lasts: Option<Span> },
    /// Monotonic clocks jump forward.
    ClockJump { at: Span, hosts: Select, by: Span },
    /// Nothing passes between some hosts and others, in the direction that `way` says.
    Cut {
        at: Span,
        hosts: Select,
        with: Option<Select>,
        #[serde(default)]
        way: Way,
        lasts: Option<Span>,
        flips: Option<[Span; 2]>,
    },
    /// Nothing passes between hosts that are further apart than this on a ring of all.
    Ring { at: Span, reach: usize, lasts: Option<Span> },
    /// What passes between some hosts and others is lost, held up, doubled or put out of order.
    Disturb {
        at: Span,
        hosts: Select,
        with: Option<Select>,
        #[serde(default)]
        way: Way,
        #[serde(default)]
        loss: f64,
        delay: Option<Latency>,
        #[serde(default)]
        duplicate: f64,
        #[serde(default)]
        reorder: f64,
        #[serde(default)]
        reorder_by: Span,
        lasts: Option<Span>,
        flips: Option<[Span; 2]>,
    },
}

fn a_second() -> Span {
    Span(crate::S)
}

/// Which packets of the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Those that come and those that go.
    #[default]
    Both,
    /// Those that come.
    In,
    /// Those that go.
    Out,
}
