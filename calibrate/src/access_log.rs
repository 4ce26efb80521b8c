//! Live requests out of the gateway's access log, as an experiment of each replica.
//!
//! ```text
//! {"msec": "1767603604.456", "request_time": "4.333", "status": 200, "input_tokens": 812, "output_tokens": 96, "ttft": "0.214",
//!  "replica": "r0", "outcome": "completed", ...}      written when the request ended
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::experiment::{Answer, Description, Experiment, Row};

/// A log that can't be fitted to.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is none of the gateway's.
    #[error(
        "{}, line {line}: {problem}; expected the lines of `slackwater gateway`'s access_log, with msec, request_time, status and ttft",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Which.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Too many requests load the engine by an unknown amount.
    #[error(
        "{}: {without} of {of} answered requests have no token counts; what they cost can't be told from what the others cost. Clients get \
         counts in their streams with stream_options = {{\"include_usage\": true}}",
        path.display()
    )]
    NoTokens {
        /// The file.
        path: PathBuf,
        /// How many.
        without: usize,
        /// Of how many.
        of: usize,
    },
    /// Nothing to fit to.
    #[error("{}: no streamed request with its first token's time (ttft); nothing to fit to", .0.display())]
    Nothing(PathBuf),
}

/// A line of the log; times are seconds as text, or numbers.
#[derive(Deserialize)]
struct Line {
    msec: Seconds,
    request_time: Seconds,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    request_method: String,
    #[serde(default)]
    input_tokens: Option<u32>,
    #[serde(default)]
    output_tokens: Option<u32>,
    #[serde(default)]
    replica: String,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    tries: u32,
    #[serde(default)]
    ttft: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    fn value(&self) -> Option<f64> {
        let value = match self {
            Self::Number(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
        };
        value.filter(|value: &f64| value.is_finite() && *value >= 0.0)
    }
}

/// Of the answered requests at most so many may have no counts.
const MOST_WITHOUT: f64 = 0.02;

/// Reads the log: one experiment a replica, all set up as `about` says.
///
/// # Errors
/// Names the file and the line, what was expected and what to do.
pub fn read_access_log(path: &Path, about: &Description) -> Result<Vec<Experiment>, AccessLogError> {
    let unreadable = |source| AccessLogError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut by_replica: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let (mut answered, mut without, mut failed, mut whole) = (0, 0, 0, 0);
    for (index, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(unreadable)?;
        if text.trim().is_empty() {
            continue;
        }
        let wrong =
            |problem: String| AccessLogError::Line { path: path.to_owned(), line: index + 1, problem };
        let line: Line = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if line.request_method == "GET" || line.replica.is_empty() {
            continue;
        }
        let seconds = |of: &Seconds, name: &str| {
            of.value().ok_or_else(|| wrong(format!("{name} is no number of seconds")))
        };
        let (end_s, e2e_s) = (seconds(&line.msec, "msec")?, seconds(&line.request_time, "request_time")?);
        let ttft_s = line.ttft.as_ref().map(|ttft| seconds(ttft, "ttft")).transpose()?;
        let completed =
            (200..300).contains(&line.status) && matches!(line.outcome.as_str(), "completed" | "");
        answered += usize::from(completed);
        failed += usize::from(!completed);
        let counts =
            line.input_tokens.zip(line.output_tokens).filter(|(input, output)| *input > 0 && *output > 0);
        let Some((input_tokens, output_tokens)) = counts else {
            without += usize::from(completed);
            continue;
        };
        // A second try began later than the request.
        let answer = ttft_s.filter(|ttft_s| completed && *ttft_s <= e2e_s && line.tries <= 1);
        whole += usize::from(completed && answer.is_none());
        by_replica.entry(line.replica).or_default().push(Row {
            arrival_s: end_s - e2e_s,
            scheduled_s: None,
            input_tokens,
            output_tokens,
            prompt: None,
            answer: answer.map(|ttft_s| Answer { ttft_s, e2e_s }),
        });
    }
    #[expect(clippy::cast_precision_loss)]
    if without as f64 > MOST_WITHOUT * f64::from(u32::try_from(answered).unwrap_or(u32::MAX)) {
        return Err(AccessLogError::NoTokens { path: path.to_owned(), without, of: answered });
    }
    let zero = by_replica.values().flatten().map(|row| row.arrival_s).fold(f64::MAX, f64::min);
    let mut assumed = Vec::new();
    for (count, what) in [
        (without, "have no token counts: they are left out, though they loaded the engine"),
        (
            failed,
            "were not answered to their ends: they are left out where no counts are known, and not compared",
        ),
        (
            whole,
            "were not streamed, or were tried twice: they load the simulated engine, but are not compared",
        ),
    ] {
        if count > 0 {
            assumed.push(format!("{count} requests {what}"));
        }
    }
    let experiments: Vec<Experiment> = by_replica
        .into_iter()
        .filter(|(_, rows)| rows.iter().any(|row| row.answer.is_some()))
        .map(|(replica, mut rows)| {
            for row in &mut rows {
                row.arrival_s -= zero;
            }
            rows.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
            Experiment {
                name: replica,
                about: about.clone(),
                rows,
                assumed: assumed.clone(),
                hash: String::new(),
            }
        })
        .collect();
    if experiments.is_empty() {
        return Err(AccessLogError::Nothing(path.to_owned()));
    }
    Ok(experiments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Experiment>, AccessLogError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, text).unwrap();
        read_access_log(&path, &Description::default())
    }

    fn line(replica: &str, end: f64, took: f64, more: &str) -> String {
        format!(
            "{{\"msec\":\"{end:.6}\",\"request_time\":\"{took:.6}\",\"status\":200,\"request_method\":\"POST\",\
             \"replica\":\"{replica}\",\"outcome\":\"completed\",\"tries\":1{more}}}\n"
        )
    }

    #[test]
    fn each_replica_is_an_experiment() {
        let counts = ",\"input_tokens\":100,\"output_tokens\":11";
        let text = [
            line("r0", 1005.0, 2.0, &format!("{counts},\"ttft\":\"0.5\"")),
            line("r1", 1004.0, 3.0, &format!("{counts},\"ttft\":\"0.25\"")),
            line("r0", 1009.0, 1.0, counts),
            line("r0", 1009.5, 1.0, counts).replace("POST", "GET"),
        ];
        let all = read(&text.concat()).unwrap();
        assert_eq!(
            all.iter().map(|of| (of.name.as_str(), of.rows.len())).collect::<Vec<_>>(),
            [("r0", 2), ("r1", 1)]
        );
        let row = &all[0].rows[0];
        assert_eq!((row.arrival_s, row.input_tokens, row.output_tokens), (2.0, 100, 11));
        assert_eq!(row.answer, Some(Answer { ttft_s: 0.5, e2e_s: 2.0 }));
        assert_eq!(all[0].rows[1].answer, None, "not streamed");
        assert!(all[0].assumed[0].contains("1 requests were not streamed"), "{:?}", all[0].assumed);
    }

    #[test]
    fn what_is_missing_is_said() {
        let no_counts = read(&line("r0", 5.0, 2.0, ",\"ttft\":\"0.5\"")).unwrap_err().to_string();
        assert!(no_counts.contains("1 of 1") && no_counts.contains("include_usage"), "{no_counts}");
        let broken =
            read("{\"msec\":\"soon\",\"request_time\":1,\"replica\":\"r0\"}\n").unwrap_err().to_string();
        assert!(broken.contains("line 1: msec"), "{broken}");
        assert!(read("10.0.0.1 - -\n").unwrap_err().to_string().contains("line 1"));
        assert!(matches!(read(""), Err(AccessLogError::Nothing(_))));
    }
}
