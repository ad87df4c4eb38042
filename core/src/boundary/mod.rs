//! What the bindings to other languages share, so that none of them decides anything: values as
//! other languages have them, configuration and arguments made from such values with errors that
//! name the field, errors as plain data, calls that end in a callback, and an echo that passes
//! every type both ways without a network.
//!
//! Public for the bindings of this workspace; no part of the stable API.

mod calls;
mod echo;
mod face;
mod failure;
mod fields;
mod read;
mod streams;
mod value;

pub use calls::{Call, Gate, guarded, run, start};
pub use echo::{echo_events, echo_value, sample_events};
pub use face::{Case, Face, Unit};
pub use failure::Failure;
pub use streams::{Chunk, SharedStream};
pub use value::Value;

#[cfg(test)]
mod tests;
