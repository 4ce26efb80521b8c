//! The arguments of `trace`, as data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use slackwater_scenarios::{Format, HumanDuration, MetricsOf, WallTime};

/// What to do with a trace.
#[derive(Debug, Subcommand)]
pub(crate) enum Trace {
    /// Say what a trace is like: its rate, lengths, burstiness, shared prefixes.
    Inspect(Inspect),
    /// Write a trace in another format.
    Convert(Convert),
    /// Print a [traffic.generate] table whose traffic resembles a trace.
    Fit(Fit),
    /// Write the traffic that a scenario would draw as a trace.
    Generate(Generate),
    /// Fetch a fleet's history from a Prometheus server into a file that is read like a trace.
    #[command(after_help = FETCH_HELP)]
    Fetch(Fetch),
}

const FETCH_HELP: &str = "\
Credentials: SLACKWATER_PROMETHEUS_TOKEN, or SLACKWATER_PROMETHEUS_USER and
SLACKWATER_PROMETHEUS_PASSWORD; with _FILE behind a secret's name, from that file.
What the file has already is not fetched again.";

/// Which trace, and how to read it.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The trace, plain, gzip or zstd; or a scenario (.toml), for the traffic it would draw or replay.
    pub(crate) file: PathBuf,

    /// Its format, where it is not recognised: azure-csv, burstgpt-csv, mooncake-jsonl, ... (docs/traces.md).
    #[arg(long, value_name = "F", default_value = "auto", value_parser = format)]
    pub(crate) format: Format,

    /// Sort rows that are not in order of time; the trace is then held in memory.
    #[arg(long)]
    pub(crate) sort: bool,

    /// Spread arrivals that share a time because the trace's clock is coarse, each at random within the tick.
    #[arg(long)]
    pub(crate) dequantise: bool,

    /// Set any further key of the traffic, as in `--set traffic.assume_tokens.bytes_per_output_token=200`. May be given
    /// many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// Arguments of `trace inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) input: Input,

    /// Say how far the trace is from this one: a trace, or a scenario (.toml) for its traffic.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) against: Option<PathBuf>,

    /// Print the figures as JSON on standard output, in place of the table.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write trace.html, trace.json and plots into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// A format that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    /// JSON lines with timestamp (ms), input_length, output_length and, where known, hash_ids.
    MooncakeJsonl,
    /// TIMESTAMP,ContextTokens,GeneratedTokens; times are on the calendar, UTC.
    AzureCsv,
}

/// Arguments of `trace convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) input: Input,

    /// The format to write.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: To,

    /// When the trace begins, for azure-csv: "2026-01-05T00:00:00Z". Needed where it has no calendar of its own.
    #[arg(long, value_name = "TIME")]
    pub(crate) start: Option<WallTime>,

    /// The file to write, zipped where its name ends in .gz; standard output when left out. Until it is whole it is
    /// called OUT.part.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `trace fit`.
#[derive(Debug, Args)]
pub(crate) struct Fit {
    #[command(flatten)]
    pub(crate) input: Input,

    /// The seed of the sample that the fit is compared with.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Arguments of `trace generate`.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// A scenario, or a file with a [traffic.generate] table alone, as `trace fit` prints it.
    pub(crate) scenario: PathBuf,

    /// The format to write; when left out, by the name of the file.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<To>,

    /// The seed of all randomness, in place of the scenario's.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// The file to write (.jsonl or .csv, zipped with a further .gz). Until it is whole it is called OUT.part.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
}

/// Arguments of `trace fetch`.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The server: http://prometheus:9090, with a path where it has one.
    pub(crate) url: String,

    /// Which replicas, as PromQL label matchers: 'job="vllm"'. All when left out.
    #[arg(long, value_name = "MATCHERS", default_value = "")]
    pub(crate) selector: String,

    /// How far back.
    #[arg(long, value_name = "N", default_value_t = 14.0, value_parser = days)]
    pub(crate) days: f64,

    /// Until when, as "2026-01-05T00:00:00Z"; the last full hour when left out.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<WallTime>,

    /// Time between points, no shorter than the server's scrape interval; a minute when left out.
    #[arg(long, value_name = "TIME", value_parser = step)]
    pub(crate) step: Option<HumanDuration>,

    /// Whose metrics: auto, vllm, sglang, tgi, llamacpp.
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = engine)]
    pub(crate) engine: MetricsOf,

    /// The file to write, or to add to.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

fn days(text: &str) -> Result<f64, String> {
    let days = text.parse().ok().filter(|days| (1e-4..=190.0).contains(days));
    days.ok_or_else(|| "give a number of days, up to 190".to_owned())
}

fn step(text: &str) -> Result<HumanDuration, String> {
    let step: HumanDuration = text.parse()?;
    let whole = step.as_nanos().is_multiple_of(1_000_000_000);
    if whole && (1..=3600).contains(&(step.as_nanos() / 1_000_000_000)) {
        return Ok(step);
    }
    Err("give whole seconds, up to an hour".to_owned())
}

/// By the names of scenario files; the message lists them.
fn engine(name: &str) -> Result<MetricsOf, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|error| error.to_string())
}

/// By the names of scenario files; the message lists them.
fn format(name: &str) -> Result<Format, String> {
    serde_json::from_value(serde_json::Value::from(name)).map_err(|error| error.to_string())
}
