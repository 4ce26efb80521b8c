//! What a demo came to: its requests, and the comparison that `slackwater report` makes too.

use std::time::UNIX_EPOCH;

use serde::Serialize;
use slackwater_load::{Report, Timed};
use slackwater_planner::actual::{Compared, Prediction, Sample, Seen, bands_seen, by_phase, compare};
use slackwater_policy::{Plan, Record, Span, Time, fold};
use slackwater_reports::actual::compared_text;

/// The result of a demo.
#[derive(Debug, Serialize)]
pub(super) struct Demonstrated {
    requests: Requests,
    #[serde(flatten)]
    pub(super) compared: Compared,
}

#[derive(Debug, Serialize)]
struct Requests {
    sent: u64,
    completed: u64,
    failed: u64,
    truncated: u64,
    duplicated: u64,
    faults: Vec<String>,
}

impl Demonstrated {
    pub(super) fn new(
        plan: &Plan,
        prediction: &Prediction,
        journal: &[Record],
        load: &Report,
    ) -> Demonstrated {
        let report = fold(plan, journal);
        let samples: Vec<Sample> = load.timeline.iter().map(sample).collect();
        let actual = Seen::of(plan, &report).with_latency(by_phase(plan, &report, &samples));
        let requests = Requests {
            sent: load.sent,
            completed: load.completed,
            failed: load.failed,
            truncated: load.truncated,
            duplicated: load.duplicated,
            faults: load.faults.clone(),
        };
        let compared = compare(plan, prediction, actual, bands_seen(plan, journal));
        let compared = Compared { latency_from: "each request, by its client".to_owned(), ..compared };
        Demonstrated { requests, compared }
    }

    /// As tables for people.
    pub(super) fn text(&self) -> String {
        let Requests { sent, completed, failed, truncated, duplicated, .. } = self.requests;
        format!(
            "{sent} requests sent, {completed} completed, {failed} failed, {truncated} truncated,\n{duplicated} duplicated\n\n{}",
            compared_text(&self.compared)
        )
    }
}

fn sample(timed: &Timed) -> Sample {
    let since = timed.sent_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Sample {
        sent_at: Time::ZERO + Span::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        ttft_s: Some(timed.ttft.as_secs_f64()),
        tpot_s: timed.tpot.map(|tpot| tpot.as_secs_f64()),
    }
}
