//! Arguments of the commands that carry a plan out.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed (the journal is as far as it came: `run --resume`), 2 wrong arguments,
3 holds and needs a person, 4 rolled back or aborted, 5 refused: nothing was begun.

Ctrl-C and SIGTERM finish or put back the replica in hand, then end with all of them serving (3). A lost
terminal (SIGHUP) changes nothing: the rollout goes on.";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The plan (TOML), as `slackwater simulate --out` or `slackwater plan` writes it. Not with --resume.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) plan: Option<PathBuf>,

    /// What the plan's replicas are on this machine (TOML); may also stand in the plan under `[deployment]`.
    #[arg(long, value_name = "FILE", required_unless_present = "plan")]
    pub(crate) deployment: Option<PathBuf>,

    /// Look at everything and say what would be done; do none of it.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Don't ask before beginning.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Begin only in the plan's window, or now.
    #[arg(long, value_name = "WHEN", default_value = "window")]
    pub(crate) at: At,

    /// Whether a person approves, in place of what the plan says.
    #[arg(long, value_name = "WHICH")]
    pub(crate) approve: Option<ApproveMoves>,

    /// Go on in the background, without a terminal.
    #[arg(long)]
    pub(crate) detach: bool,

    /// Go on with the last rollout after its executor ended.
    #[arg(long)]
    pub(crate) resume: bool,

    /// With --resume: go on whatever it held for.
    #[arg(long, requires = "resume")]
    pub(crate) go_on: bool,

    /// Take over from an executor that is stuck: it does nothing more from then on.
    #[arg(long)]
    pub(crate) take_over: bool,

    /// Begin although the last rollout is not over.
    #[arg(long, conflicts_with = "resume")]
    pub(crate) new: bool,

    /// End with exit code 3 when it holds for a person, in place of waiting for orders.
    #[arg(long)]
    pub(crate) leave_when_held: bool,
}

/// When to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum At {
    /// In the plan's window; refused outside.
    Window,
    /// Now.
    Now,
}

/// When a person approves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApproveMoves {
    /// Before each move.
    Each,
    /// Once, after the first.
    First,
    /// Never.
    None,
}

/// Which deployment is meant.
#[derive(Debug, Args)]
pub(crate) struct Control {
    /// The deployment file, or its folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) deployment: PathBuf,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) control: Control,

    /// Show it again every second, until it is over.
    #[arg(long)]
    pub(crate) watch: bool,

    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Which rollout; without it all are listed.
    pub(crate) rollout: Option<i64>,

    #[command(flatten)]
    pub(crate) control: Control,

    /// Print it as JSON: of one rollout every record of its journal.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with a deployment file.
#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    /// Print the JSON Schema of the deployment file.
    Schema,
    /// Print nginx's include file to begin with, all replicas in rotation.
    Nginx {
        /// The deployment file.
        deployment: PathBuf,
    },
}
