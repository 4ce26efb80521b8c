//! Phases and series as CSV: one row a phase, one row a sample. Empty cells mean "no such number".

use ::csv::Writer;
use slackwater_sim::{LatencySummary, SimulationResult};
use thiserror::Error;

use crate::facts;

/// Rows that could not be written.
#[derive(Debug, Error)]
#[error("rows could not be written as CSV: {0}")]
pub struct CsvError(String);

/// One row a phase, in the order of time.
///
/// # Errors
/// Only when memory runs out.
pub fn phases(result: &SimulationResult) -> Result<String, CsvError> {
    let mut head: Vec<String> = [
        "phase",
        "from_s",
        "until_s",
        "serving_min",
        "rate_per_s",
        "in_flight_mean",
        "queue_max",
        "arrived",
        "completed",
        "cut",
        "timed_out",
        "rejected",
        "unfinished",
        "retried",
        "missed",
        "attainment",
        "drain_s",
    ]
    .map(str::to_owned)
    .to_vec();
    for latency in ["ttft", "tpot", "e2e"] {
        head.extend(["mean", "p50", "p90", "p99", "max"].map(|q| format!("{latency}_{q}_s")));
    }
    let rows = result.phases.iter().map(|p| {
        let r = &p.requests;
        let drain = result.rollout.as_ref().and_then(|of| facts::move_of(of, p)).and_then(facts::drain_s);
        let mut row = vec![p.name.clone(), number(p.from_s), number(p.until_s), p.serving_min.to_string()];
        row.extend([number(p.rate_per_s), number(p.in_flight_mean), p.queue_max.to_string()]);
        let counts =
            [r.arrived, r.completed, r.cut, r.timed_out, r.rejected, r.unfinished, r.retried, p.missed];
        row.extend(counts.map(|n| n.to_string()));
        row.extend([number(p.attainment), optional(drain)]);
        row.extend([&p.ttft_s, &p.tpot_s, &p.e2e_s].into_iter().flat_map(quantiles));
        row
    });
    table(head, rows)
}

fn quantiles(l: &LatencySummary) -> [String; 5] {
    [l.mean, l.p50, l.p90, l.p99, l.max].map(optional)
}

/// One row a sample: rates, replicas in rotation, latencies, then running and waiting by replica.
///
/// # Errors
/// Only when memory runs out.
pub fn series(result: &SimulationResult) -> Result<String, CsvError> {
    let s = &result.series;
    let mut head: Vec<String> = [
        "at_s",
        "arrivals_per_s",
        "attempts_per_s",
        "completed_per_s",
        "failed_per_s",
        "serving",
        "ttft_p50_s",
        "ttft_p99_s",
        "tpot_p50_s",
        "tpot_p99_s",
    ]
    .map(str::to_owned)
    .to_vec();
    for (what, lists) in [("running", &s.running), ("waiting", &s.waiting)] {
        for i in 0..lists.len() {
            let name = result.fleet.replicas.get(i).cloned().unwrap_or_else(|| format!("#{i}"));
            head.push(format!("{what} {name}"));
        }
    }
    let rows = s.at_s.iter().enumerate().map(|(i, at)| {
        let mut row = vec![number(*at)];
        let rates = [&s.arrivals_per_s, &s.attempts_per_s, &s.completed_per_s, &s.failed_per_s];
        row.extend(rates.map(|list| optional(list.get(i).copied())));
        row.push(s.serving.get(i).map_or_else(String::new, u32::to_string));
        let latencies = [&s.ttft_p50_s, &s.ttft_p99_s, &s.tpot_p50_s, &s.tpot_p99_s];
        row.extend(latencies.map(|list| optional(list.get(i).copied().flatten())));
        row.extend(
            s.running
                .iter()
                .chain(&s.waiting)
                .map(|list| list.get(i).map_or_else(String::new, u32::to_string)),
        );
        row
    });
    table(head, rows)
}

pub(crate) fn table(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Result<String, CsvError> {
    let mut out = Writer::from_writer(Vec::new());
    let failed = |error: ::csv::Error| CsvError(error.to_string());
    out.write_record(head).map_err(failed)?;
    for row in rows {
        out.write_record(row).map_err(failed)?;
    }
    let bytes = out.into_inner().map_err(|error| CsvError(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| CsvError(error.to_string()))
}

pub(crate) fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

pub(crate) fn optional(value: Option<f64>) -> String {
    value.map_or_else(String::new, number)
}
