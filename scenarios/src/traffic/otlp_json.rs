//! OpenTelemetry spans of generative AI in OTLP/JSON: one export after the other, a line each or pretty-printed.
//!
//! Attribute names are those of the semantic conventions for generative AI, new (`gen_ai.usage.input_tokens`) and old
//! (`gen_ai.usage.prompt_tokens`). Integers are texts, as protobuf's JSON writes 64 bits. An export is in memory while its
//! spans are read. Spans are exported in batches as they end. Those that count no tokens (HTTP, databases, tools) are left
//! out; so is a span whose parent in the same export counts tokens too, for it is the same request seen from inside.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::de::IoRead;

use super::formats::{Context, FormatReader, NOT_WANTED, Row};
use super::input::{Bytes, Head, Input, read_error};
use crate::error::TraceError;

const HELP: &str = "an export is like {\"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [{\"startTimeUnixNano\": \"...\", \
     \"endTimeUnixNano\": \"...\", \"attributes\": [{\"key\": \"gen_ai.usage.input_tokens\", \"value\": {\"intValue\": \"812\"}}]}]}]}]}";

pub(super) struct OtlpJson {
    path: String,
    exports: serde_json::StreamDeserializer<'static, IoRead<Bytes>, Export>,
    only: Option<String>,
    /// Rows of the export at hand, the next one last.
    rows: Vec<Row>,
    /// Spans read: an export has no line of its own.
    spans: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    resource_spans: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    scope_spans: Vec<Scope>,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(default)]
    span_id: String,
    #[serde(default)]
    parent_span_id: String,
    start_time_unix_nano: Whole,
    end_time_unix_nano: Whole,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Value {
    int_value: Option<Whole>,
    string_value: Option<String>,
}

/// A whole number, in quotes or not.
#[derive(Clone, Copy)]
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written<'a> {
            Number(u64),
            Text(Cow<'a, str>),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Some(number),
            Written::Text(text) => super::number::whole_number(text.as_bytes()),
        }
        .map(Self)
        .ok_or_else(|| serde::de::Error::custom("expected a whole number"))
    }
}

impl Span {
    fn count(&self, names: [&str; 2]) -> Option<u64> {
        let find = |name: &str| self.attributes.iter().find(|attribute| attribute.key == name);
        names.iter().find_map(|name| find(name)?.value.int_value).map(|whole| whole.0)
    }

    fn input(&self) -> Option<u64> {
        self.count(["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"])
    }

    fn output(&self) -> Option<u64> {
        self.count(["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"])
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| attribute.key == name)?.value.string_value.as_deref()
    }

    fn row(&self, only: Option<&str>, counted: &BTreeSet<&str>) -> Result<Row, String> {
        let time = |ns: Whole| i64::try_from(ns.0).map_err(|_| "its time is after the year 2262".to_owned());
        let (start_ns, end_ns) = (time(self.start_time_unix_nano)?, time(self.end_time_unix_nano)?);
        if end_ns < start_ns {
            return Err("it ends before it begins".into());
        }
        let row = Row { end_ns, ..Row::new(start_ns, self.input().unwrap_or(0), self.output().unwrap_or(0)) };
        if self.input().is_none() && self.output().is_none() {
            return Ok(row.left_out("a span that counts no tokens"));
        }
        if counted.contains(self.parent_span_id.as_str()) {
            return Ok(row.left_out("a span within a request that is counted"));
        }
        if self.text("error.type").is_some() {
            return Ok(row.left_out("a span with an error.type: the request failed"));
        }
        let model = self.text("gen_ai.request.model").or(self.text("gen_ai.response.model"));
        let wanted = only.is_none_or(|only| model == Some(only));
        Ok(if wanted { row } else { row.left_out(NOT_WANTED) })
    }
}

impl OtlpJson {
    pub(super) fn recognise(head: &Head) -> bool {
        let key = b"\"resourceSpans\"";
        head.start.trim_ascii_start().starts_with(b"{")
            && head.start.windows(key.len()).take(256).any(|part| part == key)
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let exports = serde_json::Deserializer::from_reader(input.bytes).into_iter();
        let only = context.options.only.clone();
        Ok(Box::new(Self { path: input.path, exports, only, rows: Vec::new(), spans: 0 }))
    }

    /// Reads the next export; false at the end.
    fn export(&mut self) -> Result<bool, TraceError> {
        let export = match self.exports.next() {
            None => return Ok(false),
            Some(Ok(export)) => export,
            Some(Err(error)) if error.is_io() => {
                return Err(read_error(&self.path, None, error.into()));
            }
            Some(Err(error)) => {
                let line = u64::try_from(error.line()).ok();
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                let problem = format!("column {}: {message}", error.column());
                let help = if error.is_eof() { "the file is cut off: fetch it again" } else { HELP };
                return Err(TraceError {
                    path: self.path.clone(),
                    row: line,
                    problem,
                    help: help.into(),
                    source: None,
                });
            }
        };
        let scopes = export.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
        let counted: BTreeSet<&str> = spans
            .iter()
            .filter(|span| !span.span_id.is_empty() && (span.input().is_some() || span.output().is_some()))
            .map(|span| span.span_id.as_str())
            .collect();
        for (index, span) in spans.iter().enumerate() {
            let row = span.row(self.only.as_deref(), &counted).map_err(|problem| TraceError {
                path: self.path.clone(),
                row: None,
                problem: format!("span {} ({}): {problem}", self.spans + index as u64 + 1, span.span_id),
                help: "correct or delete the span".into(),
                source: None,
            })?;
            self.rows.push(row);
        }
        // The last one is taken first.
        self.rows.reverse();
        Ok(true)
    }
}

impl FormatReader for OtlpJson {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        while self.rows.is_empty() {
            if !self.export()? {
                return Ok(None);
            }
        }
        self.spans += 1;
        Ok(self.rows.pop())
    }

    fn line(&self) -> u64 {
        self.spans
    }
}
