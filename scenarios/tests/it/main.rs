//! The crate from outside: what a user's files do.

mod scenario_errors;
