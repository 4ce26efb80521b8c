//! Every configuration within its bounds, and the planted bugs that the same net must catch.

// The lint spares only functions marked as tests; helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod honest;
mod planted;
