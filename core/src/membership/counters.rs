//! What the protocol counts.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Direct probes sent.
    pub probes: u64,
    /// Probes that nobody answered, not even through others.
    pub probes_failed: u64,
    /// Direct probes that went unanswered and were followed by indirect ones.
    pub probes_indirect: u64,
    /// Probes made on behalf of others.
    pub probes_relayed: u64,
    /// Heartbeats sent on watch edges.
    pub heartbeats: u64,
    /// Members that we accused since their heartbeats stayed away for too long.
    pub silences: u64,
    /// Suspicions about ourselves that we refuted.
    pub refutations: u64,
    /// Frames that did not decode or that no honest peer sends, and records that leap beyond
    /// belief.
    pub frames_bad: u64,
    /// Frames of a kind that this version does not know.
    pub frames_unknown: u64,
    /// Newcomers that the full table had no room for.
    pub members_refused: u64,
    /// Whole-table comparisons that were answered.
    pub syncs: u64,
    /// Whole-table comparisons, and whole tables for one who had one already, that were refused
    /// because there were too many.
    pub syncs_refused: u64,
    /// How often our tasks were so late that others were given more time for it; what comes within
    /// two seconds of the last time belongs to it.
    pub starved: u64,
}
