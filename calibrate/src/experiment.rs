//! A recorded experiment: how a server was set up, and what became of each request.
//!
//! ```text
//! DIR/NAME/experiment.json   how the server was set up
//! DIR/NAME/requests.csv      a row a request, columns by name; an empty figure: the request failed
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is wrong with a recorded experiment, and where.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// A file or folder can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No experiment where some were expected.
    #[error(
        "{}: no experiment here; expected folders that each hold experiment.json and requests.csv (or one such folder itself)",
        .0.display()
    )]
    Nothing(PathBuf),
    /// The description is not what it should be.
    #[error("{}: {problem}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A row or column of the requests is not what it should be.
    #[error("{}, {place}: {problem}", path.display())]
    Requests {
        /// The file.
        path: PathBuf,
        /// The line or the header.
        place: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// What became of a request. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// From its arrival to its first token.
    pub ttft_s: f64,
    /// From its arrival to its last token.
    pub e2e_s: f64,
}

impl Answer {
    /// Seconds a token after the first; `None` for an answer of one token.
    #[must_use]
    pub fn tpot_s(&self, output_tokens: u32) -> Option<f64> {
        (output_tokens > 1).then(|| (self.e2e_s - self.ttft_s) / f64::from(output_tokens - 1))
    }
}

/// One recorded request.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// When it was sent (or queued), seconds since the start of the experiment.
    pub arrival_s: f64,
    /// When its client meant to send it.
    pub scheduled_s: Option<f64>,
    /// Prompt tokens.
    pub input_tokens: u32,
    /// Tokens of the answer; 1 where it failed and nobody knows.
    pub output_tokens: u32,
    /// Requests with the same number had the same prompt.
    pub prompt: Option<u32>,
    /// `None`: it failed.
    pub answer: Option<Answer>,
}

/// How the server was set up. Unknown keys are kept out of the way.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Description {
    /// The GPU's name.
    pub gpu: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// GPUs a replica's weights are split over.
    pub tp: Option<u32>,
    /// Engines beside each other behind one door.
    pub dp: Option<u32>,
    /// The engine's name.
    pub engine: Option<String>,
    /// The engine's version.
    pub engine_version: Option<String>,
    /// Most sequences in a step.
    pub max_num_seqs: Option<u32>,
    /// Most tokens in a step.
    pub max_num_batched_tokens: Option<u32>,
    /// Tokens a KV block holds.
    pub block_size: Option<u32>,
    /// KV blocks of one engine.
    pub num_gpu_blocks: Option<u32>,
    /// Tokens the KV cache of one engine holds.
    pub kv_cache_tokens: Option<u64>,
    /// `true`, `false`, or words that begin with on, off or default.
    pub prefix_caching: Option<Value>,
    /// `true`, `false`: whether batches are fixed one step ahead.
    pub async_scheduling: Option<bool>,
    /// Most requests the client had in flight.
    pub client_cap: Option<u32>,
}

/// A recorded experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The folder's name.
    pub name: String,
    /// How the server was set up.
    pub about: Description,
    /// The requests by arrival.
    pub rows: Vec<Row>,
    /// What was assumed because the files do not say it.
    pub assumed: Vec<String>,
    /// SHA-256 of both files.
    pub hash: String,
}

impl Experiment {
    /// Every experiment in the folder, by name; or the one that the folder itself is.
    ///
    /// # Errors
    /// When there is none, or one of them is broken.
    pub fn all(folder: &Path) -> Result<Vec<Self>, ExperimentError> {
        let unreadable = |source| ExperimentError::Unreadable { path: folder.to_owned(), source };
        if folder.join("experiment.json").is_file() {
            return Ok(vec![Self::read(folder)?]);
        }
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.join("experiment.json").is_file() {
                folders.push(path);
            }
        }
        if folders.is_empty() {
            return Err(ExperimentError::Nothing(folder.to_owned()));
        }
        folders.sort();
        folders.iter().map(|folder| Self::read(folder)).collect()
    }

    /// The experiment in this folder.
    ///
    /// # Errors
    /// When one of its files is missing or broken.
    pub fn read(folder: &Path) -> Result<Self, ExperimentError> {
        let (description, requests) = (folder.join("experiment.json"), folder.join("requests.csv"));
        let bytes = |path: &Path| {
            std::fs::read(path)
                .map_err(|source| ExperimentError::Unreadable { path: path.to_owned(), source })
        };
        let (json, csv) = (bytes(&description)?, bytes(&requests)?);
        let about: Description = serde_json::from_slice(&json).map_err(|error| {
            ExperimentError::Description { path: description.clone(), problem: error.to_string() }
        })?;
        let mut digest = Sha256::new();
        digest.update(&json);
        digest.update(&csv);
        let hash = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut assumed = Vec::new();
        let rows = Rows::new(&requests).read(&csv, &mut assumed)?;
        let name = folder
            .file_name()
            .map_or_else(|| "experiment".into(), |name| name.to_string_lossy().into_owned());
        let experiment = Self { name, about, rows, assumed, hash };
        experiment.prefix_caching(&description)?;
        Ok(experiment)
    }

    /// Whether the engine kept its prefixes, as far as the description says.
    fn prefix_caching(&self, path: &Path) -> Result<Option<bool>, ExperimentError> {
        let words = match &self.about.prefix_caching {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Bool(flag)) => return Ok(Some(*flag)),
            Some(Value::String(words)) => words.to_lowercase(),
            Some(other) => other.to_string(),
        };
        let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
        if says(&["off", "false", "disabled", "no"]) {
            Ok(Some(false))
        } else if says(&["on", "true", "enabled", "yes"]) {
            Ok(Some(true))
        } else {
            Err(ExperimentError::Description {
                path: path.to_owned(),
                problem: format!(
                    "prefix_caching is `{words}`; expected true, false, or words with `on` or `off`"
                ),
            })
        }
    }

    /// Whether the engine kept its prefixes; vLLM does unless told otherwise.
    #[must_use]
    pub fn caches_prefixes(&self) -> bool {
        // Checked when it was read.
        self.prefix_caching(Path::new("")).ok().flatten().unwrap_or(true)
    }

    /// The time of the last answer's end.
    #[must_use]
    pub fn end_s(&self) -> f64 {
        let end = |row: &Row| row.answer.map_or(row.arrival_s, |answer| row.arrival_s + answer.e2e_s);
        self.rows.iter().map(end).fold(0.0, f64::max)
    }
}

/// Reads `requests.csv`.
struct Rows<'a> {
    path: &'a Path,
}

/// Columns by name.
const NEEDED: [&str; 5] = ["arrival_s", "input_tokens", "output_tokens", "ttft_s", "e2e_s"];

impl<'a> Rows<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path }
    }

    fn wrong(&self, place: impl Into<String>, problem: impl Into<String>) -> ExperimentError {
        ExperimentError::Requests { path: self.path.to_owned(), place: place.into(), problem: problem.into() }
    }

    fn read(&self, bytes: &[u8], assumed: &mut Vec<String>) -> Result<Vec<Row>, ExperimentError> {
        let mut reader = csv::ReaderBuilder::new().flexible(false).trim(csv::Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| self.wrong("the header", error.to_string()))?.clone();
        let column = |name: &str| header.iter().position(|column| column == name);
        let mut needed = [0; NEEDED.len()];
        for (place, name) in needed.iter_mut().zip(NEEDED) {
            *place = column(name).ok_or_else(|| {
                let found: Vec<&str> = header.iter().collect();
                self.wrong("the header", format!("no column `{name}`; found {}", found.join(", ")))
            })?;
        }
        let (scheduled, prompt) = (column("scheduled_s"), column("prompt_id"));
        let mut prompts: HashMap<String, (u32, u32)> = HashMap::new();
        let (mut rows, mut failed, mut unknown_length) = (Vec::new(), 0, 0);
        for (index, record) in reader.records().enumerate() {
            let line = index + 2;
            let place = || format!("line {line}");
            let record = record.map_err(|error| self.wrong(place(), error.to_string()))?;
            let number = |at: usize, name: &str| self.number(&record, at, name, line);
            let tokens = |at: usize, name: &str| self.tokens(&record, at, name, line);
            let arrival_s = number(needed[0], NEEDED[0])?
                .ok_or_else(|| self.wrong(place(), "arrival_s is empty; every request needs its time"))?;
            let input_tokens = tokens(needed[1], NEEDED[1])?.ok_or_else(|| {
                self.wrong(place(), "input_tokens is empty; every request needs its length")
            })?;
            let output_tokens = tokens(needed[2], NEEDED[2])?;
            let (ttft_s, e2e_s) = (number(needed[3], NEEDED[3])?, number(needed[4], NEEDED[4])?);
            let answer = match (ttft_s, e2e_s, output_tokens) {
                (Some(ttft_s), Some(e2e_s), Some(_)) if e2e_s >= ttft_s => Some(Answer { ttft_s, e2e_s }),
                (Some(ttft_s), Some(e2e_s), Some(_)) => {
                    return Err(
                        self.wrong(place(), format!("e2e_s ({e2e_s}) is less than ttft_s ({ttft_s})"))
                    );
                }
                _ => None,
            };
            failed += usize::from(answer.is_none());
            unknown_length += usize::from(output_tokens.is_none());
            let prompt = match prompt.and_then(|at| record.get(at)).filter(|text| !text.is_empty()) {
                None => None,
                Some(text) => {
                    let next = u32::try_from(prompts.len()).unwrap_or(u32::MAX);
                    let (number, length) = *prompts.entry(text.to_owned()).or_insert((next, input_tokens));
                    if length != input_tokens {
                        return Err(self.wrong(
                            place(),
                            format!(
                                "prompt_id `{text}` has {input_tokens} tokens here and {length} before; the same id must be the same prompt"
                            ),
                        ));
                    }
                    Some(number)
                }
            };
            let scheduled_s = scheduled.map_or(Ok(None), |at| number(at, "scheduled_s"))?;
            rows.push(Row {
                arrival_s,
                scheduled_s,
                input_tokens,
                output_tokens: output_tokens.unwrap_or(1),
                prompt,
                answer,
            });
        }
        if rows.iter().all(|row| row.answer.is_none()) {
            return Err(self.wrong(
                "all rows",
                "no request has ttft_s, e2e_s and output_tokens; nothing to compare with",
            ));
        }
        if failed > 0 {
            assumed.push(format!(
                "{failed} of {} requests failed: they load the simulated engine, but are not compared",
                rows.len()
            ));
        }
        if unknown_length > 0 {
            assumed.push(format!(
                "{unknown_length} failed requests do not say how much they answered: taken for 1 token"
            ));
        }
        rows.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
        // Times may be counted from anywhere.
        let zero = rows
            .iter()
            .flat_map(|row| [Some(row.arrival_s), row.scheduled_s])
            .flatten()
            .fold(f64::MAX, f64::min);
        for row in &mut rows {
            row.arrival_s -= zero;
            row.scheduled_s = row.scheduled_s.map(|at| at - zero);
        }
        Ok(rows)
    }

    fn number(
        &self,
        record: &csv::StringRecord,
        at: usize,
        name: &str,
        line: usize,
    ) -> Result<Option<f64>, ExperimentError> {
        let text = record.get(at).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_nan() => Ok(None),
            Ok(value) if value.is_finite() && (value >= 0.0 || name != "ttft_s" && name != "e2e_s") => {
                Ok(Some(value))
            }
            _ => Err(self
                .wrong(format!("line {line}"), format!("{name} is `{text}`; expected seconds, or nothing"))),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the bounds of the pattern
    fn tokens(
        &self,
        record: &csv::StringRecord,
        at: usize,
        name: &str,
        line: usize,
    ) -> Result<Option<u32>, ExperimentError> {
        let text = record.get(at).unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        // Tables that went through a data frame write whole numbers as 128.0.
        match text.parse::<f64>() {
            Ok(value) if value.is_nan() => Ok(None),
            Ok(value) if value == 0.0 && name == "output_tokens" => Ok(None),
            Ok(value) if (1.0..=1e8).contains(&value) && value.fract() == 0.0 => Ok(Some(value as u32)),
            _ => Err(self.wrong(
                format!("line {line}"),
                format!("{name} is `{text}`; expected a whole number of tokens, at least 1"),
            )),
        }
    }
}
