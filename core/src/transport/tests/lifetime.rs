//! Nothing of a transport outlives it.

use super::*;
use crate::error::Code;

/// Waits until the node behind a handle has ended, and asserts that nothing is left of it.
async fn assert_gone(node: Arc<node::Node>) {
    timeout(PATIENCE, node.finished.cancelled()).await.expect("it ends");
    assert!(node.tasks.is_empty(), "{} tasks are left", node.tasks.len());
    std::net::UdpSocket::bind(node.local).expect("the port is free again");
    until("the last holder goes", || Arc::strong_count(&node) == 1).await;
}

async fn pair() -> (TestNode, TestNode) {
    let (a, b) = (TestNode::start("a").await, TestNode::start("b").await);
    a.request(&b, "echo", "").await.unwrap();
    (a, b)
}

#[tokio::test]
async fn shutdown_leaves_nothing() {
    let (a, b) = pair().await;
    let node = a.transport.node().clone();
    assert_eq!(a.transport.shutdown(Duration::from_secs(1)).await, 0);
    assert!(node.tasks.is_empty());
    std::net::UdpSocket::bind(node.local).expect("the port is free when shutdown returns");
    assert_eq!(a.request(&b, "echo", "").await.unwrap_err().code(), Code::Closed);
    drop(a);
    assert_gone(node).await;
    until("the other end hears", || b.transport.links().is_empty()).await;
}

#[tokio::test]
async fn abort_and_drop_leave_nothing() {
    let (a, b) = pair().await;
    let (node_a, node_b) = (a.transport.node().clone(), b.transport.node().clone());
    a.transport.abort();
    drop(a);
    assert_gone(node_a).await;
    drop(b);
    assert_gone(node_b).await;
}

#[tokio::test]
async fn dials_under_way_do_not_hold_it_up() {
    let a = TestNode::start("a").await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    a.transport.dial(silent.local_addr().unwrap(), None);
    let node = a.transport.node().clone();
    timeout(Duration::from_secs(2), a.transport.shutdown(Duration::ZERO)).await.expect("soon");
    drop(a);
    assert_gone(node).await;
}

#[tokio::test]
async fn shutdown_waits_for_what_is_under_way_and_counts_what_it_cuts() {
    let (a, b) = pair().await;
    let large = Bytes::from(vec![3; 4 << 20]);
    let (answer, cut) = tokio::join!(a.request(&b, "echo", large.clone()), async {
        until("it arrives", || b.transport.stats().requests_in == 1).await;
        b.transport.shutdown(PATIENCE).await
    });
    assert_eq!((answer.unwrap(), cut), (large, 0));

    let c = TestNode::start("c").await;
    let (answer, cut) = tokio::join!(a.request(&c, "hang", ""), async {
        c.handler.arrived.acquire().await.unwrap().forget();
        c.transport.shutdown(Duration::from_millis(50)).await
    });
    assert_eq!((answer.unwrap_err().code(), cut), (Code::LinkLost, 1));
}

#[tokio::test]
async fn a_draining_node_refuses_requests() {
    let (a, b) = pair().await;
    let hang = a.request(&b, "hang", "");
    let rest = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        let shutdown = b.transport.shutdown(Duration::from_millis(300));
        let late = async {
            until("it drains", || b.transport.node().is_draining()).await;
            a.request(&b, "echo", "").await
        };
        tokio::join!(shutdown, late)
    };
    let (_, (cut, late)) = tokio::join!(hang, rest);
    assert_eq!(cut, 1);
    assert_eq!(late.unwrap_err().code(), Code::Unreachable);
}

#[tokio::test]
async fn a_taken_port_is_an_error_at_start() {
    let a = TestNode::start("a").await;
    let again = Options { listen: a.addr(), ..options("b") };
    let handler = Shared(a.handler.clone());
    let error = Transport::bind(again, Arc::new(handler)).await.unwrap_err();
    assert_eq!(error.code(), Code::Bind, "{error}");
}

/// With a lock that is poisoned by whoever panics with it, everybody else would panic or fail.
#[tokio::test]
async fn who_panics_with_the_pool_leaves_it_to_the_others() {
    let (mut a, b) = pair().await;
    let node = a.transport.node().clone();
    let asking = a.request(&b, "held", "");
    let panicking = async {
        b.handler.arrived.acquire().await.unwrap().forget();
        let panics = node.clone();
        node.spawn("the test", async move { panics.pool.panic_with_the_table() });
        until("it has panicked", || node.tasks.len() == TASKS_IDLE + 1).await;
        b.handler.release.add_permits(1);
    };
    // It is said, and who decides over the node ends it; what was under way is not harmed.
    assert_eq!(tokio::join!(asking, panicking).0.unwrap(), "released");
    loop {
        if let TransportEvent::Panic { what, message } = a.event().await {
            assert_eq!((what, message.as_str()), ("the test", "the pool was asked to panic"));
            break;
        }
    }
    let c = TestNode::start("c").await;
    assert_eq!(a.request(&c, "echo", "still").await.unwrap(), "still");
    assert_eq!(a.transport.links().len(), 2);
    drop(a);
    assert_gone(node).await;
}
