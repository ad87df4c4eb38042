//! What a node keeps on disk brings a cluster back that was stopped as a whole; what is damaged
//! there stops nobody.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{fs, net::SocketAddr, path::PathBuf};

use peerage::{Cluster, Error, EventKind, Secret};
use support::{all_see, event, in_time, node, until};

/// A directory of its own that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn of(&self, id: &str) -> String {
        self.0.join(id).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_stopped_as_a_whole_finds_itself_without_seeds() {
    let (dir, secret) = (Dir::new("whole-restart"), Secret::generate());
    let start = async |id: String, listen: SocketAddr, seeds: Vec<SocketAddr>| -> Cluster {
        let builder = node(&id, &secret).state_dir(dir.of(&id)).listen(listen).seeds(seeds);
        builder.start().await.unwrap()
    };
    let mut nodes = Vec::new();
    for i in 0..4 {
        let seeds = nodes.first().map(Cluster::addr).into_iter().collect();
        nodes.push(start(format!("n{i}"), ([127, 0, 0, 1], 0).into(), seeds).await);
    }
    all_see(&nodes, 4).await;
    nodes[2].update_tag("role", "worker").await.unwrap();
    let before: Vec<_> = nodes.iter().map(Cluster::local).collect();
    // All at once, without a goodbye.
    for node in nodes.drain(..) {
        in_time("the end", node.shutdown_now()).await.unwrap();
    }

    for member in &before {
        nodes.push(start(member.id.to_string(), member.addr, Vec::new()).await);
    }
    all_see(&nodes, 4).await;
    for (node, before) in nodes.iter().zip(&before) {
        let now = node.local();
        assert!(now.incarnation > before.incarnation, "{now:?} after {before:?}");
    }
    // One that is merely dropped still writes for a moment, into a directory that is gone.
    for node in nodes {
        in_time("the end", node.shutdown_now()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_set_aside_and_told() {
    let (dir, secret) = (Dir::new("damaged"), Secret::generate());
    fs::create_dir_all(dir.of("n0")).unwrap();
    let file = PathBuf::from(dir.of("n0")).join("node.peerage");
    let torn = [&b"PEERAGE\x01"[..], &[7; 100]].concat();
    fs::write(&file, &torn).unwrap();
    let n0 = node("n0", &secret).state_dir(dir.of("n0")).start().await.unwrap();
    let mut events = n0.events();
    // Something has to happen for a node that is alone to look at its events.
    n0.update_tag("a", "b").await.unwrap();
    let told =
        event(&mut events, "the damaged file", |e| matches!(e, EventKind::StateSetAside { .. }));
    let told = told.await.pop().unwrap();
    let EventKind::StateSetAside { path, reason } = told.kind else { unreachable!() };
    assert!(reason.contains("checksum"), "{reason}");
    assert_eq!(fs::read(path).unwrap(), torn);
    until("a good file is written in its place", || file.exists()).await;
    n0.shutdown_now().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_another_node_is_refused_by_name() {
    let (dir, secret) = (Dir::new("another"), Secret::generate());
    let n0 = node("n0", &secret).state_dir(dir.of("x")).start().await.unwrap();
    let file = PathBuf::from(dir.of("x")).join("node.peerage");
    until("its file is written", || file.exists()).await;
    n0.shutdown_now().await.unwrap();
    let refused = |error: Error| {
        let Error::Config(fields) = error else { panic!("{error}") };
        assert_eq!(fields.len(), 1);
        assert_eq!(fields[0].field, "state_dir");
        fields[0].expected.clone()
    };
    let other = node("n1", &secret).state_dir(dir.of("x")).start().await;
    assert!(refused(other.unwrap_err()).contains("\"n0\""));
    let on_a_file = file.to_str().unwrap().to_owned();
    let nowhere = node("n1", &secret).state_dir(on_a_file).start().await;
    assert!(refused(nowhere.unwrap_err()).contains("directory"));
}
