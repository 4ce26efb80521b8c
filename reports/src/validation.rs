//! Recorded servers beside what was predicted of them, for a terminal of 80 columns.

use std::fmt::Write;

use slackwater_calibrate::{Compared, Estimate, Figures, Fitted, Known, Rest, Source, Spread, Validation};

const COLUMNS: usize = 80;

/// The comparison as text.
#[must_use]
pub fn validation_text(validation: &Validation) -> String {
    let mut text = String::new();
    for compared in &validation.experiments {
        experiment(&mut text, compared);
    }
    for skipped in &validation.skipped {
        let _ =
            writeln!(text, "{}", wrapped(&format!("{} is left out: {}.", skipped.name, skipped.reason), ""));
    }
    for (index, source) in validation.profiles.iter().enumerate() {
        let of = validation.experiments.iter().filter(|compared| compared.profile == index);
        let names: Vec<&str> = of.map(|compared| compared.name.as_str()).collect();
        match source {
            Source::Fitted(fitted) => text.push_str(&fitted_text(fitted, &names.join(", "))),
            Source::Given { profile } => {
                let _ = writeln!(
                    text,
                    "{}\n",
                    wrapped(&format!("Profile of {}: {}.", names.join(", "), profile.source), "")
                );
            }
        }
    }
    text.trim_end().to_owned()
}

fn wrapped(text: &str, indent: &str) -> String {
    textwrap::fill(text, textwrap::Options::new(COLUMNS).initial_indent(indent).subsequent_indent(indent))
}

fn experiment(text: &mut String, compared: &Compared) {
    let how = match (compared.fitted, compared.fitted_until_s) {
        (false, _) => "predicted".to_owned(),
        (true, None) => format!("fitted, {} requests", compared.fitted_requests),
        (true, Some(until)) => {
            format!("fitted to the {} requests that ended before {until} s", compared.fitted_requests)
        }
    };
    let _ = writeln!(text, "{} ({how})", compared.name);
    if let Some(rest) = &compared.rest {
        table(
            text,
            &format!("the other {} requests", rest.measured.requests),
            &rest.measured,
            &rest.predicted,
        );
    }
    table(
        text,
        &format!("all {} requests", compared.measured.requests),
        &compared.measured,
        &compared.predicted,
    );
    for assumed in &compared.assumed {
        let _ = writeln!(text, "{}", wrapped(&format!("{assumed}."), "  "));
    }
    text.push('\n');
}

/// What was held out of a fit, beside what was predicted of it.
#[must_use]
pub fn rest_text(rest: &Rest) -> String {
    let mut text = String::new();
    table(&mut text, &format!("{} held out", rest.measured.requests), &rest.measured, &rest.predicted);
    text
}

fn table(text: &mut String, of: &str, measured: &Figures, predicted: &Figures) {
    let _ = writeln!(text, "  {of:<29} {:>9} {:>9} {:>9} {:>9}", "mean", "p50", "p90", "p99");
    for (name, measured, predicted) in [
        ("TTFT", measured.ttft_s, predicted.ttft_s),
        ("TPOT", measured.tpot_s, predicted.tpot_s),
        ("E2E", measured.e2e_s, predicted.e2e_s),
    ] {
        let Some(measured) = measured else { continue };
        row(text, &format!("{name} measured, s"), measured, seconds);
        if let Some(predicted) = predicted {
            row(text, &format!("{name} predicted, s"), predicted, seconds);
            let error = |predicted: f64, measured: f64| 100.0 * (predicted / measured - 1.0);
            let errors = Spread {
                mean: error(predicted.mean, measured.mean),
                p50: error(predicted.p50, measured.p50),
                p90: error(predicted.p90, measured.p90),
                p99: error(predicted.p99, measured.p99),
            };
            row(text, "  error, %", errors, |error| format!("{error:+.1}"));
        }
    }
    let rate = |figures: &Figures| {
        figures.throughput_rps.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"))
    };
    let _ = writeln!(
        text,
        "  answers a second: {} measured, {} predicted; failed: {:.1} %, {:.1} %",
        rate(measured),
        rate(predicted),
        measured.error_percent,
        predicted.error_percent
    );
}

fn row(text: &mut String, name: &str, spread: Spread, format: impl Fn(f64) -> String) {
    let Spread { mean, p50, p90, p99 } = spread;
    let _ = writeln!(
        text,
        "    {name:<27} {:>9} {:>9} {:>9} {:>9}",
        format(mean),
        format(p50),
        format(p90),
        format(p99)
    );
}

/// Four figures.
fn seconds(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.1}"),
        value if value >= 10.0 => format!("{value:.2}"),
        value if value >= 1.0 => format!("{value:.3}"),
        value if value >= 0.1 => format!("{value:.4}"),
        value => format!("{value:.5}"),
    }
}

/// A fitted profile, coefficient by coefficient.
#[must_use]
pub fn fitted_text(fitted: &Fitted, of: &str) -> String {
    let mut text = String::new();
    let head = format!(
        "Profile of {of}: {}; scheduling {}. The search began at {}.",
        fitted.profile.source,
        match fitted.profile.scheduling {
            slackwater_scenarios::Scheduling::Sync => "synchronous",
            slackwater_scenarios::Scheduling::Async => "asynchronous",
        },
        fitted.began_at
    );
    let _ = writeln!(text, "{}", wrapped(&head, ""));
    let _ = writeln!(text, "  {:<22} {:>10} {:>10} {:>10}", "", "fitted", "not below", "not above");
    for estimate in &fitted.coefficients {
        coefficient(&mut text, estimate);
    }
    if let Some(reach) = fitted.reach {
        let reach = format!(
            "Measured up to {} tokens of prompt, {} of context, {} requests in flight; beyond that it is not measured.",
            reach.prompt_tokens, reach.context_tokens, reach.in_flight
        );
        let _ = writeln!(text, "{}", wrapped(&reach, ""));
    }
    text.push('\n');
    text
}

fn coefficient(text: &mut String, estimate: &Estimate) {
    let known = match estimate.known {
        Known::Identified => "identified (5 %)",
        Known::Roughly => "roughly (30 %)",
        Known::NotIdentified => "not identified",
    };
    let _ = writeln!(
        text,
        "  {:<22} {:>10} {:>10} {:>10}  {known}",
        estimate.name,
        figures(estimate.value),
        figures(estimate.low),
        if estimate.high >= estimate.coefficient.range().1 { "-".to_owned() } else { figures(estimate.high) }
    );
    if let Some(why) = &estimate.why {
        let _ = writeln!(text, "{}", wrapped(why, "      "));
    }
}

/// Three figures of a number of any size.
fn figures(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.01 => format!("{value:.4}"),
        0.0 => "0".to_owned(),
        value => format!("{value:.2e}"),
    }
}
