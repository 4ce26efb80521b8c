//! A fit to a table of engine steps, where an engine prints what each of its steps computed and how long it took.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::coefficients::Coefficient;
use crate::objective::{Objective, robust};
use crate::prior::Prior;

/// One step of a table.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Step {
    /// Prompt tokens computed.
    pub prefill_tokens: f64,
    /// Sequences that decode.
    pub decode_seqs: f64,
    /// Tokens in their KV caches.
    pub kv_tokens: f64,
    /// Its duration, seconds.
    pub step_time_s: f64,
    /// Sum over chunks of `chunk * (context before it + chunk / 2)`, where the engine tells it.
    #[serde(default)]
    pub attention_pairs: Option<f64>,
}

/// A table of steps that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct StepsError {
    /// The file.
    path: PathBuf,
    /// The line, what is wrong, and what was expected.
    problem: String,
}

/// Reads a table of steps: columns `prefill_tokens`, `decode_seqs`, `kv_tokens`, `step_time_s`, and `attention_pairs` where
/// there is one.
///
/// # Errors
/// Names the line and what was expected.
pub fn read_steps(path: &Path) -> Result<Vec<Step>, StepsError> {
    let wrong = |problem: String| StepsError { path: path.to_owned(), problem };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| wrong(format!("{error}; expected a CSV file of engine steps")))?;
    let mut steps = Vec::new();
    for (index, step) in reader.deserialize::<Step>().enumerate() {
        let line = index + 2;
        let step = step.map_err(|error| {
            wrong(format!(
                "line {line}: {error}; expected the columns prefill_tokens, decode_seqs, kv_tokens, step_time_s"
            ))
        })?;
        let numbers = [step.prefill_tokens, step.decode_seqs, step.kv_tokens, step.step_time_s];
        if numbers.iter().any(|number| !number.is_finite() || *number < 0.0) || step.step_time_s <= 0.0 {
            return Err(wrong(format!(
                "line {line}: expected numbers that are not negative, and a step time above 0"
            )));
        }
        if step.prefill_tokens + step.decode_seqs < 1.0 {
            return Err(wrong(format!("line {line}: a step that computes nothing; leave idle steps out")));
        }
        steps.push(step);
    }
    if steps.len() < LEAST {
        return Err(wrong(format!(
            "{} steps; at least {LEAST} are needed to fit five coefficients",
            steps.len()
        )));
    }
    Ok(steps)
}

const LEAST: usize = 20;
/// By how much single steps are off, as a logarithm.
const SCALE: f64 = 0.05;

/// The steps as measured against the formula.
pub(crate) struct Steps {
    pub(crate) steps: Vec<Step>,
    pub(crate) prior: Prior,
}

/// Blocks of a table.
const BLOCKS: usize = 12;

impl Steps {
    /// Coordinates that a table of steps speaks of.
    pub(crate) fn free(&self) -> Vec<usize> {
        let has_pairs = self.steps.iter().any(|step| step.attention_pairs.is_some_and(|pairs| pairs > 0.0));
        (0..Coefficient::ALL.len())
            .filter(|axis| match Coefficient::ALL[*axis] {
                Coefficient::FrontEndMs | Coefficient::InboundOverOutbound => false,
                Coefficient::CAttnUsPerToken2 => has_pairs,
                _ => true,
            })
            .collect()
    }

    fn of_step(step: &Step, vector: &[f64]) -> f64 {
        let value = |coefficient: Coefficient| coefficient.at(vector[coefficient.axis()]);
        let tokens = step.prefill_tokens + step.decode_seqs;
        let us = (value(Coefficient::C0Ms) * 1e3).max(value(Coefficient::CTokUs) * tokens)
            + value(Coefficient::CSeqUs) * step.decode_seqs
            + value(Coefficient::CKvUs) * step.kv_tokens
            + value(Coefficient::CAttnUsPerToken2) * step.attention_pairs.unwrap_or(0.0);
        robust((us / 1e6 / step.step_time_s).ln() / SCALE)
    }
}

impl Objective for Steps {
    #[expect(clippy::cast_precision_loss)]
    fn residuals(&self, vector: &[f64]) -> Vec<f64> {
        let weight = 1.0 / (self.steps.len() as f64).sqrt();
        let mut residuals = self.prior.residuals(vector);
        residuals.extend(self.steps.iter().map(|step| weight * Self::of_step(step, vector)));
        residuals
    }

    #[expect(clippy::cast_precision_loss)]
    fn blocks(&self, vector: &[f64]) -> Vec<f64> {
        let size = self.steps.len().div_ceil(BLOCKS).max(1);
        let of_block = |block: &[Step]| {
            block.iter().map(|step| Self::of_step(step, vector).powi(2)).sum::<f64>() / block.len() as f64
        };
        self.steps.chunks(size).map(of_block).collect()
    }
}
