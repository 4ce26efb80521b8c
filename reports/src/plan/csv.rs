//! `windows.csv`: a row for each start.

use slackwater_planner::planned::Planned;

use super::words;
use crate::csv::{CsvError, number, optional, table};

/// Every start with all that is known of it. Empty cells mean "no such number".
///
/// # Errors
/// Only when memory runs out.
pub fn windows(planned: &Planned) -> Result<String, CsvError> {
    let head = [
        "start",
        "start_s",
        "verdict",
        "by",
        "risk_estimate",
        "risk_lower",
        "risk_upper",
        "risk_confidence",
        "risk_misses",
        "risk_futures",
        "promised",
        "slo_missed",
        "missed_without",
        "any_cut",
        "expected_cut",
        "expected_missed",
        "duration_p50_s",
        "duration_p95_s",
        "extra_ttft_p95_s",
        "extra_ttft_p99_s",
        "extra_tpot_p95_s",
        "extra_tpot_p99_s",
        "peak_rate_per_s",
        "growth_until_closed",
        "cost",
    ];
    let rows = planned.windows.iter().map(|start| {
        let risk = &start.risk;
        let mut row = vec![
            start.start.clone(),
            number(start.start_s),
            words::verdict(start.verdict).to_owned(),
            start.by.clone(),
        ];
        row.extend([risk.estimate, risk.lower, risk.upper, risk.confidence].map(number));
        row.extend([risk.misses, risk.futures].map(|n| n.to_string()));
        row.extend(
            [
                start.promised,
                start.slo_missed,
                start.missed_without,
                start.any_cut,
                start.expected_cut,
                start.expected_missed,
            ]
            .map(number),
        );
        row.extend(
            [
                start.duration_p50_s,
                start.duration_p95_s,
                start.extra_ttft_p95_s,
                start.extra_ttft_p99_s,
                start.extra_tpot_p95_s,
                start.extra_tpot_p99_s,
            ]
            .map(optional),
        );
        row.extend([number(start.peak_rate_per_s), optional(start.growth_until_closed), number(start.cost)]);
        row
    });
    table(head.map(str::to_owned).to_vec(), rows)
}
