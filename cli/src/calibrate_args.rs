//! Arguments of the commands that measure engines and hold predictions against measurements.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the input can't be used
  2  wrong arguments";

/// What says how to load a server makes no sense where none is loaded.
pub(crate) const OF_A_LOAD: [&str; 5] = ["record", "budget_s", "max_rate", "most_at_once", "longest"];

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// The server: http://HOST:PORT. Out of rotation, as it will be saturated for a while; with --passive it is only looked at, with
    /// --startup it is where the command's server will listen.
    #[arg(long, required_unless_present_any = ["prometheus", "log", "startup_log"])]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) passive: crate::passive::Passive,

    #[command(flatten)]
    pub(crate) startup: crate::startup::Startup,

    /// Write the engine profile to this file; without it, to standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Keep what was measured in this folder, as an experiment that `validate` reads.
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,

    /// How long the load may last, seconds.
    #[arg(long, default_value_t = 180, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub(crate) budget_s: u64,

    /// Most requests a second where they come at random.
    #[arg(long, value_name = "N")]
    pub(crate) max_rate: Option<f64>,

    /// Most requests at once.
    #[arg(long, default_value_t = 192, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) most_at_once: u32,

    /// The longest prompt and answer together that is tried; no more than the server takes.
    #[arg(long, default_value_t = 8192, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(64..))]
    pub(crate) longest: u32,

    /// The engine's --max-num-seqs, which no server tells.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_num_seqs: Option<u32>,

    /// The engine's --max-num-batched-tokens, likewise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_num_batched_tokens: Option<u32>,

    /// Tokens the KV cache holds, where the server does not tell.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) kv_cache_tokens: Option<u64>,

    /// The GPU's name, as in `presets list gpus`; the search begins at its data sheet.
    #[arg(long)]
    pub(crate) gpu: Option<String>,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The seed of the load and of the search.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Print profile, intervals and errors as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// A folder of recorded experiments, each a folder with experiment.json and requests.csv; or one such folder.
    #[arg(required_unless_present = "silicon")]
    pub(crate) folder: Option<PathBuf>,

    /// Hold presets against a table of measured GPUs in place of experiments: aiconfigurator's silicon_sample.csv, or rows of its form.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["folder", "fit", "fit_until", "client_cap", "steps", "profile", "write"])]
    pub(crate) silicon: Option<PathBuf>,

    /// With --silicon: fit the presets' efficiencies anew, each model and each pair of GPU and model held out in turn (minutes).
    #[arg(long, requires = "silicon", conflicts_with = "folder")]
    pub(crate) refit: bool,

    /// With --refit: print what was fitted as the presets keep it (scenarios/presets/efficiencies.toml).
    #[arg(long, requires = "refit", conflicts_with = "json")]
    pub(crate) toml: bool,

    /// Fit one engine profile to these experiments (folder names, with commas), and predict the others of that server.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) fit: Vec<String>,

    /// Fit only to requests that ended before this time; without --fit, each experiment is fitted to its own first part.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) fit_until: Option<f64>,

    /// Drive the engine as a client with at most this many requests in flight, which sends at scheduled_s or as soon as it may.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) client_cap: Option<u32>,

    /// Fit to a table of engine steps: prefill_tokens, decode_seqs, kv_tokens, step_time_s.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fit", "fit_until"])]
    pub(crate) steps: Option<PathBuf>,

    /// Take the coefficients of this engine profile instead of a fit.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fit", "fit_until", "steps"])]
    pub(crate) profile: Option<PathBuf>,

    /// Write the fitted engine profile to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// The seed of the search and of the front end's jitter.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Print the comparison as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
