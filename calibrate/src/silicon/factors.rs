//! Efficiencies under which presets come out as GPUs were measured.

use std::collections::BTreeMap;

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;
use rayon::prelude::*;
use serde::Serialize;
use slackwater_scenarios::presets::Efficiencies;

use super::case::Case;

/// A number that is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// Share of the memory bandwidth.
    Bandwidth,
    /// Share of the tensor cores' rate.
    Flop,
    /// What a layer costs besides.
    LayerUs,
    /// What a decoding sequence costs in each layer.
    SequenceLayerUs,
    /// The latency of an all-reduce over NVLink.
    NvlinkAllReduceUs,
    /// Of each step.
    StepMs,
    /// Share of the rate in attention.
    Attention,
    /// Share of the rate in the experts' products.
    ExpertFlop,
    /// Outside the engine.
    FrontEndMs,
}

/// Those that carry their weight on models held out (`docs/presets.md`).
pub const FACTORS: [Factor; 7] = [
    Factor::Bandwidth,
    Factor::Flop,
    Factor::ExpertFlop,
    Factor::LayerUs,
    Factor::SequenceLayerUs,
    Factor::NvlinkAllReduceUs,
    Factor::FrontEndMs,
];

impl Factor {
    /// Its place.
    pub fn of(self, reached: &mut Efficiencies) -> &mut f64 {
        match self {
            Self::Bandwidth => &mut reached.bandwidth,
            Self::Flop => &mut reached.flop,
            Self::LayerUs => &mut reached.layer_us,
            Self::SequenceLayerUs => &mut reached.sequence_layer_us,
            Self::NvlinkAllReduceUs => &mut reached.nvlink_all_reduce_us,
            Self::StepMs => &mut reached.step_ms,
            Self::Attention => &mut reached.attention,
            Self::ExpertFlop => &mut reached.expert_flop,
            Self::FrontEndMs => &mut reached.front_end_ms,
        }
    }

    /// Where the search begins: at `base`, or where a cost that `base` does not know is felt.
    fn start(self, base: f64) -> f64 {
        let (low, high) = self.range();
        match self {
            Self::LayerUs if base < low => 5.0,
            _ => base.clamp(low, high),
        }
    }

    /// Where it is looked for: a share can't be above 1, and a cost of less than the least is as good as none.
    #[must_use]
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::Bandwidth | Self::Flop | Self::ExpertFlop | Self::Attention => (0.05, 1.0),
            Self::FrontEndMs => (0.1, 500.0),
            Self::LayerUs => (0.1, 200.0),
            Self::SequenceLayerUs => (0.01, 10.0),
            Self::NvlinkAllReduceUs => (1.0, 100.0),
            Self::StepMs => (0.05, 10.0),
        }
    }
}

/// What is minimised. A model weighs by the root of its rows, so that neither one measured often nor one measured seldom
/// decides alone.
pub struct FactorLoss<'a> {
    cases: Vec<(&'a Case, f64)>,
    factors: &'a [Factor],
    base: Efficiencies,
    start: Vec<f64>,
    seed: u64,
}

/// What a factor of e away from the base costs: about as much as four percent of error in both means of every row.
const RIDGE: f64 = 0.001;

/// Errors well below this count by their squares, those well above by their size.
const SCALE: f64 = 0.1;

fn robust(ratio: f64) -> f64 {
    let x = ratio.ln() / SCALE;
    SCALE * SCALE * ((1.0 + x * x).sqrt() - 1.0)
}

impl<'a> FactorLoss<'a> {
    /// Over these cases; `base` is what the factors are drawn to where nothing is felt of them, and what the others stay at.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn new(cases: Vec<&'a Case>, factors: &'a [Factor], base: Efficiencies, seed: u64) -> Self {
        let mut by_model = BTreeMap::<&str, usize>::new();
        for case in &cases {
            *by_model.entry(case.model()).or_default() += 1;
        }
        let all: f64 = by_model.values().map(|rows| (*rows as f64).sqrt()).sum();
        let weight = |case: &Case| 1.0 / ((by_model[case.model()] as f64).sqrt() * all);
        let cases = cases.iter().map(|case| (*case, weight(case))).collect();
        let mut start = base;
        let start = factors.iter().map(|factor| factor.start(*factor.of(&mut start)).ln()).collect();
        Self { cases, factors, base, start, seed }
    }

    /// The efficiencies of a vector of logarithms.
    #[must_use]
    pub fn efficiencies(&self, vector: &[f64]) -> Efficiencies {
        let mut reached = self.base;
        for (factor, log) in self.factors.iter().zip(vector) {
            let (low, high) = factor.range();
            *factor.of(&mut reached) = log.exp().clamp(low, high);
        }
        reached
    }

    /// The loss there.
    #[must_use]
    pub fn at(&self, vector: &[f64]) -> f64 {
        let reached = self.efficiencies(vector);
        let outside: f64 = self
            .factors
            .iter()
            .zip(vector)
            .map(|(factor, log)| {
                let (low, high) = factor.range();
                (low.ln() - log).max(log - high.ln()).max(0.0).powi(2)
            })
            .sum();
        let away: f64 = self.start.iter().zip(vector).map(|(start, log)| RIDGE * (log - start).powi(2)).sum();
        // The sum is taken in the cases' order, whichever thread was first.
        let of_cases: Vec<f64> = self
            .cases
            .par_iter()
            .map(|(case, weight)| {
                let Some(predicted) = case.predict(&reached, self.seed) else { return *weight };
                let tpot = robust(predicted.tpot_ms / case.measured.tpot_ms);
                let ttft = robust(predicted.ttft_ms / case.measured.ttft_ms);
                weight * (tpot + ttft / 2.0)
            })
            .collect();
        outside + away + of_cases.iter().sum::<f64>()
    }
}

struct Cost<'a, 'b>(&'b FactorLoss<'a>);

impl CostFunction for Cost<'_, '_> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, vector: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.0.at(vector))
    }
}

/// The best efficiencies, by Nelder-Mead from the base, once more from where it first ended.
#[must_use]
pub fn fit_factors(loss: &FactorLoss<'_>, iterations: u64) -> Efficiencies {
    let mut best = loss.start.clone();
    for width in [-0.5, 0.25] {
        let mut simplex = vec![best.clone()];
        for axis in 0..best.len() {
            let mut corner = best.clone();
            corner[axis] += width;
            simplex.push(corner);
        }
        let Ok(solver) = NelderMead::new(simplex).with_sd_tolerance(1e-6) else { break };
        let run = Executor::new(Cost(loss), solver).configure(|state| state.max_iters(iterations)).run();
        let Ok(result) = run else { break };
        if let Some(found) = result.state().get_best_param() {
            best.clone_from(found);
        }
    }
    loss.efficiencies(&best)
}
