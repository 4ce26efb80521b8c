//! What is written down of a request when it has ended: a line of the access log, and figures.
//!
//! The line has the names that nginx's variables have in a JSON log, so that `slackwater trace` and other readers of such
//! logs understand it, and some more. Prompts, answers and credentials are not in it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::http::HeaderValue;
use serde::Serialize;

use crate::live::Live;
use crate::log::AccessLog;
use crate::metrics::Metrics;
use crate::scan::Scan;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// It was answered to the end.
    Completed,
    /// The gateway answered in a replica's stead: it was no request, too large, or there was no replica for it.
    Refused,
    /// No replica gave a response.
    Failed,
    /// A replica's response broke off.
    Broken,
    /// An operator cut it.
    Cut,
    /// The client went away.
    ClientGone,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
        }
    }
}

/// What requests are written down with.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) live: Live,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<AccessLog>,
}

/// A request on its way. Written down once, at the latest when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    books: Arc<Books>,
    written: bool,
    began: Instant,
    method: String,
    path: String,
    request_id: HeaderValue,
    pub(crate) request_bytes: u64,
    pub(crate) status: u16,
    pub(crate) replica: String,
    pub(crate) version: Option<Arc<str>>,
    pub(crate) tries: u32,
    first_token: Option<Duration>,
}

/// A line of the log; times are seconds.
#[derive(Serialize)]
struct Line<'a> {
    msec: String,
    request_time: String,
    request_method: &'a str,
    request_uri: &'a str,
    status: u16,
    request_length: u64,
    body_bytes_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    request_id: &'a str,
    replica: &'a str,
    version: Option<&'a str>,
    tries: u32,
    outcome: End,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
}

impl Record {
    pub(crate) fn new(books: &Arc<Books>, method: &str, path: &str, request_id: HeaderValue) -> Self {
        books.live.arrived();
        Self {
            books: Arc::clone(books),
            written: false,
            began: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            request_id,
            request_bytes: 0,
            // What nginx logs for a client that went away before its answer.
            status: 499,
            replica: String::new(),
            version: None,
            tries: 0,
            first_token: None,
        }
    }

    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    pub(crate) fn retried(&mut self, replica: &str) {
        self.books.metrics.retried(replica);
    }

    /// The first event of its stream has come.
    pub(crate) fn first_token(&mut self) {
        let after = self.began.elapsed();
        self.first_token = Some(after);
        self.books.live.first_token(&self.version, after);
        self.books.metrics.first_token(after.as_secs_f64());
    }

    /// Writes it down, if that was not done.
    pub(crate) fn ended(&mut self, end: End, scan: Option<&Scan>) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let duration = self.began.elapsed();
        let usage = scan.and_then(Scan::usage);
        let tokens = scan.and_then(Scan::tokens);
        let tpot = tokens.and_then(|tokens| {
            // Without a usage: an event a token, less [DONE] and, in a chat, the one that says who speaks.
            let beside = 1 + u64::from(self.path.ends_with("/chat/completions"));
            let count = usage.map_or(tokens.events.saturating_sub(beside), |usage| usage.completion_tokens);
            let after_first = u32::try_from(count).ok()?.checked_sub(1).filter(|rest| *rest > 0)?;
            Some(tokens.last.duration_since(tokens.first).as_secs_f64() / f64::from(after_first))
        });
        let tpot = tpot.filter(|_| end == End::Completed);
        // A client's own mistake is no failure of the service, nor is one that went away.
        let failed = match end {
            End::Completed | End::Refused => self.status >= 500,
            End::Failed | End::Broken | End::Cut => true,
            End::ClientGone => false,
        };
        if end != End::ClientGone {
            self.books.live.ended(&self.version, tpot, failed);
        }
        if let Some(tpot) = tpot {
            self.books.metrics.tpot(tpot);
        }
        self.books.metrics.ended(&self.replica, end.name(), duration.as_secs_f64());
        let Some(log) = &self.books.log else { return };
        // Whoever reads statuses only must not take half an answer for a whole one.
        let status = match end {
            End::Completed | End::Refused | End::Failed => self.status,
            End::ClientGone => 499,
            End::Broken | End::Cut => self.status.max(502),
        };
        let line = Line {
            msec: seconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            request_time: seconds(duration),
            request_method: &self.method,
            request_uri: &self.path,
            status,
            request_length: self.request_bytes,
            body_bytes_sent: scan.map_or(0, |scan| scan.bytes),
            input_tokens: usage.map(|usage| usage.prompt_tokens),
            output_tokens: usage.map(|usage| usage.completion_tokens),
            request_id: self.request_id.to_str().unwrap_or_default(),
            replica: &self.replica,
            version: self.version.as_deref(),
            tries: self.tries,
            outcome: end,
            ttft: self.first_token.map(seconds),
            events: tokens.map(|tokens| tokens.events),
        };
        if let Ok(line) = serde_json::to_string(&line)
            && !log.write(line)
        {
            self.books.metrics.log_lines_lost.inc();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.ended(End::ClientGone, None);
    }
}

/// To the microsecond; nginx has three places, and readers take any number.
fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}
