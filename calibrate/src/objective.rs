//! What is minimised: how far replayed requests (or computed steps) are from the measured ones.

use slackwater_scenarios::EngineProfile;

use crate::coefficients::put;
use crate::experiment::{Answer, Experiment};
use crate::figures::Spread;
use crate::limits::{Structure, limits};
use crate::prior::Prior;
use crate::replay::{Drive, Replayed, replay_for};

/// Something to minimise over the logarithms of the coefficients.
pub(crate) trait Objective: Sync {
    /// Numbers whose squares add up to the loss, the prior's pull included; as many at every vector.
    fn residuals(&self, vector: &[f64]) -> Vec<f64>;

    /// The loss.
    fn loss(&self, vector: &[f64]) -> f64 {
        self.residuals(vector).iter().map(|residual| residual * residual).sum()
    }

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
/// How far single latencies are off, as logarithms, before anything is known of it: first tokens, tokens after.
const FIRST_SCALES: [f64; 2] = [0.1, 0.03];
/// No scale below this: clocks, and a model of a GPU, are no finer.
const LEAST_SCALE: f64 = 0.005;
/// Residuals beyond so many scales count less than quadratically.
const BEND: f64 = 1.5;
/// Means and 90th percentiles are what is promised, so they count beside the single requests: each as one request in 50
/// would that is off by as many percent.
const FIGURE_WEIGHT: f64 = 0.02;
const FIGURE_SCALE: f64 = 0.01;
/// The residual of a request that the simulated engine refuses.
const HOPELESS: f64 = 10.0;
/// Blocks of an experiment.
const BLOCKS: usize = 12;

/// A residual whose square is that of `x` when it is small, and linear in it when it is large (a pseudo-Huber loss).
pub(crate) fn robust(x: f64) -> f64 {
    let bent = x / BEND;
    // sqrt(1 + x^2) - 1, in the form that does not cancel.
    let loss = bent * bent / ((1.0 + bent * bent).sqrt() + 1.0);
    x.signum() * BEND * (2.0 * loss).sqrt()
}

/// Requests as measured, against the same requests replayed at the times at which they were sent.
pub(crate) struct Requests<'a> {
    parts: Vec<(Part<'a>, EngineProfile)>,
    prior: Prior,
    seed: u64,
    /// How far single latencies are off: first tokens, tokens after.
    scales: [f64; 2],
}

impl<'a> Requests<'a> {
    pub(crate) fn new(parts: &[Part<'a>], structure: Structure, prior: Prior, seed: u64) -> Self {
        let with_limits = |part: &Part<'a>| (part.clone(), limits(part.experiment, structure).0);
        let prior = prior.weighed(parts.iter().map(Part::count).sum());
        Self { parts: parts.iter().map(with_limits).collect(), prior, seed, scales: FIRST_SCALES }
    }

    /// The same with the scales seen at a vector: what is measured well counts for more.
    pub(crate) fn rescaled(mut self, vector: &[f64]) -> Self {
        let mut off = [Vec::new(), Vec::new()];
        for (part, limits) in &self.parts {
            let replayed = self.replayed(part, limits, vector);
            for pair in pairs(part, replayed.as_deref()) {
                for (all, one) in off.iter_mut().zip(log_ratios(&pair)) {
                    all.extend(one.map(f64::abs));
                }
            }
        }
        for (scale, mut off) in self.scales.iter_mut().zip(off) {
            off.sort_by(f64::total_cmp);
            if let Some(median) = off.get(off.len() / 2) {
                // Of a normal distribution the median distance is 0.674 standard deviations.
                *scale = (median / 0.674).max(LEAST_SCALE);
            }
        }
        self
    }

    fn replayed(&self, part: &Part<'_>, limits: &EngineProfile, vector: &[f64]) -> Option<Vec<Replayed>> {
        let mut profile = limits.clone();
        put(vector, &mut profile);
        // What came after the fitted requests is not looked at.
        replay_for(part.experiment, &profile, Drive::Open, self.seed, &part.fitted).ok()
    }
}

/// One fitted request: output tokens, measured, and predicted unless the engine refuses it.
type Pair = (u32, Answer, Option<Answer>);

fn pairs(part: &Part<'_>, replayed: Option<&[Replayed]>) -> Vec<Pair> {
    let rows = part.experiment.rows.iter().zip(&part.fitted).enumerate();
    rows.filter(|(_, (_, fitted))| **fitted)
        .filter_map(|(at, (row, _))| {
            Some((row.output_tokens, row.answer?, replayed.and_then(|all| all[at].answer)))
        })
        .collect()
}

/// Predicted over measured, logarithms: of the first token and of those after it.
fn log_ratios(&(output, measured, predicted): &Pair) -> [Option<f64>; 2] {
    let log_ratio =
        |predicted: f64, measured: f64, grain: f64| ((predicted + grain) / (measured + grain)).ln();
    let Some(predicted) = predicted else { return [None; 2] };
    let tpot = predicted.tpot_s(output).zip(measured.tpot_s(output));
    [
        Some(log_ratio(predicted.ttft_s, measured.ttft_s, TTFT_GRAIN_S)),
        tpot.map(|(predicted, measured)| log_ratio(predicted, measured, TPOT_GRAIN_S)),
    ]
}

fn of_request(pair: &Pair, scales: [f64; 2]) -> [f64; 2] {
    if pair.2.is_none() {
        return [HOPELESS; 2];
    }
    let [ttft, tpot] = log_ratios(pair);
    [ttft.map_or(0.0, |off| robust(off / scales[0])), tpot.map_or(0.0, |off| robust(off / scales[1]))]
}

#[expect(clippy::cast_precision_loss)]
fn count(values: usize) -> f64 {
    values.max(1) as f64
}

/// Errors of the mean and the 90th percentile of each latency.
fn of_figures(pairs: &[Pair]) -> [f64; 6] {
    let latencies: [fn(&Answer, u32) -> Option<f64>; 3] = [
        |answer, _| Some(answer.ttft_s + TTFT_GRAIN_S),
        |answer, output| Some(answer.tpot_s(output)? + TPOT_GRAIN_S),
        |answer, _| Some(answer.e2e_s + TTFT_GRAIN_S),
    ];
    let mut errors = [0.0; 6];
    for (place, latency) in latencies.iter().enumerate() {
        let both =
            || pairs.iter().filter_map(|&(output, measured, predicted)| Some((output, measured, predicted?)));
        let measured =
            Spread::of(both().filter_map(|(output, measured, _)| latency(&measured, output)).collect());
        let predicted =
            Spread::of(both().filter_map(|(output, _, predicted)| latency(&predicted, output)).collect());
        if let (Some(measured), Some(predicted)) = (measured, predicted) {
            errors[2 * place] = (predicted.mean / measured.mean).ln();
            errors[2 * place + 1] = (predicted.p90 / measured.p90).ln();
        }
    }
    errors
}

impl Objective for Requests<'_> {
    fn residuals(&self, vector: &[f64]) -> Vec<f64> {
        let mut residuals = self.prior.residuals(vector);
        let parts = count(self.parts.len());
        for (part, limits) in &self.parts {
            let replayed = self.replayed(part, limits, vector);
            let pairs = pairs(part, replayed.as_deref());
            let weight = 1.0 / (parts * count(pairs.len())).sqrt();
            residuals.extend(
                pairs.iter().flat_map(|pair| of_request(pair, self.scales)).map(|residual| weight * residual),
            );
            let weight = (FIGURE_WEIGHT / parts).sqrt();
            residuals.extend(of_figures(&pairs).map(|residual| weight * residual / FIGURE_SCALE));
        }
        residuals
    }

    fn blocks(&self, vector: &[f64]) -> Vec<f64> {
        let mut blocks = Vec::new();
        for (part, limits) in &self.parts {
            let replayed = self.replayed(part, limits, vector);
            let pairs = pairs(part, replayed.as_deref());
            let size = pairs.len().div_ceil(BLOCKS).max(1);
            let of_pair = |pair: &Pair| {
                of_request(pair, self.scales).iter().map(|residual| residual * residual).sum::<f64>()
            };
            blocks.extend(
                pairs.chunks(size).map(|block| block.iter().map(of_pair).sum::<f64>() / count(block.len())),
            );
        }
        blocks
    }
}
