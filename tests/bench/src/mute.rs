//! Transports with nothing above them: what is measured is theirs alone.

use std::time::Duration;

use peerage::{
    Cluster,
    member::Instance,
    transport::{Inbound, Options, StreamHandler},
};

/// Answers nothing, and reads what comes on streams.
pub struct Mute;

impl Inbound for Mute {
    fn stream(&self, _: &str) -> Option<StreamHandler> {
        Some(std::sync::Arc::new(|mut stream| {
            Box::pin(async move {
                while let Ok(Some(_)) = stream.read(None).await {}
                Ok(())
            })
        }))
    }
}

/// The defaults of a node, but links for all peers of a measurement, which are kept.
///
/// # Panics
/// If that is no name of a node.
pub fn options(id: &str) -> Options {
    // Insecure, but encrypted like any other.
    let config = Cluster::builder("bench", id).insecure();
    let options = Options::of(config.config(), Instance(1)).expect("a name of ours");
    Options { links_max: 1000, link_idle_timeout: Duration::from_secs(3600), ..options }
}
