//! Real restarts, timed: a command is started, awaited, asked once and stopped, as the executor does it, as often as wanted.
//!
//! ```text
//! start ──► healthy ──► first prompt (and warm-up) answered ──► SIGTERM ──► the process and all its children are gone
//!       startup     warm_up                                            stop
//! ```
//!
//! Starting, finding and stopping are the executor's own, by its supervisor of processes.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use slackwater_exec::deployment::{Deployment, EngineKind, Place, SCHEMA};
use slackwater_exec::engine::Engine;
use slackwater_exec::http::Base;
use slackwater_exec::supervisor::{Processes, Supervisor};
use slackwater_exec::trouble::Trouble;
use slackwater_policy::VersionRef;

use crate::start_phases::{StartPhase, start_phases};

/// What to start, and how often.
#[derive(Debug, Clone)]
pub struct Restarts {
    /// The argument vector.
    pub command: Vec<String>,
    /// Where its server then listens.
    pub url: String,
    /// Whose paths it has.
    pub engine: EngineKind,
    /// How often.
    pub times: u32,
    /// Warm-up requests beside the first prompt.
    pub warm_up: u32,
    /// It comes up within this time, or not at all.
    pub within: Duration,
    /// After SIGTERM it may take so long until it is killed.
    pub grace: Duration,
    /// Where its log and the record of its process are kept.
    pub folder: PathBuf,
}

/// One restart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restart {
    /// From the start to healthy, seconds.
    pub startup_s: f64,
    /// From there until the first prompt and the warm-up were answered.
    pub warm_up_s: f64,
    /// From SIGTERM until all its processes were gone.
    pub stop_s: f64,
    /// What it printed of its start.
    pub phases: Vec<StartPhase>,
}

/// A restart that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The command or the address is no use.
    #[error("the command can't be started: {0}")]
    Command(String),
    /// Something runs there already.
    #[error(
        "{url}: process {pid} runs there already; stop it, or give another port: only what is started here is stopped again"
    )]
    Occupied {
        /// The address.
        url: String,
        /// The process.
        pid: u32,
    },
    /// It was started and did not come up, or did not answer.
    #[error("start {number}: {problem}\n{tail}")]
    Start {
        /// Which one.
        number: u32,
        /// What happened.
        problem: String,
        /// The end of its log.
        tail: String,
    },
    /// It was started and is not gone.
    #[error("stop {number}: {problem}")]
    Stop {
        /// Which one.
        number: u32,
        /// What happened.
        problem: String,
    },
    /// The person at the terminal has had enough.
    #[error("interrupted in start {number}; the process that was started is stopped")]
    Interrupted {
        /// Which one.
        number: u32,
    },
}

/// How often it is looked whether it is up.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So much of a log is shown.
const TAIL_LINES: usize = 15;
const TAIL_BYTES: u64 = 64 << 10;
/// No log of one start that is looked at is longer.
const LOG_BYTES: u64 = 64 << 20;

/// Starts and stops the command as often as wanted; `say` is told of each. When `interrupted` ends, what was started is stopped.
///
/// # Errors
/// When the command can't be started, does not come up, does not answer, or does not end. Nothing that was started here is left.
pub async fn time_restarts(
    restarts: &Restarts,
    interrupted: impl Future<Output = ()>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Restart>, RestartError> {
    let deployment = deployment(restarts)?;
    let run = Run {
        restarts,
        place: deployment.replicas[0].clone(),
        engine: Engine::new(Arc::new(deployment.clone())),
        processes: Processes::new(deployment),
    };
    let found = run.processes.find(&run.place).await.map_err(command)?;
    if let Some(running) = found {
        return Err(RestartError::Occupied { url: restarts.url.clone(), pid: running.pid.unwrap_or(0) });
    }
    let places = std::slice::from_ref(&run.place);
    run.processes.prepare(places, restarts.grace).await.map_err(command)?;
    tokio::pin!(interrupted);
    let mut done = Vec::new();
    for number in 1..=restarts.times {
        let outcome = tokio::select! {
            outcome = run.once(number) => outcome,
            () = &mut interrupted => Err(RestartError::Interrupted { number }),
        };
        match outcome {
            Ok(restart) => {
                say(&format!(
                    "{number} of {}: up after {:.2} s, answered after {:.2} s more, gone {:.2} s after SIGTERM",
                    restarts.times, restart.startup_s, restart.warm_up_s, restart.stop_s
                ));
                done.push(restart);
            }
            Err(error) => {
                // Whatever happened, what was started here does not stay.
                let stopped = run.processes.stop(&run.place, restarts.grace).await;
                return Err(match stopped {
                    Ok(()) => error,
                    Err(trouble) => RestartError::Stop { number, problem: format!("{error}; and {trouble}") },
                });
            }
        }
    }
    Ok(done)
}

fn command(trouble: Trouble) -> RestartError {
    RestartError::Command(trouble.reason)
}

struct Run<'a> {
    restarts: &'a Restarts,
    place: Place,
    engine: Engine,
    processes: Processes,
}

impl Run<'_> {
    async fn once(&self, number: u32) -> Result<Restart, RestartError> {
        let log = self.processes.log(&self.place);
        let from = std::fs::metadata(&log).map_or(0, |about| about.len());
        let failed = |problem: String| RestartError::Start { number, problem, tail: tail(&log, from) };
        let began = Instant::now();
        self.processes.start(&self.place, VersionRef::To).await.map_err(|trouble| failed(trouble.reason))?;
        while let Err(trouble) = self.engine.healthy(&self.place).await {
            let there = self.processes.find(&self.place).await.map_err(|trouble| failed(trouble.reason))?;
            if there.is_none() {
                return Err(failed(format!(
                    "it ended {:.1} s after its start",
                    began.elapsed().as_secs_f64()
                )));
            }
            if began.elapsed() > self.restarts.within {
                let problem =
                    format!("it is not healthy after {:.0} s: {trouble}", began.elapsed().as_secs_f64());
                return Err(failed(problem));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let startup = began.elapsed();
        let warm = Instant::now();
        let answered = async {
            self.engine.smoke(&self.place).await?;
            self.engine.warm_up(&self.place, self.restarts.warm_up).await
        };
        answered.await.map_err(|trouble| failed(trouble.reason))?;
        let warm_up = warm.elapsed();
        let stopping = Instant::now();
        let stopped = self.processes.stop(&self.place, self.restarts.grace).await;
        stopped.map_err(|trouble| RestartError::Stop { number, problem: trouble.reason })?;
        Ok(Restart {
            startup_s: startup.as_secs_f64(),
            warm_up_s: warm_up.as_secs_f64(),
            stop_s: stopping.elapsed().as_secs_f64(),
            phases: start_phases(&read(&log, from, LOG_BYTES)),
        })
    }
}

fn read(path: &Path, from: u64, most: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The end of what this start wrote.
fn tail(path: &Path, from: u64) -> String {
    let end = std::fs::metadata(path).map_or(0, |about| about.len());
    let text = read(path, from.max(end.saturating_sub(TAIL_BYTES)), TAIL_BYTES);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return format!("it wrote nothing to {}", path.display());
    }
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("the end of {}:\n  {}", path.display(), last.join("\n  "))
}

/// A fleet of one, whose balancer is never spoken to.
fn deployment(restarts: &Restarts) -> Result<Deployment, RestartError> {
    // Braces of a command are its own here.
    let command: Vec<String> =
        restarts.command.iter().map(|word| word.replace('{', "{{").replace('}', "}}")).collect();
    let port = Base::parse(&restarts.url).map_err(RestartError::Command)?.port();
    let port =
        port.ok_or_else(|| RestartError::Command(format!("`{}` is no http://HOST:PORT", restarts.url)))?;
    let text = toml::to_string(&json!({
        "schema": SCHEMA,
        "directory": restarts.folder,
        "balancer": { "kind": "gateway", "admin": "unix:/nowhere" },
        "engine": { "kind": restarts.engine },
        "gpu": { "kind": "none" },
        "versions": { "from": { "command": command }, "to": { "command": command } },
        // What is remembered of another port's process in the same folder is none of this one's business.
        "replicas": [{ "name": format!("restarted-{port}"), "url": restarts.url }],
    }));
    let text = text.map_err(|error| RestartError::Command(error.to_string()))?;
    Deployment::parse(&text, &restarts.folder).map_err(|error| RestartError::Command(error.to_string()))
}
