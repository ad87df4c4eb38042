//! Peerage: cluster membership and messaging that a program embeds.
//!
//! A program starts a [`Cluster`], joins others through a seed, and from then on knows who is
//! there, who is not, and why; it sends requests to other members, and opens streams to them, over
//! mutually authenticated QUIC links. There is no agent beside the program and no broker.
//!
//! The rooms, and which way they depend on one another (never back):
//!
//! * plain data: [`member`], [`event`], [`evidence`], [`config`], [`error`] and the wire format;
//! * [`membership`]: the protocol as a pure state machine, without clock, socket or task;
//! * `state`: what a node keeps on disk between its runs;
//! * `transport`: the QUIC endpoint, links, the pool, TLS and identity;
//! * `cluster`: the driver that ties the two, and the public [`Cluster`] handle;
//! * `boundary`: what the bindings to other languages share.
#![deny(unsafe_code)]

#[doc(hidden)] // public for the bindings of this workspace; no part of the stable API
pub mod boundary;
mod cluster;
pub mod config;
mod deadline;
pub mod error;
pub mod event;
pub mod evidence;
mod measured;
pub mod member;
#[doc(hidden)] // public for the simulator, which is its second driver; no part of the stable API
pub mod membership;
mod moments;
mod panics;
mod seldom;
mod state;
#[doc(hidden)] // public for benchmarks and tests against the raw stack; no part of the stable API
pub mod transport;
#[doc(hidden)]
pub mod wire;

pub use cluster::{Cluster, Events, LeaveReport, LoopQuestions, Phase, Request, Stats};
pub use config::{Builder, Config, Security};
pub use error::{Code, Error, FieldError, Result};
pub use event::{Event, EventKind};
pub use evidence::{Direction, Explanation, Happened, Observation};
pub use member::{Member, NodeId, State, Tags};
pub use transport::{LinkStats, Path, PoolStats, ReceiveHalf, SendHalf, Stream, secret::Secret};
