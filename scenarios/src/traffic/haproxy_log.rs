//! HAProxy's HTTP log (`option httplog`), with or without what syslog puts before it.
//!
//! ```text
//! ... haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- ...
//!                                     the request's start, local time    TR/Tw/Tc/Tr/Ta ms  status bytes   "POST / HTTP/1.1"
//! ```
//!
//! The time is that of the request, the line is written when it ends, Ta later. The balancer's own messages (a server is
//! down, a proxy has started) stand between the requests; they are left out and counted.

use super::access_log::{AccessLog, Entry, Line, Words, count, method_and_path, understands};
use super::formats::{Context, FormatReader};
use super::input::{Head, Input};
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const EXAMPLE: &str = "haproxy[14389]: 10.0.1.2:33317 [06/Feb/2026:12:14:14.655] http-in llm/r1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 \"POST /v1/completions HTTP/1.1\"";

/// Brackets of syslog and of the process before that of the time.
const MOST_BRACKETS: usize = 8;

pub(super) struct HaproxyHttp;

impl HaproxyHttp {
    pub(super) fn recognise(head: &Head) -> bool {
        // The first lines of a log are often the balancer's own.
        head.start.split(|byte| *byte == b'\n').any(|line| understands(read, line))
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(AccessLog::open(input, context, read, EXAMPLE))
    }
}

fn read<'a>(text: &'a [u8], timestamps: &mut TimestampReader) -> Result<Line<'a>, String> {
    let brackets = text.iter().enumerate().filter(|(_, byte)| **byte == b'[').map(|(place, _)| place);
    let found = brackets.take(MOST_BRACKETS).find_map(|place| {
        let mut words = Words(&text[place..]);
        let start_ns = timestamps.read_log(words.next()?)?;
        Some((start_ns, words))
    });
    let Some((start_ns, mut words)) = found else { return Ok(Line::Message) };
    let mut word = |what: &str| words.next().ok_or_else(|| format!("it ends before its {what}"));
    let (_frontend, _server, timers) = (word("frontend")?, word("server")?, word("timers")?);
    let (status, bytes) = (word("status")?, word("size")?);
    let parts = timers.split(|byte| *byte == b'/').count();
    let total = timers.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let total_ms =
        count(total).filter(|_| parts == 5).ok_or("its timers are not the five of `option httplog`")?;
    let duration_ns = i64::try_from(total_ms).ok().and_then(|ms| ms.checked_mul(1_000_000));
    let request = text.strip_suffix(b"\"").and_then(|text| {
        let quote = text.iter().rposition(|byte| *byte == b'"')?;
        Some(&text[quote + 1..])
    });
    let (method, path) = method_and_path(request.ok_or("its request is not in quotes at its end")?);
    Ok(Line::Request(Entry {
        start_ns,
        end_ns: start_ns.saturating_add(duration_ns.ok_or("its time is too long")?),
        timed: true,
        status: count(status),
        method,
        path,
        bytes_out: count(bytes),
        ..Entry::default()
    }))
}
