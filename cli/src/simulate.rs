//! `slackwater simulate`: the traffic through the rollout, and the same period without it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use sha2::{Digest, Sha256};
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{Plan, Record};
use slackwater_scenarios::Scenario;
use slackwater_scenarios::rollout::StartTime;
use slackwater_scenarios::traffic::Traffic;
use slackwater_sim::{
    EngineReach, RequestRow, RunInfo, RunOptions, Setup, SimulationResult, World, plan_for, start_offset_ps,
};

use crate::args::Simulate;
use crate::output;
use crate::progress::Progress;
use crate::traffic::Chunked;

/// Simulated time between two looks at the progress bar.
const CHUNK_PS: Ps = 600 * PS_PER_S;

/// What a reader of plan.toml should know first.
const PLAN_HEAD: &str = "\
# The rollout that was simulated. No window was searched for: this plan says how, not when it is safe.
";

/// The text is for any terminal.
const COLUMNS: usize = 80;

/// Everything one simulation left behind.
pub(crate) struct Simulated {
    pub(crate) result: SimulationResult,
    pub(crate) plan: Option<Plan>,
    pub(crate) journal: Vec<Record>,
    pub(crate) rows: Vec<RequestRow>,
}

pub(crate) fn simulate(arguments: &Simulate) -> anyhow::Result<()> {
    let scenario = scenario(arguments)?;
    if !arguments.no_rollout {
        // Before a long trace is read for nothing.
        slackwater_sim::can_roll(&scenario)?;
    }
    crate::history::fetch_for(&scenario)?;
    let simulated = run(&scenario, arguments)?;
    let result = &simulated.result;
    for warning in &result.warnings {
        output::say(&format!("warning: {warning}"));
    }
    if let Some(folder) = &arguments.out {
        write(folder, &scenario, &simulated)?;
    }
    if arguments.json {
        output::json(result)
    } else {
        let verdict = slackwater_reports::verdict_sentence(result);
        output::line(&format!(
            "{}\n{}\n\n{}",
            slackwater_reports::phase_table(result),
            textwrap::fill(&verdict, COLUMNS),
            textwrap::fill(&provenance(result), COLUMNS)
        ))
    }
}

/// What makes the run repeatable, in one line.
fn provenance(result: &SimulationResult) -> String {
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let inputs: Vec<String> =
        result.inputs.iter().map(|(name, hash)| format!("{name} sha256 {}", short(hash))).collect();
    format!(
        "seed {}, slackwater {}, {}, result {}; {} engine steps in {:.3} s",
        result.seed,
        result.slackwater,
        inputs.join(", "),
        short(&result.hash),
        result.steps,
        result.wall_s
    )
}

/// The scenario with what the command line changes.
fn scenario(arguments: &Simulate) -> anyhow::Result<Scenario> {
    let mut overrides = arguments.overrides.clone();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            overrides.push(format!("{key}={value}"));
        }
    };
    set("rollout.start", arguments.start.clone());
    set("traffic.rate_scale", arguments.scale.map(|scale| format!("{scale:?}")));
    set("fleet.replicas", arguments.replicas.map(|count| count.to_string()));
    set("seed", arguments.seed.map(|seed| seed.to_string()));
    set("traffic.dequantise", arguments.dequantise.then(|| true.to_string()));
    if let Some(trace) = &arguments.trace {
        let path = trace.to_str().with_context(|| {
            format!("--trace {}: the path is not valid UTF-8; rename the file or link to it", trace.display())
        })?;
        // The file takes the place of whatever the scenario replays, and of how it is to be read.
        overrides.push(format!("traffic.file={}", toml::Value::from(path)));
        overrides.push("traffic.format=\"auto\"".to_owned());
    }
    Ok(Scenario::load_with(&arguments.scenario, &overrides)?)
}

/// Simulates the scenario, with its rollout and without.
pub(crate) fn run(scenario: &Scenario, arguments: &Simulate) -> anyhow::Result<Simulated> {
    let setup = Arc::new(Setup::new(scenario)?);
    let span_hint = span_hint_s(scenario);

    let options = RunOptions { series: true, rows: arguments.requests };
    let began = Instant::now();
    let mut world = World::new(Arc::clone(&setup), Chunked::new(scenario.open_traffic()?), options)?;
    let mut progress = Progress::new("simulating", span_hint);
    let mut plan = None;
    let mut rows = Vec::new();
    if !arguments.no_rollout {
        let epoch = world.traffic().epoch_ns();
        let start = start_offset_ps(scenario.rollout.start, epoch)?;
        let ready = plan_for(scenario, epoch, start, &[])?;
        if advance(&mut world, start, &mut progress, &mut rows)? {
            anyhow::bail!(too_late(scenario, world.now()));
        }
        world.begin_rollout(ready.clone())?;
        plan = Some(ready);
    }
    advance(&mut world, Ps::MAX, &mut progress, &mut rows)?;
    progress.done();
    rows.extend(world.take_rows());
    let wall = began.elapsed().saturating_sub(world.traffic().reading());
    let report = world.traffic().report();

    let mut inputs = BTreeMap::from([("scenario".to_owned(), hash(scenario.to_toml().as_bytes()))]);
    if !report.sha256.is_empty() {
        inputs.insert(report.source.clone(), report.sha256.clone());
    }
    let info = |wall: Duration, judged_until| RunInfo {
        slackwater: env!("CARGO_PKG_VERSION").to_owned(),
        inputs: inputs.clone(),
        wall_s: wall.as_secs_f64(),
        judged_until,
        warnings: Vec::new(),
    };
    let judged_until = Some(world.judged_until());
    let (mut result, journal) = world.finish(info(wall, None));
    result.warnings = report.warnings();

    if result.rollout.is_some() {
        let began = Instant::now();
        let options = RunOptions { series: true, rows: false };
        let mut world = World::new(Arc::clone(&setup), Chunked::new(scenario.open_traffic()?), options)?;
        let mut progress = Progress::new("the same without a rollout", span_hint);
        let start = start_offset_ps(scenario.rollout.start, world.traffic().epoch_ns())?;
        advance(&mut world, start, &mut progress, &mut Vec::new())?;
        world.judge_from_now();
        advance(&mut world, Ps::MAX, &mut progress, &mut Vec::new())?;
        progress.done();
        let wall = began.elapsed().saturating_sub(world.traffic().reading());
        result.baseline = Some(Box::new(world.finish(info(wall, judged_until)).0));
        warn_about_the_end(&mut result);
    }
    let beyond: Vec<String> = result.reach.iter().filter_map(EngineReach::in_words).collect();
    result.warnings.extend(beyond);
    if scenario.from.engine.prefix_caching {
        result.warnings.push(
            "the capacities are of requests that share nothing: replicas with warm prefix caches carry more"
                .to_owned(),
        );
    }
    let sample = slackwater_planner::capacity::sample(scenario)?;
    result.capacity = slackwater_planner::capacity::capacity(scenario, &sample, capacity_range(scenario))?;
    if let Some(plan) = &mut plan {
        plan.inputs = inputs;
        plan.slackwater = env!("CARGO_PKG_VERSION").to_owned();
    }
    Ok(Simulated { result, plan, journal, rows })
}

/// Runs to `until`, or to the end (`true`), and shows how far it has come.
fn advance(
    world: &mut World<Chunked>,
    until: Ps,
    progress: &mut Progress,
    rows: &mut Vec<RequestRow>,
) -> anyhow::Result<bool> {
    while world.now() < until {
        let ended = world.run_until(world.now().saturating_add(CHUNK_PS).min(until))?;
        #[allow(clippy::cast_precision_loss)] // seconds for people
        progress.at(world.now() as f64 / PS_PER_S as f64, world.arrived());
        rows.extend(world.take_rows());
        if ended {
            return Ok(true);
        }
    }
    Ok(false)
}

fn too_late(scenario: &Scenario, end: Ps) -> String {
    let start = match scenario.rollout.start {
        StartTime::After(offset) => format!("{offset} after the start of the traffic"),
        StartTime::At(time) => time.to_string(),
    };
    format!(
        "the rollout would start {start}, but the traffic is over {} s after its start; choose an earlier --start",
        end / PS_PER_S
    )
}

fn warn_about_the_end(result: &mut SimulationResult) {
    let Some(rollout) = &result.rollout else { return };
    let traffic_ends = result.traffic.span_s;
    if rollout.ended_s > traffic_ends {
        result.warnings.push(format!(
            "the traffic ended {:.0} s before the rollout did: its last part met no load; start earlier or replay more \
             traffic",
            rollout.ended_s - traffic_ends
        ));
    }
}

/// Replica counts whose capacity is worth the time: all of a small fleet; of a large one, those a rollout gets to see.
fn capacity_range(scenario: &Scenario) -> RangeInclusive<u32> {
    let all = u32::try_from(scenario.fleet.replica_count()).unwrap_or(u32::MAX);
    let fewest = if all <= 8 { 1 } else { all.saturating_sub(scenario.rollout.max_unavailable() + 1).max(1) };
    fewest..=all
}

/// How long the traffic will be, where that is known beforehand.
fn span_hint_s(scenario: &Scenario) -> Option<f64> {
    scenario.traffic.generate.as_ref().map(|generate| generate.duration.as_secs_f64())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows as CSV, in the order in which the requests ended.
fn requests_csv(rows: &[RequestRow]) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).context("the requests can't be written as CSV")?;
    }
    let bytes = writer.into_inner().context("the requests can't be written as CSV")?;
    String::from_utf8(bytes).context("the requests can't be written as CSV")
}

/// Writes the folder of `--out`.
fn write(folder: &Path, scenario: &Scenario, simulated: &Simulated) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = |name: &str, content: String| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    file("scenario.toml", scenario.to_toml())?;
    if let Some(plan) = &simulated.plan {
        let text = toml::to_string(plan).context("the plan can't be written as TOML")?;
        file("plan.toml", format!("{PLAN_HEAD}{text}"))?;
        let mut journal = String::new();
        for record in &simulated.journal {
            journal.push_str(&serde_json::to_string(record).context("the journal can't be written as JSON")?);
            journal.push('\n');
        }
        file("journal.jsonl", journal)?;
    }
    if !simulated.rows.is_empty() {
        file("requests.csv", requests_csv(&simulated.rows)?)?;
    }
    let context =
        // An argument need not be UTF-8; in a report it is shown as far as it is.
        slackwater_reports::ReportContext {
            command_line: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
        };
    slackwater_reports::write_report(folder, &simulated.result, &context)?;
    output::say(&format!("report: {}", folder.join("report.html").display()));
    Ok(())
}
