//! What can go wrong between here and a Prometheus server, and what to do.

use std::path::PathBuf;

use thiserror::Error;

/// Why a history, or a rate, could not be had.
#[derive(Debug, Error)]
pub enum PrometheusError {
    /// The URL is none that can be asked.
    #[error("{url}: {problem}\n  help: {help}")]
    Url {
        /// As given, without credentials.
        url: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// Credentials that were named can't be had.
    #[error("{from}: {problem}\n  help: {help}")]
    Credentials {
        /// The variable.
        from: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// Nobody answered, as often as it was tried.
    #[error(
        "{url}: no answer in {attempts} attempts: {problem}\n  help: check that this host reaches it: \
         `curl {url}/api/v1/status/buildinfo`; a proxy is taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
    )]
    Unreachable {
        /// The server.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        problem: String,
    },
    /// The server said no.
    #[error("{url}: the server answered {status} to `{query}`: {message}\n  help: {help}")]
    Refused {
        /// The server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What was asked.
        query: String,
        /// Its own words.
        message: String,
        /// What to do.
        help: String,
    },
    /// What came is no answer of a Prometheus server.
    #[error(
        "{url}: the answer to `{query}` is not Prometheus': {problem}\n  help: give the address of the server's API, with the \
         path that it lies under"
    )]
    Answer {
        /// The server.
        url: String,
        /// What was asked.
        query: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server has none of the metrics that tell a rate.
    #[error(transparent)]
    NoMetrics(#[from] Box<NoMetrics>),
    /// The request makes no sense.
    #[error("{problem}\n  help: {help}")]
    Request {
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// The cache can't be read or written.
    #[error("{}: {problem}\n  help: {help}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
}

/// What was looked for, and what is there.
#[derive(Debug, Error)]
#[error(
    "{url}: no counter of requests with {{{selector}}} {when}: looked for {looked_for}; {there}\n  help: {help}"
)]
pub struct NoMetrics {
    /// The server.
    pub url: String,
    /// Which series were asked for.
    pub selector: String,
    /// Between which times.
    pub when: String,
    /// The counters of the engines.
    pub looked_for: String,
    /// What the selector does find.
    pub there: String,
    /// What to do.
    pub help: String,
}
