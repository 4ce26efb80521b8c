//! A small HTTP client: one connection a request, over TCP or a unix socket.
//!
//! Every request makes a connection of its own: a pooled one could lead to an old worker of a balancer, or to a process that is gone. The
//! local ports in use are known to all, so that whoever counts a replica's connections can leave ours out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::trouble::Trouble;

/// No answer that is looked at here is longer; a metrics page of a large engine has some hundred kilobytes.
const BODY_MAX: usize = 8 << 20;

static OURS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The local ports of our own open connections.
pub(crate) fn our_ports() -> BTreeSet<u16> {
    ours().clone()
}

fn ours() -> MutexGuard<'static, BTreeSet<u16>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Ours(u16);

impl Drop for Ours {
    fn drop(&mut self) {
        ours().remove(&self.0);
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// A server's base address, and a path that all requests to it begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub(crate) address: Address,
    path: String,
}

impl Base {
    /// Reads `http://HOST:PORT[/path]` or `unix:/path/of/socket`.
    ///
    /// # Errors
    /// In words, with what was expected.
    pub fn parse(url: &str) -> Result<Base, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err(format!("`{url}` names no absolute path; expected unix:/path/of/socket"));
            }
            return Ok(Base { address: Address::Unix(path), path: String::new() });
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!(
                "`{url}` is neither http://HOST:PORT nor unix:/path; encrypted connections are not made here, as replicas of one \
                 machine talk over loopback: name the plain address"
            ));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => (
                host,
                port.parse().map_err(|_| format!("`{url}`: `{port}` is no port; expected 1 to 65535"))?,
            ),
            _ => (host, 80),
        };
        if host.is_empty() {
            return Err(format!("`{url}` names no host; expected http://HOST:PORT"));
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Base { address: Address::Tcp { host, port }, path: path.trim_end_matches('/').to_owned() })
    }

    /// Its port; `None` of a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self.address {
            Address::Tcp { port, .. } => Some(port),
            Address::Unix(_) => None,
        }
    }

    /// Its host, without brackets.
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "localhost",
        }
    }

    /// What all paths begin with; empty or begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The first address of its host.
    ///
    /// # Errors
    /// When the name is not known, or it is a unix socket.
    pub async fn resolve(&self) -> Result<SocketAddr, Trouble> {
        let Address::Tcp { host, port } = &self.address else {
            return Err(Trouble::lasting("a unix socket has no address; give http://HOST:PORT"));
        };
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let found = found.map_err(|error| Trouble::passing(format!("{host} is not known: {error}")))?;
        { found }.next().ok_or_else(|| Trouble::passing(format!("{host} has no address")))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body as text.
    pub body: String,
    /// The body as it came.
    pub(crate) bytes: Bytes,
}

impl Answer {
    /// Whether its status is 2xx.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Its body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value, Trouble> {
        serde_json::from_str(&self.body).map_err(|error| {
            Trouble::passing(format!("the answer is no JSON ({error}): {}", short(&self.body)))
        })
    }
}

/// The beginning of a text, for messages.
pub(crate) fn short(text: &str) -> String {
    let line = text.trim().replace('\n', " ");
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Gets a path, over a connection of its own.
///
/// # Errors
/// When nobody answers within the time. An answer that is no success is an answer.
pub async fn get(base: &Base, path: &str, within: Duration) -> Result<Answer, Trouble> {
    request(base, Method::GET, path, None, None, within).await
}

/// A request without a body.
pub(crate) async fn send(
    base: &Base,
    method: Method,
    path: &str,
    within: Duration,
) -> Result<Answer, Trouble> {
    request(base, method, path, None, None, within).await
}

pub(crate) async fn send_json(
    base: &Base,
    method: Method,
    path: &str,
    body: &serde_json::Value,
    within: Duration,
) -> Result<Answer, Trouble> {
    request(base, method, path, Some(body.to_string()), None, within).await
}

/// The same with an API key, which is sent and nowhere else seen.
pub(crate) async fn send_json_with(
    base: &Base,
    method: Method,
    path: &str,
    body: &serde_json::Value,
    key: Option<String>,
    within: Duration,
) -> Result<Answer, Trouble> {
    request(base, method, path, Some(body.to_string()), key, within).await
}

async fn request(
    base: &Base,
    method: Method,
    path: &str,
    body: Option<String>,
    key: Option<String>,
    within: Duration,
) -> Result<Answer, Trouble> {
    let what = format!("{method} {path}");
    let done = tokio::time::timeout(within, exchange(base, method, path, body, key)).await;
    match done {
        Ok(answer) => answer.map_err(|reason| Trouble::passing(format!("{what}: {reason}"))),
        Err(_) => Err(Trouble::passing(format!("{what}: no answer within {:.1} s", within.as_secs_f64()))),
    }
}

async fn exchange(
    base: &Base,
    method: Method,
    path: &str,
    body: Option<String>,
    key: Option<String>,
) -> Result<Answer, String> {
    match &base.address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            let stream = stream.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
            let local = stream.local_addr().map_or(0, |address| address.port());
            ours().insert(local);
            let _ours = Ours(local);
            let _ = stream.set_nodelay(true);
            over(stream, base, method, path, body, key).await
        }
        Address::Unix(socket) => {
            let stream = UnixStream::connect(socket).await;
            let stream =
                stream.map_err(|error| format!("cannot connect to {}: {error}", socket.display()))?;
            over(stream, base, method, path, body, key).await
        }
    }
}

async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    base: &Base,
    method: Method,
    path: &str,
    body: Option<String>,
    key: Option<String>,
) -> Result<Answer, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", base.path))
        .header("host", base.host())
        .header("connection", "close")
        .header("user-agent", concat!("slackwater/", env!("CARGO_PKG_VERSION")));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| format!("the request can't be made: {error}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), bytes: body })
    };
    tokio::pin!(answer);
    // The connection is driven beside the exchange and dropped with it: no task of ours outlives a request.
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            // The answer may be whole already.
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_what_is_expected() {
        let base = Base::parse("http://127.0.0.1:8001/v1/").unwrap();
        assert_eq!(base.address, Address::Tcp { host: "127.0.0.1".to_owned(), port: 8001 });
        assert_eq!((base.path.as_str(), base.port(), base.host()), ("/v1", Some(8001), "127.0.0.1"));
        assert_eq!(Base::parse("http://[::1]:9").unwrap().host(), "::1");
        assert_eq!(Base::parse("unix:/run/a.sock").unwrap().address, Address::Unix("/run/a.sock".into()));
        for (url, expected) in [
            ("https://a:1", "plain address"),
            ("unix:a.sock", "absolute path"),
            ("http://", "no host"),
            ("http://a:b", "no port"),
        ] {
            let error = Base::parse(url).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
