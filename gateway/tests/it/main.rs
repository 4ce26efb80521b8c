//! The gateway as clients, replicas and operators see it, over real sockets on the loopback.

// Clippy knows test functions as tests, but not what they call.
#![allow(clippy::unwrap_used)]

mod admin;
mod balance;
mod counts;
mod cut;
mod drain;
mod forwarding;
mod health;
mod limits;
mod retry;
mod scripted;
mod support;
mod written;
