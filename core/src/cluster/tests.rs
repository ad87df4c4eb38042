//! What only the inside can provoke.

use std::time::Duration;

use super::{driver::Ending, *};
use crate::{Secret, transport::TransportEvent};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_driver_ends_the_node_loudly() {
    let secret = Secret::generate();
    let other = Cluster::builder("c", "other").secret(secret.clone()).start().await.unwrap();
    let node = Cluster::builder("c", "n").secret(secret).seed(other.addr()).start().await.unwrap();
    node.join(Duration::from_secs(10)).await.unwrap();
    let mut events = node.events();
    let addr = node.addr();

    node.command(Command::Panic).await.unwrap();
    let ended = async { while events.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(node.closed().unwrap().code(), Code::Internal);
    let error = node.request("other", "t", "", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert_eq!(node.leave().await.unwrap_err().code(), Code::Internal);
    // No half-living node: the socket is closed.
    std::net::UdpSocket::bind(addr).unwrap();
    assert!(other.closed().is_none());
}

#[test]
fn a_panic_that_the_transport_reports_ends_the_driver() {
    // A pump's panic reaches the driver as this event (the transport's tests show that it does).
    let event = TransportEvent::Panic { what: "the pump", message: "boom".into() };
    let Some(Ending::Failed(error)) = driver::fatal(&event) else { panic!("it went on") };
    assert_eq!(error.code(), Code::Internal);
    assert!(error.to_string().contains("boom"));
}
