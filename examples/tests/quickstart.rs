//! The quickstart runs, and the README shows exactly what runs.

use std::{path::Path, process::Command};

#[test]
fn the_quickstart_does_what_it_says() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_quickstart")).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("bob heard: hello bob, this is alice"), "{text}");
    assert!(text.contains(r#"alice saw: MemberJoined bob {"role": "guest"}"#), "{text}");
    assert!(text.contains("alice saw: MemberLeft bob"), "{text}");
    assert!(!text.contains("MemberFailed"), "{text}");
}

#[test]
fn the_readme_shows_the_program_that_runs() {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).expect("it can be read");
        text.replace("\r\n", "\n")
    };
    let readme = read("README.md");
    let program = read("examples/src/bin/quickstart.rs");
    let shown = between(&readme, "<!-- quickstart -->\n```rust\n", "```\n<!-- /quickstart -->");
    let runs = between(&program, "// [quickstart]\n", "// [/quickstart]");
    assert_eq!(
        shown, runs,
        "copy the marked part of examples/src/bin/quickstart.rs into README.md"
    );
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).expect("the start is marked");
    rest.split_once(end).expect("the end is marked").0
}
