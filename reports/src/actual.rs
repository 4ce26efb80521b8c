//! Predicted against actual, for a terminal of 80 columns, as one HTML file, and the plot of many rollouts.

mod page;
mod plot;
mod text;

use slackwater_planner::actual::{Calibration, Compared, Coverage, Kept, Share};

pub use page::actual_page;
pub use plot::reliability;
pub use text::{calibration_text, compared_text};

use crate::format::{NONE, figure};

/// Seconds, to two digits after the point where they are few.
fn seconds(value: Option<f64>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
        Some(value) if value.abs() < 10_000.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// A difference, with its sign.
fn signed(value: Option<f64>) -> String {
    value.map_or_else(
        || NONE.to_owned(),
        |value| {
            let text = seconds(Some(value));
            // What rounds to nothing has no sign of its own.
            if value >= 0.0 || !text.contains(|digit: char| ('1'..='9').contains(&digit)) {
                format!("+{}", text.trim_start_matches('-'))
            } else {
                text
            }
        },
    )
}

/// Milliseconds of seconds.
fn millis(value: Option<f64>) -> String {
    value.map_or_else(
        || NONE.to_owned(),
        |value| {
            let value = value * 1e3;
            if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
        },
    )
}

fn outcome(compared: &Compared) -> String {
    compared.outcome.map_or_else(|| "not over".to_owned(), |outcome| format!("{outcome:?}"))
}

/// What it is held against, in a sentence.
fn basis(compared: &Compared) -> String {
    match compared.basis.rollouts {
        0 => format!("predicted: {}, medians; nothing was simulated", compared.basis.source),
        1 => format!("predicted: one simulated rollout ({})", compared.basis.source),
        many => format!("predicted: {many} simulated rollouts of this plan ({})", compared.basis.source),
    }
}

/// `54 % [37, 70]`.
fn share_cell(share: Share) -> String {
    if share.count == 0 {
        return NONE.to_owned();
    }
    let percent = |value: f64| format!("{:.0}", value * 100.0);
    format!("{} % [{}, {}]", percent(share.share), percent(share.lower), percent(share.upper))
}

fn kept(coverage: &Coverage) -> &'static str {
    match coverage.kept {
        Kept::Unknown => "not known",
        Kept::Kept => "kept",
        Kept::NoSignAgainst => "no sign against it",
        Kept::Broken => "NOT KEPT",
        Kept::Shifted => "slower than said",
    }
}

/// How much there is behind a calibration, and how to read it.
fn behind(calibration: &Calibration) -> String {
    format!(
        "{} rollouts ({} completed), {} moves. Share of actual figures at or below the predicted median and 95 % point (up to {} s over), \
         each with its bounds (95 % each, Clopper and Pearson). Moves of one rollout are not independent: of theirs the bounds are too near.",
        calibration.rollouts,
        calibration.completed,
        calibration.moves,
        figure(calibration.tolerance_s)
    )
}
