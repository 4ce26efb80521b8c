//! How far predictions are off.

use serde::Serialize;
use slackwater_scenarios::presets::OffBy;

use super::case::Means;
use crate::figures::Spread;

/// One row's two sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its place in the file, from 0.
    pub row: usize,
    /// The GPU.
    pub gpu: String,
    /// The model.
    pub model: String,
    /// How its weights are stored.
    pub precision: String,
    /// The engine.
    pub backend: String,
    /// GPUs of the group.
    pub tensor_parallel: u32,
    /// Prompt tokens and tokens of the answer.
    pub lengths: (u32, u32),
    /// Requests in flight.
    pub concurrency: u32,
    /// As recorded.
    pub measured: Means,
    /// As the preset says.
    pub predicted: Means,
}

/// Errors of many rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Errors {
    /// How many.
    pub rows: usize,
    /// Of the mean time to the first token.
    pub ttft: OffBy,
    /// Of the mean time of a later token.
    pub tpot: OffBy,
}

impl Errors {
    /// Of these rows; `None` when there are none.
    #[must_use]
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Compared>) -> Option<Self> {
        let (mut ttft, mut tpot) = (Vec::new(), Vec::new());
        for row in rows {
            ttft.push((row.predicted.ttft_ms / row.measured.ttft_ms - 1.0) * 100.0);
            tpot.push((row.predicted.tpot_ms / row.measured.tpot_ms - 1.0) * 100.0);
        }
        Some(Self { rows: ttft.len(), ttft: off_by(ttft)?, tpot: off_by(tpot)? })
    }
}

fn off_by(percent: Vec<f64>) -> Option<OffBy> {
    let sizes = Spread::of(percent.iter().map(|error| error.abs()).collect())?;
    Some(OffBy { median: sizes.p50, p90: sizes.p90, bias: Spread::of(percent)?.p50 })
}
