//! A client that sends streaming chat requests at a pace and checks every stream for completeness.
//!
//! ```text
//!  pace (a rate, or so many at a time) ─► request ─► stream ─► check (every token, the end) ─► Report
//! ```
//!
//! Nothing is retried: what a client of the service would have seen go wrong is counted. Each request that was sent is in
//! the end exactly one of completed, failed, truncated or duplicated.

mod check;
mod client;
mod load;
mod report;

pub use check::{Check, Fault};
pub use client::{Answer, ask};
pub use load::{Load, Options, Pace, Prompt};
pub use report::{Latency, Report, Timed};
