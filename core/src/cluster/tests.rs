//! What only the inside can provoke.

use std::time::Duration;

use super::*;
use crate::{
    Secret,
    transport::{Class, tests::PANIC_FRAME},
};

async fn pair() -> (Cluster, Cluster) {
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start().await.unwrap();
    let node = Cluster::builder("c", "n").secret(secret).seed(other.addr()).start().await.unwrap();
    node.join(Duration::from_secs(10)).await.unwrap();
    (other, node)
}

/// Waits until they end.
async fn ended(events: &mut Events) {
    let all = async { while events.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_driver_ends_the_node_loudly() {
    let (other, node) = pair().await;
    let mut events = node.events();
    let addr = node.addr();

    node.command(Command::Panic).await.unwrap();
    ended(&mut events).await;
    assert_eq!(node.closed().unwrap().code(), Code::Internal);
    let error = node.request("other", "t", "", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(node.leave().await.unwrap_err().code(), Code::Internal);
    // No half-living node: the socket is closed.
    std::net::UdpSocket::bind(addr).unwrap();
    assert!(other.closed().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_pump_ends_the_node_loudly_and_nobody_else() {
    let (other, node) = pair().await;
    let mut events = node.events();
    let addr = node.addr();

    let frame = Bytes::from_static(PANIC_FRAME);
    other.0.transport.send_frame(&node.local().peer(), addr, Class::Stream, frame);
    ended(&mut events).await;
    let error = node.closed().unwrap();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.to_string().contains("the pump was asked to panic"), "{error}");
    std::net::UdpSocket::bind(addr).unwrap();
    assert!(other.closed().is_none());
}
