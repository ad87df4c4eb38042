//! The mixed cluster as tests: every language asks every language, and the demo's story comes to
//! its good end.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    cast::{Language, Programs, WORKERS},
    screen::Screen,
    story::Story,
    tell,
    world::World,
};
use crate::test::Total;

const READY: Duration = Duration::from_secs(30);
const CONVERGE: Duration = Duration::from_secs(60);
const ANSWERS: Duration = Duration::from_secs(60);

/// Runs them and says how each went, as libtest does.
pub(crate) fn tests(programs: &Programs) -> Result<Total> {
    let mut total = Total::default();
    let mut count = |name: &str, problem: Option<String>| match problem {
        None => {
            eprintln!("test mixed::{name} ... ok");
            total.passed += 1;
        }
        Some(problem) => {
            eprintln!("test mixed::{name} ... FAILED\n{problem}");
            total.failed += 1;
        }
    };

    match Story::new(programs, Screen::Quiet)?.everybody_asks_everybody() {
        Ok(world) => {
            for asker in LANGUAGES {
                for target in LANGUAGES {
                    let name = format!("{}_asks_{}", asker.name(), target.name());
                    count(&name, unanswered(&world, asker, target));
                }
            }
        }
        Err(error) => count("everybody_asks_everybody", Some(format!("{error:#}"))),
    }

    let summary = tell(programs, Screen::Quiet)?;
    let problems = (!summary.ok).then(|| summary.problems.join("\n"));
    count("the_demo_comes_to_its_good_end", problems);
    Ok(total)
}

const LANGUAGES: [Language; 4] = [Language::Rust, Language::Node, Language::Python, Language::C];

/// What went wrong between processes of two languages, if anything.
fn unanswered(world: &World, asker: Language, target: Language) -> Option<String> {
    let of = |language| WORKERS.iter().filter(move |role| role.language == language);
    let mut wrong = String::new();
    for from in of(asker) {
        for to in of(target) {
            match world.asked.get(&(from.id.to_owned(), to.id.to_owned())) {
                Some(None) => {}
                Some(Some(error)) => wrong += &format!("{} asked {}: {error}\n", from.id, to.id),
                None => wrong += &format!("{} never asked {}\n", from.id, to.id),
            }
        }
    }
    (!wrong.is_empty()).then_some(wrong)
}

impl Story<'_> {
    /// Every worker asks every worker, itself included; then all leave. What it knows at the end.
    fn everybody_asks_everybody(mut self) -> Result<World> {
        let [first, others @ ..] = &WORKERS;
        self.start(first, &["--tag", "role=worker"].map(str::to_owned))?;
        let seed = self.wait("the first starts", READY, |w| w.nodes[first.id].addr.clone())?;
        for worker in others {
            self.start_worker(worker, &seed)?;
        }
        self.wait("all become one cluster", CONVERGE, |w| w.all_see_all().then_some(()))?;
        for from in &WORKERS {
            for to in &WORKERS {
                self.process(from.id)?.tell(&format!("ask {}", to.id))?;
            }
        }
        let pairs = WORKERS.len() * WORKERS.len();
        self.wait("all answers come", ANSWERS, |w| (w.asked.len() == pairs).then_some(()))
            .with_context(|| format!("{} of {pairs} came", self.world.asked.len()))?;
        for worker in &WORKERS {
            self.world.stop(worker.id);
            self.process(worker.id)?.tell_to_leave();
        }
        for worker in &WORKERS {
            self.wait_for_exit(worker.id)?;
        }
        Ok(self.world)
    }
}
