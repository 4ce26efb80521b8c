//! One request and its stream, with the times at which things came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::check::{Check, Fault};

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    /// The stand-in's label, or what was wrong.
    pub verdict: Result<Option<String>, Fault>,
    /// From the request's start to its first token.
    pub ttft: Option<Duration>,
    /// Gaps between tokens.
    pub gaps: Vec<Duration>,
    /// All of it.
    pub lasted: Duration,
    /// Tokens that came.
    pub tokens: u32,
}

/// A connection that can be used again.
pub(crate) type Kept = SendRequest<Full<Bytes>>;

/// Sends one streaming request to `path` and follows its stream. A connection in `kept` is used if it still works, and the
/// one that was used is left there if it can be used again; without `kept` it is closed.
pub async fn ask(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
    check: Check,
    mut kept: Option<&mut Vec<Kept>>,
    within: Duration,
) -> Answer {
    let began = Instant::now();
    let mut stream = Stream { check, ttft: None, gaps: Vec::new(), last: began };
    let asking = stream.follow(to, path, headers, body, kept.as_deref_mut().and_then(Vec::pop), began);
    let outcome = match tokio::time::timeout(within, asking).await {
        Ok(outcome) => outcome,
        Err(_) if stream.ttft.is_some() => Err(Fault::Truncated(format!("not over after {within:?}"))),
        Err(_) => Err(Fault::Failed(format!("no token after {within:?}"))),
    };
    let tokens = stream.check.tokens();
    let verdict = match outcome {
        Ok((cleanly, connection)) => {
            if let (true, Some(kept)) = (cleanly, kept) {
                kept.push(connection);
            }
            stream.check.end(cleanly)
        }
        Err(fault) => Err(fault),
    };
    Answer { verdict, ttft: stream.ttft, gaps: stream.gaps, lasted: began.elapsed(), tokens }
}

struct Stream {
    check: Check,
    ttft: Option<Duration>,
    gaps: Vec<Duration>,
    last: Instant,
}

impl Stream {
    /// Whether the response ended cleanly, and its connection.
    async fn follow(
        &mut self,
        to: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
        kept: Option<Kept>,
        began: Instant,
    ) -> Result<(bool, Kept), Fault> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Fault::Failed(format!("{what}: {error}"));
        let mut request =
            Request::post(path).header(HOST, to.to_string()).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| failed("no request", &error))?;
        let ready = match kept {
            Some(mut sender) => sender.ready().await.ok().map(|()| sender),
            None => None,
        };
        let (mut sender, request) = match ready {
            Some(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => return self.read(response, sender, began).await,
                // The server had closed it; nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(request) => (connect(to).await?, request),
                    None => return Err(failed("no response", &error.into_error())),
                },
            },
            None => (connect(to).await?, request),
        };
        let response = sender.send_request(request).await.map_err(|error| failed("no response", &error))?;
        self.read(response, sender, began).await
    }

    async fn read(
        &mut self,
        response: hyper::Response<hyper::body::Incoming>,
        sender: Kept,
        began: Instant,
    ) -> Result<(bool, Kept), Fault> {
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let said = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[..said.len().min(200)]).into_owned();
            return Err(Fault::Failed(format!("{status}: {said}")));
        }
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Ok((false, sender)) };
            let Ok(data) = frame.into_data() else { continue };
            let new = self.check.take(&data);
            if new == 0 {
                continue;
            }
            let now = Instant::now();
            if self.ttft.is_none() {
                self.ttft = Some(now - began);
            } else {
                self.gaps.push(now - self.last);
            }
            // Tokens that come together have no gap between them.
            self.gaps.extend(std::iter::repeat_n(Duration::ZERO, new as usize - 1));
            self.last = now;
        }
        Ok((true, sender))
    }
}

async fn connect(to: SocketAddr) -> Result<Kept, Fault> {
    let failed = |error: &dyn std::fmt::Display| Fault::Failed(format!("no connection: {error}"));
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // What goes wrong on it is told to whoever waits for a response.
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}
