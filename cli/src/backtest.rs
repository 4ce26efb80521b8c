//! `slackwater backtest`: plans made from the days before, held against the day that came.

use std::process::ExitCode;
use std::sync::Arc;

use slackwater_planner::backtest::{Backtest, backtest as compute, scale};
use slackwater_scenarios::traffic::Format;

use crate::args::BacktestArguments;
use crate::output;
use crate::plan::{Watcher, ask_of};

pub(crate) fn backtest(arguments: &BacktestArguments) -> anyhow::Result<ExitCode> {
    crate::plan::use_threads(arguments.threads)?;
    let mut ask =
        ask_of(&arguments.scenario, arguments.history.as_deref(), arguments.seed, &arguments.overrides)?;
    let watcher = Watcher::new();
    watcher.hear_interrupts()?;
    let factor = if arguments.as_it_is { 1.0 } else { scale(&ask, &watcher)? };
    if !arguments.as_it_is {
        let format = ask.history.as_ref().map(|trace| trace.report.format.clone()).unwrap_or_default();
        anyhow::ensure!(
            ask.scenario.traffic.format == Format::RateCsv || format.contains("rate"),
            "the load is scaled so that some starts break, and that is done to series of rates only (this is {format}); give \
             --as-it-is, and --set traffic.rate_scale yourself"
        );
        ask.scenario.traffic.rate_scale *= factor;
        ask.history = Some(Arc::new(ask.scenario.load_traffic()?));
    }
    let found = compute(&ask, factor, &watcher)?;
    watcher.done();
    for note in &found.notes {
        output::say(&format!("note: {note}"));
    }
    if arguments.json {
        output::json(&found)?;
    } else {
        output::line(&text(&found))?;
    }
    Ok(if found.partial { ExitCode::from(crate::plan::INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// The score on a terminal.
fn text(found: &Backtest) -> String {
    use std::fmt::Write;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut text = String::new();
    let mut line = |said: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{said}");
    };
    line(format!(
        "{} days planned and replayed, traffic times {:.3}; a rollout without a gate fails at {} of all starts",
        found.days,
        found.scale,
        percent(found.starts_that_break)
    ));
    line(format!(
        "recommended starts: promised {}, observed {} ({} to {}): {}",
        percent(found.promised),
        percent(found.observed),
        percent(found.observed_interval.0),
        percent(found.observed_interval.1),
        if found.within { "within the promise" } else { "NOT within the promise" }
    ));
    line(format!(
        "all starts: Brier {:.4} (always the mean: {:.4}), sharpness {:.4}; of the starts that held {} were found",
        found.brier,
        found.brier_of_the_mean,
        found.sharpness,
        percent(found.safe_found)
    ));
    line(format!(
        "of the starts that were clean in all futures {} failed ({} to {}, days resampled)",
        percent(found.clean_failed),
        percent(found.clean_failed_interval.0),
        percent(found.clean_failed_interval.1)
    ));
    line("\npromised up to  starts  days  promised  observed  interval".to_owned());
    for row in &found.reliability {
        line(format!(
            "{:>14} {:>7} {:>5} {:>9} {:>9}  {} to {}",
            percent(row.up_to),
            row.starts,
            row.days,
            percent(row.promised),
            percent(row.observed),
            percent(row.interval.0),
            percent(row.interval.1)
        ));
    }
    line(format!(
        "\n{:<36} {:>4} {:>6} {:>6} {:>5} {:>7} {:>7} {:>7}",
        "rule", "bad", "missed", "unended", "cut", "extra", "cost", "regret"
    ));
    for rule in &found.rules {
        line(format!(
            "{:<36} {:>4} {:>6} {:>7} {:>4.0} {:>7.0} {:>7.0} {:>7.0}",
            rule.rule,
            rule.violations,
            rule.slo_missed,
            rule.not_completed,
            rule.cut,
            rule.missed,
            rule.cost,
            rule.regret
        ));
    }
    line(format!(
        "\nseed {}, slackwater {}; {} requests simulated in {:.0} s",
        found.seed, found.slackwater, found.simulated_requests, found.wall_s
    ));
    text.truncate(text.trim_end().len());
    text
}
