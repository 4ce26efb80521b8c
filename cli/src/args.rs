//! The command line, as data. What the arguments mean is with the commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::trace_args::Trace;

/// Upgrade the model on a box of GPUs without anybody noticing.
///
/// Slackwater simulates a rolling upgrade of inference replicas on real traffic: who would have waited, who would have
/// been cut, how long it would have taken.
#[derive(Debug, Parser)]
#[command(name = "slackwater", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay traffic through a rolling upgrade.
    #[command(after_help = EXIT_CODES)]
    Simulate(Simulate),
    /// Look at a trace, convert it, fit a generator to it, or write one.
    #[command(subcommand, after_help = TRACE_EXIT_CODES)]
    Trace(Trace),
    /// Print the JSON Schema of the scenario file.
    Schema,
}

const EXIT_CODES: &str = "\
Exit codes: 0 simulated (whatever the verdict), 1 could not be simulated, 2 wrong arguments,
130 interrupted.";

const TRACE_EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.";

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The scenario file (TOML); `slackwater schema` describes it.
    pub(crate) scenario: PathBuf,

    /// Replay this trace file (Azure CSV or Mooncake JSONL, plain or gzip) in place of the scenario's traffic.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Begin the rollout at this time: after the start of the traffic ("15m"), or "2026-01-05T03:00:00Z".
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<String>,

    /// Replay the traffic without any rollout.
    #[arg(long)]
    pub(crate) no_rollout: bool,

    /// Multiply the arrival rate.
    #[arg(long, value_name = "X")]
    pub(crate) scale: Option<f64>,

    /// Simulate a fleet of so many replicas.
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,

    /// The seed of all randomness.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Set any key of the scenario, as in `--set rollout.drain_timeout=60s`. May be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// Print the whole result as JSON on standard output, in place of the table.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write report.html, result.json, plots, the journal and plan.toml into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// With --out: write requests.csv too, a row for each logical request.
    #[arg(long, requires = "out")]
    pub(crate) requests: bool,
}
