//! Questions to one server: with patience, but not for ever.

use std::io::Read;
use std::thread;
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder};
use reqwest::{StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::answer;
use crate::credentials::Credentials;
use crate::error::PrometheusError;

/// No answer is longer: a million points take some 30 MB.
const LONGEST_ANSWER: u64 = 1 << 29;

/// How long and how often a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To an open connection.
    pub connect: Duration,
    /// To the end of an answer.
    pub answer: Duration,
    /// Attempts at each question.
    pub attempts: u32,
    /// Before the second attempt; twice as long before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(120),
            attempts: 4,
            pause: Duration::from_millis(500),
        }
    }
}

/// A server that can be asked.
pub struct Client {
    http: Http,
    /// Without credentials, query and trailing slash.
    url: String,
    credentials: Credentials,
    patience: Patience,
}

impl Client {
    /// A client for the server at `url`, which may have a path.
    ///
    /// # Errors
    /// When the URL is none, or holds credentials.
    pub fn new(url: &str, credentials: Credentials, patience: Patience) -> Result<Self, PrometheusError> {
        let url = server(url)?;
        // rustls wants to be told whose cryptography it uses; an error says that it was told before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Http::builder().connect_timeout(patience.connect).timeout(patience.answer);
        // This host's own server is never behind a proxy.
        let host = Url::parse(&url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        if host.is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]") {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| PrometheusError::Url {
            url: url.clone(),
            problem: format!("no client can be made: {}", causes(&error)),
            help: "check the proxy's address in the environment".into(),
        })?;
        Ok(Self { http, url, credentials, patience })
    }

    /// The server, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks; the answer's data and the server's warnings. `query` is what messages call the question.
    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        query: &str,
    ) -> Result<(T, Vec<String>), PrometheusError> {
        let body = self.body(path, parameters, query)?;
        answer::data(&body).map_err(|problem| PrometheusError::Answer {
            url: self.url.clone(),
            query: query.to_owned(),
            problem,
        })
    }

    fn body(&self, path: &str, parameters: &[(&str, &str)], query: &str) -> Result<Vec<u8>, PrometheusError> {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let last = attempt >= self.patience.attempts;
            match self.once(self.http.get(format!("{}{path}", self.url)).query(parameters)) {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => {
                    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    if last || !passing {
                        return Err(self.refused(status, query, &body));
                    }
                }
                Err(problem) if last => {
                    return Err(PrometheusError::Unreachable {
                        url: self.url.clone(),
                        attempts: attempt,
                        problem,
                    });
                }
                Err(_) => {}
            }
            thread::sleep(pause);
            pause *= 2;
            attempt += 1;
        }
    }

    fn once(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), String> {
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token),
            Credentials::Basic { user, password } => request.basic_auth(user, Some(password)),
        };
        let answer = request.send().map_err(|error| causes(&error.without_url()))?;
        let status = answer.status();
        let mut body = Vec::new();
        answer.take(LONGEST_ANSWER + 1).read_to_end(&mut body).map_err(|error| causes(&error))?;
        if body.len() as u64 > LONGEST_ANSWER {
            return Err(format!("the answer is longer than {LONGEST_ANSWER} bytes"));
        }
        Ok((status, body))
    }

    fn refused(&self, status: StatusCode, query: &str, body: &[u8]) -> PrometheusError {
        let help = match status.as_u16() {
            401 | 403 => {
                "set SLACKWATER_PROMETHEUS_TOKEN, or SLACKWATER_PROMETHEUS_USER and SLACKWATER_PROMETHEUS_PASSWORD (or the \
                 same with _FILE)"
            }
            404 => "give the address of the server's API, with the path that it lies under",
            422 => "ask for less: a longer step, fewer days, a narrower selector",
            400 => "correct the selector: PromQL label matchers such as job=\"vllm\"",
            _ => "try again later, or ask for less: a longer step, fewer days, a narrower selector",
        };
        PrometheusError::Refused {
            url: self.url.clone(),
            status: status.as_u16(),
            query: query.to_owned(),
            message: answer::error_message(body),
            help: help.to_owned(),
        }
    }
}

/// The server's URL, checked and bare.
fn server(url: &str) -> Result<String, PrometheusError> {
    let wrong = |url: &str, problem: String, help: &str| PrometheusError::Url {
        url: url.to_owned(),
        problem,
        help: help.to_owned(),
    };
    let example = "give it as http://prometheus:9090 or https://host/path";
    let parsed = Url::parse(url.trim()).map_err(|error| {
        // What can't be read may yet hold a password.
        let shown = if url.contains('@') { "the URL" } else { url };
        wrong(shown, format!("it is no URL: {error}"), example)
    })?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let mut bare = parsed;
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        return Err(wrong(
            bare.as_str(),
            "the URL holds credentials, which would end up in files and messages".into(),
            "take them out and set SLACKWATER_PROMETHEUS_USER and SLACKWATER_PROMETHEUS_PASSWORD",
        ));
    }
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(wrong(url, "it is neither http:// nor https:// with a host".into(), example));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong(url, "it has a query or a fragment".into(), "leave out what follows the path"));
    }
    let bare = parsed.as_str().trim_end_matches('/');
    // The address bar's page of the same server.
    Ok(bare.strip_suffix("/graph").or(bare.strip_suffix("/api/v1")).unwrap_or(bare).to_owned())
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_bare_and_without_secrets() {
        assert_eq!(server("http://host:9090/").unwrap(), "http://host:9090");
        assert_eq!(server("https://host/prometheus/graph").unwrap(), "https://host/prometheus");
        for (url, expected) in [
            ("host:9090", "neither http"),
            ("http://", "no URL"),
            ("ftp://host", "neither http"),
            ("http://host/?x=1", "query"),
            ("http://ada:s3cret@host:9090", "credentials"),
            ("http://ada:s3cret@:99999999", "no URL"),
        ] {
            let message = server(url).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{url}: {message}");
        }
    }
}
