//! BurstGPT: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`; a later release has `Session ID` and
//! `Elapsed time` among them, so columns are found by name.
//!
//! Times are seconds since 0:00 local time of the first day: a zero of the file's own. A row without response tokens is a
//! request that failed.

use super::csv_table::{CsvTable, names_columns};
use super::formats::{Context, FormatReader, NOT_WANTED, Row};
use super::input::{Head, Input};
use super::number::decimal_ns;
use crate::error::TraceError;

const COLUMNS: [&str; 3] = ["Timestamp", "Request tokens", "Response tokens"];
const HEADER: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type";

pub(super) struct BurstGptCsv {
    table: CsvTable,
    /// Where each of [`COLUMNS`] stands.
    places: [usize; 3],
    /// The model's column, and the one that is wanted.
    only: Option<(usize, String)>,
}

impl BurstGptCsv {
    pub(super) fn recognise(head: &Head) -> bool {
        names_columns(&head.first_line, &COLUMNS)
    }

    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let table = CsvTable::open(input, false)?;
        let mut places = [0; 3];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place = table.column(column, HEADER)?;
        }
        let only = match &context.options.only {
            Some(only) => Some((table.column("Model", HEADER)?, only.clone())),
            None => None,
        };
        Ok(Box::new(Self { table, places, only }))
    }
}

impl FormatReader for BurstGptCsv {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let time_ns = decimal_ns(self.table.field(self.places[0]), 1_000_000_000)
            .ok_or_else(|| self.table.bad(self.places[0], "a number of seconds"))?;
        let row = Row::new(time_ns, self.table.tokens(self.places[1])?, self.table.tokens(self.places[2])?);
        let wanted =
            self.only.as_ref().is_none_or(|(place, only)| self.table.field(*place) == only.as_bytes());
        Ok(Some(if wanted { row } else { row.left_out(NOT_WANTED) }))
    }

    fn line(&self) -> u64 {
        self.table.line()
    }
}
