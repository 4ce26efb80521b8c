//! What a trace is like, in one pass and flat memory; and how far one is from another.
//!
//! ```text
//! Arrival, Arrival, ... --observe--> Collector --finish--> Collected { figures, histograms }
//!                                                             |-- compare(other) --> Comparison
//!                                                             '-- fit() -----------> Generate, and what it can't say
//! ```
//!
//! Memory is bounded by the longest trace (200 days of minutes), not by its requests: lengths are counted in histograms
//! (exact to 2,047 tokens, then to 0.1 %), counts for the dispersion as they go by, blocks of prompts by a sample that
//! gets sparser when it grows. Figures are for people; floats are right for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Arrival, ImportReport};

mod arrivals;
mod calendar;
mod classes;
mod compare;
mod fit;
mod lengths;
mod mixture;
mod prefixes;

use arrivals::{Dispersion, Gaps};
use calendar::Minutes;
use lengths::{Joint, Lengths};
use prefixes::Prefixes;

pub use compare::{Comparison, Pair};
pub use fit::{Fit, FitError};

const PS_PER_S: f64 = 1e12;

/// What a trace is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceFigures {
    /// The import's own account: source, format, rows, rows left out, quantisation.
    pub import: ImportReport,
    /// Requests in it.
    pub requests: u64,
    /// Seconds from its start to the last arrival.
    pub span_s: f64,
    /// Whether arrivals stand on a grid, so that burstiness at the scale of the grid is not real.
    pub quantised: bool,
    /// How many come when.
    pub rate: RateFigures,
    /// The shape of day and week; `None` without a calendar.
    pub calendar: Option<CalendarFigures>,
    /// How irregular arrivals are.
    pub arrivals: ArrivalFigures,
    /// Prompt lengths.
    pub input: LengthFigures,
    /// Output lengths.
    pub output: LengthFigures,
    /// Spearman's rank correlation of a request's input and output length; `None` when either does not vary.
    pub rank_correlation: Option<f64>,
    /// What prompts share; `None` when the trace does not name their blocks.
    pub prefixes: Option<PrefixFigures>,
}

/// Requests a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RateFigures {
    /// Over the whole span.
    pub mean_per_s: f64,
    /// In the busiest ten minutes in a row; `None` when the trace is shorter.
    pub peak_10min_per_s: Option<f64>,
    /// When these begin, seconds since the start.
    pub peak_10min_at_s: Option<f64>,
    /// In the busiest hour; `None` when the trace is shorter than an hour.
    pub peak_hour_per_s: Option<f64>,
    /// In the quietest hour.
    pub low_hour_per_s: Option<f64>,
    /// The width of a step of the series, in seconds.
    pub step_s: f64,
    /// Where each step of the series begins, seconds since the start.
    pub at_s: Vec<f64>,
    /// The rate in each step.
    pub per_s: Vec<f64>,
    /// The rate in each hour of the trace; the last one may be a part.
    pub hours_per_s: Vec<f64>,
}

/// The shape of day and week, UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalendarFigures {
    /// Requests a second in each of the 24 hours of the day; `None` where the trace holds less than half an hour of it.
    pub hourly_per_s: Vec<Option<f64>>,
    /// Requests a second on each weekday, Monday first, its hours weighted alike; `None` unless the trace holds at least
    /// half of each of them.
    pub weekday_per_s: Vec<Option<f64>>,
}

/// How irregular arrivals are. A Poisson process has 1 everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArrivalFigures {
    /// Standard deviation of the gaps over their mean; `None` below three requests.
    pub cv: Option<f64>,
    /// The same around each hour's own mean, so that the shape of the day is not counted as burstiness.
    pub cv_within_hours: Option<f64>,
    /// Index of dispersion of counts: variance over mean of the number of arrivals in a second; `None` below ten
    /// whole bins.
    pub dispersion_1s: Option<f64>,
    /// In ten seconds.
    pub dispersion_10s: Option<f64>,
    /// In a minute.
    pub dispersion_60s: Option<f64>,
    /// The index in bins of 1, 10 and 60 s around each whole hour's own mean; `None` below one hour.
    pub dispersion_within_hours: Option<[f64; 3]>,
    /// Of the number of arrivals at one time, where times are quantised and most hold three or more: what is left of
    /// burstiness that the grid did not make.
    pub dispersion_at_once: Option<f64>,
}

/// Lengths in tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LengthFigures {
    /// Exact.
    pub mean: f64,
    /// The shortest.
    pub least: u32,
    /// Half are no longer.
    pub p50: u32,
    /// Nine tenths are no longer.
    pub p90: u32,
    /// All but 1 % are no longer.
    pub p99: u32,
    /// The longest.
    pub most: u32,
    /// The distribution, thinned: (tokens, share that is no longer).
    pub distribution: Vec<(f64, f64)>,
}

/// What prompts share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixFigures {
    /// Requests whose blocks are named.
    pub named_requests: u64,
    /// The share of their prompt tokens whose block an earlier prompt had: the hits of a cache that forgets nothing.
    pub seen_share: f64,
    /// The share of requests that go on beyond a first block together with an earlier one: later turns, or copies.
    pub follow_up_share: f64,
    /// The share of blocks looked at; below 1 the shares are estimates.
    pub sampled: f64,
}

/// Looks at arrivals as they go by.
#[derive(Debug)]
pub struct Collector {
    epoch_ns: Option<i64>,
    last_ps: u64,
    requests: u64,
    minutes: Minutes,
    gaps: Gaps,
    dispersion: [Dispersion; 3],
    input: Lengths,
    output: Lengths,
    joint: Joint,
    prefixes: Prefixes,
}

/// All that was seen of a trace.
#[derive(Debug)]
pub struct Collected {
    /// In numbers.
    pub figures: TraceFigures,
    input: Lengths,
    output: Lengths,
    joint: Joint,
    minutes: Minutes,
    /// The rate a second at which the dispersion within hours was seen.
    hour_rate: Option<f64>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            epoch_ns: None,
            last_ps: 0,
            requests: 0,
            minutes: Minutes::default(),
            gaps: Gaps::default(),
            dispersion: [1, 10, 60].map(Dispersion::new),
            input: Lengths::default(),
            output: Lengths::default(),
            joint: Joint::default(),
            prefixes: Prefixes::default(),
        }
    }
}

impl Collector {
    /// Counts an arrival. `prefix` is what [`Traffic::prefix`](super::Traffic::prefix) says of it, `epoch_ns` the
    /// source's. Arrivals come in order of time.
    pub fn observe(&mut self, arrival: &Arrival, prefix: &[u64], epoch_ns: Option<i64>) {
        if self.requests == 0 {
            self.epoch_ns = epoch_ns;
            self.minutes = Minutes::new(epoch_ns);
        }
        debug_assert!(arrival.at_ps >= self.last_ps, "arrivals come in order");
        self.requests += 1;
        self.last_ps = arrival.at_ps;
        self.minutes.count(arrival.at_ps);
        self.gaps.count(arrival.at_ps, self.minutes.lead_ps());
        for dispersion in &mut self.dispersion {
            dispersion.count(arrival.at_ps);
        }
        self.input.count(arrival.input_tokens);
        self.output.count(arrival.output_tokens);
        self.joint.count(arrival.input_tokens, arrival.output_tokens);
        self.prefixes.count(prefix, arrival.input_tokens);
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The figures; `import` is the source's report after its end.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn finish(mut self, import: ImportReport) -> Collected {
        let span_s = self.last_ps as f64 / PS_PER_S;
        self.minutes.close(self.last_ps);
        let [dispersion_1s, dispersion_10s, dispersion_60s] = self.dispersion.map(|counts| counts.index());
        let within: Option<Vec<(f64, f64)>> = self.dispersion.iter().map(Dispersion::within_hours).collect();
        let hour_rate = within.as_ref().and_then(|within| Some(within.get(2)?.1 / 60.0));
        let dispersion_within_hours = within
            .and_then(|found| <[_; 3]>::try_from(found).ok())
            .map(|found| found.map(|(index, _)| index));
        let figures = TraceFigures {
            requests: self.requests,
            span_s,
            quantised: import.is_quantised(),
            rate: self.minutes.rate(self.requests, span_s),
            calendar: self.epoch_ns.map(|_| self.minutes.calendar()),
            arrivals: ArrivalFigures {
                cv: self.gaps.cv(),
                cv_within_hours: self.gaps.cv_within_hours(),
                dispersion_1s,
                dispersion_10s,
                dispersion_60s,
                dispersion_within_hours,
                dispersion_at_once: self.gaps.dispersion_at_once().filter(|_| import.is_quantised()),
            },
            input: self.input.figures(),
            output: self.output.figures(),
            rank_correlation: self.joint.rank_correlation(),
            prefixes: self.prefixes.figures(),
            import,
        };
        Collected {
            figures,
            input: self.input,
            output: self.output,
            joint: self.joint,
            minutes: self.minutes,
            hour_rate,
        }
    }
}
