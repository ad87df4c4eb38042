//! What came of it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// The figures of one run. Times are 0 for what did not come to pass.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// All of it happened, and no request was lost.
    pub(crate) ok: bool,
    /// Members by the language of their program.
    pub(crate) members: BTreeMap<&'static str, u64>,
    /// From the first start until all saw all alive.
    pub(crate) converged_ms: u64,
    /// From the kill until the first suspicion anywhere.
    pub(crate) suspected_ms: u64,
    /// From the kill until every survivor saw the failure.
    pub(crate) failed_everywhere_ms: u64,
    pub(crate) requests_sent: u64,
    /// Answered, but not by the first worker asked.
    pub(crate) requests_failed_over: u64,
    /// Unanswered although there was a second worker.
    pub(crate) requests_lost: u64,
    /// From the new start under the same id until all saw it alive.
    pub(crate) rejoined_ms: u64,
    /// From the word to leave until all others saw it left.
    pub(crate) left_everywhere_ms: u64,
    /// What did not happen as it should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, value: String| writeln!(f, "  {what:<44}{value:>10}");
        row("all seven saw all seven alive after", ms(self.converged_ms))?;
        row("a worker was killed; first suspicion after", ms(self.suspected_ms))?;
        row("  every survivor saw it failed after", ms(self.failed_everywhere_ms))?;
        row("  started again, alive for all after", ms(self.rejoined_ms))?;
        row("another left; all others saw it after", ms(self.left_everywhere_ms))?;
        row("requests sent", self.requests_sent.to_string())?;
        row("  answered by another worker", self.requests_failed_over.to_string())?;
        row("  lost", self.requests_lost.to_string())?;
        for problem in &self.problems {
            writeln!(f, "  wrong: {problem}")?;
        }
        writeln!(f, "{}", if self.ok { "The demo succeeded." } else { "The demo FAILED." })
    }
}

fn ms(value: u64) -> String {
    if value == 0 { "–".into() } else { format!("{value} ms") }
}
