//! From a file to what happens when, to which hosts.

use super::{File, Select, Span, Step, steps::Way};
use crate::{
    faults::Fault,
    network::{Between, Hosts, Trouble, TroubleId},
    scenario::seeds,
};

/// What is to happen in one run, and to whom. Times count from when the cluster stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// How many hosts there are, newcomers included.
    pub(super) hosts: usize,
    pub(super) steps: Vec<(u64, Fault)>,
    /// Who may be declared failed.
    pub(super) may_fail: Vec<usize>,
    /// Whose declarations do not count.
    pub(super) unheeded: Vec<usize>,
    /// Who went when.
    pub(super) gone: Vec<(u64, Vec<usize>)>,
    /// Who resumed when.
    pub(super) resumed: Vec<(u64, Vec<usize>)>,
    /// When the last restart was, the last newcomer started, the last trouble ended.
    pub(super) restarted: Option<u64>,
    pub(super) joined: Option<u64>,
    pub(super) healed: Option<u64>,
    /// When the last step is over.
    pub(super) ends: u64,
    /// Something stays wrong.
    pub(super) stays: bool,
    nodes: usize,
    seed: u64,
    troubles: TroubleId,
}

impl File {
    /// What happens with so many nodes and this seed.
    pub(super) fn plan(&self, nodes: usize, seed: u64) -> Result<Plan, String> {
        let hosts = nodes + self.newcomers.count_of(nodes)?;
        let mut plan = Plan { hosts, nodes, seed, ..Plan::default() };
        for (n, step) in self.steps.iter().enumerate() {
            plan.add(step).map_err(|error| format!("step {}: {error}", n + 1))?;
        }
        plan.may_fail = plan
            .select(&self.expect.may_fail)
            .map_err(|error| format!("expect.may_fail: {error}"))?;
        plan.unheeded = plan
            .select(&self.expect.unheeded)
            .map_err(|error| format!("expect.unheeded: {error}"))?;
        plan.steps.sort_by_key(|(at, _)| *at);
        Ok(plan)
    }
}

impl Plan {
    fn select(&self, hosts: &Select) -> Result<Vec<usize>, String> {
        hosts.of(self.nodes, self.hosts, self.seed)
    }

    /// Those that a step is about; there must be one.
    fn some(&self, hosts: &Select) -> Result<Vec<usize>, String> {
        let chosen = self.select(hosts)?;
        if chosen.is_empty() { Err("hosts are none".into()) } else { Ok(chosen) }
    }

    fn push(&mut self, at: u64, fault: Fault) {
        self.ends = self.ends.max(at);
        self.steps.push((at, fault));
    }

    /// Through whom a host joins.
    fn seeds(&self, host: usize) -> Vec<usize> {
        seeds(self.nodes).into_iter().filter(|s| *s != host).collect()
    }

    fn add(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Crash { at, hosts } => {
                let hosts = self.some(hosts)?;
                hosts.iter().for_each(|host| self.push(at.0, Fault::Crash(*host)));
                self.gone.push((at.0, hosts));
            }
            Step::Restart { at, hosts, within, down, moved } => {
                for (host, at) in spread(self.some(hosts)?, *at, *within) {
                    if *moved && host < seeds(self.nodes).len() {
                        return Err(format!("host {host} is a seed and keeps its address"));
                    }
                    let (seeds, moved, again) = (self.seeds(host), *moved, at + down.0);
                    self.push(at, Fault::Crash(host));
                    self.push(again, Fault::Restart { host, moved, seeds });
                    self.restarted = self.restarted.max(Some(again));
                }
            }
            Step::Leave { at, hosts, within } => {
                let hosts = self.some(hosts)?;
                for (host, at) in spread(hosts.clone(), *at, *within) {
                    self.push(at, Fault::Leave(host));
                }
                self.gone.push((at.0 + within.0, hosts));
            }
            Step::Join { at, hosts, within } => {
                for (host, at) in spread(self.some(hosts)?, *at, *within) {
                    if host < self.nodes {
                        return Err(format!("host {host} runs already; only newcomers join"));
                    }
                    self.push(at, Fault::Start { host, seeds: seeds(self.nodes) });
                    self.joined = self.joined.max(Some(at));
                }
            }
            Step::Tags { at, hosts } => {
                for host in self.some(hosts)? {
                    self.push(at.0, Fault::Tags(host));
                }
            }
            Step::Pause { at, hosts, lasts } => {
                self.stop(*at, hosts, *lasts, Fault::Pause)?;
            }
            Step::Suspend { at, hosts, lasts } => {
                self.stop(*at, hosts, *lasts, Fault::Suspend)?;
            }
            Step::Starve { at, hosts, run, stop, lasts } => {
                if run.0 == 0 || stop.0 == 0 {
                    return Err("run and stop must be longer than nothing".into());
                }
                let (run, stop) = (run.0, stop.0);
                self.unfit(*at, hosts, *lasts, |host| Fault::Starve(host, run, stop))?;
            }
            Step::Slow { at, hosts, takes, lasts } => {
                self.unfit(*at, hosts, *lasts, |host| Fault::Slow(host, takes.0))?;
            }
            Step::ClockJump { at, hosts, by } => {
                for host in self.some(hosts)? {
                    self.push(at.0, Fault::ClockJump(host, by.0));
                }
            }
            Step::Cut { at, hosts, with, way, lasts, flips } => {
                let hosts = self.some(hosts)?;
                let others = match with {
                    Some(with) => Hosts::these(&self.some(with)?, self.hosts),
                    None => Hosts::but(&hosts, self.hosts),
                };
                let hosts = Hosts::these(&hosts, self.hosts);
                let between = match way {
                    Way::Both => Between::BothWays(hosts, others),
                    Way::In => Between::OneWay(others, hosts),
                    Way::Out => Between::OneWay(hosts, others),
                };
                self.trouble(*at, *lasts, *flips, Trouble::cut(between))?;
            }
            Step::Ring { at, reach, lasts } => {
                if *reach == 0 {
                    return Err("reach is 0; it must be at least 1".into());
                }
                let between = Between::FurtherThan(*reach, self.hosts);
                self.trouble(*at, *lasts, None, Trouble::cut(between))?;
            }
            Step::Disturb {
                at,
                hosts,
                with,
                way,
                loss,
                delay,
                duplicate,
                reorder,
                reorder_by,
                lasts,
                flips,
            } => {
                for (name, share) in
                    [("loss", loss), ("duplicate", duplicate), ("reorder", reorder)]
                {
                    if !(0.0..=1.0).contains(share) {
                        return Err(format!("{name} is {share}; it must be between 0 and 1"));
                    }
                }
                let trouble = Trouble {
                    loss: *loss,
                    delay: delay.map(super::Latency::checked).transpose()?,
                    duplicate: *duplicate,
                    reorder: (*reorder, reorder_by.0),
                    ..Trouble::new(Between::OneWay(Hosts::All, Hosts::All))
                };
                if trouble == Trouble::new(trouble.between.clone()) {
                    return Err(
                        "nothing is disturbed; give loss, delay, duplicate or reorder".into()
                    );
                }
                for between in self.at(hosts, with.as_ref(), *way)? {
                    let trouble = Trouble { between, ..trouble.clone() };
                    self.trouble(*at, *lasts, *flips, trouble)?;
                }
            }
        }
        Ok(())
    }

    /// The packets that come to hosts, go from them, or both: two troubles, so that what passes
    /// between two of them suffers at either.
    fn at(&self, hosts: &Select, with: Option<&Select>, way: Way) -> Result<Vec<Between>, String> {
        if *hosts == Select::All && with.is_none() {
            return Ok(vec![Between::OneWay(Hosts::All, Hosts::All)]);
        }
        let hosts = Hosts::these(&self.some(hosts)?, self.hosts);
        let others = match with {
            Some(with) => Hosts::these(&self.some(with)?, self.hosts),
            None => Hosts::All,
        };
        let out = Between::OneWay(hosts.clone(), others.clone());
        let into = Between::OneWay(others, hosts);
        Ok(match way {
            Way::Both => vec![out, into],
            Way::In => vec![into],
            Way::Out => vec![out],
        })
    }

    fn trouble(
        &mut self,
        at: Span,
        lasts: Option<Span>,
        flips: Option<[Span; 2]>,
        trouble: Trouble,
    ) -> Result<(), String> {
        if flips.is_some_and(|[on, off]| on.0 == 0 || off.0 == 0) {
            return Err("flips must be on and off for longer than nothing".into());
        }
        self.troubles += 1;
        let (id, flips) = (self.troubles, flips.map(|[on, off]| (on.0, off.0)));
        self.push(at.0, Fault::Begin(id, Trouble { flips, ..trouble }));
        match lasts {
            Some(lasts) => {
                self.push(at.0 + lasts.0, Fault::End(id));
                self.healed = self.healed.max(Some(at.0 + lasts.0));
            }
            None => self.stays = true,
        }
        Ok(())
    }

    fn stop(
        &mut self,
        at: Span,
        hosts: &Select,
        lasts: Span,
        fault: impl Fn(usize, u64) -> Fault,
    ) -> Result<(), String> {
        let (hosts, resumes) = (self.some(hosts)?, at.0 + lasts.0);
        for host in &hosts {
            self.push(at.0, fault(*host, lasts.0));
        }
        self.ends = self.ends.max(resumes);
        self.resumed.push((resumes, hosts));
        Ok(())
    }

    fn unfit(
        &mut self,
        at: Span,
        hosts: &Select,
        lasts: Option<Span>,
        fault: impl Fn(usize) -> Fault,
    ) -> Result<(), String> {
        for host in self.some(hosts)? {
            self.push(at.0, fault(host));
            match lasts {
                Some(lasts) => {
                    self.push(at.0 + lasts.0, Fault::Fit(host));
                    self.healed = self.healed.max(Some(at.0 + lasts.0));
                }
                None => self.stays = true,
            }
        }
        Ok(())
    }
}

/// Evenly over a time.
fn spread(hosts: Vec<usize>, at: Span, within: Span) -> Vec<(usize, u64)> {
    let count = hosts.len().max(1) as u64;
    let hosts = hosts.into_iter().enumerate();
    hosts.map(|(n, host)| (host, at.0 + within.0 * n as u64 / count)).collect()
}
