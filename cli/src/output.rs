//! What goes where: results to standard output, errors to standard error.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

/// Writes a line of result. A reader that has gone away (`| head`) is no error.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    quiet_when_closed(writeln!(io::stdout().lock(), "{text}"))
}

/// Writes a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("this result can't be written as JSON")?;
    line(&text)
}

/// Talk: one line on standard error.
pub(crate) fn say(text: &str) {
    // Nothing can be done about a closed standard error.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(crate) fn quiet_when_closed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Says what went wrong, the cause last.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    // A cause that its parent already spelt out is not said twice.
    let mut said = String::new();
    for cause in causes {
        if !said.contains(&cause) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(&cause);
        }
    }
    say(&format!("error: {said}"));
    ExitCode::FAILURE
}
