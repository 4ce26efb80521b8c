//! A fleet's history and its load now, out of a Prometheus server (or one that answers as it does).
//!
//! ```text
//! Request --names there?--> the engine's metrics --chunk by chunk, progress--> History --JSON--> cache file
//!                                                     ^ chunks that the cache has whole are not asked for again
//! scenarios reads the file: format `prometheus-json`
//! ```
//!
//! What is asked, a chunk: `last_over_time(COUNTER{...}[step])` over the chunk, so that a step without a scrape has no point
//! (a plain range query repeats the last value for five minutes); and, once a chunk, what the histograms went up by,
//! `sum by (le) (increase(...))`, where the server itself takes care of counters that begin again.
//!
//! Credentials come from the environment or a file ([`Credentials`]) and are in no cache, message or URL.

mod answer;
mod client;
mod credentials;
mod error;
mod fetch;
mod live;
mod metrics;
mod samples;

pub use client::{Client, Patience};
pub use credentials::Credentials;
pub use error::{NoMetrics, PrometheusError};
pub use fetch::{Fetched, Progress, Request, fetch};
pub use live::{LiveRate, live_rate};
pub use samples::{Samples, buckets, samples};
