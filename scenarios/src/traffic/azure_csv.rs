//! Azure's LLM inference traces of 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! 2023: no zone (UTC is assumed), seven digits after the point, CRLF, no final line end. 2024: `+00:00`, six digits, or
//! none on a whole second. Columns are found by name, so others may stand beside them. Fields are not quoted, so a line
//! is a row.

use super::csv_table::{CsvTable, names_columns};
use super::formats::{Context, FormatReader, Row};
use super::input::{Head, Input, excerpt};
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

pub(super) struct AzureCsv {
    table: CsvTable,
    /// Where each of [`COLUMNS`] stands.
    places: [usize; 3],
    timestamps: TimestampReader,
}

impl AzureCsv {
    pub(super) fn recognise(head: &Head) -> bool {
        names_columns(&head.first_line, &COLUMNS)
    }

    pub(super) fn open(input: Input, context: &Context<'_>) -> Result<Box<dyn FormatReader>, TraceError> {
        let table = CsvTable::open(input, false)?;
        let mut places = [0; 3];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place = table.column(column, &COLUMNS.join(","))?;
        }
        Ok(Box::new(Self { table, places, timestamps: context.timestamps() }))
    }
}

impl FormatReader for AzureCsv {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let stamp = self.table.field(self.places[0]);
        let Some(time_ns) = self.timestamps.read(stamp) else {
            return Err(self.table.error(
                format!("TIMESTAMP is `{}`, not a time such as 2023-11-16 18:15:46.6805900", excerpt(stamp)),
                "correct or delete the row",
            ));
        };
        Ok(Some(Row::new(time_ns, self.table.tokens(self.places[1])?, self.table.tokens(self.places[2])?)))
    }

    fn line(&self) -> u64 {
        self.table.line()
    }

    fn zone_assumed(&self) -> bool {
        self.timestamps.zone_assumed()
    }
}
