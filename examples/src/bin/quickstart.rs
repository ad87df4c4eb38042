//! The README's quickstart: two nodes in one process, as a program would embed one each.

// [quickstart]
use std::{error::Error, time::Duration};

use peerage::{Cluster, EventKind, Request, Secret};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // All nodes of a cluster hold the same secret. Keep it where you keep passwords.
    let secret = Secret::generate();

    let alice = Cluster::builder("quickstart", "alice").secret(secret.clone()).start().await?;
    alice.handle("greet", |request: Request| async move {
        Ok(format!("hello {}, this is alice", request.from).into())
    })?;
    let mut events = alice.events();

    // Usually another process on another machine; it needs one address to join through.
    let bob = Cluster::builder("quickstart", "bob")
        .secret(secret)
        .seed(alice.addr())
        .tag("role", "guest")
        .start()
        .await?;
    bob.join(Duration::from_secs(5)).await?;

    let answer = bob.request("alice", "greet", "hi", Duration::from_secs(1)).await?;
    println!("bob heard: {}", String::from_utf8_lossy(&answer));

    bob.leave().await?;
    while let Some(event) = events.next().await {
        if let Some(member) = event.kind.member() {
            println!("alice saw: {} {} {:?}", event.kind.name(), member.id, member.tags);
        }
        if matches!(event.kind, EventKind::MemberLeft { .. }) {
            break;
        }
    }
    alice.leave().await?;
    Ok(())
}
// [/quickstart]
