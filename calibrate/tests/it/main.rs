//! Fits and comparisons against servers whose truth is known, and recorded ones.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a failed test may panic; one that is not run says why

mod carried;
mod files;
mod made;
mod passive;
mod recorded;
mod recover;
