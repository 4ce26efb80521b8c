//! Histories from servers: one written here, and a real one.

mod chunks;
mod mistakes;
mod real;
mod samples;
mod server;
