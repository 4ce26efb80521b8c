//! Many simulated runs to answers. So far: what N, N-1, ... replicas carry.

pub mod calendar;
pub mod capacity;
pub mod certify;
pub mod chance;
pub mod future;
pub mod history;
pub mod planned;
pub mod screen;
pub mod stretch;
pub mod trials;
pub mod watch;
