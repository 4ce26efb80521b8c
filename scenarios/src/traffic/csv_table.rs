//! CSV files whose columns are found by their names.

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::input::{Bytes, Input, excerpt, read_error};
use super::number::whole_number;
use crate::error::TraceError;

/// A file's rows, and where its columns stand.
pub(super) struct CsvTable {
    path: String,
    rows: Reader<Bytes>,
    header: ByteRecord,
    record: ByteRecord,
    line: u64,
}

/// Whether this first line names all these columns.
pub(super) fn names_columns(first_line: &[u8], columns: &[&str]) -> bool {
    let names: Vec<&[u8]> = first_line.split(|byte| *byte == b',').map(bare).collect();
    columns.iter().all(|column| names.contains(&column.as_bytes()))
}

impl CsvTable {
    /// Reads the header. Without `quoting` a line is a row: quotes around a value are taken off, but never join lines.
    pub(super) fn open(input: Input, quoting: bool) -> Result<Self, TraceError> {
        let mut rows = ReaderBuilder::new()
            .quoting(quoting)
            .flexible(true)
            .buffer_capacity(1 << 16)
            .from_reader(input.bytes);
        let header = rows.byte_headers().map_err(|error| csv_error(&input.path, 1, error))?.clone();
        Ok(Self { path: input.path, rows, header, record: ByteRecord::new(), line: 1 })
    }

    /// The first of these columns that the header names.
    pub(super) fn find(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.header.iter().position(|column| bare(column) == name.as_bytes()))
    }

    /// The same, when there must be one.
    pub(super) fn column(&self, name: &str, begins_with: &str) -> Result<usize, TraceError> {
        self.find(&[name]).ok_or_else(|| {
            let first: Vec<String> =
                self.header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            TraceError {
                path: self.path.clone(),
                row: Some(1),
                problem: format!(
                    "no column `{name}`; the first line is `{}`",
                    excerpt(first.join(",").as_bytes())
                ),
                help: format!("a file of this format begins with the line {begins_with}"),
                source: None,
            }
        })
    }

    /// A column's name.
    pub(super) fn name(&self, place: usize) -> String {
        String::from_utf8_lossy(bare(&self.header[place])).into_owned()
    }

    /// Goes to the next row; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        let more = self.rows.read_byte_record(&mut self.record);
        // The reader stands behind the row it has read; a last line without an end is not counted yet.
        match more {
            Ok(true) => self.line = self.record.position().map_or(self.line + 1, csv::Position::line),
            Ok(false) => return Ok(false),
            Err(error) => return Err(csv_error(&self.path, self.line + 1, error)),
        }
        if self.record.len() != self.header.len() {
            let problem = format!("{} fields, but the header names {}", self.record.len(), self.header.len());
            return Err(self.error(
                problem,
                "the row is cut off or damaged: correct or delete it, or fetch the file again",
            ));
        }
        Ok(true)
    }

    /// The row's value in this column.
    #[inline]
    pub(super) fn field(&self, place: usize) -> &[u8] {
        bare(&self.record[place])
    }

    /// A count of tokens.
    pub(super) fn tokens(&self, place: usize) -> Result<u64, TraceError> {
        let field = self.field(place);
        whole_number(field).ok_or_else(|| {
            self.error(
                format!("{} is `{}`, not a whole number of tokens", self.name(place), excerpt(field)),
                "correct or delete the row",
            )
        })
    }

    /// A value that is none.
    pub(super) fn bad(&self, place: usize, expected: &str) -> TraceError {
        self.error(
            format!("{} is `{}`, not {expected}", self.name(place), excerpt(self.field(place))),
            "correct or delete the row",
        )
    }

    /// Says that this row is wrong.
    pub(super) fn error(&self, problem: String, help: &str) -> TraceError {
        TraceError { path: self.path.clone(), row: Some(self.line), problem, help: help.into(), source: None }
    }

    pub(super) fn line(&self) -> u64 {
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
#[inline]
pub(super) fn bare(field: &[u8]) -> &[u8] {
    match field.trim_ascii() {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}
