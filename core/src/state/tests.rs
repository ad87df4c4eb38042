use super::*;

/// A directory of its own that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let unique = format!("peerage-state-{name}-{}", std::process::id());
        let dir = Self(std::env::temp_dir().join(unique));
        let _ = fs::remove_dir_all(&dir.0);
        dir
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kept() -> Kept {
    let member = |n: u16| (NodeId::new(format!("n{n}")).unwrap(), ([10, 0, 0, 1], n).into());
    Kept {
        cluster: "c".into(),
        node_id: "größe".into(),
        incarnation: 7,
        members: (1..=MEMBERS_MAX as u16).map(member).collect(),
    }
}

#[test]
fn what_is_written_is_read_also_over_an_older_file() {
    let dir = Dir::new("written");
    assert!(read(&dir.0).unwrap().kept.is_none());
    write(&dir.0, &Kept::default()).unwrap();
    write(&dir.0, &kept()).unwrap();
    let found = read(&dir.0).unwrap();
    assert_eq!((found.kept, found.set_aside), (Some(kept()), None));
}

#[test]
fn every_torn_file_is_set_aside() {
    let dir = Dir::new("torn");
    let small = Kept { members: kept().members[..2].to_vec(), ..kept() };
    fs::create_dir_all(&dir.0).unwrap();
    write(&dir.0, &small).unwrap();
    let whole = fs::read(dir.0.join(NAME)).unwrap();
    for length in 0..whole.len() {
        fs::write(dir.0.join(NAME), &whole[..length]).unwrap();
        let found = read(&dir.0).unwrap();
        assert!(found.kept.is_none(), "{length} bytes");
        let (aside, reason) = found.set_aside.unwrap();
        assert_eq!(fs::read(aside).unwrap(), whole[..length]);
        assert!(!reason.is_empty());
        assert!(!dir.0.join(NAME).exists());
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let dir = Dir::new("changed");
    let small = Kept { members: kept().members[..2].to_vec(), ..kept() };
    fs::create_dir_all(&dir.0).unwrap();
    write(&dir.0, &small).unwrap();
    let whole = fs::read(dir.0.join(NAME)).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        fs::write(dir.0.join(NAME), &changed).unwrap();
        assert!(read(&dir.0).unwrap().set_aside.is_some(), "byte {at}");
    }
    fs::write(dir.0.join(NAME), vec![0; BYTES_MAX as usize + 1]).unwrap();
    assert!(read(&dir.0).unwrap().set_aside.is_some(), "far too long");
}

#[test]
fn a_file_that_was_being_written_does_not_matter() {
    let dir = Dir::new("being-written");
    fs::create_dir_all(&dir.0).unwrap();
    write(&dir.0, &kept()).unwrap();
    fs::write(dir.0.join(format!("{NAME}.new")), b"half").unwrap();
    assert_eq!(read(&dir.0).unwrap().kept, Some(kept()));
    write(&dir.0, &Kept::default()).unwrap();
    assert_eq!(read(&dir.0).unwrap().kept, Some(Kept::default()));
}

#[test]
fn what_is_no_file_is_set_aside_like_damage() {
    let dir = Dir::new("no-file");
    fs::create_dir_all(dir.0.join(NAME).join("inside")).unwrap();
    let found = read(&dir.0).unwrap();
    let (aside, reason) = found.set_aside.unwrap();
    assert!(found.kept.is_none());
    assert!(aside.join("inside").exists() && reason == "is no file", "{reason}");
    write(&dir.0, &kept()).unwrap();
    assert_eq!(read(&dir.0).unwrap().kept, Some(kept()));

    // Where what was set aside before does not give way the node begins all the same.
    fs::remove_file(dir.0.join(NAME)).unwrap();
    fs::create_dir(dir.0.join(NAME)).unwrap();
    let found = read(&dir.0).unwrap();
    let (aside, reason) = found.set_aside.unwrap();
    assert!(found.kept.is_none());
    assert_eq!(aside, dir.0.join(NAME));
    assert!(reason.contains("cannot be set aside"), "{reason}");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_set_aside_like_damage() {
    let dir = Dir::new("unreadable");
    fs::create_dir_all(&dir.0).unwrap();
    std::os::unix::fs::symlink(NAME, dir.0.join(NAME)).unwrap(); // to itself
    let found = read(&dir.0).unwrap();
    let (aside, reason) = found.set_aside.unwrap();
    assert!(found.kept.is_none() && fs::symlink_metadata(aside).is_ok());
    assert!(reason.contains("cannot be read"), "{reason}");
    write(&dir.0, &kept()).unwrap();
    assert_eq!(read(&dir.0).unwrap().kept, Some(kept()));
}
