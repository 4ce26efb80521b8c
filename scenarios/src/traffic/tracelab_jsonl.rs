//! TraceLab's rounds of coding agents: one JSON object a round, session after session.
//!
//! A round is sent when its last input (a user's message, a tool's result) is there: the latest event before the model's
//! first one. Sessions follow each other in the file, so `traffic.sort = true` is needed to lay them over each other.

use serde::Deserialize;

use super::formats::{Context, FormatReader, NOT_WANTED, Row};
use super::input::{Head, Input};
use super::jsonl::Lines;
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const EXAMPLE: &str = "{\"session_id\": \"...\", \"round_index\": 0, \"model\": \"...\", \"input_tokens_total\": 32272, \"output_tokens\": 931, \"timing_events\": [{\"event_type\": \"user_message\", \"timestamp\": \"2026-06-01T05:40:20.151Z\"}]}";

/// Events that are a round's input.
const INPUTS: [&str; 2] = ["user_message", "tool_result"];

pub(super) struct TracelabJsonl {
    lines: Lines,
    timestamps: TimestampReader,
    only: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    input_tokens_total: u64,
    output_tokens: u64,
    #[serde(default)]
    model: String,
    timing_events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
    timestamp: String,
}

impl TracelabJsonl {
    pub(super) fn recognise(head: &Head) -> bool {
        serde_json::from_slice::<Keys>(&head.first_line).is_ok()
    }

    #[expect(clippy::unnecessary_wraps)] // The table of formats wants one shape.
    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let (timestamps, only) = (context.timestamps(), context.options.only.clone());
        Ok(Box::new(Self { lines: Lines::new(input), timestamps, only }))
    }
}

impl FormatReader for TracelabJsonl {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let keys: Keys = self.lines.parse(EXAMPLE)?;
        let inputs =
            keys.timing_events.iter().take_while(|event| INPUTS.contains(&event.event_type.as_str()));
        // A round that only goes on has no input of its own: it is sent when its first event is seen.
        let Some(sent) = inputs.last().or(keys.timing_events.first()) else {
            let problem = "it has no timing_events: nothing says when it was sent".to_owned();
            return Err(self.lines.error(problem, "delete the row"));
        };
        let Some(time_ns) = self.timestamps.read(sent.timestamp.as_bytes()) else {
            let problem = format!("`{}` is no time", super::input::excerpt(sent.timestamp.as_bytes()));
            return Err(self.lines.error(problem, "correct or delete the row"));
        };
        let row = Row::new(time_ns, keys.input_tokens_total, keys.output_tokens);
        let wanted = self.only.as_ref().is_none_or(|only| *only == keys.model);
        Ok(Some(if wanted { row } else { row.left_out(NOT_WANTED) }))
    }

    fn line(&self) -> u64 {
        self.lines.line
    }

    fn zone_assumed(&self) -> bool {
        self.timestamps.zone_assumed()
    }
}
