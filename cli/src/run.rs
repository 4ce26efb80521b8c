//! `slackwater run`: the plan, on the replicas themselves.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use slackwater_exec::control::{self, Request};
use slackwater_exec::deployment::Deployment;
use slackwater_exec::driver::Ended;
use slackwater_exec::preflight::{AtTime, Preflight};
use slackwater_exec::session::{RunOptions, Session, SessionError};
use slackwater_policy::{Approve, FinalReport, HoldReason, Outcome, Phase, Plan};

use crate::output;
use crate::run_args::{ApproveMoves, At, Run};
use crate::run_view::Lines;

const HELD: u8 = 3;
const WENT_BACK: u8 = 4;
const REFUSED: u8 = 5;
/// A detached executor has everything looked at before; it only has to begin.
const DETACHED_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn run(arguments: &Run) -> ExitCode {
    let done = runtime().and_then(|runtime| runtime.block_on(carried_out(arguments)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let refused = error.downcast_ref::<SessionError>().is_some_and(SessionError::is_refusal);
            output::failed(&error);
            if refused { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// The executor waits for other programs most of its time; a few threads keep a slow disk from holding up the rest.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    built.context("the executor's threads can't be started")
}

async fn carried_out(arguments: &Run) -> anyhow::Result<u8> {
    let options = RunOptions {
        leave_when_held: arguments.leave_when_held,
        go_on: arguments.go_on,
        take_over: arguments.take_over,
        new: arguments.new,
    };
    let (session, directory) = match &arguments.plan {
        None => {
            let path = arguments.deployment.as_deref().context("--resume needs --deployment")?;
            let deployment = Deployment::load(path).with_context(|| path.display().to_string())?;
            let directory = deployment.directory.clone();
            (Session::resume(&deployment, options)?, directory)
        }
        Some(plan) => {
            let (mut plan, deployment) = read(plan, arguments.deployment.as_deref())?;
            if let Some(approve) = arguments.approve {
                plan.rollout.approve = match approve {
                    ApproveMoves::Each => Approve::Each,
                    ApproveMoves::First => Approve::First,
                    ApproveMoves::None => Approve::None,
                };
            }
            let directory = deployment.directory.clone();
            let session = Session::new(plan, &deployment, options)?;
            let at = match arguments.at {
                At::Window => AtTime::Window,
                At::Now => AtTime::Now,
            };
            let found = session.preflight(at).await;
            show(&session, &found, arguments.dry_run)?;
            if !found.refusals.is_empty() {
                return Ok(REFUSED);
            }
            if arguments.dry_run {
                return Ok(0);
            }
            if !arguments.yes && !agreed()? {
                output::say("not begun");
                return Ok(REFUSED);
            }
            (session, directory)
        }
    };
    if arguments.detach {
        // The lock goes to the one in the background.
        drop(session);
        return detach(&directory).await;
    }
    let plan = session.plan().clone();
    let ended = session.run(Lines::new()).await?;
    told(&ended, &plan)
}

/// The plan, and its deployment from its own file or from within the plan.
pub(crate) fn read(path: &Path, deployment: Option<&Path>) -> anyhow::Result<(Plan, Deployment)> {
    let text =
        fs::read_to_string(path).with_context(|| format!("the plan {} can't be read", path.display()))?;
    let within = || format!("the plan {}", path.display());
    let mut table: toml::Table = toml::from_str(&text).with_context(within)?;
    let embedded = table.remove("deployment");
    // With nothing embedded the text itself is read, so that a mistake is shown where it stands.
    let plan: Plan = match embedded {
        None => toml::from_str(&text).with_context(within)?,
        Some(_) => table.try_into().with_context(within)?,
    };
    let deployment = match (deployment, embedded) {
        (Some(file), _) => Deployment::load(file).with_context(|| file.display().to_string())?,
        (None, Some(embedded)) => {
            let beside = std::path::absolute(path).with_context(within)?;
            let text = toml::to_string(&embedded).with_context(within)?;
            Deployment::parse(&text, beside.parent().unwrap_or(Path::new("/")))
                .with_context(|| format!("[deployment] in {}", path.display()))?
        }
        (None, None) => anyhow::bail!(
            "the plan {} says what is to be done, not what its replicas are on this machine: name that with --deployment FILE \
             (exec/README.md has an example)",
            path.display()
        ),
    };
    Ok((plan, deployment))
}

fn show(session: &Session, found: &Preflight, dry: bool) -> anyhow::Result<()> {
    let plan = session.plan();
    output::line(&format!(
        "from {} to {}: {} replicas, {:?}",
        plan.from.name,
        plan.to.name,
        plan.count(),
        plan.strategy
    ))?;
    let drain = &plan.rollout.drain;
    output::line(&format!(
        "drain up to {}, then {:?}; soak {}; on failure {:?}",
        drain.timeout, drain.at_deadline, plan.rollout.soak, plan.rollout.on_failure
    ))?;
    for line in &found.will {
        output::line(&format!("  {line}"))?;
    }
    if dry {
        output::line("\nrecover.sh would be:\n")?;
        output::line(&session.recovery())?;
    }
    for warning in &found.warnings {
        output::say(&format!("warning: {warning}"));
    }
    for refusal in &found.refusals {
        output::say(&format!("refused: {refusal}"));
    }
    Ok(())
}

fn agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        output::say("there is no terminal to ask at; --yes begins without asking");
        return Ok(false);
    }
    output::say("Begin? Type yes:");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("the answer can't be read")?;
    Ok(answer.trim() == "yes")
}

/// Starts the same command in a session of its own and waits until it answers.
async fn detach(directory: &Path) -> anyhow::Result<u8> {
    let log = directory.join("executor.log");
    let file = fs::OpenOptions::new().create(true).append(true).open(&log);
    let file = file.with_context(|| format!("{} can't be written", log.display()))?;
    let program = std::env::current_exe().context("this program can't be found")?;
    let rest = std::env::args_os().skip(1).filter(|argument| argument != "--detach" && argument != "--yes");
    let mut command = tokio::process::Command::new("setsid");
    command.arg(program).args(rest).arg("--yes").stdin(Stdio::null());
    command.stdout(file.try_clone().context("the log can't be shared")?).stderr(file);
    let mut child = command.spawn().context("`setsid` (util-linux) can't be run")?;
    let began = tokio::time::Instant::now();
    while began.elapsed() < DETACHED_WITHIN {
        if let Some(status) =
            child.try_wait().context("the executor in the background can't be asked about")?
        {
            output::say(&format!("it ended already; see {}", log.display()));
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        if control::ask(directory, Request::Status).await.is_ok() {
            let pid = child.id().map_or(String::new(), |pid| format!(" as process {pid}"));
            output::say(&format!("running in the background{pid}; its lines are in {}", log.display()));
            output::say(&format!("look: slackwater status --watch --deployment {}", directory.display()));
            return Ok(0);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the executor in the background does not answer; see {}", log.display())
}

/// Says how it ended; the exit code.
fn told(ended: &Ended, plan: &Plan) -> anyhow::Result<u8> {
    let (code, report) = match ended {
        Ended::Over(Outcome::Completed, report) => (0, report),
        Ended::Over(Outcome::RolledBack | Outcome::Aborted, report) => (WENT_BACK, report),
        Ended::Held(reason, report) => {
            output::line(&format!("holds: {reason}; {}", way_on(report)))?;
            (HELD, report)
        }
    };
    output::line(&summary(report, plan))?;
    Ok(code)
}

/// What a person can do about a hold.
fn way_on(report: &FinalReport) -> &'static str {
    match &report.phase {
        // What a person paused is resumed by being gone on with.
        Phase::Holding { reason: HoldReason::Operator, .. } => "go on with `slackwater run --resume`",
        Phase::Holding { reason: HoldReason::Guard { .. }, .. } => {
            "see what is wrong with the new version; take it back with `slackwater run --resume` and, from another terminal, \
             `slackwater rollback`, or go on all the same with `slackwater run --resume --go-on`"
        }
        Phase::Holding { reason: HoldReason::Approval, .. } => {
            "go on with `slackwater run --resume` and, from another terminal, `slackwater approve`"
        }
        _ => "when what it names is mended, go on with `slackwater run --resume --go-on`",
    }
}

/// Who serves what, and what mends the others.
pub(crate) fn summary(report: &FinalReport, plan: &Plan) -> String {
    let version = match report.version {
        slackwater_policy::VersionRef::From => &plan.from.name,
        slackwater_policy::VersionRef::To => &plan.to.name,
    };
    let mut text = format!("{} of {} replicas serve {version}", report.serving.len(), plan.count());
    for exception in &report.exceptions {
        text.push_str(&format!("\n  {}: {}; mend it: {}", exception.name, exception.reason, exception.mend));
    }
    text
}

/// The folder of a deployment, by its file or by itself.
pub(crate) fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    Ok(Deployment::load(path).with_context(|| path.display().to_string())?.directory)
}
