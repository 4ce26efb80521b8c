//! The stand-in as its clients see it, over real sockets on the loopback.

// Clippy knows test functions as tests, but not what they call.
#![allow(clippy::unwrap_used)]

mod api;
mod faults;
mod load;
mod metrics;
mod stop;
mod support;
mod timing;
