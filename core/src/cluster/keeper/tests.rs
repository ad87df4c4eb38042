//! A process that is killed while it writes leaves the old file or the new one, never half of one.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{Cluster, Secret};

/// Makes this test the process that is killed: the directory that it writes into.
const DIR_VARIABLE: &str = "PEERAGE_TEST_KILLED_DIR";
const ROUNDS: usize = 50;
/// Rounds that are added as long as no kill has hit a writing.
const MORE_ROUNDS: usize = 200;
/// Nothing takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose incarnation rises as fast as it can, so that there is always something to keep.
fn be_killed(dir: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let builder = Cluster::builder("c", "n").secret(Secret::generate()).state_dir(dir.into());
        let node = builder.start().await.unwrap();
        println!("\nincarnation {}", node.local().incarnation);
        let until = Instant::now() + PATIENCE; // nobody may be there to kill us
        for n in 0u64.. {
            node.update_tag("n", &n.to_string()).await.unwrap();
            if Instant::now() > until {
                break;
            }
        }
    });
}

struct Killed(Child);

impl Killed {
    /// SIGKILL, where there are signals.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails only for one that was killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a test's rest, in the place for such
    }
}

#[test]
fn a_process_killed_again_and_again_loses_nothing_it_kept() {
    if let Ok(dir) = env::var(DIR_VARIABLE) {
        return be_killed(&dir);
    }
    let dir = Dir(env::temp_dir().join(format!("peerage-killed-{}", std::process::id())));
    let _ = fs::remove_dir_all(&dir.0);
    // As long a file as there may be, so that writing it takes its time.
    let member = |n: u16| (NodeId::new(format!("{n:0>128}")).unwrap(), ([127, 0, 0, 1], 9).into());
    let members: Vec<_> = (0..MEMBERS_MAX as u16).map(member).collect();
    let mut last =
        Kept { cluster: "c".into(), node_id: "n".into(), incarnation: 1, members: members.clone() };
    fs::create_dir_all(&dir.0).unwrap();
    state::write(&dir.0, &last).unwrap();

    let (mut hits, mut newer) = (0, 0);
    for round in 0..ROUNDS + MORE_ROUNDS {
        if round >= ROUNDS && hits > 0 {
            break;
        }
        let announced = one_life(&dir.0, round);
        hits += usize::from(half_written(&dir.0));
        let found = state::read(&dir.0).unwrap();
        assert_eq!(found.set_aside, None, "round {round}");
        let kept = found.kept.unwrap_or_else(|| panic!("nothing is kept after round {round}"));
        assert!(kept.incarnation >= last.incarnation, "round {round}: {kept:?}");
        if let Some(announced) = announced {
            assert!(announced > last.incarnation, "round {round}: {announced} after {last:?}");
        }
        assert_eq!(kept.members, members, "round {round}");
        newer += usize::from(kept.incarnation > last.incarnation);
        last = kept;
    }
    println!("{hits} kills hit a writing; {newer} lives kept something");
    assert!(hits > 0, "no kill hit a writing");
    assert!(newer > 0, "no life kept anything");
}

/// Starts the process and kills it when it begins to write, or at a moment that has nothing to do
/// with that. The incarnation that it began with, if it came to say so.
fn one_life(dir: &Path, round: usize) -> Option<u64> {
    let new = dir.join("node.peerage.new");
    let _ = fs::remove_file(&new); // left by the life before, or not there
    let program = env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command.arg(thread::current().name().unwrap());
    command.env(DIR_VARIABLE, dir).stdout(Stdio::piped());
    let mut process = Killed(command.spawn().unwrap());
    let out = process.0.stdout.take().unwrap();
    let said = thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(std::result::Result::ok);
        lines.filter_map(|line| line.strip_prefix("incarnation ")?.parse().ok()).next()
    });
    match round % 5 {
        // Some time in its life; the second writing comes after a second.
        4 => thread::sleep(Duration::from_millis(rand::random_range(0..1500))),
        // While it writes, or soon after that.
        kind => {
            let begun = Instant::now();
            while !new.exists() {
                assert!(begun.elapsed() < PATIENCE, "it never writes");
                std::hint::spin_loop();
            }
            let later = Duration::from_micros(kind as u64 * rand::random_range(0..1000));
            let at = Instant::now() + later;
            while Instant::now() < at {
                std::hint::spin_loop();
            }
        }
    }
    process.kill();
    said.join().unwrap()
}

/// Whether the last kill came while the file was written.
fn half_written(dir: &Path) -> bool {
    dir.join("node.peerage.new").exists()
}
