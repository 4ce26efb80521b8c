//! The simulated world from outside: scenario and traffic in, result, rows and journal out.
//!
//! Nothing here looks inside the world. Each module holds it to something that does not share its code: queueing
//! theory, two ledgers that must agree with the rows, the same run taken another way, a few requests followed by hand.

// Helpers, not only tests, may fail loudly.
#![allow(clippy::unwrap_used)]

mod caches;
mod closed_forms;
mod comparison;
mod faults;
mod forks;
mod kit;
mod ledgers;
mod markov;
mod reach;
mod regressions;
mod retries;
mod rollouts;
mod routers;
mod sessions;
mod silence;
mod swarm;
mod trials;
mod verdicts;
