//! Mooncake's traces: `{"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]}`, one a line.
//!
//! Times are milliseconds since a zero of the file's own. A file with further keys that AIPerf knows is one of AIPerf's; a
//! file with fractions may count milliseconds (AIPerf) or seconds (Bailian), so it is taken for neither by itself.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::formats::{Context, FormatReader, Row};
use super::input::{Head, Input};
use super::jsonl::Lines;
use super::number::Milliseconds;
use crate::error::TraceError;

const EXAMPLE: &str = "{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52}";

pub(super) struct MooncakeJsonl {
    lines: Lines,
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
pub(super) struct Blocks {
    #[serde(default)]
    pub(super) hash_ids: Vec<u64>,
}

/// The first line's keys that tell one JSONL format from another.
#[derive(Default, Deserialize)]
pub(super) struct Shape {
    pub(super) timestamp: Option<serde_json::Number>,
    pub(super) input_length: Option<IgnoredAny>,
    pub(super) output_length: Option<IgnoredAny>,
    pub(super) chat_id: Option<IgnoredAny>,
    pub(super) session_id: Option<IgnoredAny>,
    pub(super) delay: Option<IgnoredAny>,
    pub(super) text_input: Option<IgnoredAny>,
    pub(super) messages: Option<IgnoredAny>,
    pub(super) payload: Option<IgnoredAny>,
}

impl Shape {
    /// `None` when the line is no such object.
    pub(super) fn of(head: &Head) -> Option<Self> {
        serde_json::from_slice(&head.first_line).ok()
    }

    pub(super) fn has_fraction(&self) -> bool {
        self.timestamp.as_ref().is_some_and(serde_json::Number::is_f64)
    }

    pub(super) fn is_aiperfs(&self) -> bool {
        let prompt = self.text_input.is_some() || self.messages.is_some() || self.payload.is_some();
        let timed = self.timestamp.is_some() || self.delay.is_some();
        let counted = self.input_length.is_some();
        self.chat_id.is_none()
            && ((prompt && timed)
                || (counted
                    && timed
                    && (self.session_id.is_some() || self.delay.is_some() || self.output_length.is_none())))
    }
}

impl MooncakeJsonl {
    pub(super) fn recognise(head: &Head) -> bool {
        Shape::of(head).is_some_and(|shape| {
            let whole = shape.timestamp.is_some() && !shape.has_fraction();
            let counted = shape.input_length.is_some() && shape.output_length.is_some();
            whole && counted && shape.chat_id.is_none() && !shape.is_aiperfs()
        })
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, _: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(Box::new(Self { lines: Lines::new(input), ids: None }))
    }
}

impl FormatReader for MooncakeJsonl {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let keys: Keys = self.lines.parse(EXAMPLE)?;
        if let Some(ids) = &mut self.ids {
            *ids = self.lines.parse::<Blocks>(EXAMPLE)?.hash_ids;
        }
        Ok(Some(Row::new(keys.timestamp.0, keys.input_length, keys.output_length)))
    }

    fn line(&self) -> u64 {
        self.lines.line
    }

    fn read_prefixes(&mut self) {
        self.ids = Some(Vec::new());
    }

    fn take_prefix(&mut self) -> Vec<u64> {
        self.ids.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
