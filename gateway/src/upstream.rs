//! Connections to replicas: kept when a response was read to its end, closed at once when it was given up.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::HeaderValue;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Where a replica is: `http://HOST:PORT`, perhaps with a path in front of the API's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    url: String,
    /// Host and port, to connect to.
    address: String,
    /// What stands under `Host`.
    pub(crate) host: HeaderValue,
    /// Before every path; empty, or `/prefix` without a slash at its end.
    prefix: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wanted = "write http://HOST:PORT, such as http://127.0.0.1:8000";
        let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no URL ({error}); {wanted}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!("`{url}`: replicas are spoken to without TLS; {wanted}"));
            }
            _ => return Err(format!("`{url}` does not begin with http://; {wanted}")),
        }
        let Some(authority) = uri.authority() else { return Err(format!("`{url}` has no host; {wanted}")) };
        if authority.as_str().contains('@') {
            return Err(format!(
                "`{}`: a name or password is not sent to replicas; {wanted}",
                authority.host()
            ));
        }
        if uri.query().is_some() {
            return Err(format!("`{url}` has a query; {wanted}"));
        }
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { url: url.to_owned(), address, host, prefix })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The path there of a path here.
    pub(crate) fn path(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.prefix)
    }
}

/// A connection in use. Dropping it closes it, and so tells the replica that nobody waits any more.
#[derive(Debug)]
pub(crate) struct Connection<B> {
    pub(crate) sender: SendRequest<B>,
    task: AbortHandle,
    address: String,
    /// Whether it carried a request before: it may have been closed at the other end without our seeing it.
    pub(crate) reused: bool,
    keep: bool,
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        if !self.keep {
            self.task.abort();
        }
    }
}

#[derive(Debug)]
struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

/// Idle connections by address.
#[derive(Debug)]
pub(crate) struct Pool<B> {
    idle: Mutex<BTreeMap<String, Vec<Idle<B>>>>,
    connect_within: Duration,
    idle_for: Duration,
    most_idle: usize,
}

impl<B> Pool<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    pub(crate) fn new(connect_within: Duration, idle_for: Duration, most_idle: usize) -> Self {
        Self { idle: Mutex::new(BTreeMap::new()), connect_within, idle_for, most_idle }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Idle<B>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, the one used last, or a new one.
    pub(crate) async fn connect(&self, target: &Target, fresh: bool) -> io::Result<Connection<B>> {
        if !fresh && let Some(connection) = self.take_idle(&target.address) {
            return Ok(connection);
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let connecting = TcpStream::connect(target.address.as_str());
        let stream = tokio::time::timeout(self.connect_within, connecting).await.map_err(|_| late())??;
        // Tokens are small and must not wait for each other.
        stream.set_nodelay(true)?;
        let (sender, driver) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What goes wrong on it is told to whoever waits for a response.
        let task = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        Ok(Connection { sender, task, address: target.address.clone(), reused: false, keep: false })
    }

    fn take_idle(&self, address: &str) -> Option<Connection<B>> {
        let mut idle = self.lock();
        let kept = idle.get_mut(address)?;
        while let Some(Idle { connection, since }) = kept.pop() {
            if since.elapsed() < self.idle_for && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes back a connection whose response was read to its end.
    pub(crate) fn give_back(self: &Arc<Self>, mut connection: Connection<B>) {
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // It becomes ready a moment after its response has ended, or not at all.
            if connection.sender.ready().await.is_err() {
                return;
            }
            connection.reused = true;
            let mut idle = pool.lock();
            let kept = idle.entry(connection.address.clone()).or_default();
            kept.retain(|old| old.since.elapsed() < pool.idle_for && !old.connection.sender.is_closed());
            if kept.len() < pool.most_idle {
                kept.push(Idle { connection, since: Instant::now() });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let target = Target::parse("http://127.0.0.1:8000").unwrap();
        assert_eq!(target.path("/v1/models?a=b"), "/v1/models?a=b");
        let target = Target::parse("http://gpu-1/api/").unwrap();
        assert_eq!(
            (target.address.as_str(), target.path("/v1/models").as_str()),
            ("gpu-1:80", "/api/v1/models")
        );
        let target = Target::parse("http://[::1]:8000").unwrap();
        assert_eq!(target.address, "[::1]:8000");
        for wrong in [
            "",
            "127.0.0.1:8000",
            "https://a:1",
            "ftp://a",
            "http://",
            "http://u:p@a:1",
            "http://a:1/?q=1",
            "http://a b",
        ] {
            let error = Target::parse(wrong).unwrap_err();
            assert!(error.contains("http://HOST:PORT"), "{wrong}: {error}");
            assert!(!error.contains("u:p"), "{error}");
        }
    }
}
