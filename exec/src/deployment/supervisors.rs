//! What starts and stops replicas, as the deployment file says it.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slackwater_policy::{Span, human};

use super::half_a_minute;

/// What starts and stops replicas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SupervisorSpec {
    /// Slackwater itself: each replica is a process in a session of its own, and outlives the executor.
    #[default]
    Process,
    /// Docker: each replica is a container, made anew in the likeness of the one that is there.
    Docker(Box<DockerSpec>),
    /// Docker Compose: each replica is a service, and the project's files stay the truth.
    Compose(Box<ComposeSpec>),
    /// systemd: each replica is a unit.
    Systemd(Box<SystemdSpec>),
    /// Commands of yours.
    Command(Box<SupervisorHooks>),
}

impl SupervisorSpec {
    /// Puts relative paths beside the deployment file.
    pub(super) fn resolve(&mut self, beside: &Path) {
        match self {
            SupervisorSpec::Compose(compose) => {
                let files = compose.files.iter_mut().chain(&mut compose.env_file);
                for file in files.chain(&mut compose.override_file) {
                    *file = beside.join(&compose.directory).join(&file);
                }
                compose.directory = beside.join(&compose.directory);
            }
            SupervisorSpec::Systemd(systemd) => {
                if let Some(folder) = &mut systemd.units {
                    *folder = beside.join(&folder);
                }
            }
            SupervisorSpec::Process | SupervisorSpec::Docker(_) | SupervisorSpec::Command(_) => {}
        }
    }
}

/// Docker. A version's `image`, `command` and `env` take the place of the container's; all else stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerSpec {
    /// The engine's socket: `unix:/path` or, on loopback alone, `http://127.0.0.1:PORT`.
    #[serde(default = "docker_socket")]
    pub socket: String,
    /// How long a request to the engine may take; a stop has the grace on top.
    #[serde(default = "half_a_minute", with = "human")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn docker_socket() -> String {
    "unix:/var/run/docker.sock".to_owned()
}

/// Docker Compose. Either variables of a `.env` are set to a version's `env`, or an override file is given its `image`, `command` and
/// `env`; then `up -d --no-deps SERVICE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComposeSpec {
    /// Compose as an argument vector: `["docker", "compose"]` or `["docker-compose"]`.
    #[serde(default = "compose_program")]
    pub program: Vec<String>,
    /// The project's folder.
    pub directory: PathBuf,
    /// The project's name, as `docker compose ls` has it.
    pub project: String,
    /// The project's files, in its folder unless said otherwise, where they are not those that Compose looks for by itself.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// The file whose variables are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<PathBuf>,
    /// The override file that is written; nobody else may write to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_file: Option<PathBuf>,
    /// The engine's socket, to look at the containers; Compose itself goes by `DOCKER_HOST`, which is set to it.
    #[serde(default = "docker_socket")]
    pub socket: String,
    /// How long `up` may take; `stop` has the grace on top.
    #[serde(default = "two_minutes", with = "human")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn compose_program() -> Vec<String> {
    vec!["docker".to_owned(), "compose".to_owned()]
}

fn two_minutes() -> Span {
    Span::from_secs(120)
}

/// systemd. Either variables of an environment file are set to a version's `env`, or a drop-in `UNIT.d/50-slackwater.conf` is given its
/// `command` and `env`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemdSpec {
    /// `systemctl` as an argument vector, as `["sudo", "-n", "systemctl"]`.
    #[serde(default = "systemctl")]
    pub systemctl: Vec<String>,
    /// Units of the user's own manager (`--user`).
    #[serde(default)]
    pub user: bool,
    /// The environment file of a replica's unit whose variables are set; placeholders are put in. Without it the drop-in is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_file: Option<String>,
    /// The folder of units in which the drop-in's folder is; by default `/etc/systemd/system`, or that of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<PathBuf>,
    /// How long a command may take.
    #[serde(default = "half_a_minute", with = "human")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn systemctl() -> Vec<String> {
    vec!["systemctl".to_owned()]
}

/// A supervisor that is spoken to by commands. `{version}` is `from` or `to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupervisorHooks {
    /// Ensures that a process of `{version}` runs; must not wait for it to be ready.
    pub start: Vec<String>,
    /// Ensures that it is gone; `{grace}` seconds between asking and killing.
    pub stop: Vec<String>,
    /// Prints `running` or `gone`.
    pub state: Vec<String>,
    /// How long `start` and `state` may take; `stop` has the grace on top.
    #[serde(default = "half_a_minute", with = "human")]
    #[schemars(with = "String")]
    pub within: Span,
}
