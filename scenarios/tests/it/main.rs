//! The crate from outside: what a user's files do.

// The configuration allows these in test functions only; helpers beside them are tests too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod catalog;
mod drawn;
mod generator;
mod import_errors;
mod import_formats;
mod import_history;
mod import_logs;
mod import_spans;
mod imports;
mod preset_files;
mod preset_scenarios;
mod presets;
mod properties;
mod real_traces;
mod scenario_errors;
mod scenarios;
mod series;
mod statistics;
mod support;
