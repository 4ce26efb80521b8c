//! Files with one JSON object a line.

use std::io::BufRead;

use super::input::{Bytes, Input, excerpt, read_error};
use crate::error::TraceError;

/// A file's lines, blank ones left out.
pub(super) struct Lines {
    pub(super) path: String,
    bytes: Bytes,
    buffer: Vec<u8>,
    pub(super) line: u64,
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Self { path: input.path, bytes: input.bytes, buffer: Vec::new(), line: 0 }
    }

    /// Goes to the next line; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let count = self
                .bytes
                .read_until(b'\n', &mut self.buffer)
                .map_err(|source| read_error(&self.path, Some(self.line), source))?;
            if count == 0 {
                self.line -= 1;
                return Ok(false);
            }
            if !self.text().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line, without spaces around it.
    pub(super) fn text(&self) -> &[u8] {
        self.buffer.trim_ascii()
    }

    /// The line's object; `example` is what a line should look like.
    pub(super) fn parse<'de, T: serde::Deserialize<'de>>(&'de self, example: &str) -> Result<T, TraceError> {
        let text = self.text();
        serde_json::from_slice(text).map_err(|error| {
            // The library counts lines within the row; ours are the file's.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let problem = format!("column {}: {message}; the row is `{}`", error.column(), excerpt(text));
            if error.is_eof() {
                self.error(problem, "the line is cut off: fetch the file again, or delete the line")
            } else {
                self.error(problem, &format!("each line must be like {example}: correct or delete it"))
            }
        })
    }

    /// Says that this line is wrong.
    pub(super) fn error(&self, problem: String, help: &str) -> TraceError {
        TraceError { path: self.path.clone(), row: Some(self.line), problem, help: help.into(), source: None }
    }
}
