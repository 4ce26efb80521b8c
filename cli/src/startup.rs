//! `slackwater calibrate --startup`: real restarts, timed, and what logs tell of their phases.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use slackwater_exec::deployment::EngineKind;
use slackwater_exec::http::Base;
use slackwater_measure::{Restart, Restarts, StartPhase, start_phases, time_restarts};
use slackwater_planner::actual::Measured;
use slackwater_scenarios::Scenario;

use crate::calibrate_args::Calibrate;
use crate::output;
use crate::report::update;

/// Arguments of `calibrate --startup`.
#[derive(Debug, Args)]
pub(crate) struct Startup {
    /// Start the command behind `--` as often as wanted, await its health at --url, ask it once, stop it, and tell how long each took as a
    /// scenario has it: startup, warm_up, stop.
    #[arg(long, requires = "command", conflicts_with = "passive", conflicts_with_all = crate::calibrate_args::OF_A_LOAD, help_heading = "Start-up")]
    startup: bool,

    /// The phases that an engine's log tells (weights, compilation, graph capture), without starting anything.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["startup", "passive", "url"], help_heading = "Start-up")]
    startup_log: Option<PathBuf>,

    /// How often to start it; of three and more a delay has a spread.
    #[arg(long, default_value_t = 3, value_name = "N", help_heading = "Start-up", value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,

    /// Which engine it is: its path of health.
    #[arg(long, value_enum, default_value_t = Engine::Vllm, help_heading = "Start-up")]
    engine: Engine,

    /// Warm-up requests beside the first prompt.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Start-up", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    warm_up_requests: u32,

    /// It comes up within this time, or not at all.
    #[arg(long, default_value_t = 1800, value_name = "SECONDS", help_heading = "Start-up", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    up_within: u64,

    /// After SIGTERM it is killed when it is not gone within this time.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", help_heading = "Start-up", value_parser = clap::value_parser!(u64).range(1..=3600))]
    grace: u64,

    /// Where its log is kept; by default a folder among the temporary ones, by its port.
    #[arg(long, value_name = "DIR", help_heading = "Start-up")]
    state: Option<PathBuf>,

    /// Which version of a scenario this is.
    #[arg(long = "as", value_enum, default_value_t = Version::To, help_heading = "Start-up")]
    version: Version,

    /// Put what was measured into this scenario: a copy beside it, NAME.measured.toml, with the changes shown.
    #[arg(long, value_name = "SCENARIO", requires = "startup", help_heading = "Start-up")]
    update: Option<PathBuf>,

    /// With --update: change the scenario itself.
    #[arg(long, requires = "update", help_heading = "Start-up")]
    in_place: bool,

    /// The command and its arguments; no shell is run.
    #[arg(last = true, value_name = "COMMAND", requires = "startup")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Engine {
    Vllm,
    Sglang,
    LlamaCpp,
    Openai,
}

impl Engine {
    const fn kind(self) -> EngineKind {
        match self {
            Self::Vllm => EngineKind::Vllm,
            Self::Sglang => EngineKind::Sglang,
            Self::LlamaCpp => EngineKind::LlamaCpp,
            Self::Openai => EngineKind::Openai,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Version {
    From,
    To,
}

impl Version {
    const fn table(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    restarts: &'a [Restart],
    measured: &'a [Measured],
    phases: &'a [Phase],
    version: &'static str,
}

/// A phase over all starts.
#[derive(Serialize)]
struct Phase {
    name: String,
    count: usize,
    least_s: f64,
    median_s: f64,
    most_s: f64,
}

impl Startup {
    pub(crate) fn is_asked(&self) -> bool {
        self.startup || self.startup_log.is_some()
    }
}

pub(crate) fn startup(arguments: &Calibrate) -> anyhow::Result<()> {
    let options = &arguments.startup;
    if let Some(file) = &options.startup_log {
        return of_log(arguments, file);
    }
    let url =
        arguments.url.as_deref().context("--startup needs --url: where the command's server listens")?;
    let port = Base::parse(url).map_err(anyhow::Error::msg)?.port();
    let port = port.with_context(|| format!("`{url}` has no port; expected http://HOST:PORT"))?;
    let folder = match &options.state {
        Some(folder) => std::path::absolute(folder)?,
        None => std::env::temp_dir().join(format!("slackwater-startup-{port}")),
    };
    if let Some(scenario) = &options.update {
        // What is wrong with it is better known before than after minutes of restarts.
        Scenario::load(scenario)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let restarts = Restarts {
        command: options.command.clone(),
        url: url.to_owned(),
        engine: options.engine.kind(),
        times: options.times,
        warm_up: options.warm_up_requests,
        within: Duration::from_secs(options.up_within),
        grace: Duration::from_secs(options.grace),
        folder,
    };
    output::say(&format!(
        "Starting and stopping `{}` {} times; its log is in {}.",
        restarts.command.join(" "),
        restarts.times,
        restarts.folder.join("logs").display()
    ));
    if arguments.dry_run {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let say = |text: &str| output::say(text);
    let done = runtime.block_on(async {
        let interrupted = interrupted().context("can't listen for signals")?;
        time_restarts(&restarts, interrupted, &say).await.map_err(anyhow::Error::from)
    })?;
    tell(arguments, &done)
}

/// Ends at Ctrl-C, SIGTERM, or when the terminal is gone; listened for from now on, before anything is started.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

fn tell(arguments: &Calibrate, done: &[Restart]) -> anyhow::Result<()> {
    let options = &arguments.startup;
    let table = options.version.table();
    let of = |name: &str, seconds: fn(&Restart) -> f64| {
        Measured::of(&format!("{table}.{name}"), done.iter().map(seconds).collect())
    };
    let measured: Vec<Measured> = [
        of("startup", |restart| restart.startup_s),
        of("warm_up", |restart| restart.warm_up_s),
        of("stop", |restart| restart.stop_s),
    ]
    .into_iter()
    .flatten()
    .collect();
    let phases = phases(done.iter().map(|restart| restart.phases.as_slice()));
    if arguments.json {
        output::json(&Answer {
            restarts: done,
            measured: &measured,
            phases: &phases,
            version: env!("CARGO_PKG_VERSION"),
        })?;
    } else {
        say_phases(&phases)?;
        let mut text = format!("[{table}]\n");
        text.push_str(&update::lines(&measured, "starts").join("\n"));
        if let Some(path) = &arguments.out {
            std::fs::write(path, format!("{text}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            output::say(&format!("wrote {}", path.display()));
        }
        output::line(&text)?;
    }
    match &options.update {
        Some(scenario) => update::update(scenario, &measured, "starts", options.in_place),
        None => Ok(()),
    }
}

fn of_log(arguments: &Calibrate, file: &std::path::Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = start_phases(&String::from_utf8_lossy(&bytes));
    anyhow::ensure!(
        !found.is_empty(),
        "{}: no line of it tells how long a phase of a start took; known are those of vLLM and SGLang, such as `Loading weights took 12.3 \
         seconds` and `Graph capturing finished in 17 secs`",
        file.display()
    );
    let phases = phases(std::iter::once(found.as_slice()));
    if arguments.json {
        return output::json(&Answer {
            restarts: &[],
            measured: &[],
            phases: &phases,
            version: env!("CARGO_PKG_VERSION"),
        });
    }
    say_phases(&phases)?;
    output::say(
        "A log does not say when its process was started and when it was healthy: --startup measures what a scenario wants.",
    );
    Ok(())
}

fn phases<'a>(starts: impl Iterator<Item = &'a [StartPhase]>) -> Vec<Phase> {
    let mut all: Vec<(String, Vec<f64>)> = Vec::new();
    for phase in starts.flatten() {
        match all.iter_mut().find(|(name, _)| *name == phase.name) {
            Some((_, seconds)) => seconds.push(phase.seconds),
            None => all.push((phase.name.clone(), vec![phase.seconds])),
        }
    }
    all.into_iter()
        .filter_map(|(name, mut seconds)| {
            seconds.sort_by(f64::total_cmp);
            let (least_s, most_s) = (*seconds.first()?, *seconds.last()?);
            Some(Phase { name, count: seconds.len(), least_s, median_s: seconds[seconds.len() / 2], most_s })
        })
        .collect()
}

fn say_phases(phases: &[Phase]) -> anyhow::Result<()> {
    for Phase { name, count, least_s, median_s, most_s } in phases {
        let text = if *count > 1 {
            format!("# {name:<16} {median_s:>9.2} s ({least_s:.2} to {most_s:.2} in {count} starts)")
        } else {
            format!("# {name:<16} {median_s:>9.2} s")
        };
        output::line(&text)?;
    }
    Ok(())
}
