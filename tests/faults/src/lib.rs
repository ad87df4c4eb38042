//! Clusters of real processes: agents that run nodes and report what these see, a fleet that
//! starts, orders, kills and listens to agents, and networks of namespaces whose packets can be
//! dropped. The fault tests (`cargo xtask test faults`) and the benchmarks are made of it.
//!
//! Linux only: elsewhere there are neither namespaces nor these signals.
#![cfg(target_os = "linux")]

pub mod agent;
pub mod fleet;
pub mod network;
pub mod process;
pub mod report;
