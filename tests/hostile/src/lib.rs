//! Peers that mean ill, and honest members to see what comes of it.
//!
//! * `authority`: certificates, with the cluster's secret and without;
//! * `intruder`: a stack of its own that has a certificate and does with it what it likes;
//! * `initial`: first packets of handshakes, made by hand and never followed up;
//! * `honest`: three members with default settings that must notice nothing;
//! * `held`: how much memory the process holds.
//!
//! Each kind of attack is a test of its own under `tests/`, in a process of its own, since it
//! measures that process's memory; what the attackers need is in the figures. Nothing sleeps for
//! luck: every wait is for a condition, under a deadline.
#![allow(clippy::unwrap_used)] // a tool of tests: what fails ends the test

mod authority;
mod held;
mod honest;
mod initial;
mod intruder;

pub use honest::{Honest, PATIENCE, linked, node, rss_kib, until};
pub use initial::HalfOpen;
pub use intruder::{Held, Intruder, KIND_FRAME, KIND_MESSAGE, stream_head};
