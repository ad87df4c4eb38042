//! What `cargo xtask generate` makes from `core/description`.

#[allow(dead_code)] // most numbers are for the header alone
pub(crate) mod codes;
pub(crate) mod config;
pub(crate) mod event;
pub(crate) mod record;
