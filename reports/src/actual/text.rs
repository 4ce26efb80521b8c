//! The tables for a terminal.

use std::fmt::Write as _;

use slackwater_planner::actual::{Band, Calibration, Compared, Move, PHASE_NAMES, PhaseLatency, Phases};

use super::{basis, behind, kept, millis, outcome, seconds, share_cell, signed};
use crate::format::NONE;
use crate::text::{clip, wrapped};

/// Widest a replica's name may be here.
const NAME: usize = 13;
/// Moves that are told one by one.
const ROWS: usize = 24;

/// One rollout beside its prediction. Every line fits into 80 columns.
#[must_use]
pub fn compared_text(compared: &Compared) -> String {
    let mut out = String::new();
    let number = compared.rollout.map_or_else(String::new, |number| format!("rollout {number}, "));
    wrapped(&mut out, &format!("{number}{} to {}: {}", compared.from, compared.to, outcome(compared)));
    wrapped(&mut out, &basis(compared));
    out.push('\n');
    by_phase(&mut out, compared);
    out.push('\n');
    by_move(&mut out, compared);
    if !compared.latency.is_empty() {
        out.push('\n');
        latency(&mut out, compared);
    }
    for band in &compared.bands {
        let largest =
            band.largest.map_or_else(|| "never measured".to_owned(), |it| format!("largest {it:.4}"));
        let text = format!(
            "guard {:?}: at most {:.4} for {} s; {largest}",
            band.figure, band.limit, band.sustained_s
        );
        wrapped(&mut out, &text);
    }
    out.truncate(out.trim_end().len());
    out
}

fn by_phase(out: &mut String, compared: &Compared) {
    // Writing to a string can't fail.
    let _ = writeln!(out, "{:<NAME$}{:^24}{:^24}{:>14}", "", "predicted", "actual", "error");
    let _ = writeln!(
        out,
        "{:<NAME$}{:>12}{:>12}{:>12}{:>12}{:>14}",
        "seconds", "p50", "p95", "p50", "most", "of p50"
    );
    for row in &compared.phases {
        // A count of requests needs no digits after the point.
        let cell = |value: Option<f64>| match (value, row.name.as_str()) {
            (Some(value), "cut") => format!("{value:.0}"),
            (value, _) => seconds(value),
        };
        let of = |band: Option<Band>| band.map(|band| band.p50);
        let error = match (row.error, row.name.as_str()) {
            (Some(error), "cut") => format!("{error:+.0}"),
            (error, _) => signed(error),
        };
        let _ = writeln!(
            out,
            "{:<NAME$}{:>12}{:>12}{:>12}{:>12}{:>14}",
            if row.name == "cut" { "requests cut" } else { &row.name },
            cell(of(row.predicted)),
            cell(row.predicted.and_then(|band| band.p95)),
            cell(of(row.actual)),
            cell(row.actual.map(|band| band.max)),
            error
        );
    }
}

/// The phases that fit into a row of moves.
const SHOWN: [usize; 6] = [0, 1, 3, 4, 6, 7];

fn by_move(out: &mut String, compared: &Compared) {
    let heads: String = SHOWN.iter().map(|index| format!("{:>11}", PHASE_NAMES[*index])).collect();
    let _ = writeln!(out, "{:<NAME$}{heads}", "move");
    let mut left: Vec<&Move> = compared.predicted.moves.iter().collect();
    for (number, actual) in compared.actual.moves.iter().enumerate() {
        let place = left.iter().position(|predicted| predicted.replica == actual.replica);
        let predicted = place.map(|place| left.remove(place).phases).unwrap_or_default();
        if number < ROWS {
            row(out, &actual.replica, predicted, actual.phases);
        }
    }
    if compared.actual.moves.len() > ROWS {
        wrapped(out, &format!("{} more moves are in --json", compared.actual.moves.len() - ROWS));
    }
    row(out, "mean", compared.predicted.mean, compared.actual.mean);
    out.push_str("(predicted>actual, seconds)\n");
}

fn row(out: &mut String, name: &str, predicted: Phases, actual: Phases) {
    let cell = |index: &usize| {
        let short = |value: Option<f64>| match value {
            Some(value) if value.abs() < 100.0 => format!("{value:.1}"),
            Some(value) => format!("{value:.0}"),
            None => NONE.to_owned(),
        };
        format!("{:>11}", format!("{}>{}", short(predicted.list()[*index]), short(actual.list()[*index])))
    };
    let cells: String = SHOWN.iter().map(cell).collect();
    let _ = writeln!(out, "{:<NAME$}{cells}", clip(name, NAME - 1));
}

fn latency(out: &mut String, compared: &Compared) {
    let heads = ["TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99"];
    let heads: String = heads.iter().map(|head| format!("{head:>16}")).collect();
    let _ = writeln!(out, "{:<NAME$}{heads}", "ms, sent");
    for row in compared.latency.iter().take(ROWS) {
        let four = |side: &Option<PhaseLatency>| {
            side.as_ref().map_or([None; 4], |it| [it.ttft_p50_s, it.ttft_p99_s, it.tpot_p50_s, it.tpot_p99_s])
        };
        let (predicted, actual) = (four(&row.predicted), four(&row.actual));
        let cells: String = predicted
            .into_iter()
            .zip(actual)
            .map(|(old, new)| format!("{:>16}", format!("{}>{}", millis(old), millis(new))))
            .collect();
        let _ = writeln!(out, "{:<NAME$}{cells}", clip(&row.phase, NAME - 1));
    }
    if !compared.latency_from.is_empty() {
        wrapped(out, &format!("(predicted>actual; actual: {})", compared.latency_from));
    }
}

/// Many rollouts beside their predictions. Every line fits into 80 columns.
#[must_use]
pub fn calibration_text(calibration: &Calibration) -> String {
    let mut out = String::new();
    wrapped(&mut out, &behind(calibration));
    let _ = writeln!(
        out,
        "\n{:<NAME$}{:>6}{:>19}{:>19}  the promise is",
        "", "count", "within p50", "within p95"
    );
    for row in &calibration.figures {
        let _ = writeln!(
            out,
            "{:<NAME$}{:>6}{:>19}{:>19}  {}",
            row.name,
            row.count,
            share_cell(row.within_p50),
            share_cell(row.within_p95),
            kept(row)
        );
    }
    out.truncate(out.trim_end().len());
    out
}
