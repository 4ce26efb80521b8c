//! Fits and comparisons against servers whose truth is known, and recorded ones.

#![allow(clippy::unwrap_used)] // a failed test may panic

mod files;
mod made;
mod recorded;
mod recover;
