//! The quickstart, which the README shows, does what it says.

use std::process::Command;

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
