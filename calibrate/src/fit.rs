//! Coefficients under which replayed requests come out as they were measured.

use argmin::core::{CostFunction, Error, Executor, State};
use argmin::solver::neldermead::NelderMead;
use rayon::prelude::*;
use slackwater_scenarios::{EngineProfile, Keyed};

use crate::coefficients::{Coefficient, Vector, put};
use crate::experiment::{Answer, Experiment};
use crate::figures::Spread;
use crate::limits::{Structure, limits};
use crate::replay::{Drive, replay};

/// One experiment and the rows of it that are fitted.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// How it is driven.
    pub drive: Drive,
    /// Whether a row takes part, by its place.
    pub fitted: Vec<bool>,
}

/// What is minimised.
pub struct Loss<'a> {
    parts: Vec<(Part<'a>, EngineProfile)>,
    seed: u64,
}

/// Half a millisecond: differences of the first tokens below it are not looked at.
const TTFT_GRAIN_S: f64 = 0.0005;

fn robust(residual: f64) -> f64 {
    const SCALE: f64 = 0.05;
    let x = residual / SCALE;
    SCALE * SCALE * ((1.0 + x * x).sqrt() - 1.0)
}

impl<'a> Loss<'a> {
    /// Over these parts, of a server of this structure.
    pub fn new(parts: Vec<Part<'a>>, structure: Structure, seed: u64) -> Self {
        let parts = parts
            .into_iter()
            .map(|part| {
                let p = limits(part.experiment, structure).0;
                (part, p)
            })
            .collect();
        Self { parts, seed }
    }

    /// The loss at these coefficients.
    pub fn at(&self, vector: &[f64]) -> f64 {
        let mut sum = 0.0;
        for (coefficient, log) in Coefficient::ALL.into_iter().zip(vector) {
            let (low, high) = coefficient.range();
            let (low, high) = (low.ln(), high.ln());
            let out = (low - log).max(log - high).max(0.0);
            sum += out * out;
        }
        for (part, limits) in &self.parts {
            sum += self.of(part, limits, vector) / self.parts.len() as f64;
        }
        sum
    }

    fn of(&self, part: &Part<'_>, limits: &EngineProfile, vector: &[f64]) -> f64 {
        let mut profile = limits.clone();
        put(vector, &mut profile);
        let Ok(replayed) = replay(part.experiment, &profile, part.drive, self.seed) else { return 1e3 };
        let pairs: Vec<(u32, Answer, Answer)> = part
            .experiment
            .rows
            .iter()
            .zip(&replayed)
            .zip(&part.fitted)
            .filter(|(_, fitted)| **fitted)
            .filter_map(|((row, replayed), _)| Some((row.output_tokens, row.answer?, replayed.answer?)))
            .collect();
        if pairs.is_empty() {
            return 1e3;
        }
        let n = pairs.len() as f64;
        let mut sum = 0.0;
        for (output, measured, predicted) in &pairs {
            let ttft = ((predicted.ttft_s + TTFT_GRAIN_S) / (measured.ttft_s + TTFT_GRAIN_S)).ln();
            let tpot = match (measured.tpot_s(*output), predicted.tpot_s(*output)) {
                (Some(m), Some(p)) => ((p + 1e-5) / (m + 1e-5)).ln(),
                _ => 0.0,
            };
            sum += (robust(ttft) + 2.0 * robust(tpot)) / n;
        }
        for of in
            [|a: &Answer, _: u32| Some(a.ttft_s), |a: &Answer, o| a.tpot_s(o), |a: &Answer, _| Some(a.e2e_s)]
        {
            let m = Spread::of(pairs.iter().filter_map(|(o, m, _)| of(m, *o)).collect());
            let p = Spread::of(pairs.iter().filter_map(|(o, _, p)| of(p, *o)).collect());
            if let (Some(m), Some(p)) = (m, p) {
                sum += 0.3 * (p.mean / m.mean).ln().powi(2) + 0.3 * (p.p90 / m.p90).ln().powi(2);
            }
        }
        sum
    }
}

struct Cost<'a, 'b>(&'b Loss<'a>);
impl CostFunction for Cost<'_, '_> {
    type Param = Vector;
    type Output = f64;
    fn cost(&self, vector: &Vector) -> Result<f64, Error> {
        Ok(self.0.at(vector))
    }
}

/// The best vector and its loss.
pub fn minimise(loss: &Loss<'_>, start: &[f64], width: f64, iterations: u64) -> (Vector, f64) {
    let mut simplex = vec![start.to_vec()];
    for axis in 0..start.len() {
        let mut corner = start.to_vec();
        corner[axis] += width;
        simplex.push(corner);
    }
    let solver = NelderMead::new(simplex).with_sd_tolerance(1e-7).expect("positive");
    let result = Executor::new(Cost(loss), solver).configure(|state| state.max_iters(iterations)).run();
    match result {
        Ok(result) => (
            result.state().get_best_param().cloned().unwrap_or_else(|| start.to_vec()),
            result.state().get_best_cost(),
        ),
        Err(_) => (start.to_vec(), loss.at(start)),
    }
}

/// Many starts, then the best one refined.
pub fn fit(loss: &Loss<'_>, starts: u64, seed: u64) -> (Vector, f64) {
    let keyed = Keyed::new(seed);
    let centre: [f64; 7] = [12.0, 45.0, 30.0, 0.03, 0.001, 2.0, 2.0];
    let mut found: Vec<(Vector, f64)> = (0..starts)
        .into_par_iter()
        .map(|start| {
            let vector: Vector = centre
                .iter()
                .enumerate()
                .map(|(axis, c)| {
                    let draw = keyed.uniform("start", &[start, axis as u64]) * 2.0 - 1.0;
                    c.ln() + draw * 1.6
                })
                .collect();
            minimise(loss, &vector, 0.5, 250)
        })
        .collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    found.truncate(3);
    let mut best: Vec<(Vector, f64)> = found
        .into_par_iter()
        .map(|(mut vector, mut at)| {
            for width in [0.3, -0.2, 0.1, -0.1] {
                let (next, loss) = minimise(loss, &vector, width, 250);
                if loss < at {
                    vector = next;
                    at = loss;
                }
            }
            (vector, at)
        })
        .collect();
    best.sort_by(|a, b| a.1.total_cmp(&b.1));
    best.swap_remove(0)
}
