//! A library installs nothing that belongs to the program: no recorder of metrics, no subscriber of
//! `tracing`, no cryptography, no panic hook. In a process of its own, since all of these are global.
#![allow(clippy::unwrap_used)] // what a test is not prepared for may panic

mod support;

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use peerage::Secret;
use support::{PATIENCE, all_see, cluster_of, recorder::Kept};
use tracing::subscriber::NoSubscriber;

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_program_is_left_to_it() {
    let hooked = Arc::<AtomicBool>::default();
    let seen = hooked.clone();
    panic::set_hook(Box::new(move |_| seen.store(true, Relaxed)));
    let nodes = cluster_of(2, &Secret::generate()).await;
    all_see(&nodes, 2).await;
    nodes[1].handle("echo", |request| async move { Ok(request.payload) }).unwrap();
    assert_eq!(nodes[0].request("n1", "echo", "x", PATIENCE).await.unwrap(), "x");
    nodes[0].leave().await.unwrap();
    nodes[1].shutdown_now().await.unwrap();

    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    Kept::install();
    tracing::subscriber::set_global_default(NoSubscriber::new()).unwrap();
    assert!(panic::catch_unwind(|| panic!("on purpose")).is_err());
    assert!(hooked.load(Relaxed), "the hook is still the program's");
    drop(panic::take_hook());
}
