//! Programs in other languages whose loops do not respond, in a cluster of Rust's agents.

use std::{collections::BTreeMap, env, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use peerage_faults::fleet::Fleet;

use crate::cluster::{Cluster, id};

/// What `cargo xtask test faults` has built: the command of each language's agent as a list, in
/// one JSON object.
const AGENTS_VARIABLE: &str = "PEERAGE_FAULTS_AGENTS";
/// The languages whose loop answers for the node.
const LANGUAGES: [&str; 2] = ["node", "python"];
/// How long the loops are blocked.
const BLOCKED: Duration = Duration::from_secs(30);
/// `unresponsive_after` by default.
const AFTER: Duration = Duration::from_secs(5);
/// Until all have heard of it then.
const SPREAD: Duration = Duration::from_secs(3);
/// How long ago the last heartbeat was heard, one being due each second, ...
const HEARD: Duration = Duration::from_millis(2500);
/// ... by all who watch a member; with ten rings of twenty there are more than so many.
const WATCHERS: usize = 4;

/// Node's event loop is blocked, Python's GIL held, at the same time: all see both unresponsive
/// soon, and nobody finds them wanting, whose heartbeats go on; all see them responsive soon after.
pub(crate) fn blocked() -> Result<String> {
    let mut commands = agents()?;
    let programs = LANGUAGES.map(|name| commands.remove(name));
    let programs: Option<Vec<Command>> = programs.into_iter().collect();
    let programs = programs.with_context(|| format!("{AGENTS_VARIABLE} lacks one"))?;
    let mut cluster = Cluster::start_with(20, programs)?;
    let blocked = [18, 19];
    let others = ids(&cluster.others(&blocked));
    let blocked = ids(&blocked);

    for node in &blocked {
        cluster.fleet.block(node, BLOCKED)?;
    }
    let see = |cluster: &mut Cluster, members: &[String], patience| {
        cluster.fleet.all_see_unresponsive(others.iter().map(String::as_str), members, patience)
    };
    let flagged = see(&mut cluster, &blocked, AFTER + SPREAD)?;
    // A question that was asked just before is the earliest that can go unanswered.
    let earliest = AFTER.saturating_sub(Duration::from_millis(500));
    ensure!(flagged >= earliest, "unresponsive already after {flagged:?}");
    // Long after the last word of the loops themselves.
    cluster.fleet.pass(BLOCKED / 2)?;
    let mut heard = Vec::new();
    for node in &blocked {
        let ago = cluster.fleet.heard(&others, node)?;
        let recent = ago.iter().filter(|ago| **ago <= HEARD).count();
        let all = recent == ago.len() && recent >= WATCHERS;
        ensure!(all, "heartbeats of {node} were heard so long ago: {ago:?}");
        heard.push(recent);
    }
    ensure!(blocked.iter().all(|node| cluster.fleet.blocked(node).is_none()), "free too early");
    let over = |fleet: &Fleet| blocked.iter().all(|node| fleet.blocked(node).is_some());
    cluster.fleet.wait(BLOCKED + SPREAD, "the loops are free again", over)?;
    let back = see(&mut cluster, &[], SPREAD).context("after the loops were free again")?;
    for node in &blocked {
        let time = cluster.fleet.blocked(node).unwrap_or_default();
        ensure!(time >= BLOCKED, "{node} was blocked for {time:?} only");
    }
    cluster.fleet.pass(Duration::from_secs(3))?; // a suspicion would need that long to be told
    let suspected = cluster.hardly_doubted(&blocked, Duration::from_secs(1))?;
    cluster.all_alive(SPREAD)?; // these programs included
    Ok(format!(
        "unresponsive everywhere after {} ms, meanwhile heard by {heard:?} who watch them, \
         responsive {} ms after the loops were free; suspected {suspected} times",
        flagged.as_millis(),
        back.as_millis()
    ))
}

fn ids(nodes: &[usize]) -> Vec<String> {
    nodes.iter().map(|i| id(*i)).collect()
}

/// The programs that `cargo xtask test faults` names.
fn agents() -> Result<BTreeMap<String, Command>> {
    let text = env::var(AGENTS_VARIABLE).with_context(|| {
        format!(
            "{AGENTS_VARIABLE} does not say what runs in other languages; `cargo xtask test \
             faults` builds these and sets it"
        )
    })?;
    let commands: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&text).with_context(|| format!("{AGENTS_VARIABLE}={text:?}"))?;
    commands
        .into_iter()
        .map(|(language, command)| {
            let (program, args) =
                command.split_first().with_context(|| format!("{language} has no program"))?;
            let mut command = Command::new(program);
            command.args(args);
            Ok((language, command))
        })
        .collect()
}
