//! What a server says of itself before it is measured.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use slackwater_exec::http::{Base, get};
use slackwater_exec::metrics::{label, sample};

/// A server that can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The address is none.
    #[error("`{0}` is no address of a server; expected http://HOST:PORT, without a path")]
    Url(String),
    /// It does not answer.
    #[error("{url}{path}: {problem}")]
    Silent {
        /// The server.
        url: String,
        /// What was asked for.
        path: &'static str,
        /// What happened.
        problem: String,
    },
}

/// What is known of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// As given.
    pub url: String,
    /// Where it is.
    pub address: SocketAddr,
    /// The first model it serves.
    pub model: String,
    /// The longest context it takes, where it says so.
    pub max_model_len: Option<u32>,
    /// The engine's version, where it says so.
    pub version: Option<String>,
    /// KV blocks and the tokens of each, where `/metrics` has vLLM's `cache_config_info`.
    pub kv: Option<(u32, u32)>,
    /// Whether it keeps prefixes, likewise.
    pub prefix_caching: Option<bool>,
    /// Requests in it that are not ours, where `/metrics` says so: it should be out of rotation.
    pub busy_with: Option<f64>,
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Asks a server what it is.
    ///
    /// # Errors
    /// When the address is none, or nobody answers as an `OpenAI` server does.
    pub async fn ask(url: &str) -> Result<Self, AskError> {
        let base = Base::parse(url).map_err(|_| AskError::Url(url.to_owned()))?;
        if base.port().is_none() || !base.path().is_empty() {
            return Err(AskError::Url(url.to_owned()));
        }
        let silent =
            |path: &'static str, problem: String| AskError::Silent { url: url.to_owned(), path, problem };
        let address = base.resolve().await.map_err(|trouble| silent("", trouble.reason))?;
        let get = |path: &'static str| {
            let base = &base;
            async move {
                match get(base, path, PATIENCE).await {
                    Ok(answer) if answer.is_ok() => Ok(answer.body),
                    Ok(answer) => Err(silent(path, format!("it answers {}", answer.status))),
                    Err(trouble) => Err(silent(path, trouble.reason)),
                }
            }
        };
        let models = get("/v1/models").await?;
        let models: Value = serde_json::from_str(&models).unwrap_or_default();
        let model = &models["data"][0];
        let Some(id) = model["id"].as_str() else {
            let problem = "it names no model; expected an OpenAI-style server with one model".to_owned();
            return Err(silent("/v1/models", problem));
        };
        // The rest is welcome and not needed.
        let version = get("/version").await.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let metrics = get("/metrics").await.unwrap_or_default();
        let samples = || metrics.lines().filter_map(sample);
        let config = samples().find(|(name, ..)| *name == "vllm:cache_config_info");
        let label = |name: &str| config.and_then(|(_, labels, _)| label(labels, name));
        let number = |name: &str| label(name).and_then(|text| text.parse::<u32>().ok());
        Ok(Self {
            url: url.to_owned(),
            address,
            model: id.to_owned(),
            max_model_len: model["max_model_len"].as_u64().and_then(|most| u32::try_from(most).ok()),
            version: version.and_then(|version| version["version"].as_str().map(str::to_owned)),
            kv: number("num_gpu_blocks").zip(number("block_size")),
            prefix_caching: label("enable_prefix_caching").map(|text| text.eq_ignore_ascii_case("true")),
            busy_with: samples()
                .filter(|(name, ..)| *name == "vllm:num_requests_running")
                .map(|(.., value)| value)
                .reduce(|all, value| all + value),
        })
    }
}
