//! What is minimised: how far replayed requests (or computed steps) are from the measured ones.

use slackwater_scenarios::EngineProfile;

use crate::coefficients::put;
use crate::experiment::{Answer, Experiment};
use crate::figures::Spread;
use crate::limits::{Structure, limits};
use crate::prior::Prior;
use crate::replay::{Drive, Replayed, replay};

/// Something to minimise over the logarithms of the coefficients.
pub(crate) trait Objective: Sync {
    /// The loss, the prior's pull included.
    fn loss(&self, vector: &[f64]) -> f64;

    /// The mean loss of each block of data (stretches of time, so that what hangs together stays together), without the
    /// prior: blocks are the units of the statistics.
    fn blocks(&self, vector: &[f64]) -> Vec<f64>;
}

/// One experiment, and the rows of it that are fitted.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Whether a row takes part, by its place.
    pub fitted: Vec<bool>,
}

impl<'a> Part<'a> {
    /// All rows that were answered, or those whose answer ended before a time.
    #[must_use]
    pub fn new(experiment: &'a Experiment, until_s: Option<f64>) -> Self {
        let ended = |row: &crate::experiment::Row| {
            row.answer.is_some_and(|answer| until_s.is_none_or(|until| row.arrival_s + answer.e2e_s <= until))
        };
        Self { experiment, fitted: experiment.rows.iter().map(ended).collect() }
    }

    /// Rows that take part.
    #[must_use]
    pub fn count(&self) -> usize {
        self.fitted.iter().filter(|fitted| **fitted).count()
    }
}

/// Differences of first tokens far below this are not looked at: clocks and event loops are no finer.
const TTFT_GRAIN_S: f64 = 0.0005;
/// The same for a token after the first.
const TPOT_GRAIN_S: f64 = 0.000_01;
/// Relative errors above this count less than quadratically.
const ROBUST_SCALE: f64 = 0.05;
/// TPOT is less noisy than TTFT, and what capacity follows from.
const TPOT_WEIGHT: f64 = 2.0;
/// Means and 90th percentiles are what is promised, so they count beside the single requests.
const FIGURE_WEIGHT: f64 = 0.3;
/// What a vector that can't be replayed costs.
const HOPELESS: f64 = 1e3;
/// Blocks of an experiment.
const BLOCKS: usize = 12;

/// Quadratic for small residuals, linear for large ones.
pub(crate) fn robust(residual: f64) -> f64 {
    let x = residual / ROBUST_SCALE;
    ROBUST_SCALE * ROBUST_SCALE * ((1.0 + x * x).sqrt() - 1.0)
}

/// Requests as measured, against the same requests replayed at the times at which they were sent.
pub(crate) struct Requests<'a> {
    parts: Vec<(Part<'a>, EngineProfile)>,
    prior: Prior,
    seed: u64,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(parts: &[Part<'a>], structure: Structure, prior: Prior, seed: u64) -> Self {
        let with_limits = |part: &Part<'a>| (part.clone(), limits(part.experiment, structure).0);
        Self { parts: parts.iter().map(with_limits).collect(), prior, seed }
    }

    fn replayed(&self, part: &Part<'_>, limits: &EngineProfile, vector: &[f64]) -> Option<Vec<Replayed>> {
        let mut profile = limits.clone();
        put(vector, &mut profile);
        replay(part.experiment, &profile, Drive::Open, self.seed).ok()
    }
}

/// One fitted request: output tokens, measured, predicted.
type Pair = (u32, Answer, Answer);

fn pairs(part: &Part<'_>, replayed: &[Replayed]) -> Vec<Pair> {
    let rows = part.experiment.rows.iter().zip(replayed).zip(&part.fitted);
    rows.filter(|(_, fitted)| **fitted)
        .filter_map(|((row, replayed), _)| Some((row.output_tokens, row.answer?, replayed.answer?)))
        .collect()
}

fn of_request(&(output, measured, predicted): &Pair) -> f64 {
    let log_ratio =
        |predicted: f64, measured: f64, grain: f64| ((predicted + grain) / (measured + grain)).ln();
    let ttft = robust(log_ratio(predicted.ttft_s, measured.ttft_s, TTFT_GRAIN_S));
    let tpot = match (predicted.tpot_s(output), measured.tpot_s(output)) {
        (Some(predicted), Some(measured)) => robust(log_ratio(predicted, measured, TPOT_GRAIN_S)),
        _ => 0.0,
    };
    ttft + TPOT_WEIGHT * tpot
}

#[expect(clippy::cast_precision_loss)]
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Errors of the mean and the 90th percentile of each latency, squared.
fn of_figures(pairs: &[Pair]) -> f64 {
    let latencies: [fn(&Answer, u32) -> Option<f64>; 3] = [
        |answer, _| Some(answer.ttft_s + TTFT_GRAIN_S),
        |answer, output| Some(answer.tpot_s(output)? + TPOT_GRAIN_S),
        |answer, _| Some(answer.e2e_s + TTFT_GRAIN_S),
    ];
    let error = |latency: &fn(&Answer, u32) -> Option<f64>| {
        let measured = Spread::of(
            pairs.iter().filter_map(|(output, measured, _)| latency(measured, *output)).collect(),
        )?;
        let predicted = Spread::of(
            pairs.iter().filter_map(|(output, _, predicted)| latency(predicted, *output)).collect(),
        )?;
        let squared = |predicted: f64, measured: f64| (predicted / measured).ln().powi(2);
        Some(squared(predicted.mean, measured.mean) + squared(predicted.p90, measured.p90))
    };
    latencies.iter().filter_map(error).sum()
}

impl Objective for Requests<'_> {
    fn loss(&self, vector: &[f64]) -> f64 {
        let of_part = |(part, limits): &(Part<'_>, EngineProfile)| {
            let Some(replayed) = self.replayed(part, limits, vector) else { return HOPELESS };
            let pairs = pairs(part, &replayed);
            if pairs.is_empty() {
                return HOPELESS;
            }
            mean(pairs.iter().map(of_request)) + FIGURE_WEIGHT * of_figures(&pairs)
        };
        mean(self.parts.iter().map(of_part)) + self.prior.pull(vector)
    }

    fn blocks(&self, vector: &[f64]) -> Vec<f64> {
        let mut blocks = Vec::new();
        for (part, limits) in &self.parts {
            let Some(replayed) = self.replayed(part, limits, vector) else { return vec![HOPELESS; BLOCKS] };
            let pairs = pairs(part, &replayed);
            let size = pairs.len().div_ceil(BLOCKS).max(1);
            blocks.extend(pairs.chunks(size).map(|block| mean(block.iter().map(of_request))));
        }
        blocks
    }
}
