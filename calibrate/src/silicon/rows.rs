//! The file's rows.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SiliconError {
    /// It can't be opened or is no table.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A row is not what it should be.
    #[error("{}, line {line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: u64,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// Nothing to compare with.
    #[error(
        "{}: {what}; expected the columns of aiconfigurator's silicon_sample.csv (backend, model_path, system, precision, \
         isl, osl, concurrency, tp_size, silicon_ttft_ms, silicon_tpot_ms)",
        path.display()
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
}

/// A row as it stands in the file; empty cells are `None`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Measured {
    /// The engine.
    pub backend: String,
    /// Its version.
    pub backend_version: Option<String>,
    /// The model's name on Hugging Face.
    pub model_path: String,
    /// The GPU, as `h100_sxm`.
    pub system: String,
    /// How weights are stored: `bf16`, `fp8`, `fp4`, `int4`; `None`: as published.
    pub precision: Option<String>,
    /// Prompt tokens asked for.
    pub isl: Option<f64>,
    /// Tokens of the answer asked for.
    pub osl: Option<f64>,
    /// Requests in flight.
    pub concurrency: Option<f64>,
    /// GPUs that the attention's weights are split over.
    pub tp_size: Option<f64>,
    /// Engines with attention of their own that share the experts.
    #[serde(default)]
    pub attention_dp_size: Option<f64>,
    /// GPUs that each expert is split over.
    #[serde(default)]
    pub moe_tp_size: Option<f64>,
    /// GPUs that whole experts are dealt to.
    #[serde(default)]
    pub moe_ep_size: Option<f64>,
    /// Mean time to the first token.
    pub silicon_ttft_ms: Option<f64>,
    /// Mean time of a later token.
    pub silicon_tpot_ms: Option<f64>,
    /// The day; benchmarks of the public runner carry one.
    #[serde(default)]
    pub measured: Option<String>,
}

/// All rows.
///
/// # Errors
/// When the file can't be read, or a row has no number where one is expected.
pub fn read_silicon(path: &Path) -> Result<Vec<Measured>, SiliconError> {
    let unreadable = |source| SiliconError::Unreadable { path: path.to_owned(), source };
    let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
    let headers = reader.headers().map_err(unreadable)?.clone();
    for column in ["backend", "model_path", "system", "concurrency", "silicon_ttft_ms", "silicon_tpot_ms"] {
        if !headers.iter().any(|header| header == column) {
            let what = format!("no column `{column}`");
            return Err(SiliconError::Nothing { path: path.to_owned(), what });
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize(Some(&headers)).map_err(|error| SiliconError::Row {
            path: path.to_owned(),
            line,
            problem: format!("{error}; expected numbers, or empty cells where nothing is known"),
        })?;
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(SiliconError::Nothing { path: path.to_owned(), what: "no rows".to_owned() });
    }
    Ok(rows)
}
