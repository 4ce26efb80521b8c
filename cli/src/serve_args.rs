//! Arguments of the two servers.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use slackwater_gateway::Admin;
use slackwater_gateway::config::ReplicaConfig;
use slackwater_replica::{Fault, StartUp};
use slackwater_scenarios::HumanDuration;

pub(crate) const GATEWAY_HELP: &str = "\
Everything else (limits, time-outs, health checks, sessions) is in the configuration file; gateway/README.md lists its keys.

Exit codes: 0 told to stop, 1 failed, 2 wrong arguments.";

pub(crate) const REPLICA_HELP: &str = "\
Faults: never-healthy, crash-while-loading, wrong-model, slow=FACTOR, stuck-gauge, lingering-memory=DURATION,
ignore-sigterm, dies-mid-stream=TOKENS.

Exit codes: 0 told to stop, 1 failed or made to fail, 2 wrong arguments.";

/// Arguments of `gateway`.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The configuration file (TOML); flags change what it says.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where clients come; port 0 is any free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,

    /// Where operators come: the path of a unix socket to be made, or 127.0.0.1:PORT.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) admin: Option<Admin>,

    /// Where `/metrics` can be had besides the admin's address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,

    /// A replica, such as r0=http://127.0.0.1:9000; one of the file with that name is moved there. May be given many times.
    #[arg(long = "replica", value_name = "NAME=URL")]
    pub(crate) replicas: Vec<ReplicaConfig>,

    /// Append a JSON line for every request to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
}

/// Arguments of `replica`.
#[derive(Debug, Args)]
pub(crate) struct Replica {
    /// Where to listen; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,

    /// The model's path: `root` in /v1/models, and what the answers' tokens are named by.
    #[arg(long, value_name = "PATH", default_value = "stand-in")]
    pub(crate) model: String,

    /// The name that clients ask for.
    #[arg(long, value_name = "NAME", default_value = "chat")]
    pub(crate) served_name: String,

    /// What /version says.
    #[arg(long, value_name = "TEXT")]
    pub(crate) report_version: Option<String>,

    /// The engine: a built-in profile, or a file with a profile or a scenario (FILE#to takes its `[to]`).
    #[arg(long, value_name = "NAME|FILE", default_value = "h100-qwen3-14b")]
    pub(crate) engine: String,

    /// Run so many times as fast as the model says.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) speed_up: f64,

    /// How long it loads: `30s`, or by phases as in `weights=20s,compile=10s`.
    #[arg(long, value_name = "DURATION", default_value = "0")]
    pub(crate) startup: StartUp,

    /// Tokens of an answer that ends by itself.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    pub(crate) natural_length: u32,

    /// Most tokens of prompt and answer together.
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768)]
    pub(crate) max_model_len: u32,

    /// After SIGTERM: how long requests in flight may go on; 0 aborts them, as vLLM does.
    #[arg(long, value_name = "DURATION", default_value = "0")]
    pub(crate) shutdown_timeout: HumanDuration,

    /// A folder that stands for the machine's GPUs; a new one is made with 8 GPUs of 80 GiB.
    #[arg(long, value_name = "DIR")]
    pub(crate) fake_gpu: Option<PathBuf>,

    /// The GPUs it takes there, such as 0 or 0,1.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0", requires = "fake_gpu")]
    pub(crate) gpu: Vec<u32>,

    /// Memory that it takes on each, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 72 * 1024, requires = "fake_gpu")]
    pub(crate) gpu_memory: u64,

    /// Something that goes wrong. May be given many times.
    #[arg(long = "fault", value_name = "FAULT")]
    pub(crate) faults: Vec<Fault>,
}
