//! Traffic: requests with the time they arrive and their lengths, from a file or drawn.
//!
//! ```text
//! TrafficSpec --open--> dyn Traffic --next_arrival--> Arrival, Arrival, ...        (streaming, flat memory)
//!                            \-------- load_all ----> SharedTrace { Arc<[Arrival]> } (forked simulations share it)
//! ```

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::TraceError;

mod access_log;
mod aiperf_jsonl;
mod archetypes;
mod assumed;
mod azure_csv;
mod bailian_jsonl;
mod burst_fit;
mod burstgpt_csv;
mod bursts;
mod csv_table;
mod draw;
mod envoy_log;
mod formats;
mod gaps;
mod generate;
mod haproxy_log;
mod history;
mod history_gaps;
mod history_lengths;
mod import;
mod input;
mod jsonl;
mod litellm_csv;
mod loose;
mod modulate;
mod mooncake_jsonl;
mod nginx_log;
mod normal;
mod number;
mod otlp_json;
mod prometheus_json;
mod rate;
mod rate_csv;
mod reorder;
mod series;
mod sessions;
mod spec;
mod spread;
pub mod statistics;
mod timestamp;
mod tracelab_jsonl;
mod turns;
mod vllm_bench_json;
mod write;
mod zstd;

pub use archetypes::Archetype;
pub use burst_fit::{BurstFigures, BurstFit};
pub use bursts::{Arrivals, Bursts, Clients, Flicker, GapShape, Noise, OnOff};
pub use draw::{Drift, LengthClass, LengthSource};
pub use generate::Generator;
pub use history::{Chunk, Counts, HISTORY_VERSION, History, Lengths, RecordedRate, Series};
pub use history_gaps::Gap;
pub use import::{FileTraffic, ReadOptions};
pub use series::{SeriesError, SeriesTraffic};
pub use sessions::{
    IN_COURSE, InCourse, MOST_IN_COURSE, Person, SessionPlan, Sessions, SystemPrompts, Turn, Turns, chained,
};
pub use spec::{AssumeTokens, Format, Generate, Lognormal, MetricsOf, PrometheusSource, TrafficSpec};
pub use turns::AllTurns;
pub use write::TraceWriter;

pub(crate) use gaps::{MOST_BURSTY, MOST_EVEN};
pub(crate) use spec::{chat_input, chat_output};
pub(crate) use timestamp::{ZONE_HELP, known_zone};

/// No request has more tokens, in or out: a larger count is a broken file, not a long prompt.
pub const MOST_TOKENS: u32 = 1 << 24;

/// Tokens of a block that a trace names (Mooncake's `hash_ids`).
pub const PREFIX_BLOCK: u32 = 512;

/// One request: when it comes and how long it is. What else is known of it is looked up by the arrival's index, so that
/// this stays 16 bytes: its session in a [`SessionPlan`], whose first turn it is; and what its prompt shares with others is
/// told beside it, by [`Traffic::prefix`].
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

    /// Names of the blocks of the prompt handed out last, [`PREFIX_BLOCK`] tokens each, the last one perhaps fewer. The
    /// same name stands for the same tokens in the block and before it. Empty where they are not known or not asked for.
    fn prefix(&self) -> &[u64] {
        &[]
    }

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
    /// The share of arrivals at exactly the time of the one before; above 0.2 the times are quantised.
    pub same_time_share: f64,
    /// Mean gap between arrivals at different times, in seconds: the tick, when the times are quantised.
    pub mean_step_s: f64,
    /// Sums, for means.
    pub input_tokens: u64,
    /// Sums, for means.
    pub output_tokens: u64,
    /// Of the file's bytes as they lie on disk; empty for generated traffic.
    pub sha256: String,
    /// What was assumed of the file, and what it can't show, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
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
    /// What each prompt begins with ([`Traffic::prefix`]); empty when no arrival says it.
    pub prefixes: Arc<[Box<[u64]>]>,
    /// Time 0 on the calendar, in nanoseconds since the Unix epoch.
    pub epoch_ns: Option<i64>,
    /// What the import saw.
    pub report: ImportReport,
}

impl ImportReport {
    /// Whether arrivals stand on a grid, so that the file shows bursts that never were.
    #[must_use]
    pub fn is_quantised(&self) -> bool {
        self.arrivals >= 10 && self.same_time_share > 0.2
    }

    /// What a user must know before believing a result, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes.clone();
        for Dropped { reason, count, first_row } in &self.dropped {
            warnings
                .push(format!("{count} of {} rows left out: {reason} (first in row {first_row})", self.rows));
        }
        if self.reordered > 0 {
            warnings.push(format!("{} rows were out of order in time and were sorted", self.reordered));
        }
        if self.is_quantised() {
            warnings.push(format!(
                "arrival times are quantised: {:.0} % of arrivals share the time of the one before, ticks are {:.3} s \
                 apart; the file shows bursts that never were (traffic.dequantise = true spreads them)",
                self.same_time_share * 100.0,
                self.mean_step_s
            ));
        }
        warnings
    }
}

impl<T: Traffic + ?Sized> Traffic for Box<T> {
    fn next_arrival(&mut self) -> Result<Option<Arrival>, TraceError> {
        (**self).next_arrival()
    }

    fn prefix(&self) -> &[u64] {
        (**self).prefix()
    }

    fn epoch_ns(&self) -> Option<i64> {
        (**self).epoch_ns()
    }

    fn report(&self) -> ImportReport {
        (**self).report()
    }
}

/// More arrivals (8 GiB of them) are not held in memory; stream them.
const MOST_IN_MEMORY: usize = 1 << 29;

impl SharedTrace {
    /// Reads a source to its end.
    ///
    /// # Errors
    /// The source's own; and more than 2^29 arrivals.
    pub fn load_all(mut source: impl Traffic) -> Result<Self, TraceError> {
        let (mut arrivals, mut prefixes) = (Vec::new(), Vec::<Box<[u64]>>::new());
        while let Some(arrival) = source.next_arrival()? {
            if arrivals.len() == MOST_IN_MEMORY {
                return Err(TraceError {
                    path: source.report().source,
                    row: None,
                    problem: format!("more than {MOST_IN_MEMORY} arrivals are too many to hold in memory"),
                    help: "stream the traffic, or lower its duration, rate or repeat".into(),
                    source: None,
                });
            }
            if !source.prefix().is_empty() || !prefixes.is_empty() {
                prefixes.resize(arrivals.len(), Box::default());
                prefixes.push(source.prefix().into());
            }
            arrivals.push(arrival);
        }
        let prefixes = prefixes.into();
        Ok(Self { arrivals: arrivals.into(), prefixes, epoch_ns: source.epoch_ns(), report: source.report() })
    }
}

/// Counts arrivals for the report; the same for files and drawn traffic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    arrivals: u64,
    first_ps: u64,
    last_ps: u64,
    same_time: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl Tally {
    /// The time of the last one counted.
    pub(crate) fn last_ps(&self) -> u64 {
        self.last_ps
    }

    pub(crate) fn count(&mut self, arrival: &Arrival) {
        if self.arrivals == 0 {
            self.first_ps = arrival.at_ps;
        } else if arrival.at_ps == self.last_ps {
            self.same_time += 1;
        }
        self.last_ps = arrival.at_ps;
        self.arrivals += 1;
        self.input_tokens += u64::from(arrival.input_tokens);
        self.output_tokens += u64::from(arrival.output_tokens);
    }

    #[expect(clippy::cast_precision_loss)]
    pub(crate) fn fill(&self, report: &mut ImportReport) {
        let gaps = self.arrivals.saturating_sub(1);
        report.arrivals = self.arrivals;
        report.span_s = (self.last_ps - self.first_ps) as f64 / 1e12;
        report.same_time_share = self.same_time as f64 / gaps.max(1) as f64;
        report.mean_step_s = report.span_s / (gaps - self.same_time).max(1) as f64;
        report.input_tokens = self.input_tokens;
        report.output_tokens = self.output_tokens;
    }
}
