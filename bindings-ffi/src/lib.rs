//! Peerage for C: `include/peerage.h`, which is made from this crate, is its documentation.
//!
//! Every function converts what it is given, lets the core decide, and converts what comes back.
//! The names are C's, so that one search finds a thing on both sides.
#![allow(non_camel_case_types)] // the names are C's
#![allow(clippy::missing_safety_doc)] // the header's heading says what every function demands
#![deny(clippy::undocumented_unsafe_blocks)]

mod arena;
mod bytes;
mod call;
mod cancel;
mod cluster;
mod config;
mod descriptor;
mod echo;
mod error;
mod events;
mod explain;
mod generated;
mod handler;
mod links;
mod members;
mod messages;
mod responsive;
mod stream;
mod text;
mod threads;
