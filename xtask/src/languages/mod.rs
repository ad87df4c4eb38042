//! The bindings to other languages: each sets itself up, runs its tests and its linters.

pub(crate) mod node;
