//! The phase table and the moves table.

use std::fmt::Write as _;

use slackwater_sim::{LatencySummary, MoveFigures, SimulationResult};

use super::{escape, table};
use crate::clock::Clock;
use crate::facts;
use crate::format::{NONE, count, duration, figure, millis_cell, percent, seconds_cell};

/// Phases shown; a fleet of a thousand has its table in `phases.csv`.
const ROWS: usize = 60;

pub(super) fn phases(page: &mut String, result: &SimulationResult) {
    page.push_str("<section id=\"phases\">\n<h2>By phase</h2>\n");
    if result.phases.is_empty() {
        page.push_str("<p>No data: the result has no phases.</p>\n</section>\n");
        return;
    }
    let clock = Clock::of(&result.traffic);
    let head = [
        "phase",
        "from",
        "lasted",
        "serving",
        "requests/s",
        "in flight",
        "queue max",
        "SLO met %",
        "missed",
        "cut",
        "retried",
        "timed out",
        "rejected",
        "drain",
    ];
    let caption = format!(
        "What happened. Times are {}; serving is the fewest replicas in rotation.",
        clock.cell_unit()
    );
    let rows = result.phases.iter().take(ROWS).map(|p| {
        let r = &p.requests;
        let drain = result.rollout.as_ref().and_then(|of| facts::move_of(of, p)).and_then(facts::drain_s);
        vec![
            p.name.clone(),
            clock.cell(p.from_s),
            duration(p.until_s - p.from_s),
            p.serving_min.to_string(),
            figure(p.rate_per_s),
            figure(p.in_flight_mean),
            count(p.queue_max),
            percent(p.attainment),
            count(p.missed),
            count(r.cut),
            count(r.retried),
            count(r.timed_out),
            count(r.rejected),
            drain.map_or_else(|| NONE.to_owned(), duration),
        ]
    });
    table(page, &caption, &head, rows);

    let head = ["phase", "TTFT p50", "p90", "p99", "TPOT p50", "p90", "p99", "E2E p50", "p90", "p99"];
    let three = |l: &LatencySummary, cell: fn(Option<f64>) -> String| [cell(l.p50), cell(l.p90), cell(l.p99)];
    let rows = result.phases.iter().take(ROWS).map(|p| {
        let mut row = vec![p.name.clone()];
        row.extend(three(&p.ttft_s, seconds_cell));
        row.extend(three(&p.tpot_s, millis_cell));
        row.extend(three(&p.e2e_s, seconds_cell));
        row
    });
    let caption =
        "Latency of the requests that arrived in the phase. TTFT and E2E in seconds, TPOT in milliseconds.";
    table(page, caption, &head, rows);
    if result.phases.len() > ROWS {
        let _ = writeln!(
            page,
            "<p>The first {ROWS} of {} phases; all are in phases.csv.</p>",
            result.phases.len()
        );
    }
    page.push_str("</section>\n");
}

pub(super) fn moves(page: &mut String, result: &SimulationResult) {
    let Some(rollout) = &result.rollout else { return };
    page.push_str("<section id=\"moves\">\n<h2>Moves</h2>\n");
    if rollout.moves.is_empty() {
        let _ = write!(
            page,
            "<p>No move was begun; the rollout ended as: {}.</p>\n</section>\n",
            escape(&rollout.outcome)
        );
        return;
    }
    let clock = Clock::of(&result.traffic);
    let head = [
        "replica",
        "to",
        "began",
        "drain",
        "stop",
        "GPU free",
        "start and load",
        "warm-up",
        "soak",
        "whole",
        "cut",
        "result",
    ];
    let rows = rollout.moves.iter().take(ROWS).map(|m| {
        let mut row = vec![m.replica.clone(), m.target.clone(), clock.cell(m.started_s)];
        row.extend(stages(m));
        let cut =
            if m.drain_timed_out { format!("{} (drain timed out)", count(m.cut)) } else { count(m.cut) };
        row.extend([cut, m.result.clone()]);
        row
    });
    let caption = format!("How long each stage took. Began is {}.", clock.cell_unit());
    table(page, &caption, &head, rows);
    if rollout.moves.len() > ROWS {
        let _ = writeln!(
            page,
            "<p>The first {ROWS} of {} moves; all are in result.json.</p>",
            rollout.moves.len()
        );
    }
    page.push_str("</section>\n");
}

/// Drain, stop, GPU free, start and load, warm-up, soak, whole.
fn stages(m: &MoveFigures) -> [String; 7] {
    let took = |from: Option<f64>, to: Option<f64>| match (from, to) {
        (Some(from), Some(to)) => duration((to - from).max(0.0)),
        (Some(_), None) => "not ended".to_owned(),
        (None, _) => NONE.to_owned(),
    };
    [
        took(m.taken_out_s, m.drained_s),
        took(m.drained_s, m.stopped_s),
        took(m.stopped_s, m.gpu_free_s),
        took(m.start_issued_s, m.healthy_s),
        took(m.healthy_s, m.admitted_s),
        took(m.admitted_s, m.ended_s),
        took(Some(m.started_s), m.ended_s),
    ]
}
