//! Envoy's access logs: its default text (Istio's too), and JSON lines with the names that Istio gives the same fields.
//!
//! ```text
//! [START_TIME] "METHOD PATH PROTOCOL" CODE FLAGS [Istio: DETAILS TERMINATION "REASON"] BYTES_IN BYTES_OUT DURATION_MS ...
//! ```
//!
//! The time is that of the request, the line is written when it ends, the duration later.

use serde::Deserialize;

use super::access_log::{AccessLog, Entry, Line, Words, count, method_and_path, understands};
use super::formats::{Context, FormatReader};
use super::input::{Head, Input};
use super::loose::Loose;
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const TEXT: &str = "[2026-04-15T20:17:00.310Z] \"POST /v1/completions HTTP/1.1\" 200 - 154 5123 4226 100 \"-\" \"agent\" \"id\" \"host\" \"tcp://10.0.2.1:80\"";
const JSON: &str = "{\"start_time\": \"2026-04-15T20:17:00.310Z\", \"duration\": 4226, \"response_code\": 200, \"method\": \"POST\", \"path\": \"/v1/completions\", \"bytes_received\": 154, \"bytes_sent\": 5123}";

const MILLISECOND_NS: i64 = 1_000_000;

pub(super) struct EnvoyText;

impl EnvoyText {
    pub(super) fn recognise(head: &Head) -> bool {
        understands(read_text, &head.first_line)
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(AccessLog::open(input, context, read_text, TEXT))
    }
}

fn read_text<'a>(text: &'a [u8], timestamps: &mut TimestampReader) -> Result<Line<'a>, String> {
    let mut words = Words(text);
    let mut word = |what: &str| words.next().ok_or_else(|| format!("it ends before its {what}"));
    if !text.starts_with(b"[") {
        return Err("it does not begin with a [time]".into());
    }
    let start_ns =
        timestamps.read(word("time")?).ok_or("its time is not one such as 2026-04-15T20:17:00.310Z")?;
    let (method, path) = method_and_path(word("request")?);
    let (status, _flags) = (word("status")?, word("flags")?);
    let mut bytes_in = word("bytes received")?;
    if count(bytes_in).is_none() {
        let (_termination, _reason) = (word("termination")?, word("reason")?);
        bytes_in = word("bytes received")?;
    }
    let (bytes_out, duration) = (word("bytes sent")?, word("duration")?);
    let duration_ms = count(duration).ok_or("its duration is no number of milliseconds")?;
    let duration_ns = i64::try_from(duration_ms).ok().and_then(|ms| ms.checked_mul(MILLISECOND_NS));
    Ok(Line::Request(Entry {
        start_ns,
        end_ns: start_ns.saturating_add(duration_ns.ok_or("its duration is too long")?),
        timed: true,
        status: count(status),
        method,
        path,
        bytes_in: count(bytes_in),
        bytes_out: count(bytes_out),
        ..Entry::default()
    }))
}

pub(super) struct EnvoyJson;

#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    start_time: Loose<'a>,
    #[serde(borrow)]
    duration: Loose<'a>,
    #[serde(borrow)]
    response_code: Loose<'a>,
    #[serde(default, borrow)]
    method: Loose<'a>,
    #[serde(default, borrow)]
    path: Loose<'a>,
    #[serde(default, borrow)]
    bytes_received: Loose<'a>,
    #[serde(default, borrow)]
    bytes_sent: Loose<'a>,
    #[serde(default, borrow)]
    input_tokens: Loose<'a>,
    #[serde(default, borrow)]
    output_tokens: Loose<'a>,
}

impl EnvoyJson {
    pub(super) fn recognise(head: &Head) -> bool {
        understands(read_json, &head.first_line)
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(AccessLog::open(input, context, read_json, JSON))
    }
}

fn read_json<'a>(text: &'a [u8], timestamps: &mut TimestampReader) -> Result<Line<'a>, String> {
    let keys: Keys<'a> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let start_ns = timestamps.read(keys.start_time.text().as_bytes()).ok_or("`start_time` is no time")?;
    let duration_ns =
        keys.duration.time_ns(MILLISECOND_NS).ok_or("`duration` is no number of milliseconds")?;
    Ok(Line::Request(Entry {
        start_ns,
        end_ns: start_ns.saturating_add(duration_ns),
        timed: true,
        status: keys.response_code.count(),
        method: keys.method.into_text(),
        path: keys.path.into_text(),
        bytes_in: keys.bytes_received.count(),
        bytes_out: keys.bytes_sent.count(),
        input_tokens: keys.input_tokens.count(),
        output_tokens: keys.output_tokens.count(),
    }))
}
