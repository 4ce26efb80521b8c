//! Rollouts in a small world: by script, and at random.

// The lint spares only functions marked as tests; helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod anywhere;
mod canonical;
mod chaos;
mod comparison;
mod explored;
mod faults;
mod happy;
mod places;
mod plans;
mod strategies;
mod world;
