//! Membership over real sockets: joins, probes, refutation, restarts, leaves, names.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, time::Duration};

use peerage::{Code, EventKind, Secret, State};
use support::{
    PATIENCE, all_see, cluster_of, event, is_about, node,
    paths::{Paths, ip},
    state_is, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_join() {
    let nodes = cluster_of(3, &Secret::generate()).await;
    let ids: Vec<_> = nodes[2].members().iter().map(|m| m.id.to_string()).collect();
    assert_eq!(ids, ["n0", "n1", "n2"]);
    assert!(nodes[1].members().iter().all(|m| m.state == State::Alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_nodes_join_at_once() {
    let nodes = cluster_of(20, &Secret::generate()).await;
    assert!(nodes.iter().all(|n| n.members().len() == 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_join_at_once_than_the_seed_has_links_for() {
    let secret = Secret::generate();
    let small = |id: &str| node(id, &secret).watch_rings(1).links_max(10);
    let seed = small("n0").start().await.unwrap();
    let mut nodes = vec![seed.clone()];
    for n in 1..60 {
        nodes.push(small(&format!("n{n}")).seed(seed.addr()).start().await.unwrap());
    }
    all_see(&nodes, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_probes_are_answered_and_measure_the_round_trip() {
    let nodes = cluster_of(2, &Secret::generate()).await;
    until("a round trip is known", || nodes[0].get("n1").is_some_and(|m| m.rtt.is_some())).await;
    let stats = nodes[0].stats().membership;
    assert!(stats.probes >= 1);
    assert_eq!(stats.probes_failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_announced_and_found() {
    let nodes = cluster_of(3, &Secret::generate()).await;
    let mut events = nodes[0].events();
    let tags = BTreeMap::from([("role".to_string(), "worker".to_string())]);
    nodes[1].set_tags(tags).await.unwrap();
    assert_eq!(nodes[1].local().tags["role"], "worker");
    event(&mut events, "the update", |k| is_about(k, "MemberUpdated", "n1")).await;
    until("all find it", || nodes.iter().all(|n| n.members_with(&[("role", "worker")]).len() == 1))
        .await;
    assert!(nodes[0].members_with(&[("role", "director")]).is_empty());

    let huge = BTreeMap::from([("k".to_string(), "v".repeat(5000))]);
    let error = nodes[1].set_tags(huge).await.unwrap_err();
    assert_eq!(error.code(), Code::Argument);
    assert_eq!(
        nodes[1].local().tags["role"],
        "worker",
        "a refused change leaves everything as it was"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_target_reachable_only_through_others_is_probed_through_them_and_stays() {
    let (paths, secret) = (Paths::default(), Secret::generate());
    let mut nodes = vec![paths.start(1, 0, &secret, |b| b).await];
    let seed = nodes[0].cluster.addr();
    for i in 1..4 {
        nodes.push(paths.start(1, i, &secret, |b| b.seed(seed)).await);
    }
    let handles: Vec<_> = nodes.iter().map(|n| n.cluster.clone()).collect();
    all_see(&handles, 4).await;
    let (a, b) = (&handles[1], &handles[2]);
    let mut events = a.events();

    paths.cut(ip(1, 1), ip(1, 2));
    let before = a.stats().membership;
    until("several indirect probes went out and were answered", || {
        a.stats().membership.probes_indirect >= before.probes_indirect + 3
            && b.stats().membership.probes_indirect >= 3
    })
    .await;
    let relayed =
        handles[0].stats().membership.probes_relayed + handles[3].stats().membership.probes_relayed;
    assert!(relayed >= 3, "{relayed} probes were relayed");
    while let Some(event) = events.try_next() {
        assert_ne!(event.kind.name(), "MemberFailed", "nobody may go: {event:?}");
    }
    assert!(a.get("n2").unwrap().state.is_live());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_suspected_member_that_lives_refutes() {
    let (paths, secret) = (Paths::default(), Secret::generate());
    let slow = |b: peerage::Builder| b.suspicion_min(Duration::from_secs(20));
    let first = paths.start(2, 0, &secret, slow).await;
    let seed = first.cluster.addr();
    let second = paths.start(2, 1, &secret, |b| slow(b).seed(seed)).await;
    let third = paths.start(2, 2, &secret, |b| slow(b).seed(seed)).await;
    let handles = [first.cluster.clone(), second.cluster.clone(), third.cluster.clone()];
    all_see(&handles, 3).await;

    let mut events = first.cluster.events();
    let incarnation = first.cluster.get("n2").unwrap().incarnation;
    paths.cut(ip(2, 0), ip(2, 2));
    paths.cut(ip(2, 1), ip(2, 2));
    event(&mut events, "the suspicion", |k| is_about(k, "MemberSuspected", "n2")).await;
    paths.heal();
    let seen = event(&mut events, "the recovery", |k| is_about(k, "MemberRecovered", "n2")).await;
    assert!(seen.iter().all(|e| e.kind.name() != "MemberFailed"));
    assert!(first.cluster.get("n2").unwrap().incarnation > incarnation, "it announced itself anew");
    assert!(third.cluster.stats().membership.refutations >= 1);
    assert_eq!(third.cluster.local().state, State::Alive);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_halves_that_declared_each_other_dead_become_one_again() {
    let (paths, secret) = (Paths::default(), Secret::generate());
    let quick = |b: peerage::Builder| {
        b.suspicion_min(Duration::from_secs(1)).heal_interval(Duration::from_millis(500))
    };
    let mut nodes = vec![paths.start(3, 0, &secret, quick).await];
    let seed = nodes[0].cluster.addr();
    for i in 1..4 {
        nodes.push(paths.start(3, i, &secret, |b| quick(b).seed(seed)).await);
    }
    let handles: Vec<_> = nodes.iter().map(|n| n.cluster.clone()).collect();
    all_see(&handles, 4).await;
    for left in [0, 1] {
        for right in [2, 3] {
            paths.cut(ip(3, left), ip(3, right));
        }
    }
    all_see(&handles, 2).await;
    paths.heal();
    all_see(&handles, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leave_is_seen_as_left_and_never_as_failed() {
    let nodes = cluster_of(4, &Secret::generate()).await;
    let mut events = nodes[0].events();
    let report = nodes[3].leave().await.unwrap();
    assert!(report.complete(), "{report:?}");
    for node in &nodes[..3] {
        state_is(node, "n3", State::Left).await;
    }
    // Three more periods in which somebody could miss it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut left = 0;
    while let Some(e) = events.try_next() {
        assert!(
            !is_about(&e.kind, "MemberFailed", "n3") && !is_about(&e.kind, "MemberSuspected", "n3"),
            "{e:?}"
        );
        left += usize::from(is_about(&e.kind, "MemberLeft", "n3"));
    }
    assert_eq!(left, 1, "it is told once");
    assert_eq!(nodes[3].request("n0", "t", "", PATIENCE).await.unwrap_err().code(), Code::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarted_under_its_id_and_port_is_welcomed() {
    let secret = Secret::generate();
    let nodes = cluster_of(3, &secret).await;
    let old = nodes[2].local();
    nodes[2].shutdown_now().await.unwrap();
    let again = node("n2", &secret).listen(old.addr).seed(nodes[0].addr()).start().await.unwrap();
    again.join(PATIENCE).await.unwrap();
    for node in &nodes[..2] {
        until("the new process is alive everywhere", || {
            node.get("n2")
                .is_some_and(|m| m.state == State::Alive && m.instance == again.local().instance)
        })
        .await;
    }
    assert!(again.local().incarnation > old.incarnation);
    assert_eq!(again.addr(), old.addr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_under_its_id_on_another_address() {
    let secret = Secret::generate();
    let nodes = cluster_of(3, &secret).await;
    let old = nodes[2].local();
    let mut events = nodes[1].events();
    nodes[2].shutdown_now().await.unwrap();
    let again = node("n2", &secret).seed(nodes[0].addr()).start().await.unwrap();
    again.join(PATIENCE).await.unwrap();
    let seen = event(&mut events, "the return", |k| is_about(k, "MemberJoined", "n2")).await;
    assert!(seen.iter().any(|e| is_about(&e.kind, "MemberFailed", "n2")), "{seen:?}");
    assert_ne!(again.addr(), old.addr);
    until("its new address is known", || {
        nodes[1].get("n2").is_some_and(|m| m.addr == again.addr())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_living_node_under_an_id_is_refused() {
    let secret = Secret::generate();
    let nodes = cluster_of(3, &secret).await;
    let mut events = nodes[0].events();
    let namesake = node("n2", &secret).seed(nodes[0].addr()).start().await.unwrap();
    let error = namesake.join(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Code::NameConflict, "{error}");
    event(&mut events, "the conflict", |k| matches!(k, EventKind::NameConflict { .. })).await;
    assert_eq!(
        namesake.closed().unwrap().code(),
        Code::NameConflict,
        "the newcomer is no half-living node"
    );
    assert_eq!(nodes[0].get("n2").unwrap().instance, nodes[2].local().instance);
    assert_eq!(nodes[0].get("n2").unwrap().state, State::Alive);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_each_with_its_own_error() {
    let secret = Secret::generate();
    let ours = node("n0", &secret).start().await.unwrap();

    let wrong_secret = node("n1", &Secret::generate()).seed(ours.addr()).start().await.unwrap();
    assert_eq!(wrong_secret.join(PATIENCE).await.unwrap_err().code(), Code::Unauthenticated);

    let elsewhere =
        peerage::Cluster::builder("other", "n1").secret(secret.clone()).seed(ours.addr());
    let elsewhere = elsewhere.start().await.unwrap();
    assert_eq!(elsewhere.join(PATIENCE).await.unwrap_err().code(), Code::WrongCluster);

    assert_eq!(ours.members().len(), 1, "no membership flowed");
    assert_eq!(wrong_secret.members().len(), 1);
    assert_eq!(elsewhere.members().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_not_there_is_named() {
    let secret = Secret::generate();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alone = node("n0", &secret).seed(nobody).start().await.unwrap();
    let error = alone.join(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.code(), Code::JoinFailed);
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
    // It keeps trying: once somebody is there, it joins.
    let late = node("n1", &secret).listen(nobody).start().await.unwrap();
    alone.join(PATIENCE).await.unwrap();
    all_see(&[alone, late], 2).await;
}
