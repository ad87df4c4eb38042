//! What each language's binding needs: set-up on a fresh machine, its tests, its lint, and its
//! programs.

pub(crate) mod c;
pub(crate) mod node;
pub(crate) mod python;
