//! Nothing is left of a node that ended, however it ended. One test in this binary, since it
//! counts the threads and sockets of the whole process.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod support;

use std::fs;

use peerage::Secret;
use support::{PATIENCE, cluster_of, in_time, until};

fn core_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|t| fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("peerage")).count()
}

fn udp_sockets() -> usize {
    let links: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| Some(fs::read_link(fd.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let udp = fs::read_to_string("/proc/self/net/udp").unwrap() + &fs::read_to_string("/proc/self/net/udp6").unwrap();
    let inodes: Vec<&str> = udp.lines().filter_map(|line| line.split_whitespace().nth(9)).collect();
    let ours = |link: &&String| {
        let inode = link.strip_prefix("socket:[").and_then(|l| l.strip_suffix(']'));
        inode.is_some_and(|i| inodes.contains(&i))
    };
    links.iter().filter(ours).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_thread_and_no_socket_is_left() {
    assert_eq!((core_threads(), udp_sockets()), (0, 0));
    let secret = Secret::generate();

    // By leaving, all at once.
    let nodes = cluster_of(3, &secret).await;
    assert!(core_threads() > 0 && udp_sockets() >= 3);
    let mut events = nodes[0].events();
    let leaves: Vec<_> = nodes.iter().cloned().map(|n| tokio::spawn(async move { n.leave().await })).collect();
    for leave in leaves {
        in_time("the leave", leave).await.unwrap().unwrap();
    }
    in_time("the end of the events", async { while events.next().await.is_some() {} }).await;
    assert_eq!(udp_sockets(), 0, "leave returns when the sockets are closed");
    until("the threads end with the last cluster", || core_threads() == 0).await;

    // By dropping the last handle.
    let nodes = cluster_of(3, &secret).await;
    let second_handle = nodes[0].clone();
    drop(nodes);
    until("the two without a handle are gone", || {
        second_handle.members().iter().filter(|m| m.state.is_live()).count() == 1
    })
    .await;
    drop(second_handle);
    until("everything is gone", || core_threads() == 0 && udp_sockets() == 0).await;

    // By leaving from within a handler.
    let nodes = cluster_of(2, &secret).await;
    let own = nodes[1].clone();
    nodes[1]
        .handle("go", move |_| {
            let own = own.clone();
            async move {
                tokio::spawn(async move { own.leave().await });
                Ok("gone".into())
            }
        })
        .unwrap();
    nodes[0].request("n1", "go", "", PATIENCE).await.unwrap();
    until("it has left", || nodes[1].closed().is_some()).await;
    nodes[0].shutdown_now().await.unwrap();
    drop(nodes);
    until("everything is gone", || core_threads() == 0 && udp_sockets() == 0).await;
}
