//! What the gateway is told: a TOML file, flags over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::GatewayError;
use crate::fleet::State;

/// The whole configuration. Durations are seconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients come; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where operators come: a unix socket's path, or an address of the loopback. Nothing: no admin.
    pub admin: Option<Admin>,
    /// Where `/metrics` can be had without the admin's powers; it can be had at `admin` too.
    pub metrics: Option<SocketAddr>,
    /// A JSON line for every request is appended to this file.
    pub access_log: Option<PathBuf>,
    /// The replicas.
    #[serde(rename = "replica")]
    pub replicas: Vec<ReplicaConfig>,
    /// How it is seen that a replica works.
    pub health: HealthConfig,
    /// How conversations are kept at their version.
    pub session: SessionConfig,
    /// What a client may take.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often a request that failed before its response began is tried elsewhere.
    pub retries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            metrics: None,
            access_log: None,
            replicas: Vec::new(),
            health: HealthConfig::default(),
            session: SessionConfig::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            retries: 2,
        }
    }
}

/// Where operators come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A socket that only this user may open.
    Socket(PathBuf),
    /// An address of the loopback: every user of this machine may come.
    Loopback(SocketAddr),
}

impl std::str::FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("give the path of a socket, or 127.0.0.1:PORT".to_owned());
        }
        let Ok(address) = text.parse::<SocketAddr>() else { return Ok(Self::Socket(text.into())) };
        if address.ip().is_loopback() {
            return Ok(Self::Loopback(address));
        }
        Err(format!(
            "{address} is not of the loopback, and whoever reaches the admin API can stop the service; give the path of a \
             socket, or 127.0.0.1:PORT"
        ))
    }
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaConfig {
    /// How the admin API, logs and metrics call it.
    pub name: String,
    /// `http://HOST:PORT`.
    pub url: String,
    /// Its share among the others, 0 to 256.
    #[serde(default = "usual_weight")]
    pub weight: u16,
    /// What it serves, for `session`.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether it takes requests from the start.
    #[serde(default)]
    pub state: State,
}

const fn usual_weight() -> u16 {
    100
}

/// `NAME=URL`, as the command line has it.
impl std::str::FromStr for ReplicaConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, url)) if !name.is_empty() && !url.is_empty() => Ok(Self {
                name: name.to_owned(),
                url: url.to_owned(),
                weight: usual_weight(),
                version: None,
                state: State::default(),
            }),
            _ => Err(format!("`{text}` is not NAME=URL, such as r0=http://127.0.0.1:9000")),
        }
    }
}

/// How it is seen that a replica works.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// What is asked for; any answer of 2xx is good.
    pub path: String,
    /// From one check to the next.
    #[serde(deserialize_with = "seconds")]
    pub interval: Duration,
    /// An answer that takes longer is bad.
    #[serde(deserialize_with = "seconds")]
    pub timeout: Duration,
    /// So many good checks in a row make it healthy.
    pub rise: u32,
    /// So many bad checks in a row make it unhealthy.
    pub fall: u32,
    /// So many requests in a row that found no connection make it unhealthy; 0: checks alone decide.
    pub passive_fall: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            passive_fall: 1,
        }
    }
}

/// How conversations are kept at their version: the one that answered the session last, while a replica of it can.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Whether they are.
    pub sticky: bool,
    /// The header that names a session.
    pub header: String,
    /// The keys of the JSON body that do, where there is no header; the first that is there counts.
    pub body_keys: Vec<String>,
    /// Sessions remembered; those that were heard of longest ago are forgotten first.
    pub most: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            sticky: true,
            header: "x-session-id".to_owned(),
            body_keys: ["session_id", "user"].map(str::to_owned).to_vec(),
            most: 100_000,
        }
    }
}

/// What a client may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Client connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's line and headers; more is answered with 431.
    pub header_bytes: usize,
    /// Bytes of a request's body; more is answered with 413.
    pub body_bytes: u64,
    /// Bytes of a body that are kept until its response begins, so that it can be tried elsewhere. A longer body streams
    /// through and is tried once.
    pub kept_body_bytes: usize,
    /// Idle connections kept to each replica.
    pub idle_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            header_bytes: 64 << 10,
            body_bytes: 64 << 20,
            kept_body_bytes: 1 << 20,
            idle_connections: 256,
        }
    }
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// A connection to a replica.
    #[serde(deserialize_with = "seconds")]
    pub connect: Duration,
    /// A client's headers, from its connection or the end of the response before on: so idle connections are kept so long.
    #[serde(deserialize_with = "seconds")]
    pub client_headers: Duration,
    /// A client's body, as far as it is kept.
    #[serde(deserialize_with = "seconds")]
    pub client_body: Duration,
    /// A client that takes nothing though there is something for it.
    #[serde(deserialize_with = "seconds")]
    pub client_stalled: Duration,
    /// From a request at a replica to its response's headers. A response that is not streamed has none before it is whole.
    #[serde(deserialize_with = "seconds")]
    pub response_headers: Duration,
    /// Silence within a response.
    #[serde(deserialize_with = "seconds")]
    pub silence: Duration,
    /// A whole request, tries included.
    #[serde(deserialize_with = "seconds")]
    pub request: Duration,
    /// An idle connection to a replica; less than what the replica itself allows (5 s with vLLM's server).
    #[serde(deserialize_with = "seconds")]
    pub idle_connection: Duration,
    /// When told to stop: how long requests in flight may go on.
    #[serde(deserialize_with = "seconds")]
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            client_headers: Duration::from_secs(75),
            client_body: Duration::from_secs(60),
            client_stalled: Duration::from_secs(300),
            response_headers: Duration::from_secs(600),
            silence: Duration::from_secs(600),
            request: Duration::from_secs(3600),
            idle_connection: Duration::from_secs(4),
            shutdown: Duration::from_secs(30),
        }
    }
}

/// Longer than any request, shorter than any overflow.
const LONGEST_S: f64 = 7.0 * 86_400.0;

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    if seconds > 0.0 && seconds <= LONGEST_S {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(serde::de::Error::custom(format!("`{seconds}` is not a number of seconds above 0, up to 7 days")))
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read or is wrong; the error says where.
    pub fn load(path: &Path) -> Result<Self, GatewayError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| GatewayError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| GatewayError::File { path: path.to_owned(), reason: error.to_string() })
    }

    /// # Errors
    /// Names the key that is out of range.
    pub(crate) fn check(&self) -> Result<(), GatewayError> {
        let wrong = |key, reason: &str| Err(GatewayError::Key { key, reason: reason.to_owned() });
        if self.replicas.is_empty() {
            return wrong(
                "replica",
                "there is none; give --replica NAME=URL, or [[replica]] tables in the file",
            );
        }
        if self.limits.header_bytes < 8192 {
            return wrong("limits.header_bytes", "give at least 8192");
        }
        if self.limits.connections == 0 {
            return wrong("limits.connections", "give at least 1");
        }
        if self.health.rise == 0 || self.health.fall == 0 {
            return wrong("health.rise and health.fall", "give at least 1");
        }
        if !self.health.path.starts_with('/') {
            return wrong("health.path", "give a path that begins with /");
        }
        if hyper::header::HeaderName::from_bytes(self.session.header.as_bytes()).is_err() {
            return wrong("session.header", "give a header's name");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_mistakes_are_placed() {
        let text = "listen = \"127.0.0.1:0\"\nadmin = \"/run/slackwater.sock\"\n[[replica]]\nname = \"r0\"\n\
                    url = \"http://127.0.0.1:9000\"\nversion = \"v1\"\n[timeouts]\nsilence = 1.5\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.replicas[0].weight, 100);
        assert_eq!(config.timeouts.silence, Duration::from_millis(1500));
        assert_eq!(config.admin, Some(Admin::Socket("/run/slackwater.sock".into())));
        config.check().unwrap();
        for (wrong, said) in [
            ("admin = \"0.0.0.0:9\"", "loopback"),
            ("[timeouts]\nsilence = 0", "above 0"),
            ("[limits]\nconections = 3", "connections"),
        ] {
            let error = toml::from_str::<Config>(wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(Config::default().check().unwrap_err().to_string().contains("--replica"));
    }
}
