//! Many simulated runs to answers. So far: what N, N-1, ... replicas carry.

pub mod capacity;
