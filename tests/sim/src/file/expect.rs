//! What is to be true by when, and when it became so.

use peerage::State;

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
            What::Gone(hosts) => world.members().all(|p| {
                let live = |host: &usize| {
                    let seen = p.machine.entry(&World::id(*host));
                    seen.is_some_and(|e| e.member.state.is_live())
                };
                !hosts.iter().any(live)
            }),
            What::Back(hosts) => world.members().all(|p| {
                hosts.iter().filter(|host| **host != p.host).all(|host| {
                    let (Some(q), Some(seen)) =
                        (world.on(*host), p.machine.entry(&World::id(*host)))
                    else {
                        return false;
                    };
                    seen.member.state == State::Alive && seen.member.instance == q.peer.instance
                })
            }),
            What::One => world.is_one(),
        }
    }

    /// What is not so, for people.
    pub(super) fn failure(&self, world: &World) -> String {
        let within = Span(self.within);
        let name = self.name;
        let gone = |hosts: &[usize]| {
            let views = world.members().flat_map(|p| {
                let of = |host: &usize| {
                    let seen = p.machine.entry(&World::id(*host))?;
                    let live = seen.member.state.is_live();
                    live.then(|| {
                        format!("{} sees {} {}", p.peer.id, World::id(*host), seen.member.state)
                    })
                };
                hosts.iter().filter_map(of).collect::<Vec<_>>()
            });
            views.take(3).collect::<Vec<_>>()
        };
        let views = match &self.what {
            What::Gone(hosts) => gone(hosts),
            What::Back(_) | What::One => world.differences().into_iter().take(3).collect(),
        };
        format!("{name}: not within {within}: {}", views.join(", "))
    }
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
