//! Measured delays into a scenario, its comments kept.

use std::path::Path;

use anyhow::Context;
use slackwater_planner::actual::Measured;
use slackwater_scenarios::{Delay, Scenario, Version};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

use crate::output;

/// Writes the scenario with what was measured, a copy unless `in_place`, and shows what changed. `times` is what each was measured in:
/// moves, starts.
pub(crate) fn update(path: &Path, measured: &[Measured], times: &str, in_place: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        !measured.is_empty(),
        "nothing was measured: none of the {times} came as far as a stop; {} is as it was",
        path.display()
    );
    let scenario = Scenario::load(path)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (changed, diff) =
        changed(&text, &scenario, measured, times).with_context(|| path.display().to_string())?;
    let target = if in_place { path.to_owned() } else { path.with_extension("measured.toml") };
    Scenario::parse(&changed, &target.display().to_string())?;
    std::fs::write(&target, changed).with_context(|| format!("cannot write {}", target.display()))?;
    output::say(&format!("--- {}\n+++ {}", path.display(), target.display()));
    for line in diff {
        output::say(&line);
    }
    output::say(
        "drains are not a key of a scenario: they follow from its traffic, and are held against it in the table",
    );
    Ok(())
}

/// The changed text, and what changed.
fn changed(
    text: &str,
    scenario: &Scenario,
    measured: &[Measured],
    times: &str,
) -> anyhow::Result<(String, Vec<String>)> {
    let mut document: DocumentMut = text.parse().context("it can't be read as TOML")?;
    let mut diff = Vec::new();
    for measured in measured {
        let Measured { key, delay, .. } = measured;
        let (table, name) = key.split_once('.').context("a key of a version has its table's name")?;
        let before = stated(if table == "from" { &scenario.from } else { &scenario.to }, name);
        let version = document.entry(table).or_insert(Item::Table(toml_edit::Table::new()));
        // An inline table is one line, without room for a comment.
        let own_lines = version.is_table();
        let version: &mut dyn TableLike =
            version.as_table_like_mut().with_context(|| format!("[{table}] is no table"))?;
        let was = version.get(name).map(|item| item.to_string().trim().to_owned());
        let mut value = written(delay);
        let note = note(measured, times);
        if own_lines {
            value.decor_mut().set_suffix(&note);
        }
        let now = value.to_string();
        match version.get_mut(name) {
            Some(item) => {
                if let (Some(old), Some(prefix)) = (item.as_value(), value.decor().prefix().cloned()) {
                    let prefix = old.decor().prefix().cloned().unwrap_or(prefix);
                    value.decor_mut().set_prefix(prefix);
                }
                *item = Item::Value(value);
            }
            None => {
                version.insert(name, Item::Value(value));
            }
        }
        diff.push(format!("@@ [{table}]"));
        diff.push(match was {
            Some(was) => format!("-{name} = {was}"),
            None => {
                format!("-# {name} was not stated here; it came to {}", written(&before).to_string().trim())
            }
        });
        diff.push(format!("+{name} = {}", now.trim()));
    }
    Ok((document.to_string(), diff))
}

fn note(Measured { count, least_s, most_s, .. }: &Measured, times: &str) -> String {
    format!(" # measured in {count} {times}, {least_s:.3} to {most_s:.3} s")
}

/// The keys as a scenario has them, a line each.
pub(crate) fn lines(measured: &[Measured], times: &str) -> Vec<String> {
    let name = |key: &str| key.split_once('.').map_or(key, |(_, name)| name).to_owned();
    let line = |one: &Measured| {
        format!("{} = {}{}", name(&one.key), written(&one.delay).to_string().trim(), note(one, times))
    };
    measured.iter().map(line).collect()
}

fn stated(version: &Version, name: &str) -> Delay {
    match name {
        "stop" => version.stop,
        "gpu_release" => version.gpu_release,
        "startup" => version.startup,
        _ => version.warm_up,
    }
}

fn written(delay: &Delay) -> Value {
    match delay {
        Delay::Constant(value) => Value::from(value.to_string()),
        Delay::Lognormal { median, p95 } => {
            let mut table = InlineTable::new();
            table.insert("median", Value::from(median.to_string()));
            table.insert("p95", Value::from(p95.to_string()));
            Value::InlineTable(table)
        }
    }
}
