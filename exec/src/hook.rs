//! Commands of the operator's own: argument vectors, never a shell's line.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use slackwater_policy::{Span, VersionRef};
use tokio::process::Command;

use crate::deployment::{Place, fill};
use crate::http::short;
use crate::trouble::Trouble;

/// One command.
pub(crate) struct Hook<'a> {
    /// Its key in the deployment.
    pub(crate) what: &'static str,
    pub(crate) command: &'a [String],
    pub(crate) within: Duration,
}

impl Hook<'_> {
    /// Runs it; what it printed, trimmed.
    pub(crate) async fn run(
        &self,
        place: Option<&Place>,
        version: Option<VersionRef>,
        more: &[(&str, String)],
    ) -> Result<String, Trouble> {
        let arguments = filled(self.what, self.command, place, version, more)?;
        run(self.what, &arguments, self.within).await
    }
}

/// The command with its placeholders replaced.
pub(crate) fn filled(
    what: &str,
    command: &[String],
    place: Option<&Place>,
    version: Option<VersionRef>,
    more: &[(&str, String)],
) -> Result<Vec<String>, Trouble> {
    let Some(place) = place else { return Ok(command.to_vec()) };
    let filled: Result<Vec<String>, String> =
        command.iter().map(|template| fill(template, place, version, more)).collect();
    filled.map_err(|reason| Trouble::lasting(format!("{what}: {reason}")))
}

/// Runs an argument vector; what it printed, trimmed. Exit code 75 (`EX_TEMPFAIL`) and time-outs may be tried again.
pub(crate) async fn run(what: &str, arguments: &[String], within: Duration) -> Result<String, Trouble> {
    run_in(what, arguments, within, None, &[]).await
}

/// The same in a folder and with further variables.
pub(crate) async fn run_in(
    what: &str,
    arguments: &[String],
    within: Duration,
    folder: Option<&Path>,
    variables: &[(OsString, OsString)],
) -> Result<String, Trouble> {
    let Some((program, rest)) = arguments.split_first() else {
        return Err(Trouble::lasting(format!("{what} is empty; expected a command as an argument vector")));
    };
    let mut command = Command::new(program);
    // A command that takes too long is ended with us no longer waiting for it.
    command.args(rest).stdin(Stdio::null()).kill_on_drop(true).envs(variables.iter().cloned());
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = match tokio::time::timeout(within, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(Trouble::lasting(format!("{what}: `{program}` can't be run: {error}"))),
        Err(_) => {
            let seconds = within.as_secs_f64();
            return Err(Trouble::passing(format!("{what}: `{program}` was not done within {seconds:.0} s")));
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = short(if error.trim().is_empty() { &said } else { &error });
    let reason = format!("{what}: `{program}` ended with {}: {said}", output.status);
    // Most failures of commands are of the moment; a command that can't be used at all says so with 126 or 127.
    Err(Trouble { reason, retryable: !matches!(output.status.code(), Some(126 | 127)) })
}

pub(crate) fn count(what: &str, said: &str) -> Result<u32, Trouble> {
    said.parse().map_err(|_| Trouble::lasting(format!("{what} printed `{}`; expected a count", short(said))))
}

pub(crate) fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.as_nanos())
}

/// Runs an argument vector for its exit code; what it printed last comes with it.
pub(crate) async fn exit_code(what: &str, arguments: &[String]) -> Result<(i32, String), Trouble> {
    let Some((program, rest)) = arguments.split_first() else {
        return Err(Trouble::lasting(format!("{what} is empty; expected a command as an argument vector")));
    };
    let output = Command::new(program).args(rest).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output =
        output.map_err(|error| Trouble::lasting(format!("{what}: `{program}` can't be run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
    match output.status.code() {
        Some(code @ (126 | 127)) => Err(Trouble::lasting(format!("{what}: `{program}` ended with {code}"))),
        Some(code) => Ok((code, short(&last))),
        None => Err(Trouble::passing(format!("{what}: `{program}` ended with {}", output.status))),
    }
}
