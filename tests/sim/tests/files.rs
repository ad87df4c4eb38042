//! Every scenario file, small; and that files which mean nothing are refused with what is wrong.
#![allow(clippy::unwrap_used)] // a test may

use peerage::{
    NodeId,
    membership::{place_seed, watchers_of},
};
use peerage_sim::{
    file::{self, File, Starts},
    scenario::config,
};

#[test]
fn every_scenario_holds_at_its_small_size() {
    let files = file::all(&file::directory()).unwrap();
    assert!(files.len() >= 15, "{} files", files.len());
    let (mut starts, mut failed) = (Starts::default(), Vec::new());
    for file in files {
        let nodes = file.small.unwrap_or(file.nodes);
        assert!(nodes <= 100, "{} needs a `small` of at most 100", file.name);
        for seed in &file.seeds {
            let report = file.run(&mut starts, nodes, *seed, false).unwrap();
            if !report.violations.is_empty() {
                let replay = file.replay(nodes, *seed);
                failed.push(format!("{}\n  replay: {replay}", report.violations.join("\n  ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_run_from_a_start_that_others_used_is_the_same_to_the_byte() {
    let file = file::find("crash-1-percent").unwrap();
    let mut starts = Starts::default();
    let [fresh, again] = [0, 1].map(|_| file.run(&mut starts, 20, 1, false).unwrap());
    let alone = file.run(&mut Starts::default(), 20, 1, false).unwrap();
    assert_eq!((fresh.trace, fresh.steps), (again.trace, again.steps));
    assert_eq!((fresh.trace, fresh.steps), (alone.trace, alone.steps));
    assert_ne!(fresh.trace, file.run(&mut starts, 20, 2, false).unwrap().trace);
}

/// What a scenario of ten nodes with these lines besides says.
fn parse(lines: &str) -> Result<File, String> {
    File::parse("test", &format!("about = \"a test\"\nnodes = 10\n{lines}"))
}

#[test]
fn expectations_that_do_not_come_true_are_violations() {
    // Each is impossible, and the run must say so.
    for (step, expect) in [
        ("do = \"crash\"\nat = \"1s\"\nhosts = \"3\"", "gone_within = \"500ms\""),
        ("do = \"pause\"\nat = \"1s\"\nhosts = \"3\"\nlasts = \"20s\"", "back_within = \"1ms\""),
        ("do = \"restart\"\nat = \"1s\"\nhosts = \"3\"", "restarted_within = \"1ms\""),
        ("do = \"cut\"\nat = \"1s\"\nhosts = \"0..5\"\nlasts = \"1m\"", "one_within = \"1ms\""),
    ] {
        let file = parse(&format!("[[step]]\n{step}\n[expect]\nmay_fail = \"all\"\n{expect}"));
        let report = file.unwrap().run(&mut Starts::default(), 10, 1, false).unwrap();
        let name = expect.split(' ').next().unwrap();
        let said = report.violations.iter().any(|v| v.contains(name));
        let in_time = report.took[0].took.is_some_and(|took| took <= report.took[0].within);
        assert!(said && !in_time, "{expect}: {report:?}");
    }
    // Nobody may fail, and some do.
    let cut = "[[step]]\ndo = \"cut\"\nat = \"1s\"\nhosts = \"0..5\"\nlasts = \"1m\"\n[expect]\n";
    let report = parse(cut).unwrap().run(&mut Starts::default(), 10, 1, false).unwrap();
    assert!(report.violations[0].contains("runs and was declared failed"), "{report:?}");
}

#[test]
fn what_means_nothing_is_refused_with_what_would() {
    let step = |text: &str| format!("[[step]]\n{text}\n[expect]\n");
    for (text, says) in [
        ("", "missing field `expect`"),
        ("colour = \"red\"\n[expect]\n", "unknown field `colour`"),
        (&step("do = \"crash\"\nat = \"1s\"\nhosts = \"10\""), "step 1: host 10 is out of range"),
        (&step("do = \"crash\"\nat = \"soon\"\nhosts = \"1\""), "`soon` is no length of time"),
        (&step("do = \"crash\"\nat = \"1s\"\nhosts = \"1\"\nwhy = \"so\""), "unknown field `why`"),
        (&step("do = \"explode\"\nat = \"1s\""), "unknown variant `explode`"),
        (&step("do = \"join\"\nat = \"1s\"\nhosts = \"3\""), "host 3 runs already"),
        (&step("do = \"join\"\nat = \"1s\"\nhosts = \"newcomers\""), "step 1: hosts are none"),
        (
            &step("do = \"disturb\"\nat = \"1s\"\nhosts = \"1\"\nloss = 80.0"),
            "loss is 80; it must be between 0 and 1",
        ),
        (&step("do = \"disturb\"\nat = \"1s\"\nhosts = \"1\""), "nothing is disturbed"),
        (
            &step("do = \"restart\"\nat = \"1s\"\nhosts = \"1\"\nmoved = true"),
            "host 1 is a seed and keeps its address",
        ),
        ("[expect]\nmay_fail = \"some\"", "names no hosts"),
        ("[expect]\ngone_within = \"1s\"", "expect.gone_within is given, but nobody crashes"),
        ("seeds = []\n[expect]\n", "seeds is empty"),
        ("latency = { uniform = [\"2ms\", \"1ms\"] }\n[expect]\n", "is above the most"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(says), "{text}\ngives: {error}");
    }
    let error = File::parse("test", "about = \"x\"\nnodes = 1\n[expect]\n").unwrap_err();
    assert!(error.contains("nodes is 1"), "{error}");
    let error = file::find("no-such-scenario").unwrap_err();
    assert!(error.contains("crash-1-percent"), "{error}");
}

/// Else the two have no heartbeats to miss, and the scenario shows nothing.
#[test]
fn the_pair_that_is_blackholed_watches_each_other() {
    let text = std::fs::read_to_string(file::directory().join("blackholed-pair.toml")).unwrap();
    assert!(text.contains("hosts = \"17\"\nwith = \"30\""), "{text}");
    let file = file::find("blackholed-pair").unwrap();
    for nodes in [file.nodes, file.small.unwrap()] {
        let ids: Vec<_> = (0..nodes).map(|n| NodeId::new(format!("n{n:04}")).unwrap()).collect();
        let rings = config().watch_rings as usize;
        let others = ids.iter().map(|id| (place_seed(id), id));
        let watchers = watchers_of(rings, &ids[17], others);
        assert!(watchers.contains(&ids[30]), "of {nodes}: {watchers:?}");
    }
}
