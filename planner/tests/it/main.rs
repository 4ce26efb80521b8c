//! The planner through its public face.

// Helpers, not only tests, may fail loudly; test times are far inside their ranges.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod actual;
mod answers;
mod catalog;
mod certificates;
mod resampling;
