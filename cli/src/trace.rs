//! `slackwater trace`: what a trace is like, and a generator that resembles it.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use slackwater_reports::ReportContext;
use slackwater_reports::trace::{Against, comparison_text, trace_text, write_trace_report};
use slackwater_scenarios::traffic::statistics::{Collected, Collector, Comparison, TraceFigures};
use slackwater_scenarios::traffic::{AllTurns, Arrival, ImportReport, Traffic};
use slackwater_scenarios::{Format, Keyed, Scenario};

use crate::history;
use crate::output;
use crate::progress::Progress;
use crate::trace_args::{Fit, Input, Inspect, Trace};
use crate::trace_write;

/// What a file with nothing but a generator lacks to be a scenario.
const REST_OF_A_SCENARIO: &str = "\n[fleet]\nreplicas = 1\n[from]\nengine = \"h100-qwen3-14b\"\n";
/// Requests between two looks at the progress bar.
const LOOK_EVERY: u64 = 1 << 16;
/// The text is for any terminal.
const COLUMNS: usize = 80;

pub(crate) fn trace(arguments: &Trace) -> anyhow::Result<()> {
    match arguments {
        Trace::Inspect(arguments) => inspect(arguments),
        Trace::Convert(arguments) => trace_write::convert(arguments),
        Trace::Fit(arguments) => fit(arguments),
        Trace::Generate(arguments) => trace_write::generate(arguments),
        Trace::Fetch(arguments) => history::fetch_command(arguments),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    trace: &'a TraceFigures,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a TraceFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<&'a Comparison>,
}

fn inspect(arguments: &Inspect) -> anyhow::Result<()> {
    let trace = collect(open(&arguments.input, true)?)?;
    let other = match &arguments.against {
        Some(file) => {
            let input = Input {
                file: file.clone(),
                format: Format::Auto,
                sort: arguments.input.sort,
                dequantise: false,
                overrides: Vec::new(),
            };
            let there = collect(open(&input, true)?)?;
            let comparison = trace.compare(&there);
            Some((there, comparison))
        }
        None => None,
    };
    let against = other.as_ref().map(|(there, comparison)| Against { figures: &there.figures, comparison });
    let inspected = Inspected {
        trace: &trace.figures,
        against: against.map(|against| against.figures),
        comparison: against.map(|against| against.comparison),
    };
    if let Some(folder) = &arguments.out {
        let mut json =
            serde_json::to_string_pretty(&inspected).context("the figures can't be written as JSON")?;
        json.push('\n');
        // A path need not be text; a command line that is shown must be.
        let words: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let context = ReportContext { command_line: words.join(" ") };
        write_trace_report(folder, &trace.figures, against, &json, &context)?;
        output::say(&format!("report: {}", folder.join("trace.html").display()));
    }
    if arguments.json {
        return output::json(&inspected);
    }
    let mut text = trace_text(&trace.figures);
    if let Some(against) = against {
        text = format!("{text}\n\n{}", comparison_text(against.comparison));
    }
    output::line(&text)
}

fn fit(arguments: &Fit) -> anyhow::Result<()> {
    let trace = collect(open(&arguments.input, true)?)?;
    let source = &trace.figures.import.source;
    let fit = trace.fit().with_context(|| format!("{source} can't be fitted"))?;
    let sample = AllTurns::new(&fit.generate, 1.0, Keyed::new(arguments.seed));
    let sample = collect(Source { traffic: Box::new(sample), name: "a sample of the fit".to_owned() })?;
    output::line(fit.to_toml().trim_end())?;
    for note in &fit.notes {
        output::say(&textwrap::fill(&format!("note: {note}"), COLUMNS));
    }
    output::say(&format!("\n{}", comparison_text(&sample.compare(&trace))));
    Ok(())
}

/// Requests and what they are called.
pub(crate) struct Source {
    pub(crate) traffic: Box<dyn Traffic + Send>,
    name: String,
}

impl Source {
    /// What was read or drawn.
    pub(crate) fn report(&self) -> ImportReport {
        ImportReport { source: self.name.clone(), ..self.traffic.report() }
    }
}

/// A trace, or a scenario's traffic. `prefixes`: whether the names of blocks are wanted.
pub(crate) fn open(input: &Input, prefixes: bool) -> anyhow::Result<Source> {
    let mut overrides = input.overrides.clone();
    if input.format != Format::Auto {
        let format = serde_json::to_value(input.format).context("the format has no name")?;
        overrides.push(format!("traffic.format={format}"));
    }
    overrides.extend(input.sort.then(|| "traffic.sort=true".to_owned()));
    overrides.extend(input.dequantise.then(|| "traffic.dequantise=true".to_owned()));
    let name = input.file.display().to_string();
    let scenario = if input.file.extension().is_some_and(|extension| extension == "toml") {
        let scenario = load(&input.file, &overrides)?;
        if scenario.traffic.generate.is_some() {
            return drawn(&scenario, name, None);
        }
        history::fetch_for(&scenario)?;
        scenario
    } else {
        let traffic = format!("[traffic]\nfile = \"its place is taken below\"\n{REST_OF_A_SCENARIO}");
        let mut scenario = Scenario::parse_with(&traffic, "", &overrides)?;
        // A path need not be text.
        scenario.traffic.file = Some(input.file.clone());
        scenario
    };
    Ok(Source { traffic: scenario.traffic.open(scenario.seed, prefixes)?, name })
}

/// A scenario, or a file with nothing but its traffic.
fn load(file: &Path, overrides: &[String]) -> anyhow::Result<Scenario> {
    if has_a_fleet(file) {
        return Ok(Scenario::load_with(file, overrides)?);
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{name}: cannot read it; a scenario is a TOML file"))?;
    Ok(Scenario::parse_with(&format!("{text}{REST_OF_A_SCENARIO}"), &name, overrides)?)
}

/// The traffic that a scenario draws, all turns of its sessions counted.
pub(crate) fn open_drawn(file: &Path, seed: Option<u64>) -> anyhow::Result<Source> {
    drawn(&load(file, &[])?, file.display().to_string(), seed)
}

fn drawn(scenario: &Scenario, name: String, seed: Option<u64>) -> anyhow::Result<Source> {
    let generate = scenario.traffic.generate.as_ref().with_context(|| {
        format!(
            "{name} draws no traffic, it replays a file; name that file instead (`slackwater trace convert`)"
        )
    })?;
    let keyed = Keyed::new(seed.unwrap_or(scenario.seed));
    Ok(Source { traffic: Box::new(AllTurns::new(generate, scenario.traffic.rate_scale, keyed)), name })
}

/// Whether this is a whole scenario; what can't be read is left to the scenario's own messages.
fn has_a_fleet(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).ok();
    let table = text.and_then(|text| text.parse::<toml::Table>().ok());
    table.is_none_or(|table| table.contains_key("fleet") || table.contains_key("from"))
}

/// The progress of a source that is read to its end; cleared away however that ends.
pub(crate) struct Reading {
    progress: Option<Progress>,
    requests: u64,
}

impl Reading {
    pub(crate) fn new(what: &str) -> Self {
        Self { progress: Some(Progress::new(what, None)), requests: 0 }
    }

    pub(crate) fn saw(&mut self, arrival: &Arrival) {
        self.requests += 1;
        if self.requests.is_multiple_of(LOOK_EVERY)
            && let Some(progress) = &mut self.progress
        {
            #[allow(clippy::cast_precision_loss)] // seconds for people
            progress.at(arrival.at_ps as f64 / 1e12, self.requests);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.done();
        }
    }
}

/// Reads all of it.
fn collect(mut source: Source) -> anyhow::Result<Collected> {
    let mut collector = Collector::default();
    let mut progress = Reading::new("reading");
    while let Some(arrival) = source.traffic.next_arrival()? {
        collector.observe(&arrival, source.traffic.prefix(), source.traffic.epoch_ns());
        progress.saw(&arrival);
    }
    drop(progress);
    if collector.requests() == 0 {
        anyhow::bail!("{}: no request is drawn; raise its rate or its duration", source.name);
    }
    Ok(collector.finish(source.report()))
}
