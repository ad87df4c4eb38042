//! The scenarios that every language plays are data beside this crate (see `README.md`); its
//! tests are their Rust runner. What a runner cannot make itself, certificates, is made here.

pub mod certificates;
