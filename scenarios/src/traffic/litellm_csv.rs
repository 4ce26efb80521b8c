//! LiteLLM's spend log (`LiteLLM_SpendLogs`) exported as CSV: `startTime`, `endTime`, `prompt_tokens`,
//! `completion_tokens`, and, where they are there, `status`, `cache_hit`, `call_type` and `model`.
//!
//! Times are Postgres's timestamps without a zone (UTC). Fields may be quoted and hold line ends (prompts, metadata).

use super::csv_table::{CsvTable, names_columns};
use super::formats::{Context, FormatReader, NOT_WANTED, Row};
use super::input::{Head, Input};
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const COLUMNS: [&str; 4] = ["startTime", "endTime", "prompt_tokens", "completion_tokens"];
const HEADER: &str =
    "request_id,call_type,startTime,endTime,prompt_tokens,completion_tokens,model,status,cache_hit";

/// Calls that generate no tokens.
const OTHER_CALLS: [&[u8]; 6] =
    [b"embedding", b"image", b"transcription", b"speech", b"moderation", b"rerank"];

pub(super) struct LitellmCsv {
    table: CsvTable,
    /// Where each of [`COLUMNS`] stands.
    places: [usize; 4],
    status: Option<usize>,
    cache_hit: Option<usize>,
    call_type: Option<usize>,
    only: Option<(usize, String)>,
    timestamps: TimestampReader,
}

impl LitellmCsv {
    pub(super) fn recognise(head: &Head) -> bool {
        names_columns(&head.first_line, &COLUMNS)
    }

    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let table = CsvTable::open(input, true)?;
        let mut places = [0; 4];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place = table.column(column, HEADER)?;
        }
        let only = match &context.options.only {
            Some(only) => Some((table.column("model", HEADER)?, only.clone())),
            None => None,
        };
        let (status, cache_hit, call_type) =
            (table.find(&["status"]), table.find(&["cache_hit"]), table.find(&["call_type"]));
        let timestamps = context.timestamps();
        Ok(Box::new(Self { table, places, status, cache_hit, call_type, only, timestamps }))
    }

    fn time_ns(&mut self, place: usize) -> Result<i64, TraceError> {
        let time_ns = self.timestamps.read(self.table.field(place));
        time_ns.ok_or_else(|| self.table.bad(place, "a time such as 2026-01-05 09:00:00.123"))
    }

    fn left_out(&self) -> Option<&'static str> {
        let field = |place: Option<usize>| place.map(|place| self.table.field(place)).unwrap_or_default();
        let call_type = field(self.call_type);
        let other = |call: &&[u8]| call_type.windows(call.len()).any(|part| part == *call);
        if self.only.as_ref().is_some_and(|(place, only)| self.table.field(*place) != only.as_bytes()) {
            return Some(NOT_WANTED);
        }
        if OTHER_CALLS.iter().any(other) {
            return Some("its call_type generates no tokens");
        }
        if field(self.cache_hit).eq_ignore_ascii_case(b"true") {
            return Some("answered from the proxy's cache: it never reached a model");
        }
        matches!(field(self.status), b"failure" | b"error").then_some("its status is failure")
    }
}

impl FormatReader for LitellmCsv {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let start_ns = self.time_ns(self.places[0])?;
        let (row, end_ns) = match self.left_out() {
            // A failed call may have no end and no counts.
            Some(reason) => (Row::new(start_ns, 0, 0).left_out(reason), start_ns),
            None => {
                let end_ns = self.time_ns(self.places[1])?;
                if end_ns < start_ns {
                    let problem = "endTime is before startTime".to_owned();
                    return Err(self.table.error(problem, "correct or delete the row"));
                }
                let tokens = |place| self.table.tokens(place);
                (Row::new(start_ns, tokens(self.places[2])?, tokens(self.places[3])?), end_ns)
            }
        };
        Ok(Some(Row { end_ns, ..row }))
    }

    fn line(&self) -> u64 {
        self.table.line()
    }

    fn zone_assumed(&self) -> bool {
        self.timestamps.zone_assumed()
    }
}
