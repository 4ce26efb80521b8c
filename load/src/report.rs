//! What came of all requests.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::Fault;
use crate::client::Answer;

/// Faults that are told in full; all are counted.
const FAULTS_TOLD: usize = 20;

/// No time that is told is longer: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Counts and latencies.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Whole answers.
    pub completed: u64,
    /// No answer, or one that is none.
    pub failed: u64,
    /// Answers that broke off or lacked something.
    pub truncated: u64,
    /// Answers in which something came twice, or from two versions.
    pub duplicated: u64,
    /// Tokens of whole answers.
    pub tokens: u64,
    /// Whole answers by the stand-in's label.
    pub by_label: BTreeMap<String, u64>,
    /// What was wrong, of the first that were.
    pub faults: Vec<String>,
    /// Time to the first token.
    pub ttft: Latency,
    /// Gaps between tokens.
    pub itl: Latency,
    /// Whole answers.
    pub e2e: Latency,
    /// Each whole answer with its time, where that was asked for; in the order of their ends.
    #[serde(skip)]
    pub timeline: Vec<Timed>,
}

/// One whole answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// When its request was sent, by the wall clock.
    pub sent_at: SystemTime,
    /// From there to its first token.
    pub ttft: Duration,
    /// Mean gap between its tokens; `None` of a single token.
    pub tpot: Option<Duration>,
}

impl Timed {
    pub(crate) fn of(sent_at: SystemTime, answer: &Answer) -> Option<Self> {
        let ttft = answer.verdict.is_ok().then_some(answer.ttft)??;
        let gaps = u32::try_from(answer.gaps.len()).ok()?;
        let tpot = answer.gaps.iter().sum::<Duration>().checked_div(gaps);
        Some(Self { sent_at, ttft, tpot })
    }
}

/// A distribution of times, kept to three digits.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    microseconds: Option<Histogram<u64>>,
}

impl Latency {
    fn add(&mut self, time: Duration) {
        if self.microseconds.is_none() {
            // With bounds of its own: what saturates does not let it grow.
            self.microseconds = Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
        }
        if let Some(histogram) = &mut self.microseconds {
            // It grows as it must; a time that is too long even for that (585,000 years) is not met.
            let _ = histogram.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.microseconds.as_ref().map_or(0, Histogram::len)
    }

    /// The time that a share of all does not exceed, in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss)] // microseconds
    pub fn quantile_s(&self, share: f64) -> f64 {
        self.microseconds.as_ref().map_or(0.0, |all| all.value_at_quantile(share) as f64 / 1e6)
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("Latency", 4)?;
        fields.serialize_field("p50", &self.quantile_s(0.5))?;
        fields.serialize_field("p90", &self.quantile_s(0.9))?;
        fields.serialize_field("p99", &self.quantile_s(0.99))?;
        fields.serialize_field("count", &self.count())?;
        fields.end()
    }
}

impl Report {
    /// Adds one request.
    pub fn add(&mut self, answer: &Answer) {
        self.sent += 1;
        if let Some(ttft) = answer.ttft {
            self.ttft.add(ttft);
        }
        answer.gaps.iter().for_each(|gap| self.itl.add(*gap));
        match &answer.verdict {
            Ok(label) => {
                self.completed += 1;
                self.tokens += u64::from(answer.tokens);
                self.e2e.add(answer.lasted);
                if let Some(label) = label {
                    *self.by_label.entry(label.clone()).or_default() += 1;
                }
            }
            Err(fault) => {
                match fault {
                    Fault::Failed(_) => self.failed += 1,
                    Fault::Truncated(_) => self.truncated += 1,
                    Fault::Duplicated(_) => self.duplicated += 1,
                }
                if self.faults.len() < FAULTS_TOLD {
                    self.faults.push(fault.reason().to_owned());
                }
            }
        }
    }

    /// Whether every request got a whole answer.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.completed == self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut latency = Latency::default();
        assert_eq!((latency.count(), latency.quantile_s(0.5)), (0, 0.0));
        for milliseconds in 1..=1000 {
            latency.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(latency.count(), 1000);
        assert!((latency.quantile_s(0.5) - 0.5).abs() < 0.001, "{}", latency.quantile_s(0.5));
        assert!((latency.quantile_s(0.99) - 0.99).abs() < 0.001);
    }
}
