//! The membership machine under virtual time: many nodes in one thread, a network that loses,
//! cuts and delays, processes that crash and come back, and checkers after every step.
//!
//! Everything follows from one seed, to the byte: a failing seed printed by a test replays with
//! `cargo xtask sim --seed S --nodes N`.

pub mod bench;
pub mod campaign;
pub mod detect;
pub mod faults;
pub mod file;
pub mod network;
pub mod random;
pub mod rules;
pub mod scenario;
pub mod world;

/// A tenth of a second, a second, and so on are counted in microseconds of virtual time.
pub const MS: u64 = 1_000;
/// One second of virtual time.
pub const S: u64 = 1_000_000;
