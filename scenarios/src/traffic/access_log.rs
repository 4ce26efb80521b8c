//! What the logs of web servers and balancers have in common: a line a request, written when it ends, no token counts.
//!
//! ```text
//! line --one function a format--> Entry { start, end, status, path, bytes } --assumed tokens--> Row
//! ```
//!
//! Only answered POST requests are played; the others (health checks, lists of models, errors) are left out and counted.

use std::borrow::Cow;

use super::assumed::{Assumed, HELP};
use super::formats::{Context, FormatReader, NOT_WANTED, Row};
use super::input::{Input, excerpt};
use super::jsonl::Lines;
use super::number::whole_number;
use super::timestamp::TimestampReader;
use crate::error::TraceError;

/// A request as a log has it.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    /// Whether the log says how long it took; if not, its start is its end.
    pub(super) timed: bool,
    /// `None` when there was no answer.
    pub(super) status: Option<u64>,
    /// Empty when the log does not say it.
    pub(super) method: Cow<'a, str>,
    pub(super) path: Cow<'a, str>,
    pub(super) bytes_in: Option<u64>,
    pub(super) bytes_out: Option<u64>,
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
}

/// What a line is.
pub(super) enum Line<'a> {
    Request(Entry<'a>),
    /// Something else that belongs into such a log.
    Message,
}

/// Reads one line; what is wrong with it, when it can't be read.
pub(super) type ReadLine = for<'a> fn(&'a [u8], &mut TimestampReader) -> Result<Line<'a>, String>;

/// A log whose lines `read` understands; they look like `example`.
pub(super) struct AccessLog {
    lines: Lines,
    read: ReadLine,
    example: &'static str,
    timestamps: TimestampReader,
    assumed: Assumed,
    only: Option<String>,
    untimed: u64,
}

impl AccessLog {
    pub(super) fn open(
        input: Input,
        context: &Context<'_>,
        read: ReadLine,
        example: &'static str,
    ) -> Box<dyn FormatReader> {
        Box::new(Self {
            lines: Lines::new(input),
            read,
            example,
            timestamps: context.timestamps(),
            assumed: context.assumed(),
            only: context.options.only.clone(),
            untimed: 0,
        })
    }
}

/// Whether `read` understands the line as a request.
pub(super) fn understands(read: ReadLine, line: &[u8]) -> bool {
    matches!(read(line.trim_ascii(), &mut TimestampReader::default()), Ok(Line::Request(_)))
}

impl FormatReader for AccessLog {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let text = self.lines.text();
        let entry = match (self.read)(text, &mut self.timestamps) {
            Ok(Line::Request(entry)) => entry,
            Ok(Line::Message) => {
                return Ok(Some(Row::new(0, 0, 0).left_out("a message of the balancer, no request")));
            }
            Err(problem) => {
                return Err(self.lines.error(
                    format!("{problem}; the row is `{}`", excerpt(text)),
                    &format!("each line must be like {}: correct or delete it", self.example),
                ));
            }
        };
        let row = Row { end_ns: entry.end_ns, ..Row::new(entry.start_ns, 0, 0) };
        if !entry.method.is_empty() && entry.method != "POST" {
            return Ok(Some(row.left_out("not a POST: no request for tokens")));
        }
        if self.only.as_ref().is_some_and(|only| !entry.path.starts_with(only.as_str())) {
            return Ok(Some(row.left_out(NOT_WANTED)));
        }
        if !entry.status.is_some_and(|status| (200..300).contains(&status)) {
            return Ok(Some(row.left_out("its status is not 2xx: it was not answered")));
        }
        let line = self.lines.line;
        let input_tokens = entry.input_tokens.map_or_else(|| self.assumed.input(line, entry.bytes_in), Ok);
        let output_tokens =
            entry.output_tokens.map_or_else(|| self.assumed.output(line, entry.bytes_out), Ok);
        let told = |problem| self.lines.error(problem, HELP);
        let (input_tokens, output_tokens) = (input_tokens.map_err(told)?, output_tokens.map_err(told)?);
        self.untimed += u64::from(!entry.timed);
        Ok(Some(Row { input_tokens, output_tokens, ..row }))
    }

    fn line(&self) -> u64 {
        self.lines.line
    }

    fn zone_assumed(&self) -> bool {
        self.timestamps.zone_assumed()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.assumed.notes();
        if self.untimed > 0 {
            notes.push(format!(
                "{} requests are logged without how long they took: they are taken to arrive when they ended, which is too \
                 late by all of their time; log that too ($request_time in nginx)",
                self.untimed
            ));
        }
        notes
    }
}

/// The words of a line, one after the other: bare, `"quoted"` or `[bracketed]`.
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Words<'a> {
    /// The next word, without its quotes or brackets; `None` at the end, or when they are not closed.
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        self.0 = self.0.trim_ascii_start();
        let close = match self.0.first()? {
            b'"' => b'"',
            b'[' => b']',
            _ => {
                let end = self.0.iter().position(|byte| *byte == b' ').unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at(end);
                self.0 = rest;
                return Some(word);
            }
        };
        let inner = &self.0[1..];
        let mut end = inner.iter().position(|byte| *byte == close)?;
        // A quote within quotes is written with a backslash before it.
        while close == b'"' && end > 0 && inner[end - 1] == b'\\' {
            end += 1 + inner[end + 1..].iter().position(|byte| *byte == close)?;
        }
        self.0 = &inner[end + 1..];
        Some(&inner[..end])
    }
}

/// Method and path of `POST /v1/completions HTTP/1.1`; empty where there are none.
pub(super) fn method_and_path(request: &[u8]) -> (Cow<'_, str>, Cow<'_, str>) {
    let mut words = request.split(|byte| *byte == b' ');
    let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default());
    (word(), word())
}

/// A count that may be missing (`-`).
pub(super) fn count(word: &[u8]) -> Option<u64> {
    whole_number(word.strip_prefix(b"+").unwrap_or(word))
}
