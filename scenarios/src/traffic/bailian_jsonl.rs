//! Bailian's (Qwen's) traces: `chat_id`, `parent_chat_id`, `turn`, `timestamp` in SECONDS since a zero of the file's own,
//! and `hash_ids` of blocks of 16 tokens.
//!
//! The simulator's blocks have [`PREFIX_BLOCK`] tokens: 32 of the file's become one, named by all of them and all before,
//! so prompts share what they share in whole blocks of 512.

use serde::Deserialize;

use super::formats::{Context, FormatReader, Row};
use super::input::{Head, Input};
use super::jsonl::Lines;
use super::mooncake_jsonl::{Blocks, Shape};
use super::number::Seconds;
use super::{PREFIX_BLOCK, chained};
use crate::error::TraceError;

const EXAMPLE: &str = "{\"chat_id\": 159, \"parent_chat_id\": -1, \"timestamp\": 61.114, \"input_length\": 521, \"output_length\": 132, \"type\": \"text\", \"turn\": 1}";

/// Tokens of a block that the file names.
const BLOCK: usize = 16;
const TOGETHER: usize = PREFIX_BLOCK as usize / BLOCK;

pub(super) struct BailianJsonl {
    lines: Lines,
    ids: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Keys {
    timestamp: Seconds,
    input_length: u64,
    output_length: u64,
}

impl BailianJsonl {
    pub(super) fn recognise(head: &Head) -> bool {
        Shape::of(head).is_some_and(|shape| {
            let counted = shape.input_length.is_some() && shape.output_length.is_some();
            // Without a `chat_id` fractions may be of milliseconds too: the table of formats then finds two.
            let fraction = shape.has_fraction() && !shape.is_aiperfs();
            shape.timestamp.is_some() && counted && (shape.chat_id.is_some() || fraction)
        })
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, _: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(Box::new(Self { lines: Lines::new(input), ids: None }))
    }
}

impl FormatReader for BailianJsonl {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let keys: Keys = self.lines.parse(EXAMPLE)?;
        if let Some(ids) = &mut self.ids {
            let named: Blocks = self.lines.parse(EXAMPLE)?;
            let mut before = 0;
            *ids = named
                .hash_ids
                .chunks(TOGETHER)
                .map(|blocks| {
                    before = blocks.iter().fold(before, |before, id| chained(before, *id));
                    before
                })
                .collect();
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
