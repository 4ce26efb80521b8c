//! The command line, as data. What the arguments mean is with the commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::calibrate_args::{Calibrate, Validate};
use crate::demo::Demo;
use crate::report::Report;
use crate::run_args::{Control, DeploymentCommand, History, Run, Status};
use crate::serve_args::{Gateway, Replica};
use crate::trace_args::Trace;

/// Upgrade the model on a box of GPUs without anybody noticing.
///
/// Slackwater simulates a rolling upgrade of inference replicas on real traffic (who would have waited, who would have
/// been cut, how long it would have taken), and carries it out on the replicas themselves.
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
    /// Search for safe windows: when to roll, with what drain timeout, how, at what risk.
    #[command(after_help = PLAN_EXIT_CODES)]
    Plan(PlanArguments),
    /// Look at a plan again, in under a second: is it still safe to start, or to go on?
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(CheckArguments),
    /// Is a plan right? Plan each day of a history from the days before it, and replay it as it came.
    #[command(after_help = TRACE_EXIT_CODES)]
    Backtest(BacktestArguments),
    /// Look at a trace, convert it, fit a generator to it, or write one.
    #[command(subcommand, after_help = TRACE_EXIT_CODES)]
    Trace(Trace),
    /// Is the engine model right? Recorded servers beside what is predicted of them, after a fit to some of the data.
    #[command(after_help = crate::calibrate_args::EXIT_CODES)]
    Validate(Validate),
    /// Measure a server that is out of rotation, or watch a live one, and write its engine profile; or time restarts.
    #[command(after_help = crate::calibrate_args::EXIT_CODES)]
    Calibrate(Box<Calibrate>),
    /// Carry a plan out on the replicas of this machine.
    #[command(after_help = crate::run_args::EXIT_CODES)]
    Run(Run),
    /// How the rollout stands.
    Status(Status),
    /// Hold with all replicas serving: the replica in hand is finished or put back first.
    Pause(Control),
    /// Go on after a hold; parked replicas are tried again.
    Resume(Control),
    /// Give the approval that the plan asks for.
    Approve(Control),
    /// End, with the replica in hand restored to the old version and the others left as they are.
    Abort(Control),
    /// Take every replica back to the old version.
    Rollback(Control),
    /// The rollouts of a deployment, or one of them record by record.
    History(History),
    /// Predicted against actual: a rollout of a journal beside simulated ones; over many, is the promise kept?
    Report(Report),
    /// A rollout of stand-ins under traffic, predicted and actual side by side; takes under two minutes.
    Demo(Demo),
    /// The deployment file: its schema, and what other programs need of it.
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Print the JSON Schema of the scenario file, or of a plan's answer.
    Schema {
        /// Of what.
        #[arg(default_value = "scenario")]
        of: SchemaOf,
    },
    /// Engine profiles computed from a GPU's data sheet and a model's shape.
    #[command(subcommand)]
    Presets(Presets),
    /// Forward requests to replicas: a streaming proxy that can be drained.
    #[command(after_help = crate::serve_args::GATEWAY_HELP)]
    Gateway(Gateway),
    /// Be a replica without a GPU: OpenAI's API with the engine model's timing, and faults on request.
    #[command(after_help = crate::serve_args::REPLICA_HELP)]
    Replica(Box<Replica>),
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// The scenario file.
    Scenario,
    /// What `plan --json` prints and `plan --out` writes as plan.json.
    Plan,
}

/// What to do with presets.
#[derive(Debug, Subcommand)]
pub(crate) enum Presets {
    /// List the GPUs and models known by name.
    List {
        /// Only these.
        what: Option<PresetKind>,
        /// Print them as JSON, with the source of each.
        #[arg(long)]
        json: bool,
    },
    /// Does the model fit, how fast is it by the roofline, how long does it take to start?
    Show(ShowPreset),
}

/// The two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetKind {
    /// GPUs.
    Gpus,
    /// Models.
    Models,
}

/// Arguments of `presets show`.
#[derive(Debug, Args)]
pub(crate) struct ShowPreset {
    /// The GPU, as in `presets list gpus`.
    pub(crate) gpu: String,

    /// The model, as in `presets list models`, or the path of its Hugging Face config.json.
    pub(crate) model: String,

    /// GPUs that one replica spans.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) tensor_parallel: u32,

    /// How weights are stored: auto (as published), bf16, fp16, fp8, mxfp4, nvfp4, int4.
    #[arg(long, default_value = "auto")]
    pub(crate) dtype: String,

    /// How keys and values are stored: auto (16 bits) or fp8.
    #[arg(long, default_value = "auto")]
    pub(crate) kv_dtype: String,

    /// The share of a GPU's memory the engine may take.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    pub(crate) memory_utilization: f64,

    /// The context of the sequences whose speed is shown, and at which sliding windows are counted.
    #[arg(long, value_name = "N", default_value_t = 2048)]
    pub(crate) context_tokens: u32,

    /// With experts: the tokens of a step, which decide how many experts the profile's floor reads.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) experts_batch: u32,

    /// What the disk with the weights gives, in GB/s.
    #[arg(long, value_name = "GB/S", default_value_t = slackwater_scenarios::presets::DISK_GB_PER_S)]
    pub(crate) disk: f64,

    /// Print everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

const EXIT_CODES: &str = "\
Exit codes: 0 simulated (whatever the verdict), 1 could not be simulated, 2 wrong arguments,
130 interrupted.";

const PLAN_EXIT_CODES: &str = "\
Exit codes: 0 a window was found, 3 there is none, 1 could not be planned, 2 wrong arguments,
130 interrupted (what was known by then is printed, marked as partial).";

const CHECK_EXIT_CODES: &str = "Exit codes: 0 safe, 3 not safe, 1 could not be checked, 2 wrong arguments.";

const TRACE_EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.";

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The scenario file (TOML); `slackwater schema` describes it.
    pub(crate) scenario: PathBuf,

    /// Replay this trace file or log in place of the scenario's traffic; docs/traces.md lists the formats.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Spread arrivals that share a time because the trace's clock is coarse, each at random within the tick.
    #[arg(long)]
    pub(crate) dequantise: bool,

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

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The scenario file (TOML); its `[plan]` table says what is asked for.
    pub(crate) scenario: PathBuf,

    /// Learn from this trace file or log in place of the scenario's traffic; docs/traces.md lists the formats.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,

    /// The seed of all randomness.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Set any key of the scenario, as in `--set plan.risk=0.005`. May be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// So many threads; the answer is the same. Default: one a core.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Print the whole answer as JSON on standard output, in place of the text.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write report.html, report.md, plan.toml, plan.json, windows.csv and plots into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The folder that `plan --out` wrote, or the plan.toml in it.
    pub(crate) plan: PathBuf,

    /// As if it were this time ("2026-01-05T03:00:00Z").
    #[arg(long, value_name = "TIME")]
    pub(crate) now: Option<slackwater_scenarios::WallTime>,

    /// Requests a second at present.
    #[arg(long, value_name = "X", conflicts_with = "prometheus")]
    pub(crate) live_rate: Option<f64>,

    /// Ask this Prometheus server for the present rate.
    #[arg(long, value_name = "URL")]
    pub(crate) prometheus: Option<String>,

    /// With --prometheus: which series, as in `job="vllm"`.
    #[arg(long, value_name = "LABELS", default_value = "", requires = "prometheus")]
    pub(crate) selector: String,

    /// The rollout is under way, and these replicas serve the new version already.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "journal")]
    pub(crate) done: Vec<String>,

    /// The rollout is under way; its journal (a JSON record a line) says how far it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,

    /// Print the answer as JSON on standard output, in place of the text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `backtest`.
#[derive(Debug, Args)]
pub(crate) struct BacktestArguments {
    /// The scenario file (TOML); its `[plan]` table says what is asked for.
    pub(crate) scenario: PathBuf,

    /// The history, in place of the scenario's traffic: several days, on the calendar.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,

    /// The seed of all randomness.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Set any key of the scenario, as in `--set plan.every=15m`. May be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,

    /// So many threads; the answer is the same. Default: one a core.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Take the traffic as it is. Else it is scaled first, by its rates alone, so that at 45 % of all times it is more than
    /// the replicas that stay can carry.
    #[arg(long)]
    pub(crate) as_it_is: bool,

    /// Print the whole score as JSON on standard output, in place of the text.
    #[arg(long)]
    pub(crate) json: bool,
}
