//! What a server says of itself before it is measured.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// A server that can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The address is none.
    #[error("`{0}` is no address of a server; expected http://HOST:PORT")]
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

/// No page that is looked at here is longer.
const BODY_MAX: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// Asks a server what it is.
    ///
    /// # Errors
    /// When the address is none, or nobody answers as an `OpenAI` server does.
    pub async fn ask(url: &str) -> Result<Self, AskError> {
        let wrong = || AskError::Url(url.to_owned());
        let authority = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let address = authority.to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(wrong)?;
        let get = |path: &'static str| async move {
            let problem = |problem: String| AskError::Silent { url: url.to_owned(), path, problem };
            match tokio::time::timeout(PATIENCE, get(address, path)).await {
                Ok(Ok(text)) => Ok(text),
                Ok(Err(error)) => Err(problem(error)),
                Err(_) => Err(problem(format!("no answer in {PATIENCE:?}"))),
            }
        };
        let models = get("/v1/models").await?;
        let models: Value = serde_json::from_str(&models).unwrap_or_default();
        let model = &models["data"][0];
        let Some(id) = model["id"].as_str() else {
            let problem = "it names no model; expected an OpenAI-style server with one model".to_owned();
            return Err(AskError::Silent { url: url.to_owned(), path: "/v1/models", problem });
        };
        // The rest is welcome and not needed.
        let version = get("/version").await.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let metrics = get("/metrics").await.unwrap_or_default();
        let config = metrics.lines().find(|line| line.starts_with("vllm:cache_config_info{"));
        let label = |name: &str| config.and_then(|line| label(line, name));
        let number = |name: &str| label(name).and_then(|text| text.parse::<u32>().ok());
        Ok(Self {
            url: url.to_owned(),
            address,
            model: id.to_owned(),
            max_model_len: model["max_model_len"].as_u64().and_then(|most| u32::try_from(most).ok()),
            version: version.and_then(|version| version["version"].as_str().map(str::to_owned)),
            kv: number("num_gpu_blocks").zip(number("block_size")),
            prefix_caching: label("enable_prefix_caching").map(|text| text.eq_ignore_ascii_case("true")),
            busy_with: value(&metrics, "vllm:num_requests_running"),
        })
    }
}

/// The value of a label in a line of metrics.
fn label(line: &str, name: &str) -> Option<String> {
    let begin = line.find(&format!("{name}=\""))? + name.len() + 2;
    let end = line[begin..].find('"')? + begin;
    Some(line[begin..end].to_owned())
}

/// The sum of a metric over its labels.
fn value(page: &str, name: &str) -> Option<f64> {
    let lines = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    });
    let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

async fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| say(&error))?;
    let (mut sender, driver) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|error| say(&error))?;
    // What goes wrong on the connection is told to whoever waits for the response.
    tokio::spawn(async move { drop(driver.await) });
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::new());
    let response =
        sender.send_request(request.map_err(|error| say(&error))?).await.map_err(|error| say(&error))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_values_are_read_from_a_page() {
        let page = "# HELP vllm:num_requests_running x\nvllm:num_requests_running{engine=\"0\"} 3.0\n\
                    vllm:num_requests_running{engine=\"1\"} 2.0\nvllm:num_requests_running_total 9\n";
        assert_eq!(value(page, "vllm:num_requests_running"), Some(5.0));
        assert_eq!(value(page, "vllm:num_requests_waiting"), None);
        let line = "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"2588\"} 1.0";
        assert_eq!(label(line, "num_gpu_blocks").as_deref(), Some("2588"));
        assert_eq!(label(line, "nothing"), None);
    }
}
