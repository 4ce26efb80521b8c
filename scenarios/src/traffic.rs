//! Traffic: requests with the time they arrive and their lengths, from a file or drawn.
//!
//! ```text
//! TrafficSpec --open--> dyn Traffic --next_arrival--> Arrival, Arrival, ...        (streaming, flat memory)
//!                            \-------- load_all ----> SharedTrace { Arc<[Arrival]> } (forked simulations share it)
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::TraceError;
use crate::time::{HumanDuration, WallTime};

/// No request has more tokens, in or out: a larger count is a broken file, not a long prompt.
pub const MOST_TOKENS: u32 = 1 << 24;

/// One request: when it comes and how long it is. Session and prefix identities will live in side tables keyed by the
/// arrival's index, so that this stays 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Picoseconds since the start of the trace.
    pub at_ps: u64,
    /// Prompt tokens, at least 1.
    pub input_tokens: u32,
    /// Tokens to generate, at least 1.
    pub output_tokens: u32,
}

/// A source of arrivals in order of time.
pub trait Traffic {
    /// The next arrival; `None` at the end. `at_ps` never goes back. After an error or the end, ask no more.
    ///
    /// # Errors
    /// When the file turns out to be wrong here.
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError>;

    /// Time 0 on the calendar, in nanoseconds since the Unix epoch; `None` when the source has no calendar, or before
    /// the first arrival was asked for.
    fn epoch_ns(&self) -> Option<i64>;

    /// What was read so far; complete after the end.
    fn report(&self) -> ImportReport;
}

/// What an import saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReport {
    /// The file, or `generated`.
    pub source: String,
    /// The format it was read as.
    pub format: String,
    /// Rows read, header not counted.
    pub rows: u64,
    /// Rows handed on as arrivals.
    pub arrivals: u64,
    /// Rows left out, by reason.
    pub dropped: Vec<Dropped>,
    /// Rows that came before their predecessor in time and were sorted in.
    pub reordered: u64,
    /// Seconds from the first arrival to the last.
    pub span_s: f64,
    /// Time 0 on the calendar, in nanoseconds since the Unix epoch.
    pub epoch_ns: Option<i64>,
    /// The share of arrivals at exactly the time of the one before. Above 0.2 the times are quantised: bursts that never
    /// were.
    pub same_time_share: f64,
    /// Sums, for means.
    pub input_tokens: u64,
    /// Sums, for means.
    pub output_tokens: u64,
    /// Of the file's bytes as they lie on disk; empty for generated traffic.
    pub sha256: String,
}

/// Rows left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The line of the first one.
    pub first_row: u64,
}

/// A whole trace in memory, shared by the forks of a simulation.
#[derive(Clone, Debug)]
pub struct SharedTrace {
    /// In order of time.
    pub arrivals: Arc<[Arrival]>,
    /// Time 0 on the calendar, in nanoseconds since the Unix epoch.
    pub epoch_ns: Option<i64>,
    /// What the import saw.
    pub report: ImportReport,
}

/// Where requests come from: exactly one of `file` and `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficSpec {
    /// A trace file, plain or gzip; relative to the scenario file (in an override: to the working directory).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The file's format.
    #[serde(default)]
    pub format: Format,
    /// The arrival rate is multiplied by this. A file is replayed so much faster; generated traffic keeps its duration
    /// and daily profile and has so many times the requests.
    #[serde(default = "one")]
    pub rate_scale: f64,
    /// A file is played so many times, one after the other, a mean gap between.
    #[serde(default = "once")]
    pub repeat: u32,
    /// Sort a file whose rows are not in order of time. It is then held in memory whole.
    #[serde(default)]
    pub sort: bool,
    /// Draw the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
}

const fn one() -> f64 {
    1.0
}
const fn once() -> u32 {
    1
}

/// A trace file's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Recognised from the content.
    #[default]
    Auto,
    /// Azure LLM inference traces 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    AzureCsv,
    /// Mooncake: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}` a line.
    MooncakeJsonl,
}

/// Drawn traffic. The defaults for lengths are those of chat (Azure's 2023 conversation trace).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// How long.
    pub duration: HumanDuration,
    /// Mean requests a second over a whole week of the profile.
    pub rate_per_s: f64,
    /// The calendar time of the start. Hours and weekdays of the profile are UTC.
    #[serde(default = "default_start")]
    pub start: WallTime,
    /// How irregular arrivals are around the rate.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Relative rate in each of 24 hours, 0:00 first; linear between the hours' middles. Only ratios count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hourly: Vec<f64>,
    /// Relative rate of each of 7 days, Monday first. Only ratios count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekday: Vec<f64>,
    /// Prompt lengths: a mixture of lognormals.
    #[serde(default = "chat_input")]
    pub input: Vec<Lognormal>,
    /// Output lengths: a mixture of lognormals.
    #[serde(default = "chat_output")]
    pub output: Vec<Lognormal>,
    /// No prompt is longer; a longer draw is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_input_tokens: u32,
    /// No output is longer; a longer draw is cut to it.
    #[serde(default = "default_max_tokens")]
    pub max_output_tokens: u32,
}

/// How irregular arrivals are around the rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Independent of each other.
    #[default]
    Poisson,
    /// Gamma-distributed gaps with this coefficient of variation: above 1 bursty, below 1 even.
    GammaCv(f64),
}

/// One part of a mixture of lognormals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Its share, relative to the other parts.
    #[serde(default = "one")]
    pub weight: f64,
    /// Median in tokens.
    pub median: f64,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

const fn default_start() -> WallTime {
    // Monday 2026-01-05T00:00:00Z.
    WallTime(1_767_571_200_000_000_000)
}
const fn default_max_tokens() -> u32 {
    32_768
}
fn chat_input() -> Vec<Lognormal> {
    lognormals(&[(0.49, 379.0, 0.88), (0.37, 1097.0, 0.12), (0.14, 3346.0, 0.32)])
}
fn chat_output() -> Vec<Lognormal> {
    lognormals(&[(0.70, 99.0, 0.68), (0.30, 412.0, 0.09)])
}
fn lognormals(rows: &[(f64, f64, f64)]) -> Vec<Lognormal> {
    rows.iter().map(|&(weight, median, sigma)| Lognormal { weight, median, sigma }).collect()
}

impl SharedTrace {
    /// Reads a source to its end.
    ///
    /// # Errors
    /// The source's own.
    pub fn load_all(mut source: impl Traffic) -> Result<Self, TraceError> {
        let mut arrivals = Vec::new();
        while let Some(arrival) = source.next_arrival()? {
            arrivals.push(arrival);
        }
        Ok(Self { arrivals: arrivals.into(), epoch_ns: source.epoch_ns(), report: source.report() })
    }
}
