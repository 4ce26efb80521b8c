//! The crate from outside: what a user's files do.

mod catalog;
mod generator;
mod import_errors;
mod imports;
mod properties;
mod real_traces;
mod scenario_errors;
mod scenarios;
mod support;
