//! Over many rollouts: is what was promised kept?
//!
//! Of each figure it is counted how often the actual value lay at or below the predicted 50 % and 95 % points. A promise that is right
//! is kept in half of the cases and in 95 % of them, up to chance; the interval says how much chance, that of the simulated rollouts
//! included (Clopper and Pearson's, of `n m / (n + m)` for `n` actual beside `m` simulated values). The moves of one rollout share what
//! befell it, so their interval is narrower than it should be: the figures of whole rollouts are the safer reading.

use serde::{Deserialize, Serialize};
use slackwater_policy::Outcome;
use statrs::distribution::{Beta, ContinuousCDF};

use super::compared::FIGURES;
use super::{PHASE_NAMES, PHASES, Prediction, Seen};
use crate::screen::quantile;

/// Schema id of [`Calibration`].
pub const CALIBRATION_SCHEMA: &str = "slackwater.calibration/1";

/// What is over by no more than this still counts as within: a constant delay has no spread, the machine that lives it has.
pub const TOLERANCE_S: f64 = 0.1;

/// Of each of the interval's two ends.
const CONFIDENCE: f64 = 0.95;

/// The levels of the plot.
const LEVELS: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/// How well predictions were kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Always [`CALIBRATION_SCHEMA`].
    pub schema: String,
    /// Rollouts looked at.
    pub rollouts: u64,
    /// Those that completed.
    pub completed: u64,
    /// Moves in them.
    pub moves: u64,
    /// A row a figure.
    pub figures: Vec<Coverage>,
    /// What counts as within is up to so much over, seconds.
    pub tolerance_s: f64,
}

/// How often one figure was within what was predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// `drain` … `whole` of moves; `rollout`, `below N`, `cut` of rollouts.
    pub name: String,
    /// Actual figures.
    pub count: u64,
    /// Those at or below the predicted median.
    pub within_p50: Share,
    /// Those at or below the predicted 95 % point; of `count` 0 where the prediction has none.
    pub within_p95: Share,
    /// The reliability curve: a predicted share, and the share seen.
    pub curve: Vec<(f64, f64)>,
    /// What that says.
    pub kept: Kept,
}

/// A share and how far it can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Within.
    pub within: u64,
    /// Of so many.
    pub count: u64,
    /// `within` over `count`.
    pub share: f64,
    /// Not below this, one-sided, with 95 % (Clopper and Pearson).
    pub lower: f64,
    /// Not above this, likewise.
    pub upper: f64,
}

impl Share {
    /// `simulated` values are behind the predicted point, which is itself known from them only as well as so many let it.
    fn of(within: u64, count: u64, simulated: u64) -> Self {
        #[allow(clippy::cast_precision_loss)] // counts of moves
        let share = if count == 0 { 0.0 } else { within as f64 / count as f64 };
        let (lower, upper) = bounds(within, count, simulated, 1.0 - CONFIDENCE);
        Self { within, count, share, lower, upper }
    }
}

/// Bounds of a share, each missed with `alpha`.
fn bounds(within: u64, count: u64, simulated: u64, alpha: f64) -> (f64, f64) {
    if count == 0 {
        return (0.0, 1.0);
    }
    #[allow(clippy::cast_precision_loss)] // counts of moves
    let (k, n, m) = (within as f64, count as f64, simulated.max(1) as f64);
    // Two samples differ as one does from the truth when it is of n m / (n + m).
    let worth = m / (n + m);
    let (k_worth, rest) = (k * worth, (n - k) * worth);
    let point = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let lower = if within == 0 { 0.0 } else { point(k_worth, rest + 1.0, alpha) };
    let upper = if within == count { 1.0 } else { point(k_worth + 1.0, rest, 1.0 - alpha) };
    (lower, upper)
}

/// What the shares say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Nothing was measured, or nothing predicted.
    Unknown,
    /// Shown: at least 95 % lie within.
    Kept,
    /// Nothing speaks against it, and there is too little to show it.
    NoSignAgainst,
    /// Fewer lie within the 95 % point than promised, beyond chance.
    Broken,
    /// The 95 % point is kept, but fewer than half lie within the median, beyond chance: slower than predicted.
    Shifted,
}

/// Holds rollouts against their predictions, pair by pair.
#[must_use]
pub fn calibrate(pairs: &[(Prediction, Seen)]) -> Calibration {
    let pairs: Vec<&(Prediction, Seen)> = pairs.iter().filter(|(predicted, _)| !predicted.stated).collect();
    // One prediction may serve many rollouts; its chance counts once.
    let mut apart: Vec<&Prediction> = Vec::new();
    for (predicted, _) in pairs.iter().copied() {
        if !apart.contains(&predicted) {
            apart.push(predicted);
        }
    }
    let mut figures: Vec<Coverage> = (0..PHASES)
        .map(|index| {
            let simulated = apart.iter().map(|predicted| predicted.phase(index).len() as u64).sum();
            let mut cases = Vec::new();
            for (predicted, seen) in pairs.iter().copied() {
                let values = predicted.phase(index);
                let actual = seen.moves.iter().filter_map(|moved| moved.phases.list()[index]);
                cases.extend(actual.map(|actual| Case::of(&values, actual)));
            }
            coverage(PHASE_NAMES[index], &cases, simulated)
        })
        .collect();
    for (name, value) in FIGURES {
        let cases: Vec<Case> = pairs
            .iter()
            .filter_map(|(predicted, seen)| Some(Case::of(&predicted.whole(value), value(seen)?)))
            .collect();
        let simulated = apart.iter().map(|predicted| predicted.whole(value).len() as u64).sum();
        figures.push(coverage(name, &cases, simulated));
    }
    Calibration {
        schema: CALIBRATION_SCHEMA.to_owned(),
        rollouts: pairs.len() as u64,
        completed: pairs.iter().filter(|(_, seen)| seen.outcome == Some(Outcome::Completed)).count() as u64,
        moves: pairs.iter().map(|(_, seen)| seen.moves.len() as u64).sum(),
        figures,
        tolerance_s: TOLERANCE_S,
    }
}

/// One actual figure beside the values predicted.
struct Case {
    /// At or below each of the levels; `None` where so few were simulated that the level means nothing.
    within: [Option<bool>; LEVELS.len()],
}

impl Case {
    fn of(predicted: &[f64], actual: f64) -> Self {
        // A level is known from so many values that some lie beyond it.
        #[allow(clippy::cast_precision_loss)]
        let known = |level: f64| predicted.len() as f64 * level.min(1.0 - level) >= 1.0 - 1e-9;
        let within = LEVELS.map(|level| {
            let value = quantile(predicted, level).filter(|_| known(level))?;
            Some(actual <= value + TOLERANCE_S)
        });
        Self { within }
    }
}

fn coverage(name: &str, cases: &[Case], simulated: u64) -> Coverage {
    let at = |level: usize| {
        let known: Vec<bool> = cases.iter().filter_map(|case| case.within[level]).collect();
        Share::of(known.iter().filter(|within| **within).count() as u64, known.len() as u64, simulated)
    };
    let place = |wanted: f64| LEVELS.iter().position(|level| *level >= wanted).unwrap_or(0);
    let (within_p50, within_p95) = (at(place(0.5)), at(place(0.95)));
    let curve = (0..LEVELS.len()).filter(|level| at(*level).count > 0);
    Coverage {
        name: name.to_owned(),
        count: cases.len() as u64,
        within_p50,
        within_p95,
        curve: curve.map(|level| (LEVELS[level], at(level).share)).collect(),
        kept: kept(within_p50, within_p95, simulated),
    }
}

fn kept(p50: Share, p95: Share, simulated: u64) -> Kept {
    if p95.count == 0 {
        return Kept::Unknown;
    }
    // Of eleven figures one is out of its interval soon; an accusation wants all eleven to be right together.
    #[allow(clippy::cast_precision_loss)]
    let strict = (1.0 - CONFIDENCE) / (PHASES + FIGURES.len()) as f64;
    let at_most = |share: Share| bounds(share.within, share.count, simulated, strict).1;
    if at_most(p95) < 0.95 {
        return Kept::Broken;
    }
    // More than half at or below the median is what ties and the tolerance give; only too few is slower than predicted.
    if p50.count > 0 && at_most(p50) < 0.5 {
        return Kept::Shifted;
    }
    if p95.lower >= 0.95 { Kept::Kept } else { Kept::NoSignAgainst }
}
