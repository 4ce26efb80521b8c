//! nginx's access logs: `combined` (Apache's too), alone or with times behind it, and JSON lines.
//!
//! A request is logged when it ends. Its start is `$msec - $request_time`; `$time_local` has whole seconds. `combined` by
//! itself has no `$request_time`, so its arrivals are late by as long as the request took. Behind it stand, where the
//! configuration has them, `$request_time`, `$request_length $request_time` (as the Kubernetes ingress logs), or
//! `rt=$request_time`.

use std::borrow::Cow;

use serde::Deserialize;

use super::access_log::{AccessLog, Entry, Line, Words, count, method_and_path, understands};
use super::formats::{Context, FormatReader};
use super::input::{Head, Input};
use super::loose::Loose;
use super::number::decimal_ns;
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const COMBINED: &str =
    "10.0.0.1 - - [05/Jan/2026:09:00:04 +0000] \"POST /v1/completions HTTP/1.1\" 200 5123 \"-\" \"agent\"";
const JSON: &str = "{\"msec\": \"1767603604.456\", \"request_time\": \"4.333\", \"status\": 200, \"request\": \"POST /v1/completions HTTP/1.1\", \"request_length\": 3310, \"body_bytes_sent\": 5123}";

const SECOND_NS: i64 = 1_000_000_000;

pub(super) struct NginxCombined;

impl NginxCombined {
    pub(super) fn recognise(head: &Head) -> bool {
        understands(read_combined, &head.first_line)
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(AccessLog::open(input, context, read_combined, COMBINED))
    }
}

fn read_combined<'a>(text: &'a [u8], timestamps: &mut TimestampReader) -> Result<Line<'a>, String> {
    let bracket = text.iter().position(|byte| *byte == b'[').ok_or("it has no [time]")?;
    let mut words = Words(&text[bracket..]);
    let stamp = words.next().ok_or("its [time] is not closed")?;
    let end_ns = timestamps
        .read_log(stamp)
        .ok_or_else(|| format!("its time is `{}`, not one", super::input::excerpt(stamp)))?;
    let request = words.next().ok_or("it has no request")?;
    let (status, bytes) = (words.next().ok_or("it has no status")?, words.next().ok_or("it has no size")?);
    let status = count(status).ok_or("its status is no number")?;
    let (_referer, _agent) = (words.next(), words.next());
    let mut duration_ns = None;
    let mut bytes_in = None;
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Some(ns) = decimal_ns(first, SECOND_NS).filter(|_| first.contains(&b'.')) {
        duration_ns = Some(ns);
    } else if count(first).is_some() && second.contains(&b'.') {
        (bytes_in, duration_ns) = (count(first), decimal_ns(second, SECOND_NS));
    } else {
        let mut words = text[bracket..].split(|byte| *byte == b' ');
        let named = words.find_map(|word| word.strip_prefix(b"rt=").or(word.strip_prefix(b"request_time=")));
        if let Some(named) = named {
            let bare = named.trim_ascii();
            duration_ns =
                Some(decimal_ns(bare, SECOND_NS).ok_or("its request time is no number of seconds")?);
        }
    }
    let (method, path) = method_and_path(request);
    Ok(Line::Request(Entry {
        start_ns: end_ns.saturating_sub(duration_ns.unwrap_or(0)),
        end_ns,
        timed: duration_ns.is_some(),
        status: Some(status),
        method,
        path,
        bytes_in,
        bytes_out: count(bytes),
        ..Entry::default()
    }))
}

pub(super) struct NginxJson;

/// The variables' names, as one writes them into `log_format ... escape=json`.
#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(default, borrow)]
    msec: Loose<'a>,
    #[serde(default, borrow)]
    time_iso8601: Loose<'a>,
    #[serde(default, borrow)]
    time_local: Loose<'a>,
    #[serde(default, borrow)]
    request_time: Loose<'a>,
    #[serde(default, borrow)]
    status: Loose<'a>,
    #[serde(default, borrow)]
    request: Loose<'a>,
    #[serde(default, borrow)]
    request_method: Loose<'a>,
    #[serde(default, borrow, alias = "uri")]
    request_uri: Loose<'a>,
    #[serde(default, borrow)]
    request_length: Loose<'a>,
    #[serde(default, borrow, alias = "bytes_sent")]
    body_bytes_sent: Loose<'a>,
    #[serde(default, borrow, alias = "prompt_tokens")]
    input_tokens: Loose<'a>,
    #[serde(default, borrow, alias = "completion_tokens")]
    output_tokens: Loose<'a>,
}

impl NginxJson {
    pub(super) fn recognise(head: &Head) -> bool {
        serde_json::from_slice::<Keys<'_>>(&head.first_line).is_ok_and(|keys| {
            let clock = !keys.time_iso8601.is_absent() || !keys.time_local.is_absent();
            !keys.msec.is_absent() || (clock && !keys.request_time.is_absent())
        })
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(AccessLog::open(input, context, read_json, JSON))
    }
}

fn read_json<'a>(text: &'a [u8], timestamps: &mut TimestampReader) -> Result<Line<'a>, String> {
    let keys: Keys<'a> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let end_ns = if !keys.msec.is_absent() {
        keys.msec.time_ns(SECOND_NS).ok_or("`msec` is no number of seconds")?
    } else if !keys.time_iso8601.is_absent() {
        timestamps.read(keys.time_iso8601.text().as_bytes()).ok_or("`time_iso8601` is no time")?
    } else {
        timestamps
            .read_log(keys.time_local.text().as_bytes())
            .ok_or("it has none of `msec`, `time_iso8601`, `time_local`")?
    };
    let duration_ns = match keys.request_time.is_absent() {
        true => None,
        false => Some(keys.request_time.time_ns(SECOND_NS).ok_or("`request_time` is no number of seconds")?),
    };
    let status = keys.status.count().ok_or("`status` is no number")?;
    let (method, path) = if keys.request.is_absent() {
        (keys.request_method.into_text(), keys.request_uri.into_text())
    } else {
        match keys.request.into_text() {
            Cow::Borrowed(request) => method_and_path(request.as_bytes()),
            Cow::Owned(request) => {
                let (method, path) = method_and_path(request.as_bytes());
                (Cow::Owned(method.into_owned()), Cow::Owned(path.into_owned()))
            }
        }
    };
    Ok(Line::Request(Entry {
        start_ns: end_ns.saturating_sub(duration_ns.unwrap_or(0)),
        end_ns,
        timed: duration_ns.is_some(),
        status: Some(status),
        method,
        path,
        bytes_in: keys.request_length.count(),
        bytes_out: keys.body_bytes_sent.count(),
        input_tokens: keys.input_tokens.count(),
        output_tokens: keys.output_tokens.count(),
    }))
}
