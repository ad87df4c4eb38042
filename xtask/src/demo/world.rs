//! What the demo knows: the cluster as each process sees it, and what has happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde::Deserialize;

use super::process::{Input, What};

/// A line of a process's report; `peerage-examples` writes them.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Ready { addr: String },
    View { members: Vec<Row> },
    Event { kind: String, member: Option<String> },
    Requests(Requests),
    Asked { target: String, ok: bool, error: Option<String> },
}

/// One member as one process sees it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) instance: String,
    pub(super) incarnation: u64,
    pub(super) state: String,
    pub(super) rtt_us: Option<u64>,
    #[serde(default)]
    pub(super) unresponsive: bool,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

/// What the director has done so far.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Requests {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) failed_over: u64,
    pub(super) lost: u64,
    pub(super) by_worker: BTreeMap<String, u64>,
}

/// Where a process stands in its life, as the story wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Up,
    /// It ends, or has ended, because the story wanted so.
    Down,
}

/// One process.
pub(super) struct Node {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) addr: Option<String>,
    pub(super) view: BTreeMap<String, Row>,
    /// Standard output has ended.
    pub(super) closed: bool,
}

/// An event that a process reported.
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) observer: String,
    pub(super) kind: String,
    pub(super) member: String,
}

pub(super) struct World {
    pub(super) started: Instant,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) seen: Vec<Seen>,
    pub(super) requests: Requests,
    /// What came of requests that a process was told to make, by who asked whom; `None` is well.
    pub(super) asked: BTreeMap<(String, String), Option<String>>,
    /// Milliseconds since the start, and a line for people.
    pub(super) log: Vec<(u64, String)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            nodes: BTreeMap::new(),
            seen: Vec::new(),
            requests: Requests::default(),
            asked: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, at: Instant, line: impl Into<String>) {
        self.log.push((millis(self.started, at), line.into()));
    }

    /// A process was started, for the first time or again.
    pub(super) fn start(&mut self, id: &str, generation: u32) {
        let node =
            Node { generation, phase: Phase::Up, addr: None, view: BTreeMap::new(), closed: false };
        self.nodes.insert(id.to_owned(), node);
    }

    /// From here on the end of this process is wanted.
    pub(super) fn stop(&mut self, id: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.phase = Phase::Down;
        }
    }

    pub(super) fn take(&mut self, input: Input) {
        let Input { id, generation, at, what } = input;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.generation == generation)
        else {
            return; // late words of a process that has been replaced
        };
        match what {
            What::Closed => {
                node.closed = true;
                node.view.clear();
            }
            What::Line(Line::Ready { addr }) => node.addr = Some(addr),
            What::Line(Line::View { members }) => {
                node.view = members.into_iter().map(|row| (row.id.clone(), row)).collect();
            }
            What::Line(Line::Requests(requests)) => self.requests = requests,
            What::Line(Line::Asked { target, ok, error }) => {
                let outcome = if ok { None } else { Some(error.unwrap_or_default()) };
                self.asked.insert((id, target), outcome);
            }
            What::Line(Line::Event { kind, member }) => {
                let member = member.unwrap_or_default();
                self.note(at, format!("{id} saw {kind} {member}"));
                self.seen.push(Seen { at, observer: id, kind, member });
            }
        }
    }

    /// The processes that the story wants up.
    pub(super) fn up(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.phase == Phase::Up)
            .map(|(id, node)| (id.as_str(), node))
    }

    /// A process that ended although nobody wanted it to.
    pub(super) fn unwanted_end(&self) -> Option<&str> {
        self.up().find(|(_, node)| node.closed).map(|(id, _)| id)
    }

    /// Whether every process that is up sees exactly those that are up as alive.
    pub(super) fn all_see_all(&self) -> bool {
        let up: BTreeSet<&str> = self.up().map(|(id, _)| id).collect();
        self.up().all(|(_, node)| {
            let alive: BTreeSet<&str> = node
                .view
                .values()
                .filter(|row| row.state == "alive")
                .map(|row| row.id.as_str())
                .collect();
            alive == up
        })
    }

    /// Whether every process that is up sees this member alive as another process than before.
    pub(super) fn all_see_anew(&self, id: &str, before: &str) -> bool {
        self.up().all(|(_, node)| {
            node.view.get(id).is_some_and(|row| row.state == "alive" && row.instance != before)
        })
    }

    /// Which process others see under this id.
    pub(super) fn instance(&self, id: &str) -> Option<String> {
        self.up().find_map(|(_, node)| node.view.get(id)).map(|row| row.instance.clone())
    }

    /// When the first event of a kind about a member was seen, since a moment.
    pub(super) fn first(&self, kind: &str, member: &str, since: Instant) -> Option<Instant> {
        self.about(kind, member, since).map(|seen| seen.at).next()
    }

    /// When the last of all other processes that are up saw an event, once all have.
    pub(super) fn everywhere(&self, kind: &str, member: &str, since: Instant) -> Option<Instant> {
        self.up()
            .filter(|(id, _)| *id != member)
            .map(|(id, _)| {
                self.about(kind, member, since).find(|seen| seen.observer == id).map(|seen| seen.at)
            })
            .try_fold(since, |last, at| Some(last.max(at?)))
    }

    fn about(&self, kind: &str, member: &str, since: Instant) -> impl Iterator<Item = &Seen> {
        self.seen
            .iter()
            .filter(move |seen| seen.kind == kind && seen.member == member && seen.at >= since)
    }
}

/// From one moment to another.
pub(super) fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn say(world: &mut World, id: &str, generation: u32, line: &str) {
        let what = What::Line(serde_json::from_str(line).expect("a known line"));
        world.take(Input { id: id.into(), generation, at: Instant::now(), what });
    }

    pub(in super::super) fn view(of: &[(&str, &str)]) -> String {
        let rows: Vec<String> = of
            .iter()
            .map(|(id, state)| {
                format!(
                    r#"{{"id":"{id}","instance":"01","incarnation":3,"state":"{state}","rtt_us":417,"tags":{{"role":"worker"}}}}"#
                )
            })
            .collect();
        format!(r#"{{"type":"view","members":[{}]}}"#, rows.join(","))
    }

    #[test]
    fn all_see_all_means_exactly_those_that_are_up() {
        let mut world = World::new();
        world.start("a", 0);
        world.start("b", 0);
        say(&mut world, "a", 0, &view(&[("a", "alive"), ("b", "alive")]));
        assert!(!world.all_see_all());
        say(&mut world, "b", 0, &view(&[("a", "alive"), ("b", "alive")]));
        assert!(world.all_see_all());
        world.stop("b");
        assert!(!world.all_see_all());
        say(&mut world, "a", 0, &view(&[("a", "alive"), ("b", "left")]));
        assert!(world.all_see_all());
    }

    #[test]
    fn everywhere_waits_for_the_last_and_ignores_what_was_before() {
        let mut world = World::new();
        for id in ["a", "b", "c"] {
            world.start(id, 0);
        }
        let event = r#"{"type":"event","kind":"MemberFailed","member":"c","at_ms":1}"#;
        say(&mut world, "a", 0, event);
        world.stop("c");
        let since = Instant::now();
        say(&mut world, "b", 0, event);
        assert!(world.first("MemberFailed", "c", since).is_some());
        assert!(world.everywhere("MemberFailed", "c", since).is_none());
        say(&mut world, "a", 0, event);
        assert!(world.everywhere("MemberFailed", "c", since).is_some());
    }

    #[test]
    fn a_replaced_process_is_not_heard() {
        let mut world = World::new();
        world.start("a", 1);
        say(&mut world, "a", 0, r#"{"type":"ready","id":"a","addr":"127.0.0.1:1"}"#);
        assert!(world.nodes["a"].addr.is_none());
        say(&mut world, "a", 1, r#"{"type":"ready","id":"a","addr":"127.0.0.1:1"}"#);
        assert!(world.nodes["a"].addr.is_some());
    }
}
