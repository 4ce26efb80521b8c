//! One rollout beside what was predicted of it.

use serde::{Deserialize, Serialize};
use slackwater_policy::{Figure, Outcome, Plan};

use super::{Move, PHASE_NAMES, PHASES, PhaseLatency, Phases, Prediction, Seen, mean, sorted};
use crate::screen::quantile;

/// Schema id of [`Compared`].
pub const ACTUAL_SCHEMA: &str = "slackwater.actual/1";

/// Predicted against actual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Always [`ACTUAL_SCHEMA`].
    pub schema: String,
    /// The rollout's number in its journal, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
    /// The old version's name.
    pub from: String,
    /// The new one's.
    pub to: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it is held against.
    pub basis: Basis,
    /// Medians over the simulated rollouts: move by move.
    pub predicted: Seen,
    /// What happened.
    pub actual: Seen,
    /// Actual less predicted, means over the moves.
    pub errors: Phases,
    /// Phase by phase, over all moves; then figures of the whole rollout.
    pub phases: Vec<PhaseRow>,
    /// What clients saw, phase by phase of the rollout.
    pub latency: Vec<LatencyRow>,
    /// Where the actual latency is from, in words.
    #[serde(default)]
    pub latency_from: String,
    /// The plan's guards, and how near they came.
    pub bands: Vec<BandSeen>,
}

/// What a rollout is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// In words.
    pub source: String,
    /// Simulated rollouts; 0: the plan's own expectations.
    pub rollouts: u64,
}

/// A spread, seconds (requests for `cut`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Band {
    /// Half are no larger.
    pub p50: f64,
    /// 95 % are no larger; `None` of fewer than twenty values that differ.
    pub p95: Option<f64>,
    /// The largest.
    pub max: f64,
    /// How many values.
    pub count: u64,
}

impl Band {
    /// That of values in order; `None` of nothing.
    #[must_use]
    pub fn of(sorted: &[f64]) -> Option<Self> {
        let (least, max) = (*sorted.first()?, *sorted.last()?);
        // The 95 % point of a few values is their largest by another name.
        #[allow(clippy::float_cmp)] // exactly alike is what is meant
        let known = sorted.len() >= 20 || (least == max && sorted.len() > 1);
        Some(Self {
            p50: quantile(sorted, 0.5)?,
            p95: quantile(sorted, 0.95).filter(|_| known),
            max,
            count: sorted.len() as u64,
        })
    }
}

/// One phase, or one figure of the whole rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseRow {
    /// `drain`, `stop`, … `whole`; `rollout`, `below N`, `cut`.
    pub name: String,
    /// What was predicted.
    pub predicted: Option<Band>,
    /// What was measured.
    pub actual: Option<Band>,
    /// Actual median less predicted median.
    pub error: Option<f64>,
}

/// What clients saw in one phase of the rollout. Errors are actual less predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyRow {
    /// `before`, a replica's name, `hold`, `after`.
    pub phase: String,
    /// Predicted: medians over the simulated rollouts.
    pub predicted: Option<PhaseLatency>,
    /// Actual.
    pub actual: Option<PhaseLatency>,
    /// Of the median time to first token.
    pub ttft_p50_error_s: Option<f64>,
    /// Of its 99th percentile.
    pub ttft_p99_error_s: Option<f64>,
    /// Of the median time per output token.
    pub tpot_p50_error_s: Option<f64>,
    /// Of its 99th percentile.
    pub tpot_p99_error_s: Option<f64>,
}

/// A guard, and the largest value it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BandSeen {
    /// What it watches.
    pub figure: Figure,
    /// The upper edge of its band.
    pub limit: f64,
    /// How long it may be above.
    pub sustained_s: f64,
    /// The largest value; `None`: it was shown none.
    pub largest: Option<f64>,
}

/// Puts a rollout beside its prediction.
#[must_use]
pub fn compare(plan: &Plan, prediction: &Prediction, actual: Seen, bands: Vec<BandSeen>) -> Compared {
    let predicted = typical(prediction);
    let errors = difference(predicted.mean, actual.mean);
    let mut phases: Vec<PhaseRow> = (0..PHASES)
        .map(|index| {
            let found = sorted(actual.moves.iter().filter_map(|it| it.phases.list()[index]).collect());
            row(PHASE_NAMES[index], &prediction.phase(index), &found)
        })
        .collect();
    for (name, value) in FIGURES {
        let found: Vec<f64> = value(&actual).into_iter().collect();
        phases.push(row(name, &prediction.whole(value), &found));
    }
    let latency = latencies(&predicted.latency, &actual.latency);
    Compared {
        schema: ACTUAL_SCHEMA.to_owned(),
        rollout: None,
        from: plan.from.name.clone(),
        to: plan.to.name.clone(),
        outcome: actual.outcome,
        basis: Basis {
            source: prediction.source.clone(),
            rollouts: if prediction.stated { 0 } else { prediction.rollouts.len() as u64 },
        },
        predicted,
        actual,
        errors,
        phases,
        latency,
        latency_from: String::new(),
        bands,
    }
}

/// A figure of a whole rollout.
pub(crate) type FigureOf = fn(&Seen) -> Option<f64>;

/// Those that are compared.
#[allow(clippy::cast_precision_loss)] // counts of requests
pub(crate) const FIGURES: [(&str, FigureOf); 3] = [
    ("rollout", |seen| seen.rollout_s),
    ("below N", |seen| seen.below_n_s),
    ("cut", |seen| seen.cut.map(|cut| cut as f64)),
];

fn row(name: &str, predicted: &[f64], actual: &[f64]) -> PhaseRow {
    let (predicted, actual) = (Band::of(predicted), Band::of(actual));
    let error = predicted.zip(actual).map(|(predicted, actual)| actual.p50 - predicted.p50);
    PhaseRow { name: name.to_owned(), predicted, actual, error }
}

fn difference(predicted: Phases, actual: Phases) -> Phases {
    let (old, new) = (predicted.list(), actual.list());
    Phases::each(|index| Some(new[index]? - old[index]?))
}

/// The middle of many rollouts: of each replica's move in turn the medians.
fn typical(prediction: &Prediction) -> Seen {
    let [first, rest @ ..] = prediction.rollouts.as_slice() else { return Seen::default() };
    if rest.is_empty() {
        return first.clone();
    }
    // Rollouts whose moves were not the usual ones are not in the middle of anything.
    let names = |seen: &Seen| seen.moves.iter().map(|it| it.replica.clone()).collect::<Vec<_>>();
    let mut ways: Vec<(Vec<String>, usize)> = Vec::new();
    for way in prediction.rollouts.iter().map(names) {
        match ways.iter_mut().find(|(known, _)| *known == way) {
            Some((_, count)) => *count += 1,
            None => ways.push((way, 1)),
        }
    }
    let most = ways.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let usual = ways.into_iter().find(|(_, count)| *count == most).map(|(way, _)| way).unwrap_or_default();
    let alike: Vec<&Seen> = prediction.rollouts.iter().filter(|seen| names(seen) == usual).collect();
    let middle = |values: &dyn Fn(&Seen) -> Option<f64>| {
        median(alike.iter().filter_map(|seen| values(seen)).collect())
    };
    let moves: Vec<Move> = usual
        .iter()
        .enumerate()
        .map(|(place, replica)| Move {
            replica: replica.clone(),
            done: alike[0].moves[place].done,
            cut: whole_number(middle(&|seen| Some(f64::from(u32::try_from(seen.moves[place].cut).ok()?)))),
            attempts: alike[0].moves[place].attempts,
            phases: Phases::each(|index| middle(&|seen| seen.moves[place].phases.list()[index])),
        })
        .collect();
    let of = |place: usize| middle(&|seen| FIGURES[place].1(seen));
    Seen {
        outcome: alike[0].outcome,
        mean: mean(&moves),
        moves,
        rollout_s: of(0),
        below_n_s: of(1),
        serving_min: alike.iter().filter_map(|seen| seen.serving_min).min(),
        cut: of(2).map(|cut| whole_number(Some(cut))),
        latency: typical_latency(&alike),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count of requests
fn whole_number(value: Option<f64>) -> u64 {
    value.unwrap_or(0.0).round() as u64
}

fn median(values: Vec<f64>) -> Option<f64> {
    quantile(&sorted(values), 0.5)
}

fn typical_latency(alike: &[&Seen]) -> Vec<PhaseLatency> {
    let longest = alike.iter().max_by_key(|seen| seen.latency.len());
    let names = longest.map_or(&[][..], |seen| &seen.latency);
    let of = |wanted: &PhaseLatency| {
        let found: Vec<&PhaseLatency> = alike
            .iter()
            .filter_map(|seen| seen.latency.iter().find(|row| row.phase == wanted.phase))
            .collect();
        let middle = |index: usize| median(found.iter().filter_map(|row| row.figures()[index]).collect());
        PhaseLatency {
            phase: wanted.phase.clone(),
            count: found.iter().map(|row| row.count).sum::<u64>() / found.len().max(1) as u64,
            ttft_p50_s: middle(0),
            ttft_p99_s: middle(1),
            tpot_p50_s: middle(2),
            tpot_p99_s: middle(3),
        }
    };
    names.iter().map(of).collect()
}

/// Each phase in which clients were heard; nothing is said of the others.
fn latencies(predicted: &[PhaseLatency], actual: &[PhaseLatency]) -> Vec<LatencyRow> {
    let mut left: Vec<&PhaseLatency> = predicted.iter().collect();
    let mut rows = Vec::new();
    let mut push = |predicted: Option<&PhaseLatency>, actual: &PhaseLatency| {
        let error = |index: usize| Some(actual.figures()[index]? - predicted?.figures()[index]?);
        rows.push(LatencyRow {
            phase: actual.phase.clone(),
            predicted: predicted.cloned(),
            actual: Some(actual.clone()),
            ttft_p50_error_s: error(0),
            ttft_p99_error_s: error(1),
            tpot_p50_error_s: error(2),
            tpot_p99_error_s: error(3),
        });
    };
    for row in actual {
        let place = left.iter().position(|other| other.phase == row.phase);
        push(place.map(|place| left.remove(place)), row);
    }
    rows
}
