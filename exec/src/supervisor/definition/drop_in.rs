//! A drop-in of a systemd unit, as its `command` and `env` make it.

use slackwater_policy::VersionRef;

use crate::deployment::{Deployment, Place};

/// The drop-in of a version; empty where it changes nothing.
pub(super) fn text(deployment: &Deployment, place: &Place, version: VersionRef) -> Result<String, String> {
    let command = deployment.arguments(place, version)?;
    let environment = deployment.plain_environment(place, version)?;
    if command.is_empty() && environment.is_empty() {
        return Ok(String::new());
    }
    let mut text = "# Written by Slackwater, which asks that nobody else does.\n[Service]\n".to_owned();
    if !command.is_empty() {
        // The empty one takes back the unit's own.
        let words: Vec<String> = command.iter().map(|word| quoted(word, true)).collect();
        text.push_str(&format!("ExecStart=\nExecStart={}\n", words.join(" ")));
    }
    for (name, value) in environment {
        text.push_str(&format!("Environment={}\n", quoted(&format!("{name}={value}"), false)));
    }
    Ok(text)
}

/// A word as systemd reads it back (systemd.service, "Command lines"; systemd.syntax, "Quoting"): `%` is always a specifier, `$` a variable
/// in a command only.
fn quoted(word: &str, in_command: bool) -> String {
    let mut text = String::new();
    for c in word.chars() {
        match c {
            '%' => text.push_str("%%"),
            '$' if in_command => text.push_str("$$"),
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+$".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_systemd_reads_them() {
        assert_eq!(quoted("--port=1", true), "--port=1");
        assert_eq!(quoted("100% $x", true), "\"100%% $$x\"");
        assert_eq!(quoted("A=$x", false), "A=$x");
        assert_eq!(quoted("say \"a\\b\"\n", true), "\"say \\\"a\\\\b\\\"\\n\"");
        assert_eq!(quoted(";", true), "\";\"");
        assert_eq!(quoted("", true), "\"\"");
    }
}
