//! What a program that installs a recorder of its own gets to see.
#![allow(clippy::unwrap_used)] // what a test is not prepared for may panic

mod support;

use std::{collections::BTreeMap, net::UdpSocket, time::Duration};

use metrics::Key;
use peerage::Secret;
use support::{
    PATIENCE, all_see, cluster_of, node,
    recorder::{Kept, Value},
    until,
};

/// The node whose metrics are looked at most; the names of others' begin with their node's.
const NODE: &str = "n0";

/// What is published now, by name and further labels; of a histogram, how many there were.
fn published(metrics: &Kept) -> BTreeMap<String, f64> {
    let named = |(key, value): (Key, Value)| {
        let label = |name: &str| {
            key.labels().find(|label| label.key() == name).map_or("", |label| label.value())
        };
        assert!(!label("cluster").is_empty() && !label("node").is_empty(), "{key:?}");
        let whose =
            if label("node") == NODE { String::new() } else { format!("{} ", label("node")) };
        let more = key.labels().filter(|l| l.key() != "node" && l.key() != "cluster");
        let more: String = more.map(|l| format!(" {}={}", l.key(), l.value())).collect();
        let value = match value {
            Value::Counter(n) => n as f64,
            Value::Gauge(n) => n,
            Value::Histogram(values) => {
                assert!(values.iter().all(|v| (0.0..60.0).contains(v)), "seconds");
                values.len() as f64
            }
        };
        (format!("{whose}{}{more}", key.name()), value)
    };
    metrics.all().into_iter().map(named).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_requests_and_events_are_published_under_stable_names() {
    let metrics = Kept::install();
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
        seen = published(&metrics);
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
    // Waited for as well: a node may be in the midst of publishing when it is looked at.
    let floors = [
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
    ];
    until("what happened since", || {
        seen = published(&metrics);
        let is = |name: &str, value: f64| seen.get(name) == Some(&value);
        let least = |name: &str, least: f64| seen.get(name).is_some_and(|n| *n >= least);
        is("peerage_alive", 3.0)
            && is("peerage_left", 1.0)
            && is("peerage_request_seconds outcome=Ok", 5.0)
            && is("peerage_request_seconds outcome=UnknownTopic", 1.0)
            && is("peerage_request_seconds outcome=Cancelled", 1.0)
            && is("peerage_stream_open_seconds outcome=Ok", 1.0)
            && is("peerage_stream_open_seconds outcome=UnknownTopic", 1.0)
            && is("peerage_events_by_kind_total kind=MemberLeft", 1.0)
            && seen.contains_key("lonely peerage_dial_seconds outcome=Unreachable")
            && floors.iter().all(|(name, floor)| least(name, *floor))
    })
    .await;
    let stats = nodes[0].stats();
    assert!(seen["peerage_packets_sent_total"] <= nodes[0].stats().transport.packets_sent as f64);
    assert_eq!(seen["peerage_evicted_total"], stats.transport.evicted as f64);
    assert!(!seen.contains_key("peerage_certificate_left_seconds"), "there is none");

    // One dies: who is told of it, and what its links say.
    nodes[3].shutdown_now().await.unwrap();
    until("its death, and who accused it", || {
        seen = published(&metrics);
        let least = |name: &str, least: f64| seen.get(name).is_some_and(|n| *n >= least);
        // One of the two that were left.
        let accusations = [
            "peerage_silences_total",
            "peerage_probes_failed_total",
            "n1 peerage_silences_total",
            "n1 peerage_probes_failed_total",
        ];
        least("peerage_events_by_kind_total kind=MemberSuspected", 1.0)
            && least("peerage_events_by_kind_total kind=MemberFailed", 1.0)
            && least("peerage_failed", 1.0)
            && seen["peerage_alive"] == 2.0
            && seen["peerage_suspect"] == 0.0
            && seen["peerage_gossip_waiting"] == 0.0
            && accusations.iter().any(|name| least(name, 1.0))
    })
    .await;
    assert!((0.0..=8.0).contains(&seen["peerage_health_score"]));

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
