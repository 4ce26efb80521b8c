//! AIPerf's JSONL (`mooncake_trace`): Mooncake's keys, most of them optional, and `delay`, `session_id`, and prompts in
//! full. Times are milliseconds, with or without a fraction.
//!
//! A turn may have a `delay` after the answer to the session's turn before it in place of a time. How long that answer
//! takes is not in the file: it is taken to take no time, and the import says so.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::assumed::Assumed;
use super::formats::{Context, FormatReader, Row};
use super::input::{Head, Input};
use super::jsonl::Lines;
use super::mooncake_jsonl::{Blocks, Shape};
use super::number::Milliseconds;
use crate::error::TraceError;

const EXAMPLE: &str =
    "{\"timestamp\": 120, \"input_length\": 1024, \"output_length\": 256, \"session_id\": \"a\"}";

/// Sessions whose last time is kept, for turns that have a delay only.
const MOST_SESSIONS: usize = 1 << 20;

pub(super) struct AiperfJsonl {
    lines: Lines,
    ids: Option<Vec<u64>>,
    assumed: Assumed,
    /// When each session's last turn was sent.
    sessions: BTreeMap<String, i64>,
    delayed: u64,
}

#[derive(Deserialize)]
struct Keys {
    timestamp: Option<Milliseconds>,
    delay: Option<Milliseconds>,
    session_id: Option<String>,
    input_length: Option<u64>,
    output_length: Option<u64>,
    text_input: Option<IgnoredAny>,
    messages: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
}

impl AiperfJsonl {
    pub(super) fn recognise(head: &Head) -> bool {
        Shape::of(head).is_some_and(|shape| {
            let fraction = shape.has_fraction() && shape.input_length.is_some() && shape.chat_id.is_none();
            shape.is_aiperfs() || fraction
        })
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        Ok(Box::new(Self {
            lines: Lines::new(input),
            ids: None,
            assumed: context.assumed(),
            sessions: BTreeMap::new(),
            delayed: 0,
        }))
    }

    fn time_ns(&mut self, keys: &Keys) -> Result<i64, TraceError> {
        let time_ns = match (keys.timestamp, keys.delay) {
            (Some(timestamp), _) => timestamp.0,
            (None, Some(delay)) => {
                let before = keys.session_id.as_ref().and_then(|session| self.sessions.get(session));
                let Some(before) = before else {
                    return Err(self.lines.error(
                        "it has a `delay`, but no turn of its session with a time comes before it".into(),
                        "give the session's first turn a `timestamp`, and its turns one `session_id`; or every row a `timestamp`",
                    ));
                };
                self.delayed += 1;
                before.saturating_add(delay.0)
            }
            (None, None) => {
                return Err(self.lines.error(
                    "it has neither `timestamp` nor `delay`: nothing says when it is sent".into(),
                    "give each row a `timestamp` in milliseconds; for traffic without times describe it under [traffic.generate]",
                ));
            }
        };
        if let Some(session) = &keys.session_id {
            if let Some(last) = self.sessions.get_mut(session) {
                *last = time_ns;
            } else if self.sessions.len() < MOST_SESSIONS {
                self.sessions.insert(session.clone(), time_ns);
            }
        }
        Ok(time_ns)
    }
}

impl FormatReader for AiperfJsonl {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let keys: Keys = self.lines.parse(EXAMPLE)?;
        let time_ns = self.time_ns(&keys)?;
        let Some(input_tokens) = keys.input_length else {
            let prompts = [
                ("text_input", keys.text_input.is_some()),
                ("messages", keys.messages.is_some()),
                ("payload", keys.payload.is_some()),
            ];
            let found = prompts.iter().find(|(_, found)| *found).map_or("no prompt", |(name, _)| name);
            return Err(self.lines.error(
                format!("it has `{found}` and no `input_length`; text is not counted here"),
                "count the prompt's tokens with your model's tokenizer and write them as `input_length`",
            ));
        };
        let output_tokens = match keys.output_length {
            Some(output_tokens) => output_tokens,
            None => self
                .assumed
                .output(self.lines.line, None)
                .map_err(|problem| self.lines.error(problem, super::assumed::HELP))?,
        };
        if let Some(ids) = &mut self.ids {
            *ids = self.lines.parse::<Blocks>(EXAMPLE)?.hash_ids;
        }
        Ok(Some(Row::new(time_ns, input_tokens, output_tokens)))
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

    fn notes(&self) -> Vec<String> {
        let mut notes = self.assumed.notes();
        if self.delayed > 0 {
            notes.push(format!(
                "{} turns have a delay after the answer before them and no time: they are sent as if that answer took no \
                 time, so too early",
                self.delayed
            ));
        }
        notes
    }
}
