//! The native half of the npm package `peerage`.
//!
//! It converts and decides nothing. JavaScript calls in with plain values; everything that takes
//! time runs on the core's own threads, and what comes of it waits in an inbox until
//! JavaScript, woken once, drains it in batches. The other half is `ts/`; together they are
//! described in `docs/ARCHITECTURE.md`.

// A test build registers nothing with Node, so that nobody seems to call what is exported.
#![cfg_attr(test, allow(dead_code))]

mod bridge;
mod cluster;
mod echo;
mod events;
mod failure;
mod generated;
mod inbox;
mod read;
mod stream;
mod writer;

use napi_derive::napi;

/// A new cluster secret, as text.
#[napi]
pub fn generate_secret() -> String {
    peerage::Secret::generate().to_text()
}
