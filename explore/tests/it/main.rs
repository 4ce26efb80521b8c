//! Every configuration within its bounds, and the planted bugs that the same net must catch.

// The lints spare only functions marked as tests; helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod honest;
mod planted;
