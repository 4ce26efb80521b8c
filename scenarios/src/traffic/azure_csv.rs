//! Azure's LLM inference traces of 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! 2023: no zone (UTC is assumed), seven digits after the point, CRLF, no final line end. 2024: `+00:00`, six digits, or
//! none on a whole second. Columns are found by name, so others may stand beside them. Fields are not quoted, so a line
//! is a row: quotes around a value are taken off, but a quote never joins lines.

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::import::{FormatReader, Row};
use super::input::{Bytes, Input, excerpt, read_error};
use super::timestamp::TimestampReader;
use crate::error::TraceError;

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

pub(crate) struct AzureCsv {
    path: String,
    rows: Reader<Bytes>,
    record: ByteRecord,
    /// Where each of [`COLUMNS`] stands.
    places: [usize; 3],
    width: usize,
    timestamps: TimestampReader,
    line: u64,
}

impl AzureCsv {
    pub(crate) fn recognise(first_line: &[u8]) -> bool {
        let names: Vec<&[u8]> = first_line.split(|byte| *byte == b',').map(bare).collect();
        COLUMNS.iter().all(|column| names.contains(&column.as_bytes()))
    }

    pub(crate) fn open(input: Input) -> Result<Box<dyn FormatReader>, TraceError> {
        let mut rows = ReaderBuilder::new()
            .quoting(false)
            .flexible(true)
            .buffer_capacity(1 << 16)
            .from_reader(input.bytes);
        let header = rows.byte_headers().map_err(|error| csv_error(&input.path, 1, error))?.clone();
        let mut places = [0; 3];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place =
                header.iter().position(|name| bare(name) == column.as_bytes()).ok_or_else(|| TraceError {
                    path: input.path.clone(),
                    row: Some(1),
                    problem: format!(
                        "no column `{column}`; the first line is `{}`",
                        excerpt(&input.first_line)
                    ),
                    help: format!("an Azure trace begins with the line {}", COLUMNS.join(",")),
                    source: None,
                })?;
        }
        Ok(Box::new(Self {
            path: input.path,
            rows,
            record: ByteRecord::new(),
            places,
            width: header.len(),
            timestamps: TimestampReader::default(),
            line: 1,
        }))
    }

    fn error(&self, problem: String, help: &str) -> TraceError {
        TraceError { path: self.path.clone(), row: Some(self.line), problem, help: help.into(), source: None }
    }

    fn tokens(&self, column: usize) -> Result<u64, TraceError> {
        let field = bare(&self.record[self.places[column]]);
        whole_number(field).ok_or_else(|| {
            self.error(
                format!("{} is `{}`, not a whole number of tokens", COLUMNS[column], excerpt(field)),
                "correct or delete the row",
            )
        })
    }
}

impl FormatReader for AzureCsv {
    fn next_row(&mut self) -> Result<Option<Row>, TraceError> {
        let more = self.rows.read_byte_record(&mut self.record);
        // The reader stands behind the row it has read; a last line without an end is not counted yet.
        match more {
            Ok(true) => self.line = self.record.position().map_or(self.line + 1, csv::Position::line),
            Ok(false) => return Ok(None),
            Err(error) => return Err(csv_error(&self.path, self.line + 1, error)),
        }
        if self.record.len() != self.width {
            let problem = format!("{} fields, but the header names {}", self.record.len(), self.width);
            return Err(self.error(
                problem,
                "the row is cut off or damaged: correct or delete it, or fetch the file again",
            ));
        }
        let stamp = bare(&self.record[self.places[0]]);
        let Some(time_ns) = self.timestamps.read(stamp) else {
            return Err(self.error(
                format!("TIMESTAMP is `{}`, not a time such as 2023-11-16 18:15:46.6805900", excerpt(stamp)),
                "correct or delete the row",
            ));
        };
        Ok(Some(Row { time_ns, input_tokens: self.tokens(1)?, output_tokens: self.tokens(2)? }))
    }

    fn line(&self) -> u64 {
        self.line
    }
}

fn csv_error(path: &str, line: u64, error: csv::Error) -> TraceError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => read_error(path, Some(line), source),
        other => TraceError {
            path: path.to_owned(),
            row: Some(line),
            problem: format!("the row can't be split: {other:?}"),
            help: "correct or delete the row".into(),
            source: None,
        },
    }
}

/// Without spaces, quotes, and the carriage return that some line ends leave.
fn bare(field: &[u8]) -> &[u8] {
    match field.trim_ascii() {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

/// Digits only; ten of them are beyond any request, and can't overflow.
fn whole_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}
