//! What a program that installs a recorder of its own gets to see.
#![allow(clippy::unwrap_used)] // what a test is not prepared for may panic

mod support;

use std::{collections::BTreeMap, net::UdpSocket, time::Duration};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use peerage::Secret;
use support::{PATIENCE, all_see, cluster_of, node, until};

/// The node whose metrics are looked at most; the names of others' begin with their node's.
const NODE: &str = "n0";

/// All that was published so far, by name and further labels.
fn published(snapshotter: &Snapshotter, seen: &mut BTreeMap<String, f64>) {
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let label = |name: &str| {
            key.key().labels().find(|label| label.key() == name).map_or("", |label| label.value())
        };
        assert!(!label("cluster").is_empty() && !label("node").is_empty(), "{key:?}");
        let whose =
            if label("node") == NODE { String::new() } else { format!("{} ", label("node")) };
        let more = key.key().labels().filter(|l| l.key() != "node" && l.key() != "cluster");
        let more: String = more.map(|l| format!(" {}={}", l.key(), l.value())).collect();
        let name = format!("{whose}{}{more}", key.key().name());
        // A snapshot takes everything out; what is published whole comes again within a second.
        let counts_up = name.contains("by_kind");
        let so_far = seen.entry(name).or_default();
        match value {
            DebugValue::Counter(n) if counts_up => *so_far += n as f64,
            DebugValue::Counter(n) => *so_far = so_far.max(n as f64),
            DebugValue::Gauge(n) => *so_far = n.0,
            DebugValue::Histogram(values) => {
                *so_far += values.len() as f64;
                assert!(values.iter().all(|v| (0.0..60.0).contains(&v.0)), "seconds");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_requests_and_events_are_published_under_stable_names() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap(); // and nobody reads what it gets
    let lonely = node("lonely", &Secret::generate())
        .seed(nobody.local_addr().unwrap())
        .connect_timeout(Duration::from_millis(200))
        .start()
        .await
        .unwrap();
    let nodes = cluster_of(4, &Secret::generate()).await;
    all_see(&nodes, 4).await;
    nodes[1].handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    let mut seen = BTreeMap::new();
    // A recorder is asked anew each second.
    until("the first figures", || {
        published(&snapshotter, &mut seen);
        seen.get("peerage_alive") == Some(&4.0)
    })
    .await;
    for _ in 0..5 {
        nodes[0].request("n1", "echo", "x", PATIENCE).await.unwrap();
    }
    nodes[0].request("n1", "nothing", "x", PATIENCE).await.unwrap_err();
    nodes[1].handle("hang", |_| std::future::pending()).unwrap();
    let hanging = nodes[0].request("n1", "hang", "x", PATIENCE);
    tokio::time::timeout(Duration::from_millis(100), hanging).await.unwrap_err();
    nodes[1].handle_streams("talk", |_| async { Ok(()) }).unwrap();
    nodes[0].open_stream("n1", "talk", PATIENCE).await.unwrap();
    nodes[0].open_stream("n1", "nothing", PATIENCE).await.unwrap_err();
    nodes[2].leave().await.unwrap();
    until("what happened since", || {
        published(&snapshotter, &mut seen);
        let is = |name: &str, value: f64| seen.get(name) == Some(&value);
        is("peerage_alive", 3.0)
            && is("peerage_left", 1.0)
            && is("peerage_request_seconds outcome=Ok", 5.0)
            && is("peerage_request_seconds outcome=UnknownTopic", 1.0)
            && is("peerage_request_seconds outcome=Cancelled", 1.0)
            && is("peerage_stream_open_seconds outcome=Ok", 1.0)
            && is("peerage_stream_open_seconds outcome=UnknownTopic", 1.0)
            && is("peerage_events_by_kind_total kind=MemberLeft", 1.0)
            && seen.contains_key("lonely peerage_dial_seconds outcome=Unreachable")
    })
    .await;
    let stats = nodes[0].stats();
    for (name, least) in [
        ("peerage_links", 1.0),
        ("peerage_heartbeats_total", 1.0),
        ("peerage_packets_sent_total", 10.0),
        ("peerage_bytes_sent_total", 1000.0),
        ("peerage_packets_received_total", 10.0),
        ("peerage_bytes_received_total", 1000.0),
        ("n1 peerage_dial_seconds outcome=Ok", 1.0),
        ("n1 peerage_handshake_seconds side=dialed", 1.0),
        ("peerage_handshake_seconds side=accepted", 1.0),
        ("peerage_probes_total", 0.0), // heartbeats may have said it all
    ] {
        let found = seen.get(name);
        assert!(found.is_some_and(|found| *found >= least), "{name} is {found:?} of {seen:?}");
    }
    assert!(seen["peerage_packets_sent_total"] <= nodes[0].stats().transport.packets_sent as f64);
    assert_eq!(seen["peerage_evicted_total"], stats.transport.evicted as f64);
    assert!(!seen.contains_key("peerage_certificate_left_seconds"), "there is none");

    // One dies: who is told of it, and what its links say.
    nodes[3].shutdown_now().await.unwrap();
    until("its death", || {
        published(&snapshotter, &mut seen);
        let least = |name: &str, least: f64| seen.get(name).is_some_and(|n| *n >= least);
        least("peerage_events_by_kind_total kind=MemberSuspected", 1.0)
            && least("peerage_events_by_kind_total kind=MemberFailed", 1.0)
            && least("peerage_failed", 1.0)
            && seen["peerage_alive"] == 2.0
            && seen["peerage_suspect"] == 0.0
            && seen["peerage_gossip_waiting"] == 0.0
    })
    .await;
    assert!((0.0..=8.0).contains(&seen["peerage_health_score"]));
    let accused =
        |name: &str| ["", "n1 "].map(|whose| seen[&format!("{whose}{name}")]).iter().sum();
    let accusations: f64 =
        ["peerage_silences_total", "peerage_probes_failed_total"].map(accused).iter().sum();
    assert!(accusations >= 1.0, "one of the two that were left accused it: {seen:?}");

    // All that the reference names is there.
    let reference = include_str!("../../docs/REFERENCE.md");
    let named =
        reference.lines().filter_map(|line| line.strip_prefix("| `peerage_")?.split('`').next());
    let named: Vec<_> = named.map(|name| format!("peerage_{name}")).collect();
    assert!(named.len() > 50, "{named:?}");
    for name in named.iter().filter(|name| *name != "peerage_certificate_left_seconds") {
        assert!(seen.contains_key(name), "{name} is not published: {seen:?}");
    }
    lonely.shutdown_now().await.unwrap();
}
