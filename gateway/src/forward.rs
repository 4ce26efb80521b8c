//! One request: to a replica, perhaps to another, and its response back.
//!
//! A request is tried again only when its replica failed before it sent a response's head, and nothing of a response has
//! gone to the client, and the request's body is still here in full (or nothing of it has left). Each replica is tried once,
//! except when a connection that was kept had been closed at its other end, which is nobody's failure.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::{FromClient, ToReplica, Unread};
use crate::config::Config;
use crate::fleet::{Claim, Fleet, Outcome};
use crate::headers;
use crate::record::{Books, End, Record};
use crate::relay::{Relay, ToClient};
use crate::scan::Scan;
use crate::sessions::{SessionId, Sessions};
use crate::upstream::{Connection, Pool};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) config: Config,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) pool: Arc<Pool<ToReplica>>,
    pub(crate) sessions: Sessions,
    pub(crate) books: Arc<Books>,
    pub(crate) ids: RequestIds,
}

/// Ids for requests that come without one: unique in this process, and unlikely elsewhere.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { prefix: RandomState::new().hash_one(std::process::id()), next: AtomicU64::new(1) }
    }

    fn make(&self) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("req-{:016x}-{number:x}", self.prefix);
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("req"))
    }
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Rung when the connection must break.
    pub(crate) cut: Arc<Notify>,
}

/// A try that came to nothing.
enum Miss {
    /// Nothing of the request has left; it can be tried again as it is.
    Unsent(ToReplica),
    /// Some of it may have arrived.
    Sent,
}

/// How a try failed.
struct Failed {
    miss: Miss,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    NoConnection,
    /// A connection that was kept turned out closed.
    Stale,
    /// It broke before a response's head came.
    Broke,
    TooSlow,
    Cut,
}

impl Proxy {
    /// Answers a request, whatever comes of it.
    pub(crate) async fn answer(
        self: Arc<Self>,
        client: Client,
        request: Request<Incoming>,
    ) -> Response<ToClient> {
        let (parts, body) = request.into_parts();
        let id = headers::request_id(&parts.headers).unwrap_or_else(|| self.ids.make());
        let mut record = Record::new(&self.books, parts.method.as_str(), parts.uri.path(), id);
        match self.prepare(&parts, body, &mut record).await {
            Ok(body) => self.forward(&client, parts, body, record).await,
            Err(refusal) => refusal.response(record, End::Refused),
        }
    }

    /// Refuses what is no request for a replica, and reads the body as far as it is kept.
    async fn prepare(
        &self,
        parts: &Parts,
        body: Incoming,
        record: &mut Record,
    ) -> Result<FromClient, Refusal> {
        if parts.method == Method::CONNECT || headers::wants_upgrade(&parts.headers) {
            return Err(Refusal::new(501, "this gateway speaks HTTP only: no upgrade, no tunnel"));
        }
        if parts.method == Method::TRACE {
            let mut refusal = Refusal::new(405, "TRACE would show what the gateway adds");
            refusal.header =
                Some((ALLOW, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS")));
            return Err(refusal);
        }
        if !parts.uri.path().starts_with('/') {
            return Err(Refusal::new(400, "the request's target must be a path"));
        }
        let (limits, timeouts) = (&self.config.limits, &self.config.timeouts);
        let body =
            crate::body::read(body, limits.kept_body_bytes, limits.body_bytes, timeouts.client_body).await;
        match &body {
            Ok(FromClient::Whole(bytes)) => record.request_bytes = bytes.len() as u64,
            Ok(FromClient::Begun(..)) => {
                let length = parts.headers.get(hyper::header::CONTENT_LENGTH);
                record.request_bytes =
                    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or_default();
            }
            Err(_) => {}
        }
        body.map_err(|unread| self.unread(unread))
    }

    fn unread(&self, unread: Unread) -> Refusal {
        match unread {
            Unread::TooLong => {
                let most = self.config.limits.body_bytes;
                Refusal::closing(413, &format!("the body is longer than {most} bytes"))
            }
            Unread::TooSlow => Refusal::closing(408, "the body did not come in time"),
            Unread::Broken => Refusal::closing(400, "the body broke off"),
        }
    }

    async fn forward(
        &self,
        client: &Client,
        parts: Parts,
        body: FromClient,
        mut record: Record,
    ) -> Response<ToClient> {
        let deadline = Instant::now() + self.config.timeouts.request;
        let session = match &body {
            FromClient::Whole(bytes) => self.sessions.of(&parts.headers, Some(bytes)),
            FromClient::Begun(..) => self.sessions.of(&parts.headers, None),
        };
        let client_fault = Arc::new(OnceLock::new());
        let (kept, mut unsent) = match body {
            FromClient::Whole(bytes) => (Some(bytes), None),
            FromClient::Begun(begun, rest) => {
                let left = self.config.limits.body_bytes.saturating_sub(begun.len() as u64);
                let begun = Some(begun).filter(|begun| !begun.is_empty());
                (None, Some(ToReplica::Streamed { begun, rest, left, fault: Arc::clone(&client_fault) }))
            }
        };
        let mut tried: Vec<String> = Vec::new();
        let mut last = None;
        let mut stale = 0_u32;
        // A cut sends a request on for free: it is the operator's doing. Each replica is tried once, so this ends.
        let mut failures = 0;
        loop {
            let to_send = match (&kept, unsent.take()) {
                (Some(bytes), _) => ToReplica::Kept(Some(bytes.clone()).filter(|bytes| !bytes.is_empty())),
                (None, Some(unsent)) => unsent,
                (None, None) => break,
            };
            let version = session.and_then(|session| self.sessions.version(session));
            let Some(claim) = self.fleet.claim(version.as_deref(), &tried, &client.cut) else { break };
            record.tries += 1;
            record.replica.clone_from(&claim.name);
            record.version.clone_from(&claim.version);
            // After a kept connection was found closed, the same replica is tried on a new one.
            let fresh = stale > 0;
            let failed = match self.attempt(&parts, to_send, &claim, client, &record, fresh, deadline).await {
                Ok((connection, response)) => {
                    if claim.answering() {
                        self.remember(session, &claim);
                        return self.relay(connection, response, claim, record, deadline);
                    }
                    Failed { miss: Miss::Sent, why: Why::Cut }
                }
                Err(failed) => failed,
            };
            if let Some(unread) = client_fault.get() {
                return self.unread(*unread).response(record, End::Refused);
            }
            if let Miss::Unsent(body) = failed.miss {
                unsent = Some(body);
            }
            let name = claim.name.clone();
            match failed.why {
                Why::Stale => {
                    stale += 1;
                    last = Some(Why::Stale);
                    continue;
                }
                Why::NoConnection => {
                    claim.refused();
                }
                Why::Broke | Why::TooSlow => {
                    claim.end(Outcome::Failed);
                }
                Why::Cut => {
                    claim.end(Outcome::GivenUp);
                }
            }
            last = Some(failed.why);
            tried.push(name.clone());
            failures += u32::from(failed.why != Why::Cut);
            if failures > self.config.retries || failed.why == Why::TooSlow || Instant::now() >= deadline {
                break;
            }
            record.retried(&name);
        }
        let (refusal, end) = match last {
            None => (Refusal::waiting("no replica can take the request now"), End::Refused),
            Some(Why::Cut) => (Refusal::waiting("the request was cut by an operator"), End::Cut),
            Some(Why::TooSlow) => (Refusal::new(504, "the replica did not answer in time"), End::Failed),
            Some(Why::NoConnection | Why::Stale | Why::Broke) => {
                (Refusal::new(502, "the replica failed before it answered"), End::Failed)
            }
        };
        refusal.response(record, end)
    }

    fn remember(&self, session: Option<SessionId>, claim: &Claim) {
        if let (Some(session), Some(version)) = (session, &claim.version) {
            self.sessions.answered(session, version);
        }
    }

    /// One try, until the response's head is there.
    #[expect(clippy::too_many_arguments)] // All of one request; a struct would only be unpacked here.
    async fn attempt(
        &self,
        parts: &Parts,
        body: ToReplica,
        claim: &Claim,
        client: &Client,
        record: &Record,
        fresh: bool,
        deadline: Instant,
    ) -> Result<(Connection<ToReplica>, Response<Incoming>), Failed> {
        let cut = claim.cut_while_waiting();
        let mut cut = std::pin::pin!(cut);
        let mut connection = tokio::select! {
            connection = self.pool.connect(&claim.target, fresh) => match connection {
                Ok(connection) => connection,
                Err(_) => return Err(Failed { miss: Miss::Unsent(body), why: Why::NoConnection }),
            },
            () = &mut cut => return Err(Failed { miss: Miss::Unsent(body), why: Why::Cut }),
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.version_mut() = Version::HTTP_11;
        // What was a path before a prefix is one behind it.
        *request.uri_mut() = claim.target.path(path).parse().unwrap_or_default();
        *request.headers_mut() = parts.headers.clone();
        headers::toward_replica(
            request.headers_mut(),
            &claim.target.host,
            client.address,
            record.request_id(),
        );
        let reused = connection.reused;
        let within = Instant::now() + self.config.timeouts.response_headers;
        let sent = connection.sender.try_send_request(request);
        let outcome = tokio::select! {
            outcome = sent => outcome,
            () = &mut cut => return Err(Failed { miss: Miss::Sent, why: Why::Cut }),
            () = tokio::time::sleep_until(within.min(deadline)) => {
                return Err(Failed { miss: Miss::Sent, why: Why::TooSlow });
            }
        };
        match outcome {
            Ok(response) => Ok((connection, response)),
            Err(mut error) => {
                let miss = match error.take_message() {
                    Some(request) => Miss::Unsent(request.into_body()),
                    None => Miss::Sent,
                };
                let why = if reused { Why::Stale } else { Why::Broke };
                Err(Failed { miss, why })
            }
        }
    }

    fn relay(
        &self,
        connection: Connection<ToReplica>,
        response: Response<Incoming>,
        claim: Claim,
        mut record: Record,
        deadline: Instant,
    ) -> Response<ToClient> {
        let (mut head, upstream) = response.into_parts();
        headers::toward_client(&mut head.headers, record.request_id());
        head.version = Version::HTTP_11;
        record.status = head.status.as_u16();
        if upstream.is_end_stream() {
            // Nobody will ask for the end of a body that has none.
            if !claim.end(Outcome::Served) {
                return Refusal::waiting("the request was cut by an operator").response(record, End::Cut);
            }
            self.pool.give_back(connection);
            record.ended(End::Completed, None);
            return Response::from_parts(head, ToClient::Own(None));
        }
        let streamed = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let silence = self.config.timeouts.silence;
        let patience = (Instant::now() + silence).min(deadline);
        let relay = Relay {
            upstream,
            held: Some((connection, claim)),
            pool: Arc::clone(&self.pool),
            record,
            scan: Scan::new(streamed),
            silence,
            patience: Box::pin(tokio::time::sleep_until(patience)),
            deadline,
        };
        Response::from_parts(head, ToClient::Relayed(Box::new(relay)))
    }
}

/// An answer of the gateway's own.
struct Refusal {
    status: u16,
    message: String,
    header: Option<(hyper::header::HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: u16, message: &str) -> Self {
        Self { status, message: message.to_owned(), header: None }
    }

    /// What is left of the request must not be taken for the next one.
    fn closing(status: u16, message: &str) -> Self {
        Self { header: Some((CONNECTION, HeaderValue::from_static("close"))), ..Self::new(status, message) }
    }

    /// It may go better in a moment.
    fn waiting(message: &str) -> Self {
        Self { header: Some((RETRY_AFTER, HeaderValue::from_static("1"))), ..Self::new(503, message) }
    }

    fn response(self, mut record: Record, end: End) -> Response<ToClient> {
        let body = json!({"error": {"message": self.message, "type": "gateway_error", "param": null, "code": self.status}});
        let bytes = Bytes::from(body.to_string());
        record.status = self.status;
        let mut response = Response::new(ToClient::Own(Some(bytes)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(headers::REQUEST_ID, record.request_id().clone());
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        record.ended(end, None);
        response
    }
}
