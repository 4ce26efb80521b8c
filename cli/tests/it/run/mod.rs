//! Rollouts of real processes behind real balancers.

mod crash;
mod faults;
mod fleet;
mod orders;
mod rollouts;
