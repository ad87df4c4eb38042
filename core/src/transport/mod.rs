//! The QUIC endpoint, links, the pool, TLS and identity.

pub mod secret;
