//! How well each coefficient is known: the range of values with which the data can live.
//!
//! A value is tried by holding the coefficient there and fitting all others anew. It is refused when the loss of the data's
//! blocks (stretches of consecutive requests, so that what depends on each other stays together) is higher by more than
//! [`REFUSED`] standard errors of its paired differences. Losses are averaged over a few slight perturbations of all other
//! coefficients: where requests are preempted or not the loss is rough, and the best vector is one that was lucky. The ends of the interval are the first values refused on either
//! side, so intervals err on the wide side; a coefficient that the data do not speak of is refused nowhere.

use rayon::prelude::*;
use serde::Serialize;
use slackwater_scenarios::Keyed;

use crate::coefficients::Coefficient;
use crate::fit::{Minimum, held};
use crate::objective::Objective;

/// How far a coefficient can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Its interval lies within 5 % of it.
    Identified,
    /// Within 30 %.
    Roughly,
    /// The data can live with very different values.
    NotIdentified,
}

/// One coefficient with its interval.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// Which.
    pub coefficient: Coefficient,
    /// Its name in an engine profile, unit included.
    pub name: &'static str,
    /// The value in the profile.
    pub value: f64,
    /// The data refuse what is below.
    pub low: f64,
    /// The data refuse what is above.
    pub high: f64,
    /// In a word.
    pub known: Known,
    /// Why it is not known, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Standard errors of a paired difference at which a value is refused: 97.5 % on one side with 12 blocks.
const REFUSED: f64 = 2.2;
/// Distances from the best value, as logarithms, that are tried in turn.
const DISTANCES: [f64; 6] = [0.0487, 0.12, 0.262, 0.6, 1.2, 2.4];
const IDENTIFIED: f64 = 0.05;
const ROUGHLY: f64 = 0.27;

/// The intervals of the coordinates `free` around the best vector; a better vector, when one is met on the way.
pub(crate) fn intervals<O: Objective>(
    objective: &O,
    best: &Minimum,
    free: &[usize],
) -> (Vec<(usize, f64, f64)>, Option<Minimum>) {
    let tasks: Vec<(usize, f64)> = free.iter().flat_map(|axis| [(*axis, -1.0), (*axis, 1.0)]).collect();
    let found: Vec<(usize, f64, f64, Option<Minimum>)> = tasks
        .into_par_iter()
        .map(|(axis, sign)| {
            let at_best = smooth(objective, &best.vector, axis, free);
            let (mut near, mut better) = (best.vector.clone(), None::<Minimum>);
            for distance in DISTANCES {
                let value = best.vector[axis] + sign * distance;
                let minimum = held(objective, &near, axis, value, free);
                if minimum.loss < best.loss && better.as_ref().is_none_or(|better| minimum.loss < better.loss)
                {
                    better = Some(minimum.clone());
                }
                if refused(&smooth(objective, &minimum.vector, axis, free), &at_best) {
                    return (axis, sign, distance, better);
                }
                near = minimum.vector;
            }
            (axis, sign, f64::INFINITY, better)
        })
        .collect();
    let better = found.iter().filter_map(|found| found.3.clone()).min_by(|a, b| a.loss.total_cmp(&b.loss));
    let end = |axis: usize, sign: f64| {
        let mine = found.iter().find(|found| found.0 == axis && (found.1 - sign).abs() < 0.5);
        mine.map_or(f64::INFINITY, |found| found.2)
    };
    (free.iter().map(|axis| (*axis, end(*axis, -1.0), end(*axis, 1.0))).collect(), better)
}

/// Perturbations of a vector, and their size as a logarithm.
const PERTURBATIONS: u64 = 6;
const PERTURBED_BY: f64 = 0.01;

/// The blocks' losses, averaged over the same slight perturbations of all coordinates but one.
#[expect(clippy::cast_precision_loss)]
fn smooth<O: Objective>(objective: &O, vector: &[f64], held: usize, free: &[usize]) -> Vec<f64> {
    let keyed = Keyed::new(0);
    let mut sum: Vec<f64> = Vec::new();
    for round in 0..PERTURBATIONS {
        let mut perturbed = vector.to_vec();
        for axis in free.iter().filter(|axis| **axis != held) {
            // In pairs of opposite signs, so that slopes cancel.
            let draw = 2.0 * keyed.uniform("perturb", &[round / 2, *axis as u64]) - 1.0;
            perturbed[*axis] += PERTURBED_BY * draw * if round % 2 == 0 { 1.0 } else { -1.0 };
        }
        let blocks = objective.blocks(&perturbed);
        if sum.is_empty() {
            sum = blocks;
        } else {
            sum.iter_mut().zip(blocks).for_each(|(sum, block)| *sum += block);
        }
    }
    sum.iter_mut().for_each(|sum| *sum /= PERTURBATIONS as f64);
    sum
}

/// Whether the blocks' losses are higher by more than chance.
fn refused(constrained: &[f64], best: &[f64]) -> bool {
    let differences: Vec<f64> =
        constrained.iter().zip(best).map(|(constrained, best)| constrained - best).collect();
    #[expect(clippy::cast_precision_loss)]
    let count = differences.len() as f64;
    if count < 2.0 {
        return false;
    }
    let mean = differences.iter().sum::<f64>() / count;
    let variance =
        differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0);
    mean > REFUSED * (variance / count).sqrt()
}

/// The estimate of a coordinate whose interval reaches `below` and `above` (logarithms) from its value.
pub(crate) fn estimate(axis: usize, log: f64, below: f64, above: f64, why: Option<String>) -> Estimate {
    let coefficient = Coefficient::ALL[axis];
    let (least, most) = coefficient.range();
    let widest = below.max(above);
    let known = if widest <= IDENTIFIED {
        Known::Identified
    } else if widest <= ROUGHLY {
        Known::Roughly
    } else {
        Known::NotIdentified
    };
    Estimate {
        coefficient,
        name: coefficient.name(),
        value: log.exp().clamp(least, most),
        low: (log - below).exp().clamp(0.0, most),
        high: (log + above).exp().clamp(least, most),
        known,
        why: why.filter(|_| known == Known::NotIdentified),
    }
}
