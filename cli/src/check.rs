//! `slackwater check`: a plan looked at again, before its start or under way.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::de::DeserializeOwned;
use slackwater_planner::check::{CheckKit, Checked, Question, check as look};
use slackwater_planner::planned::Planned;
use slackwater_policy::{MoveResult, Plan, Record, VersionRef, fold};
use slackwater_scenarios::{MetricsOf, WallTime};

use crate::args::CheckArguments;
use crate::output;

/// Not safe: for cron and CI.
const NOT_SAFE: u8 = 3;

pub(crate) fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let folder = folder(&arguments.plan)?;
    let planned: Planned = json(&folder.join("plan.json"))?;
    let kit: CheckKit = json(&folder.join("check.json"))?;
    let question = Question {
        now_ns: now_ns(arguments.now)?,
        live_rate: live_rate(arguments)?,
        done: done(arguments, &folder)?,
    };
    let checked = look(&planned, &kit, &question)?;
    for warning in &checked.warnings {
        output::say(&format!("warning: {warning}"));
    }
    if arguments.json {
        output::json(&checked)?;
    } else {
        output::line(&text(&checked))?;
    }
    Ok(if checked.safe { ExitCode::SUCCESS } else { ExitCode::from(NOT_SAFE) })
}

/// A plan is a folder; the path of one of its files stands for it.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    anyhow::ensure!(
        path.exists(),
        "{}: there is no such file; give the folder that `slackwater plan --out` wrote, or its plan.toml",
        path.display()
    );
    Ok(path.parent().map_or_else(PathBuf::new, Path::to_owned))
}

fn json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {}; `slackwater plan --out DIR` writes it beside plan.toml", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!("{} is not what this version of slackwater writes; make the plan anew", path.display())
    })
}

fn now_ns(given: Option<WallTime>) -> anyhow::Result<i64> {
    if let Some(given) = given {
        return Ok(given.0);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("this host's clock stands before 1970")?;
    i64::try_from(now.as_nanos()).context("this host's clock is beyond its range")
}

fn live_rate(arguments: &CheckArguments) -> anyhow::Result<Option<f64>> {
    if let Some(rate) = arguments.live_rate {
        anyhow::ensure!(
            rate.is_finite() && rate >= 0.0,
            "--live-rate {rate}: give a number of requests a second from 0 up"
        );
        return Ok(Some(rate));
    }
    let Some(url) = &arguments.prometheus else { return Ok(None) };
    use slackwater_prometheus::{Client, Credentials, Patience};
    let client = Client::new(url, Credentials::from_environment()?, Patience::default())?;
    let now_s = now_ns(None)? / 1_000_000_000;
    let rate = slackwater_prometheus::live_rate(&client, &arguments.selector, MetricsOf::default(), now_s)?;
    output::say(&format!(
        "{:.2} requests a second over the last {} s, by {}",
        rate.requests_per_s, rate.window_s, rate.counter
    ));
    Ok(Some(rate.requests_per_s))
}

/// Replicas that serve the new version, as told or as the journal has it.
fn done(arguments: &CheckArguments, folder: &Path) -> anyhow::Result<Vec<String>> {
    let Some(journal) = &arguments.journal else { return Ok(arguments.done.clone()) };
    let path = folder.join("plan.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let plan: Plan = toml::from_str(&text).with_context(|| format!("{} is not a plan", path.display()))?;
    let lines =
        std::fs::read_to_string(journal).with_context(|| format!("cannot read {}", journal.display()))?;
    let records =
        lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(number, line)| {
            serde_json::from_str::<Record>(line).with_context(|| {
                format!(
                    "{}, line {}: this is not a record of a rollout's journal",
                    journal.display(),
                    number + 1
                )
            })
        });
    let records: Vec<Record> = records.collect::<anyhow::Result<_>>()?;
    let report = fold(&plan, &records);
    let mut done: Vec<String> = Vec::new();
    for moved in &report.moves {
        let Some(replica) = plan.replicas.get(moved.replica.index()) else { continue };
        match (moved.target, &moved.result) {
            (VersionRef::To, Some(MoveResult::Done)) => done.push(replica.name.clone()),
            (VersionRef::From, Some(MoveResult::Done)) => done.retain(|name| *name != replica.name),
            _ => {}
        }
    }
    done.dedup();
    Ok(done)
}

fn text(checked: &Checked) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let verdict = match (checked.safe, checked.conditions.is_empty()) {
        (true, true) => "SAFE",
        (true, false) => "SAFE, on a condition",
        (false, _) => "NOT SAFE",
    };
    // Writing to a string can't fail.
    let _ = writeln!(text, "{verdict} at {}", checked.now);
    for reason in checked.reasons.iter().chain(&checked.conditions) {
        let _ = writeln!(text, "{}", textwrap::fill(&format!("- {reason}"), 80));
    }
    let live =
        checked.live_rate_per_s.map_or_else(|| "not measured".to_owned(), |rate| format!("{rate:.2}/s"));
    let rest = checked
        .capacity_of_the_rest_per_s
        .map_or_else(String::new, |rate| format!("; the rest carries {rate:.2}/s"));
    let _ = writeln!(text, "load: expected {:.2}/s, now {live}{rest}", checked.expected_rate_per_s);
    if !checked.options.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<10} {:>7} {:>16} {:>7} {:>8} {:>10} {:>8}",
            "what", "risk", "(95 % bounds)", "cut", "missed", "minutes", "cost"
        );
    }
    for row in &checked.options {
        let _ = writeln!(
            text,
            "{:<10} {:>6.1}% {:>6.1}% to {:>5.1}% {:>7.2} {:>8.1} {:>10.1} {:>8.1}",
            row.choice.replace('_', " "),
            row.risk.estimate * 100.0,
            row.risk.lower * 100.0,
            row.risk.upper * 100.0,
            row.cut,
            row.missed,
            row.duration_p50_s / 60.0,
            row.cost
        );
    }
    text.truncate(text.trim_end().len());
    text
}
