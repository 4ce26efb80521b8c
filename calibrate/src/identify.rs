//! How well each coefficient is known: the range of values with which the data can live.
//!
//! A value is tried by holding the coefficient there and fitting all others anew. It is refused when the loss of the data's
//! blocks (stretches of consecutive requests, so that what depends on each other stays together) is higher by more than
//! [`REFUSED`] standard errors of its paired differences. Losses are averaged over a few slight perturbations of all other
//! coefficients: where requests are preempted or not the loss is rough, and the best vector is one that was lucky. The ends of the interval are the first values refused on either
//! side, so intervals err on the wide side; a coefficient that the data do not speak of is refused nowhere.
//!
//! What the others become on the way is kept: where a value is refused, the vector between the last one that was not and the first
//! one that was, at the share of the way at which the difference of losses passes the limit; else the furthest that was tried.

use rayon::prelude::*;
use serde::Serialize;
use slackwater_scenarios::Keyed;

use crate::coefficients::{Coefficient, Vector};
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

/// How far the data let one coordinate go.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    pub(crate) axis: usize,
    /// Distances from the best value, as logarithms.
    pub(crate) below: f64,
    pub(crate) above: f64,
    /// The whole vectors with which the data can still live, at the lower and at the upper end.
    pub(crate) ends: [Vector; 2],
}

/// One way from the best value, to where it is refused.
struct Way {
    distance: f64,
    end: Vector,
    better: Option<Minimum>,
}

/// The intervals of the coordinates `free` around the best vector; a better vector, when one is met on the way.
pub(crate) fn intervals<O: Objective>(
    objective: &O,
    best: &Minimum,
    free: &[usize],
) -> (Vec<Interval>, Option<Minimum>) {
    let tasks: Vec<(usize, f64)> = free.iter().flat_map(|axis| [(*axis, -1.0), (*axis, 1.0)]).collect();
    let mut ways: Vec<Way> =
        tasks.into_par_iter().map(|(axis, sign)| way(objective, best, free, axis, sign)).collect();
    let better = ways.iter_mut().filter_map(|way| way.better.take());
    let better = better.min_by(|a, b| a.loss.total_cmp(&b.loss));
    let interval = |(axis, ways): (&usize, &[Way])| Interval {
        axis: *axis,
        below: ways[0].distance,
        above: ways[1].distance,
        ends: [ways[0].end.clone(), ways[1].end.clone()],
    };
    (free.iter().zip(ways.chunks_exact(2)).map(interval).collect(), better)
}

fn way<O: Objective>(objective: &O, best: &Minimum, free: &[usize], axis: usize, sign: f64) -> Way {
    let at_best = smooth(objective, &best.vector, axis, free);
    let (mut near, mut better) = (best.vector.clone(), None::<Minimum>);
    let mut near_excess = 0.0;
    for distance in DISTANCES {
        let value = best.vector[axis] + sign * distance;
        let minimum = held(objective, &near, axis, value, free);
        if minimum.loss < best.loss && better.as_ref().is_none_or(|better| minimum.loss < better.loss) {
            better = Some(minimum.clone());
        }
        let excess = excess(&smooth(objective, &minimum.vector, axis, free), &at_best);
        if excess > 1.0 {
            let share = ((1.0 - near_excess) / (excess - near_excess)).clamp(0.0, 1.0);
            return Way { distance, end: between(&near, &minimum.vector, share), better };
        }
        (near, near_excess) = (minimum.vector, excess);
    }
    Way { distance: f64::INFINITY, end: near, better }
}

/// A vector so far from one to another. Step times are linear in the values, so that what lies between two vectors fits as they do.
fn between(one: &[f64], other: &[f64], share: f64) -> Vector {
    let value = |(one, other): (&f64, &f64)| ((1.0 - share) * one.exp() + share * other.exp()).ln();
    one.iter().zip(other).map(value).collect()
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

/// By how much the blocks' losses are higher, of what they may be by chance: refused is what is above 1.
fn excess(constrained: &[f64], best: &[f64]) -> f64 {
    let differences: Vec<f64> =
        constrained.iter().zip(best).map(|(constrained, best)| constrained - best).collect();
    #[expect(clippy::cast_precision_loss)]
    let count = differences.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = differences.iter().sum::<f64>() / count;
    let variance =
        differences.iter().map(|difference| (difference - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let chance = REFUSED * (variance / count).sqrt();
    match (mean > 0.0, chance > 0.0) {
        (_, true) => mean / chance,
        (true, false) => f64::INFINITY,
        (false, false) => 0.0,
    }
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
