//! `slackwater demo`: a fleet of stand-ins, traffic on it, a simulated plan, the live rollout, and the two side by side.
//!
//! ```text
//!  scenario + drawn trace ─► plan ─► forty simulated rollouts of it ─┐
//!  stand-ins, balancer, traffic ─► exec::Session ─► journal ─────────┴─► planner::actual, as in `slackwater report`
//! ```

mod compare;
mod fleet;
mod scenario;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use slackwater_exec::driver::{Ended, View};
use slackwater_exec::journal::Journal;
use slackwater_exec::preflight::AtTime;
use slackwater_exec::say::Sayer;
use slackwater_exec::session;
use slackwater_exec::session::{RunOptions, Session};
use slackwater_load::{Load, Options, Pace, Report};
use slackwater_policy::{Plan, Record, Rollout};
use slackwater_reports::ReportContext;
use slackwater_reports::actual::actual_page;

use crate::output;
use crate::run::runtime;

/// Traffic before the rollout begins, and after it has ended.
const LEAD_IN: Duration = Duration::from_secs(6);
const LEAD_OUT: Duration = Duration::from_secs(3);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many stand-ins.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    pub(crate) replicas: u16,

    /// What stands before them; nginx and HAProxy must be installed.
    #[arg(long = "lb", value_name = "WHICH", default_value = "gateway")]
    pub(crate) balancer: Balancer,

    /// Requests a second; by default what the fleet carries easily.
    #[arg(long, value_name = "X")]
    pub(crate) rate: Option<f64>,

    /// Where everything is written; by default a new folder for temporary files.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Print the result as JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What stands before the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balancer {
    /// Slackwater's own gateway.
    Gateway,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

pub(crate) fn demo(arguments: &Demo) -> anyhow::Result<()> {
    let folder = match &arguments.out {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("slackwater-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let folder = std::path::absolute(&folder).context("the folder has no path")?;
    let rate = arguments.rate.unwrap_or(f64::from(arguments.replicas));
    anyhow::ensure!(rate.is_finite() && rate > 0.0, "--rate is {rate}; expected requests a second, above 0");

    let (plan, prediction) = scenario::predicted(&folder, arguments.replicas, arguments.balancer, rate)?;
    let runtime = runtime()?;
    let (ended, requests, journal) = runtime.block_on(live(arguments, &folder, plan.clone(), rate))?;
    let result = compare::Demonstrated::new(&plan, &prediction, &journal, &requests);
    let text = result.text();
    let write = |name: &str, content: String| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    write(
        "demo.json",
        serde_json::to_string_pretty(&result).context("the result can't be written as JSON")?,
    )?;
    write("report.md", format!("# Predicted against actual\n\n```text\n{text}\n```\n"))?;
    let context = ReportContext { command_line: again(arguments) };
    write("report.html", actual_page(std::slice::from_ref(&result.compared), None, &context))?;
    if arguments.json {
        output::json(&result)?;
    } else {
        output::line(&format!("\n{text}"))?;
    }
    output::say(&format!("report: {}", folder.join("report.html").display()));
    anyhow::ensure!(
        matches!(ended, Ended::Over(slackwater_policy::Outcome::Completed, _)),
        "the rollout did not complete: {ended:?}"
    );
    Ok(())
}

/// The command, as it can be pasted.
fn again(arguments: &Demo) -> String {
    let balancer = arguments.balancer.to_possible_value();
    let balancer = balancer.map_or_else(String::new, |value| format!(" --lb {}", value.get_name()));
    let rate = arguments.rate.map_or_else(String::new, |rate| format!(" --rate {rate}"));
    format!("slackwater demo --replicas {}{balancer}{rate}", arguments.replicas)
}

/// The fleet, its traffic, and the rollout. Everything started is ended, whatever comes.
async fn live(
    arguments: &Demo,
    folder: &std::path::Path,
    plan: Plan,
    rate: f64,
) -> anyhow::Result<(Ended, Report, Vec<Record>)> {
    let fleet = fleet::Fleet::start(folder, arguments.replicas, arguments.balancer, &plan).await?;
    let load = Load::start(Options {
        prompt: scenario::PROMPT,
        timeline: true,
        ..Options::new(fleet.front(), Pace::Rate(rate))
    });
    tokio::time::sleep(LEAD_IN).await;
    let ran = rolled(&fleet, plan, arguments.json).await;
    tokio::time::sleep(LEAD_OUT).await;
    let requests = load.stop().await;
    let state = fleet.state();
    fleet.stop().await;
    let ended = ran?;
    let journal = Journal::read(&state)?;
    let last = journal.rollouts()?.pop().context("the journal holds no rollout")?;
    Ok((ended, requests, journal.records(last.id)?))
}

async fn rolled(fleet: &fleet::Fleet, plan: Plan, quiet: bool) -> anyhow::Result<Ended> {
    let options = RunOptions { leave_when_held: true, ..RunOptions::default() };
    let session = Session::new(plan, &fleet.deployment, options)?;
    let found = session.preflight(AtTime::Now).await;
    anyhow::ensure!(found.refusals.is_empty(), "refused: {}", found.refusals.join("; "));
    output::say(&format!("lines of the run: {}", session::log_path(&fleet.state(), 1).display()));
    Ok(session.run(Told { quiet, began: None, sayer: Sayer::default() }).await?)
}

/// Lines with the seconds since the rollout began.
struct Told {
    quiet: bool,
    began: Option<std::time::Instant>,
    sayer: Sayer,
}

impl Told {
    fn line(&mut self, text: &str) {
        let began = *self.began.get_or_insert_with(std::time::Instant::now);
        if !self.quiet {
            // Nothing can be done about a closed output here, and the fleet is still to be stopped.
            let _ = output::line(&format!("{:6.1} s  {text}", began.elapsed().as_secs_f64()));
        }
    }
}

impl View for Told {
    fn record(&mut self, record: &Record, rollout: &Rollout) {
        if let Some(line) = self.sayer.line(record, rollout.plan()) {
            self.line(&line);
        }
    }

    fn say(&mut self, text: &str) {
        self.line(text);
    }
}
