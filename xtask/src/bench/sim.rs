//! The simulator measures itself.

use anyhow::Result;

pub(super) fn run(json: bool, more: &[String]) -> Result<bool> {
    let mut args = vec!["bench".to_owned()];
    if json {
        args.push("--json".into());
    }
    args.extend_from_slice(more);
    crate::sim::run(&args)
}
