//! What can be wrong with a user's files, said so that it can be mended.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Why a scenario could not be taken.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The file can't be read.
    #[error("{}: cannot read the scenario: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The text is wrong at one place.
    #[error(transparent)]
    Invalid(#[from] Box<Diagnostic>),
}

/// One mistake in a scenario and where it is. `Display` is the whole message; the fields are for richer rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, or `--set key=value` when an override is at fault.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The dotted key, where there is one.
    pub key: Option<String>,
    /// The offending line's text.
    pub snippet: String,
    /// How many characters from `column` on are at fault; at least 1.
    pub width: usize,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl std::error::Error for Diagnostic {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // An override has one line; its label already shows it.
        if self.path.starts_with("--set ") {
            writeln!(out, "{}: {}", self.path, self.message)?;
        } else {
            writeln!(out, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)?;
        }
        writeln!(out, "{margin} |")?;
        writeln!(out, "{number} | {}", self.snippet)?;
        write!(
            out,
            "{margin} | {}{}",
            " ".repeat(self.column.saturating_sub(1)),
            "^".repeat(self.width.max(1))
        )?;
        if let Some(help) = &self.help {
            write!(out, "\n{margin} = help: {help}")?;
        }
        Ok(())
    }
}

/// Why a traffic file could not be taken: file, row where there is one, reason, remedy.
#[derive(Debug, Error)]
#[error("{path}{}: {problem}\n  help: {help}", row.map(|row| format!(", row {row}")).unwrap_or_default())]
pub struct TraceError {
    /// The file.
    pub path: String,
    /// The line in the (decompressed) file, from 1, a header counted.
    pub row: Option<u64>,
    /// What is wrong, with the offending text.
    pub problem: String,
    /// What to do.
    pub help: String,
    /// What the system says, when it was reading that failed.
    #[source]
    pub source: Option<std::io::Error>,
}
