//! `slackwater report`: rollouts that were lived through, beside what was predicted of them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use slackwater_exec::journal::{FILE, Journal};
use slackwater_planner::actual::{
    Calibration, Compared, Measured, Prediction, Seen, bands_seen, calibrate, compare, measured, of_figures,
    of_plan, of_scenario,
};
use slackwater_planner::check::CheckKit;
use slackwater_planner::planned::Planned;
use slackwater_policy::{Plan, Record, RolloutReport, fold};
use slackwater_reports::ReportContext;
use slackwater_reports::actual::{actual_page, calibration_text, compared_text};
use slackwater_scenarios::Scenario;

use crate::output;
use crate::run::directory;

pub(crate) mod update;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The journal: a deployment file, its folder, or its journal.sqlite; of a simulated rollout its journal.jsonl, with plan.toml
    /// beside it. As often as wanted.
    #[arg(long, value_name = "JOURNAL", required = true)]
    pub(crate) actual: Vec<PathBuf>,

    /// Which rollout of the journal; by default the last.
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub(crate) rollout: Option<i64>,

    /// All rollouts of the journals that are over.
    #[arg(long)]
    pub(crate) all: bool,

    /// What it was predicted from: the folder that `slackwater plan --out` or `simulate --out` wrote, or the scenario. Without it, the
    /// medians that stand in the plan itself.
    #[arg(long, value_name = "PATH")]
    pub(crate) predicted: Option<PathBuf>,

    /// How many rollouts of the plan are simulated for the prediction.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) simulate: u64,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write actual.html and actual.json into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Put the measured start-up, stop, GPU release and warm-up into this scenario: a copy beside it, NAME.measured.toml, with the changes
    /// shown.
    #[arg(long, value_name = "SCENARIO")]
    pub(crate) update: Option<PathBuf>,

    /// With --update: change the scenario itself.
    #[arg(long, requires = "update")]
    pub(crate) in_place: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Told {
    rollouts: Vec<Compared>,
    /// Where there is more than one rollout.
    calibration: Option<Calibration>,
    /// The delays of the scenario, as measured.
    measured: Vec<Measured>,
}

/// Where a journal's latency is from.
const FIGURES: &str =
    "the live figures that guards were shown, each of the minute before it; medians of p50, largest of p99";

/// A rollout out of a journal.
struct Lived {
    number: Option<i64>,
    plan: Plan,
    records: Vec<Record>,
    report: RolloutReport,
}

impl Lived {
    fn new(number: Option<i64>, plan: Plan, records: Vec<Record>) -> Lived {
        let report = fold(&plan, &records);
        Lived { number, plan, records, report }
    }
}

pub(crate) fn report(arguments: &Report) -> anyhow::Result<()> {
    let mut lived = Vec::new();
    for path in &arguments.actual {
        lived.extend(read(path, arguments)?);
    }
    let mut oracle = Oracle::new(arguments)?;
    let mut rollouts = Vec::new();
    let mut pairs = Vec::new();
    for one in &lived {
        let prediction = oracle.predict(one)?;
        let latency = of_figures(&one.plan, &one.report, &one.records);
        let seen = Seen::of(&one.plan, &one.report).with_latency(latency);
        let bands = bands_seen(&one.plan, &one.records);
        let compared = compare(&one.plan, &prediction, seen.clone(), bands);
        rollouts.push(Compared { rollout: one.number, latency_from: FIGURES.to_owned(), ..compared });
        if seen.outcome.is_some() {
            pairs.push((prediction, seen));
        }
    }
    let calibration = (lived.len() > 1 && oracle.simulates()).then(|| calibrate(&pairs));
    let all: Vec<(Plan, RolloutReport)> = lived.into_iter().map(|one| (one.plan, one.report)).collect();
    let told = Told { rollouts, calibration, measured: measured(&all) };
    if let Some(folder) = &arguments.out {
        write(folder, &told)?;
    }
    if arguments.json {
        output::json(&told)?;
    } else {
        output::line(&text(&told))?;
    }
    match &arguments.update {
        Some(scenario) => update::update(scenario, &told.measured, "moves", arguments.in_place),
        None => Ok(()),
    }
}

fn text(told: &Told) -> String {
    let mut parts: Vec<String> = match (&told.calibration, told.rollouts.as_slice()) {
        (None, rollouts) => rollouts.iter().map(compared_text).collect(),
        // Of many the promise is the question; each by itself is in --json and --out.
        (Some(_), _) => Vec::new(),
    };
    parts.extend(told.calibration.as_ref().map(calibration_text));
    parts.join("\n\n")
}

fn write(folder: &Path, told: &Told) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    file("actual.json", &serde_json::to_string_pretty(told).context("the result can't be written as JSON")?)?;
    let command_line: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let context = ReportContext { command_line: command_line.join(" ") };
    file("actual.html", &actual_page(&told.rollouts, told.calibration.as_ref(), &context))?;
    output::say(&format!("report: {}", folder.join("actual.html").display()));
    Ok(())
}

/// The rollouts of a journal that are asked for.
fn read(path: &Path, arguments: &Report) -> anyhow::Result<Vec<Lived>> {
    let ends = |end: &str| path.extension().is_some_and(|it| it == end);
    if ends("jsonl") {
        return Ok(vec![simulated(path)?]);
    }
    let folder = if ends("sqlite") {
        anyhow::ensure!(
            path.file_name().is_some_and(|name| name == FILE),
            "{}: the journal of a deployment is called {FILE}",
            path.display()
        );
        path.parent().map_or_else(
            || PathBuf::from("."),
            |parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() },
        )
    } else {
        directory(path)?
    };
    let journal = Journal::read(&folder)?;
    let listed = journal.rollouts()?;
    let known: Vec<String> = listed.iter().map(|one| one.id.to_string()).collect();
    let wanted: Vec<_> = match (arguments.rollout, arguments.all) {
        (Some(number), _) => {
            let found = listed.into_iter().find(|one| one.id == number);
            let found = found.with_context(|| {
                format!("{} has no rollout {number}; it has {}", folder.display(), known.join(", "))
            })?;
            vec![found]
        }
        (None, true) => listed,
        (None, false) => listed.into_iter().next_back().into_iter().collect(),
    };
    anyhow::ensure!(!wanted.is_empty(), "{}: nothing was run with this deployment yet", folder.display());
    let mut lived = Vec::new();
    for one in wanted {
        let rollout = Lived::new(Some(one.id), one.plan()?, journal.records(one.id)?);
        if arguments.all && rollout.report.outcome.is_none() {
            output::say(&format!("{}: rollout {} is not over; left out", folder.display(), one.id));
        } else {
            lived.push(rollout);
        }
    }
    anyhow::ensure!(
        !lived.is_empty(),
        "{}: no rollout is over yet; leave --all out to see the last",
        folder.display()
    );
    Ok(lived)
}

/// A journal as `simulate --out` writes it.
fn simulated(path: &Path) -> anyhow::Result<Lived> {
    let beside = path.with_file_name("plan.toml");
    let text = std::fs::read_to_string(&beside).with_context(|| {
        format!("cannot read {}; a journal.jsonl wants its plan beside it", beside.display())
    })?;
    let plan = toml::from_str(&text).with_context(|| format!("the plan {}", beside.display()))?;
    let lines = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut records = Vec::new();
    for (number, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record = serde_json::from_str(line);
        records.push(record.with_context(|| {
            format!("{}, line {}: this is not a record of a rollout's journal", path.display(), number + 1)
        })?);
    }
    Ok(Lived::new(None, plan, records))
}

/// What predicts.
enum Basis {
    /// The plan's own medians.
    Stated,
    Scenario {
        scenario: Box<Scenario>,
        source: String,
    },
    Plan {
        planned: Box<Planned>,
        kit: Box<CheckKit>,
        source: String,
    },
}

struct Oracle {
    basis: Basis,
    count: u64,
    /// Plans that were simulated already: rollouts of one plan have one prediction.
    known: Vec<(Plan, Prediction)>,
}

impl Oracle {
    fn new(arguments: &Report) -> anyhow::Result<Oracle> {
        let basis = match &arguments.predicted {
            None => Basis::Stated,
            Some(path) => basis(path)?,
        };
        Ok(Oracle { basis, count: arguments.simulate, known: Vec::new() })
    }

    fn simulates(&self) -> bool {
        !matches!(self.basis, Basis::Stated)
    }

    fn predict(&mut self, one: &Lived) -> anyhow::Result<Prediction> {
        match &self.basis {
            Basis::Stated => Ok(Prediction::stated(&one.plan)),
            Basis::Plan { planned, kit, source } => {
                Ok(of_plan(planned, kit, &one.plan, one.report.started_at, self.count, source)?)
            }
            Basis::Scenario { scenario, source } => {
                if let Some((_, known)) = self.known.iter().find(|(plan, _)| *plan == one.plan) {
                    return Ok(known.clone());
                }
                let prediction = of_scenario(scenario, &one.plan, self.count, source)?;
                self.known.push((one.plan.clone(), prediction.clone()));
                Ok(prediction)
            }
        }
    }
}

fn basis(path: &Path) -> anyhow::Result<Basis> {
    let source = path.display().to_string();
    let json = |name: &str| {
        let file = path.join(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    if path.join("plan.json").exists() {
        let planned = serde_json::from_str(&json("plan.json")?);
        let kit = serde_json::from_str(&json("check.json")?);
        let other = || format!("{source} is not what this version of slackwater writes; make the plan anew");
        return Ok(Basis::Plan {
            planned: Box::new(planned.with_context(other)?),
            kit: Box::new(kit.with_context(other)?),
            source,
        });
    }
    let file = if path.is_dir() { path.join("scenario.toml") } else { path.to_owned() };
    anyhow::ensure!(
        file.exists(),
        "{}: there is neither plan.json nor scenario.toml; give what `slackwater plan --out` or `simulate --out` wrote, or the scenario",
        path.display()
    );
    let scenario = Scenario::load(&file)?;
    crate::history::fetch_for(&scenario)?;
    Ok(Basis::Scenario { scenario: Box::new(scenario), source })
}
