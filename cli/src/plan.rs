//! `slackwater plan`: when to roll, with what drain timeout, how, at what risk.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use slackwater_planner::plan::{Answered, Ask, plan as compute};
use slackwater_planner::planned::{Answer, Planned};
use slackwater_planner::watch::Watch;
use slackwater_scenarios::Scenario;

use crate::args::PlanArguments;
use crate::output;

/// No safe window: for cron and CI.
const NO_GO: u8 = 3;
/// Interrupted, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// What a reader of plan.toml should know first.
const PLAN_HEAD: &str = "\
# A rollout plan, found by `slackwater plan`; plan.json beside it has the risk behind it, report.html what to read first.
# `windows` are when moves may be made; a rollout is begun until `latest_start`, so that all of it is over in time.
";

pub(crate) fn plan(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    use_threads(arguments.threads)?;
    let ask =
        ask_of(&arguments.scenario, arguments.history.as_deref(), arguments.seed, &arguments.overrides)?;
    let watcher = Watcher::new();
    watcher.hear_interrupts()?;
    let answered = compute(&ask, &watcher)?;
    watcher.done();
    let planned = &answered.planned;
    for warning in &planned.warnings {
        output::say(&format!("warning: {warning}"));
    }
    if let Some(folder) = &arguments.out {
        write(folder, &answered)?;
    }
    if arguments.json {
        output::json(planned)?;
    } else {
        output::line(&slackwater_reports::plan_text(planned))?;
    }
    Ok(match (planned.partial, planned.answer) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, Answer::NoGo) => ExitCode::from(NO_GO),
        (false, Answer::Go | Answer::Conditional) => ExitCode::SUCCESS,
    })
}

/// So many threads for all that follows; one a core when it is not said.
pub(crate) fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("the threads can't be started")
}

/// The scenario with what the command line changes, and its history, read.
pub(crate) fn ask_of(
    scenario: &Path,
    history: Option<&Path>,
    seed: Option<u64>,
    overrides: &[String],
) -> anyhow::Result<Ask> {
    let mut overrides = overrides.to_vec();
    if let Some(seed) = seed {
        overrides.push(format!("seed={seed}"));
    }
    if let Some(history) = history {
        let path = history.to_str().with_context(|| {
            format!(
                "--history {}: the path is not valid UTF-8; rename the file or link to it",
                history.display()
            )
        })?;
        overrides.push(format!("traffic.file={}", toml::Value::from(path)));
        overrides.push("traffic.format=\"auto\"".to_owned());
    }
    let scenario = Scenario::load_with(scenario, &overrides)?;
    let hash =
        |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut inputs = BTreeMap::from([("scenario".to_owned(), hash(scenario.to_toml().as_bytes()))]);
    crate::history::fetch_for(&scenario)?;
    let history = match scenario.traffic.generate {
        None => {
            output::say("reading the history");
            let trace = scenario.load_traffic().context(
                "there is no history to learn from: give one with requests in it (--history FILE; a week or more tells weekdays \
                 apart), or describe the traffic ([traffic.generate])",
            )?;
            if !trace.report.sha256.is_empty() {
                inputs.insert(trace.report.source.clone(), trace.report.sha256.clone());
            }
            Some(Arc::new(trace))
        }
        Some(_) => None,
    };
    Ok(Ask { scenario, slackwater: env!("CARGO_PKG_VERSION").to_owned(), inputs, history })
}

/// Writes the folder of `--out`.
fn write(folder: &Path, answered: &Answered) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    let planned: &Planned = &answered.planned;
    file("plan.json", &serde_json::to_string_pretty(planned).context("the plan can't be written as JSON")?)?;
    file("check.json", &serde_json::to_string(&answered.kit).context("the kit can't be written as JSON")?)?;
    match &answered.plan {
        Some(plan) => {
            let text = toml::to_string(plan).context("the plan can't be written as TOML")?;
            file("plan.toml", &format!("{PLAN_HEAD}{text}"))?;
        }
        // A plan of an earlier run must not be taken for this one's.
        None => match std::fs::remove_file(folder.join("plan.toml")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove the old plan.toml from {}", folder.display()));
            }
            _ => output::say("no plan.toml: there is no window to write into it"),
        },
    }
    // An argument need not be UTF-8; in a report it is shown as far as it is.
    let command_line: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let context = slackwater_reports::ReportContext { command_line: command_line.join(" ") };
    slackwater_reports::write_plan_report(folder, planned, &context)?;
    output::say(&format!("report: {}", folder.join("report.html").display()));
    Ok(())
}

/// Progress on stderr, and Ctrl-C.
pub(crate) struct Watcher {
    bar: Mutex<(ProgressBar, String)>,
    stop: Arc<AtomicBool>,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(1);
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {percent} %, {eta} to go") {
            bar.set_style(style);
        }
        Self { bar: Mutex::new((bar, String::new())), stop: Arc::new(AtomicBool::new(false)) }
    }

    /// The first Ctrl-C asks for what is known so far, the second ends it all.
    pub(crate) fn hear_interrupts(&self) -> anyhow::Result<()> {
        let stop = Arc::clone(&self.stop);
        ctrlc::set_handler(move || {
            if stop.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            output::say("interrupted: what is known so far follows; once more to stop at once");
        })
        .context("Ctrl-C can't be listened to")
    }

    pub(crate) fn done(&self) {
        if let Ok(bar) = self.bar.lock() {
            bar.0.finish_and_clear();
        }
    }
}

impl Watch for Watcher {
    fn progress(&self, stage: &str, done: u64, total: u64) {
        // A thread that panicked while it drew has other worries.
        let Ok(mut bar) = self.bar.lock() else { return };
        if bar.1 != stage {
            bar.1.replace_range(.., stage);
            bar.0.set_message(stage.to_owned());
            bar.0.reset();
            bar.0.set_length(total);
        }
        if done > bar.0.position() {
            bar.0.set_position(done);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
