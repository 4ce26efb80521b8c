//! How far one trace is from another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Collected;

/// A figure of both traces; `None` where one of them does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// Of the trace.
    pub here: Option<f64>,
    /// Of what it is compared with.
    pub there: Option<f64>,
}

/// How far a trace is from another. Distances are between 0 (alike) and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The trace.
    pub here: String,
    /// What it is compared with.
    pub there: String,
    /// Mean requests a second.
    pub rate_per_s: Pair,
    /// Kolmogorov-Smirnov distance of prompt lengths: the largest difference of the shares up to a length.
    pub input_distance: f64,
    /// The same of output lengths.
    pub output_distance: f64,
    /// Rank correlation of input and output lengths.
    pub rank_correlation: Pair,
    /// Coefficient of variation of the gaps.
    pub cv: Pair,
    /// Index of dispersion of counts in a second.
    pub dispersion_1s: Pair,
    /// In ten seconds.
    pub dispersion_10s: Pair,
    /// In a minute.
    pub dispersion_60s: Pair,
    /// Total variation distance of the shape of the day: the share of requests that come in other hours. `None` unless
    /// both have a calendar and hold half an hour of every hour of the day.
    pub hourly_distance: Option<f64>,
}

impl Collected {
    /// How far this trace is from `other`.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Comparison {
        let (here, there) = (&self.figures, &other.figures);
        let pair = |of: fn(&super::TraceFigures) -> Option<f64>| Pair { here: of(here), there: of(there) };
        Comparison {
            here: here.import.source.clone(),
            there: there.import.source.clone(),
            rate_per_s: pair(|figures| Some(figures.rate.mean_per_s)),
            input_distance: self.input.distance(&other.input),
            output_distance: self.output.distance(&other.output),
            rank_correlation: pair(|figures| figures.rank_correlation),
            cv: pair(|figures| figures.arrivals.cv),
            dispersion_1s: pair(|figures| figures.arrivals.dispersion_1s),
            dispersion_10s: pair(|figures| figures.arrivals.dispersion_10s),
            dispersion_60s: pair(|figures| figures.arrivals.dispersion_60s),
            hourly_distance: hourly_distance(self, other),
        }
    }
}

fn hourly_distance(one: &Collected, other: &Collected) -> Option<f64> {
    let (one, other) = (shape(one)?, shape(other)?);
    Some(one.iter().zip(&other).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0)
}

/// The share of a day's requests in each of its hours.
fn shape(of: &Collected) -> Option<Vec<f64>> {
    let calendar = of.figures.calendar.as_ref()?;
    let rates: Vec<f64> = calendar.hourly_per_s.iter().copied().collect::<Option<_>>()?;
    let sum: f64 = rates.iter().sum();
    (sum > 0.0).then(|| rates.iter().map(|rate| rate / sum).collect())
}
