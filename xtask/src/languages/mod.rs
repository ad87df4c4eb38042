//! What each language's binding needs: set-up on a fresh machine, its tests, its lint.

pub(crate) mod python;
