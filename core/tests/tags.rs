//! Single tags, and the account of a member, over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use peerage::{Error, Secret, State};
use support::{cluster_of, node, state_is, until};

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_different_tags_do_not_lose_one_another() {
    let nodes = cluster_of(2, &Secret::generate()).await;
    let changes: Vec<_> = (0..32)
        .map(|n| {
            let node = nodes[0].clone();
            tokio::spawn(async move { node.update_tag(&format!("k{n}"), "v").await })
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(nodes[0].local().tags.len(), 32);
    assert!(nodes[0].remove_tag("k7").await.unwrap());
    assert!(!nodes[0].remove_tag("k7").await.unwrap());
    until("the other sees the 31", || {
        nodes[1].get("n0").is_some_and(|m| m.tags.len() == 31 && !m.tags.contains_key("k7"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_beyond_the_limits_is_refused_and_changes_nothing() {
    let node = node("n0", &Secret::generate()).start().await.unwrap();
    node.update_tag("a", "1").await.unwrap();
    for (key, value) in [("", "x".to_owned()), ("b", "x".repeat(4096))] {
        let error = node.update_tag(key, &value).await.unwrap_err();
        let Error::Argument { field, .. } = &error else { panic!("{error}") };
        assert_eq!(*field, "tag");
    }
    for n in 1..64 {
        node.update_tag(&format!("k{n}"), "v").await.unwrap();
    }
    assert!(node.update_tag("one more", "v").await.is_err());
    assert_eq!(node.local().tags.len(), 64);
    assert_eq!(node.local().tags.get("a").map(String::as_str), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_says_why_a_member_failed() {
    let mut nodes = cluster_of(4, &Secret::generate()).await;
    until("heartbeats pass", || nodes.iter().all(|n| n.stats().membership.heartbeats > 12)).await;
    let well = nodes[0].explain("n3").await.unwrap().unwrap();
    assert!(well.watched && well.linked && well.heard.is_some(), "{well:?}");
    assert!(well.phi.is_some_and(|phi| phi < 8.0), "{well:?}");
    let gone = nodes.pop().unwrap();
    // Without a goodbye; its links are closed, so that probes find it gone.
    gone.shutdown_now().await.unwrap();
    state_is(&nodes[0], "n3", State::Failed).await;
    let told = nodes[0].explain("n3").await.unwrap().unwrap();
    let names: Vec<_> = told.history.iter().map(|h| h.what).collect();
    assert_eq!((names.first(), names.last()), (Some(&"MemberJoined"), Some(&"MemberFailed")));
    assert!(names.contains(&"MemberSuspected"), "{names:?}");
    assert!(!told.observers.is_empty());
    assert!(told.history.iter().all(|h| h.ago < Duration::from_secs(60)));
    assert!(nodes[0].explain("nobody").await.unwrap().is_none());
    assert!(nodes[0].explain("").await.unwrap().is_none());
}
