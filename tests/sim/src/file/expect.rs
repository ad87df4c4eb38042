//! What is to be true by when, and when it became so.

use peerage::{State, membership::Entry};

use super::{Expect, Span, plan::Plan};
use crate::world::World;

/// One thing that is to become true within a time.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// As the file calls it.
    pub(super) name: &'static str,
    /// From when on it is looked at, and how long it may take.
    pub(super) from: u64,
    pub(super) within: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// Nobody who runs holds one of these hosts alive or suspect.
    Gone(Vec<usize>),
    /// Everybody who runs holds these hosts' processes alive.
    Back(Vec<usize>),
    /// Everybody sees exactly those who are there.
    One,
}

impl Check {
    /// Whether it is true now.
    pub(super) fn holds(&self, world: &World) -> bool {
        match &self.what {
            What::Gone(hosts) => views(world, hosts, gone).next().is_none(),
            What::Back(hosts) => views(world, hosts, back).next().is_none(),
            What::One => world.is_one(),
        }
    }

    /// What is not so, for people.
    pub(super) fn failure(&self, world: &World) -> String {
        let mut wrong: Vec<String> = match &self.what {
            What::Gone(hosts) => views(world, hosts, gone).collect(),
            What::Back(hosts) => views(world, hosts, back).collect(),
            What::One => world.differences(),
        };
        let count = wrong.len();
        wrong.truncate(3);
        let (name, within) = (self.name, Span(self.within));
        format!("{name}: not within {within}: {count} views are wrong: {}", wrong.join(", "))
    }
}

/// Who sees any of these hosts otherwise than it should be.
fn views<'a>(
    world: &'a World,
    hosts: &'a [usize],
    well: fn(&World, usize, Option<&Entry>) -> bool,
) -> impl Iterator<Item = String> + 'a {
    world.members().flat_map(move |p| {
        hosts.iter().filter(|host| **host != p.host).filter_map(move |host| {
            let (id, seen) = (World::id(*host), p.machine.entry(&World::id(*host)));
            let as_what = || seen.map(|e| (e.member.state, e.rank().0));
            (!well(world, *host, seen))
                .then(|| format!("{} sees {id} as {:?}", p.peer.id, as_what()))
        })
    })
}

fn gone(_: &World, _: usize, seen: Option<&Entry>) -> bool {
    seen.is_none_or(|e| !e.member.state.is_live())
}

fn back(world: &World, host: usize, seen: Option<&Entry>) -> bool {
    let (Some(q), Some(e)) = (world.on(host), seen) else { return false };
    e.member.state == State::Alive && e.member.instance == q.peer.instance
}

/// All that the file expects, of what the plan does.
pub(super) fn checks(expect: &Expect, plan: &Plan) -> Result<Vec<Check>, String> {
    let mut all = Vec::new();
    let mut add = |name, within: Option<Span>, from: Vec<(u64, What)>, what: &str| {
        let Some(within) = within else { return Ok(()) };
        if from.is_empty() {
            return Err(format!("expect.{name} is given, but {what}"));
        }
        all.extend(from.into_iter().map(|(from, what)| Check {
            name,
            from,
            within: within.0,
            what,
        }));
        Ok(())
    };
    let gone = plan.gone.iter().map(|(at, hosts)| (*at, What::Gone(hosts.clone())));
    add("gone_within", expect.gone_within, gone.collect(), "nobody crashes or leaves")?;
    let back = plan.resumed.iter().map(|(at, hosts)| (*at, What::Back(hosts.clone())));
    add("back_within", expect.back_within, back.collect(), "nobody stands still")?;
    let one = |at: Option<u64>| at.map(|at| (at, What::One)).into_iter().collect();
    add("restarted_within", expect.restarted_within, one(plan.restarted), "nobody restarts")?;
    add("joined_within", expect.joined_within, one(plan.joined), "nobody joins")?;
    add("one_within", expect.one_within, one(plan.healed), "nothing is wrong that ends")?;
    Ok(all)
}
