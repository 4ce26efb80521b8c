//! The deployment file: what the replicas of a plan are on this machine, and how they are reached.
//!
//! The plan says what is to happen and is the policy's; this says with what, and is the executor's. `slackwater.deployment/1`, TOML; an
//! unknown key is an error. `exec/README.md` has a commented example.

mod check;
mod check_supervisor;
mod fill;
mod supervisors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slackwater_policy::{Span, VersionRef, human};
use thiserror::Error;

pub use check::DeploymentError;
pub(crate) use fill::fill;
pub use supervisors::{ComposeSpec, DockerSpec, SupervisorHooks, SupervisorSpec, SystemdSpec};

/// The schema id this crate reads.
pub const SCHEMA: &str = "slackwater.deployment/1";

/// A deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Always `slackwater.deployment/1`.
    pub schema: String,
    /// Where the journal, the lock, the control socket, the records of processes and `recover.sh` live. One folder a fleet.
    pub directory: PathBuf,
    /// What routes requests to the replicas.
    pub balancer: BalancerSpec,
    /// What starts and stops them.
    #[serde(default)]
    pub supervisor: SupervisorSpec,
    /// What they are.
    pub engine: EngineSpec,
    /// What is known of their GPUs.
    #[serde(default)]
    pub gpu: GpuSpec,
    /// The two versions, as they are started here.
    pub versions: Versions,
    /// The replicas, by the names of the plan.
    pub replicas: Vec<Place>,
}

/// What routes requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BalancerSpec {
    /// Slackwater's own gateway.
    Gateway {
        /// Its admin interface: `unix:/path/of/socket` or `http://127.0.0.1:PORT`.
        admin: String,
    },
    /// nginx, by one include file that is ours alone.
    Nginx(NginxSpec),
    /// HAProxy, by its runtime socket.
    Haproxy(HaproxySpec),
    /// Anything else, by commands.
    Command(Box<BalancerHooks>),
}

/// nginx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NginxSpec {
    /// The include file, in a folder that nobody else writes to. nginx's configuration includes it inside `http { }`.
    pub include: PathBuf,
    /// The name of the upstream that it defines.
    pub upstream: String,
    /// Further lines of the upstream, as `least_conn;` or `keepalive 64;`.
    #[serde(default)]
    pub directives: Vec<String>,
    /// Parameters of every server in it.
    #[serde(default = "no_fails")]
    pub server_parameters: String,
    /// The address on which nginx says which generation of the file it runs, as `127.0.0.1:8099`; the include file has a server for it.
    pub confirm_listen: String,
    /// Where that is asked, of every nginx that includes the file; by default `http://` and `confirm_listen`.
    #[serde(default)]
    pub confirm: Vec<String>,
    /// Checks the configuration; exit code 0 means good.
    #[serde(default = "nginx_test")]
    pub test: Vec<String>,
    /// Makes nginx read it.
    #[serde(default = "nginx_reload")]
    pub reload: Vec<String>,
    /// How long until every new connection meets the new generation.
    #[serde(default = "ten_seconds", with = "human")]
    #[schemars(with = "String")]
    pub confirm_within: Span,
    /// Whether weights are set, at the cost of a reload each.
    #[serde(default)]
    pub weights: bool,
}

fn no_fails() -> String {
    // One refused connection would otherwise take the last good replica out for ten seconds.
    "max_fails=0".to_owned()
}

fn nginx_test() -> Vec<String> {
    vec!["nginx".to_owned(), "-t".to_owned(), "-q".to_owned()]
}

fn nginx_reload() -> Vec<String> {
    vec!["nginx".to_owned(), "-s".to_owned(), "reload".to_owned()]
}

fn ten_seconds() -> Span {
    Span::from_secs(10)
}

/// HAProxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaproxySpec {
    /// Its runtime socket, which must be `level admin`.
    pub socket: PathBuf,
    /// The backend the replicas are servers of.
    pub backend: String,
    /// How a replica is taken out: `drain` lets sticky sessions in, `maint` does not but stops the health checks.
    #[serde(default)]
    pub out: HaproxyOut,
}

/// How HAProxy takes a server out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HaproxyOut {
    /// Nobody is let in, sticky or not.
    #[default]
    Maint,
    /// Only those with a sticky session are.
    Drain,
}

/// A balancer that is spoken to by commands. Each is an argument vector, never a shell's line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancerHooks {
    /// Ensures that no new request reaches `{server}`; exit code 0 only when that is so.
    pub take_out: Vec<String>,
    /// Ensures that it is in rotation, with `{weight}` percent of its usual weight.
    pub admit: Vec<String>,
    /// Prints `in` or `out`.
    pub state: Vec<String>,
    /// Prints how many requests are in flight at it. Without it the engine alone is believed.
    #[serde(default)]
    pub in_flight: Vec<String>,
    /// Ends what is in flight and prints how many that were. Without it the stop does.
    #[serde(default)]
    pub cut: Vec<String>,
    /// Prints the requests a second of the whole service. Without it the engines are asked.
    #[serde(default)]
    pub load: Vec<String>,
    /// How long any of them may take.
    #[serde(default = "ten_seconds", with = "human")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn half_a_minute() -> Span {
    Span::from_secs(30)
}

/// What the replicas are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// Which engine: its paths and the names of its gauges.
    pub kind: EngineKind,
    /// The smoke prompt.
    #[serde(default)]
    pub smoke: Smoke,
    /// Prompts that warm an engine up, used in turn; the plan says how many requests.
    #[serde(default = "warm_up_prompts")]
    pub warm_up: Vec<String>,
    /// Tokens asked for by each.
    #[serde(default = "warm_up_tokens")]
    pub warm_up_tokens: u32,
    /// The variable of the executor's environment that holds the engines' API key.
    #[serde(default)]
    pub api_key_env: Option<String>,
}

fn warm_up_prompts() -> Vec<String> {
    ["Count from one to twenty.", "Name the planets of the solar system.", "Write a sentence about the sea."]
        .map(str::to_owned)
        .to_vec()
}

fn warm_up_tokens() -> u32 {
    32
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// vLLM, or Slackwater's stand-in.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp's server.
    LlamaCpp,
    /// Any other with `/v1/models` and `/v1/completions`; it has no gauges.
    Openai,
}

/// The smoke prompt and what its answer must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Smoke {
    /// What is asked.
    pub prompt: String,
    /// Tokens asked for.
    pub max_tokens: u32,
    /// What the answer must contain; empty: any text that is not empty.
    pub expect: String,
    /// Asked as a chat, or as a plain completion.
    pub chat: bool,
}

impl Default for Smoke {
    fn default() -> Smoke {
        Smoke {
            prompt: "What is the capital of France? Answer in one word.".to_owned(),
            max_tokens: 16,
            expect: String::new(),
            chat: true,
        }
    }
}

/// What is known of the GPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSpec {
    /// Whether NVML is asked.
    pub kind: GpuKind,
    /// The library, where it is not found by its name.
    pub library: Option<PathBuf>,
    /// What happens where NVML can't be had and a version says how much memory it needs.
    pub without: Without,
}

impl Default for GpuSpec {
    fn default() -> GpuSpec {
        GpuSpec { kind: GpuKind::Nvml, library: None, without: Without::Skip }
    }
}

/// Whether NVML is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GpuKind {
    /// Yes.
    Nvml,
    /// There are none.
    None,
}

/// What happens without NVML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Without {
    /// It is said once; only the processes are looked at.
    Skip,
    /// The rollout is refused.
    Refuse,
}

/// Both versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The old one.
    pub from: Definition,
    /// The new one.
    pub to: Definition,
}

impl Versions {
    /// The definition of a version.
    pub fn of(&self, version: VersionRef) -> &Definition {
        match version {
            VersionRef::From => &self.from,
            VersionRef::To => &self.to,
        }
    }
}

/// One version, as it is started here.
///
/// In `command`, `image`, `env` and `directory` these are put in: `{name}`, `{url}`, `{host}`, `{port}`, `{gpus}` (as `0,1`), `{version}` (`from` or
/// `to`), `{server}` and what the replica's `values` have. A literal brace is written twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    /// The process, as an argument vector; with Docker and Compose the container's command, where it is to be another than the image's. Not
    /// used with `supervisor.kind = "command"`.
    pub command: Vec<String>,
    /// The image, with Docker and Compose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables of its environment, on top of the executor's own, the container's or the unit's; or those that are set in Compose's `.env`
    /// or in a unit's environment file. No secrets: this file is copied into the journal.
    pub env: BTreeMap<String, String>,
    /// Variables taken from the executor's environment under another name: theirs = ours. For secrets.
    pub env_from: BTreeMap<String, String>,
    /// Variables whose values are the contents of files. For secrets.
    pub env_files: BTreeMap<String, PathBuf>,
    /// Where it is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Its weights: a folder or a file that must be there, all shards of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// GPU memory that must be free on each of its GPUs before it is started, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// By what it is told from the other version.
    pub identity: Identity,
}

/// By what a version is known. Everything said must be so; nothing said means: by its argument vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The served name, as `/v1/models` gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's path or repository, as `/v1/models` gives it under `root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The same with symbolic links followed, as a path on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_root: Option<PathBuf>,
    /// The SHA-256 of the `config.json` under the served root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_sha256: Option<String>,
    /// The engine's version, as `/version` gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Arguments that its process has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// One replica on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its name in the plan.
    pub name: String,
    /// Where it answers: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Its GPUs; by default those of the plan.
    #[serde(default)]
    pub gpus: Vec<u32>,
    /// Its name in the balancer; by default its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Its container, Compose service or systemd unit; by default called as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its usual weight in the balancer.
    #[serde(default = "usual_weight")]
    pub weight: u16,
    /// Its log file; by default in the deployment's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Further values for the commands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
}

fn usual_weight() -> u16 {
    100
}

impl Place {
    /// Its name in the balancer.
    pub fn server(&self) -> &str {
        self.server.as_deref().unwrap_or(&self.name)
    }

    /// Its container, Compose service or systemd unit.
    pub fn unit(&self) -> &str {
        self.unit.as_deref().unwrap_or(&self.name)
    }
}

/// A deployment file that can't be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is not to be had.
    #[error("{path} can't be read: {cause}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It is no such document.
    #[error("{0}")]
    Document(toml::de::Error),
    /// Something in it can't be.
    #[error(transparent)]
    Check(#[from] DeploymentError),
}

impl Deployment {
    /// Reads a deployment file. Relative paths in it are beside it.
    ///
    /// # Errors
    /// When it can't be read; the message shows where.
    pub fn load(path: &Path) -> Result<Deployment, ReadError> {
        let failed = |cause| ReadError::File { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let beside = std::path::absolute(path).map_err(failed)?;
        Deployment::parse(&text, beside.parent().unwrap_or(Path::new("/")))
    }

    /// Reads a deployment; relative paths in it are in `beside`.
    ///
    /// # Errors
    /// When it is none; the message shows where.
    pub fn parse(text: &str, beside: &Path) -> Result<Deployment, ReadError> {
        let mut deployment: Deployment = toml::from_str(text).map_err(ReadError::Document)?;
        deployment.directory = beside.join(&deployment.directory);
        if let BalancerSpec::Nginx(nginx) = &mut deployment.balancer {
            nginx.include = beside.join(&nginx.include);
        }
        deployment.supervisor.resolve(beside);
        deployment.check()?;
        Ok(deployment)
    }

    /// Its JSON Schema.
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Deployment)
    }
}
