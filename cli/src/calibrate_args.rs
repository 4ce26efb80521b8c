//! Arguments of the commands that measure engines and hold predictions against measurements.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the input can't be used
  2  wrong arguments";

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// A folder of recorded experiments, each a folder with experiment.json and requests.csv; or one such folder.
    pub(crate) folder: PathBuf,

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
