//! What a Prometheus server recorded of a fleet: counters as they were scraped, and histograms of lengths.
//!
//! ```text
//! chunks of points --per series--> increases (a counter that falls began again) --sum--> requests in each step
//!                                                                  |
//!                     no series has a point: a gap, named, never a rate of zero
//! ```
//!
//! The file (`prometheus-json`) is a JSON object, [`History`]. `slackwater-prometheus` writes it; nothing here asks a server.
//! A point at `t` is the counter's last value in the step that ends at `t`, so a step without a scrape has no point.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::history_gaps::{self, Gap};

/// The version of the file that is written and read.
pub const HISTORY_VERSION: u32 = 1;

/// No history has more steps: 200 days of them at 5 s.
const MOST_STEPS: usize = 4_000_000;

/// No fleet is sent more requests a second.
const MOST_PER_S: f64 = 1e6;

/// A series is known by its counter and its labels.
type Identity<'a> = (&'a str, &'a BTreeMap<String, String>);

/// A recording of counters and histograms, in chunks of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// [`HISTORY_VERSION`]; also what the file is recognised by.
    pub slackwater_history: u32,
    /// The server, without credentials.
    pub url: String,
    /// Which series were asked for, as PromQL matchers.
    pub selector: String,
    /// Whose metrics they are: `vllm`, `sglang`, `tgi`, `llamacpp`.
    pub engine: String,
    /// Seconds between points.
    pub step_s: i64,
    /// Unix seconds of the first point that was asked for.
    pub from_s: i64,
    /// Unix seconds; points are before it.
    pub until_s: i64,
    /// In order of time; each within `from_s..until_s`.
    pub chunks: Vec<Chunk>,
}

/// What was recorded between two times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Unix seconds of its first point.
    pub from_s: i64,
    /// Unix seconds; its points are before it.
    pub until_s: i64,
    /// The counter that tells the rate.
    pub counter: String,
    /// What the counter counts.
    pub counts: Counts,
    /// Its series, one a replica and further labels.
    #[serde(default)]
    pub series: Vec<Series>,
    /// Prompt tokens of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Lengths>,
    /// Output tokens of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Lengths>,
    /// Seconds from a request's arrival to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Lengths>,
}

/// What a counter goes up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// One for each request, when it ended.
    #[default]
    Finished,
    /// One for each request, when it arrived.
    Arrived,
    /// The tokens of each prompt.
    PromptTokens,
}

/// One series of a counter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its labels, without the name.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// (Unix seconds, value), in order of time.
    pub points: Vec<(i64, f64)>,
}

/// By how much a histogram, or the two totals of one, went up in a chunk, all replicas added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Its name, without `_bucket`, `_sum`, `_count`.
    pub metric: String,
    /// Sum of what was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    /// How many were observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
    /// (upper bound, how many up to it), in order of the bounds; a bound of `null` is infinity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<(Option<f64>, f64)>,
}

/// What the counter went up by in each step, and how sure that is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedRate {
    /// Unix seconds at which the first step begins.
    pub from_s: i64,
    /// Seconds a step.
    pub step_s: i64,
    /// The increase in each step, of all series together.
    pub steps: Vec<f64>,
    /// Where nothing was recorded.
    pub gaps: Vec<Gap>,
    /// How often a counter began again at zero.
    pub resets: u64,
    /// Series that were not there at first.
    pub appeared: u64,
    /// Series that were not there at the end.
    pub vanished: u64,
    /// First values of new series that were too large to be of the step before: not counted.
    pub first_values_left_out: u64,
}

impl History {
    /// What is wrong with the file's frame, where something is.
    ///
    /// # Errors
    /// The problem and the remedy.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let again = "fetch it again with `slackwater trace fetch`".to_owned();
        if self.slackwater_history != HISTORY_VERSION {
            return Err((
                format!("`slackwater_history` is {}, not {HISTORY_VERSION}", self.slackwater_history),
                again,
            ));
        }
        if !(1..=86_400).contains(&self.step_s) {
            return Err((format!("`step_s` is {}, not 1 to 86400", self.step_s), again));
        }
        let seconds = self.until_s.checked_sub(self.from_s).filter(|seconds| *seconds > 0);
        let steps = seconds.and_then(|seconds| usize::try_from(seconds / self.step_s).ok());
        let calendar = 0..=9_000_000_000;
        if steps.is_none_or(|steps| steps > MOST_STEPS) || !calendar.contains(&self.from_s) {
            let problem = format!(
                "from_s {} to until_s {} in steps of {} s are not 1 to {MOST_STEPS} steps on the calendar",
                self.from_s, self.until_s, self.step_s
            );
            return Err((problem, again));
        }
        let mut last_s = self.from_s;
        for chunk in &self.chunks {
            if chunk.from_s < last_s || chunk.until_s <= chunk.from_s || chunk.until_s > self.until_s {
                let problem = format!(
                    "the chunk from {} to {} is not after the one before it and within the file's time",
                    chunk.from_s, chunk.until_s
                );
                return Err((problem, again));
            }
            last_s = chunk.until_s;
            let mut seen = BTreeSet::new();
            for series in &chunk.series {
                // Its points would be laid over those of the first: time would run backwards between them.
                if !seen.insert(&series.labels) {
                    let problem = format!(
                        "the chunk from {} on has two series of `{}` with the labels {:?}",
                        chunk.from_s, chunk.counter, series.labels
                    );
                    return Err((problem, again));
                }
                let mut last_s = chunk.from_s - 1;
                for (at_s, value) in &series.points {
                    if *at_s <= last_s || *at_s >= chunk.until_s || !(0.0..1e18).contains(value) {
                        let problem = format!(
                            "the point [{at_s}, {value}] of `{}` is out of order or range",
                            chunk.counter
                        );
                        return Err((problem, again));
                    }
                    last_s = *at_s;
                }
            }
        }
        Ok(())
    }

    /// Increases of the counter, step by step: those of each series, then their sum.
    ///
    /// `None` when fewer than two points were recorded.
    ///
    /// # Errors
    /// When the file contradicts itself, or the rate is none that a fleet has.
    pub fn rate(&self) -> Result<Option<RecordedRate>, (String, String)> {
        self.check()?;
        let mut series: BTreeMap<Identity<'_>, Vec<(usize, f64)>> = BTreeMap::new();
        for chunk in &self.chunks {
            for one in &chunk.series {
                let points = series.entry((&chunk.counter, &one.labels)).or_default();
                for (at_s, value) in &one.points {
                    let place = usize::try_from((at_s - self.from_s) / self.step_s).unwrap_or(usize::MAX);
                    // Of points that share a step the later one holds.
                    match points.last_mut() {
                        Some(last) if last.0 == place => last.1 = *value,
                        _ => points.push((place, *value)),
                    }
                }
            }
        }
        let series: Vec<Vec<(usize, f64)>> =
            series.into_values().filter(|points| !points.is_empty()).collect();
        let Some(mut rate) = history_gaps::increases(&series, self.from_s, self.step_s) else {
            return Ok(None);
        };
        #[expect(clippy::cast_precision_loss)]
        let most = MOST_PER_S * self.step_s as f64;
        if self.counts() != Counts::PromptTokens
            && let Some(place) = rate.steps.iter().position(|count| *count > most)
        {
            let at_s = rate.from_s + i64::try_from(place).unwrap_or(i64::MAX) * rate.step_s;
            return Err((
                format!(
                    "{} requests in the {} s from {} on are more than a fleet is sent",
                    rate.steps[place],
                    rate.step_s,
                    clock(at_s)
                ),
                "narrow the selector to the counters of one fleet, and fetch again".into(),
            ));
        }
        rate.gaps.sort_by_key(|gap| gap.from_s);
        Ok(Some(rate))
    }

    /// What the counter counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.chunks.first().map_or(Counts::Finished, |chunk| chunk.counts)
    }

    /// The mean time from arrival to end, where it was recorded.
    #[must_use]
    pub fn mean_latency_s(&self) -> Option<f64> {
        let (sum, count) = self.chunks.iter().filter_map(|chunk| chunk.latency.as_ref()).fold(
            (0.0, 0.0),
            |(sum, count), latency| match (latency.sum, latency.count) {
                (Some(more_sum), Some(more)) => (sum + more_sum, count + more),
                _ => (sum, count),
            },
        );
        // Ten hours are no answer but a broken clock.
        (count > 0.0).then(|| sum / count).filter(|mean| (0.0..36_000.0).contains(mean))
    }

    /// The values that a label has in the series, in order.
    #[must_use]
    pub fn label_values(&self, label: &str) -> Vec<&str> {
        let series = self.chunks.iter().flat_map(|chunk| &chunk.series);
        let mut values: Vec<&str> =
            series.filter_map(|series| series.labels.get(label)).map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// Unix seconds as a person reads them.
pub(super) fn clock(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |time| time.to_string())
}
