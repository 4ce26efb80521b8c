//! Mooncake's traces: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}`, one a line.
//!
//! Times are milliseconds since a zero of the file's own. AIPerf writes the same keys, with fractions of a millisecond.
//! Bailian's traces look alike but count seconds, so a file with a `chat_id`, or with fractions, is not recognised by
//! itself: it has to be asked for.

use std::fmt;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, Visitor};

use super::import::{FormatReader, Row};
use super::input::{Bytes, Input, excerpt, read_error};
use crate::error::TraceError;

pub(crate) struct MooncakeJsonl {
    path: String,
    bytes: Bytes,
    buffer: Vec<u8>,
    line: u64,
    /// Names of the last row's blocks, where they are wanted.
    ids: Option<Vec<u64>>,
}

/// Keys that are not named are skipped without being stored.
#[derive(Deserialize)]
struct Keys {
    timestamp: Milliseconds,
    input_length: u64,
    output_length: u64,
}

/// The names of the prompt's blocks, read only where they are wanted.
#[derive(Deserialize)]
struct Blocks {
    #[serde(default)]
    hash_ids: Vec<u64>,
}

/// The first line's keys that tell one format from another.
#[derive(Deserialize)]
struct Shape {
    timestamp: serde_json::Number,
    #[serde(rename = "input_length")]
    _input_length: u64,
    #[serde(rename = "output_length")]
    _output_length: u64,
    chat_id: Option<IgnoredAny>,
}

impl MooncakeJsonl {
    pub(crate) fn recognise(first_line: &[u8]) -> bool {
        serde_json::from_slice::<Shape>(first_line)
            .is_ok_and(|shape| shape.chat_id.is_none() && !shape.timestamp.is_f64())
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(crate) fn open(input: Input) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(Box::new(Self { path: input.path, bytes: input.bytes, buffer: Vec::new(), line: 0, ids: None }))
    }
}

impl FormatReader for MooncakeJsonl {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let count = self
                .bytes
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| read_error(&self.path, Some(self.line), source))?;
            if count == 0 {
                self.line -= 1;
                return Ok(None);
            }
            let text = self.buffer.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let keys: Keys = serde_json::from_slice(text)
                .map_err(|error| row_error(&self.path, self.line, text, &error))?;
            if let Some(ids) = &mut self.ids {
                let blocks: Blocks = serde_json::from_slice(text)
                    .map_err(|error| row_error(&self.path, self.line, text, &error))?;
                *ids = blocks.hash_ids;
            }
            return Ok(Some(Row {
                time_ns: keys.timestamp.0,
                input_tokens: keys.input_length,
                output_tokens: keys.output_length,
            }));
        }
    }

    fn line(&self) -> u64 {
        self.line
    }

    fn read_prefixes(&mut self) {
        self.ids = Some(Vec::new());
    }

    fn take_prefix(&mut self) -> Vec<u64> {
        self.ids.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

fn row_error(path: &str, line: u64, text: &[u8], error: &serde_json::Error) -> TraceError {
    // The library counts lines within the row; ours are the file's.
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    let cut_off = error.is_eof();
    let help = if cut_off {
        "the line is cut off: fetch the file again, or delete the line"
    } else {
        "each line must be like {\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52}: correct or delete it"
    };
    TraceError {
        path: path.to_owned(),
        row: Some(line),
        problem: format!("column {}: {message}; the row is `{}`", error.column(), excerpt(text)),
        help: help.into(),
        source: None,
    }
}

/// Milliseconds as a JSON number, in nanoseconds.
struct Milliseconds(i64);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MillisecondsVisitor)
    }
}

struct MillisecondsVisitor;

impl Visitor<'_> for MillisecondsVisitor {
    type Value = Milliseconds;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("milliseconds since the start of the trace, not negative")
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Milliseconds, E> {
        i64::try_from(ms)
            .ok()
            .and_then(|ms| ms.checked_mul(1_000_000))
            .map(Milliseconds)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(ms), &self))
    }

    fn visit_f64<E: de::Error>(self, ms: f64) -> Result<Milliseconds, E> {
        // Beyond 2^53 a float has no whole nanoseconds left; 9e9 ms are a hundred days.
        if (0.0..=9e12).contains(&ms) {
            #[expect(clippy::cast_possible_truncation)]
            return Ok(Milliseconds((ms * 1e6).round() as i64));
        }
        Err(E::invalid_value(de::Unexpected::Float(ms), &self))
    }
}
