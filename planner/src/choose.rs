//! Which windows deserve fresh futures.

use slackwater_engine::Ps;
use slackwater_scenarios::Cost;

use crate::future::Futures;
use crate::load_curve::LoadCurve;
use crate::screen::{Outcome, Screening, StartFigures};

/// How far all traffic may be off what the futures say, as a standard deviation of the logarithm: a start is scored with room for
/// that, so that of starts that look alike the one with more headroom comes first.
const DOUBT_SD: f64 = 0.15;
/// Starts so near to each other cost about the same.
const NEAR_PS: Ps = 1_800 * slackwater_engine::PS_PER_S;
/// Windows whose score is within this of the best are as good, and the soonest of them is taken.
const TOLERANCE: (f64, f64) = (1.1, 1.0);

/// A window, and how it looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Places of its starts in the screening.
    pub places: std::ops::RangeInclusive<usize>,
    /// Expected cost of its worst start, in requests that miss.
    pub score: f64,
    /// The local day it begins on.
    day: i64,
}

impl Candidate {
    /// The local midnight before its first start.
    #[must_use]
    pub fn day(&self) -> i64 {
        self.day
    }
}

/// Expected cost of one rollout begun at this start, in requests that miss beyond those that would without it.
#[must_use]
pub fn cost(figures: &StartFigures, cost: &Cost) -> f64 {
    let simulated = (figures.futures - figures.closed).max(1) as f64;
    (figures.extra_missed as f64 * cost.miss
        + figures.cut as f64 * cost.cut
        + figures.below_n_s / 3600.0 * cost.hour_below_n)
        / simulated
}

/// The windows to look at more closely, best first: none of their starts missed in any future of the screening (or, where
/// there is no such window, those of the least expected cost that can be begun at all, marked by `clean` being false). They do
/// not overlap, and lie on different days as long as there are such.
///
/// Of many starts the one that looks best in its own few futures is most of all the luckiest. So a start is scored by the larger of
/// two figures that depend less on luck: what it and its neighbours within half an hour cost, and what rollouts cost at its loads
/// (`load_curve.rs`).
#[must_use]
pub fn candidates(
    screening: &Screening,
    futures: &Futures,
    prices: &Cost,
    (starts_a_window, most): (usize, usize),
) -> (Vec<Candidate>, bool) {
    let starts = &screening.starts;
    let tried = starts.iter().take_while(|start| start.futures > 0).count();
    let width = starts_a_window.clamp(1, tried.max(1));
    let worst = |from: usize| -> u64 {
        starts[from..from + width].iter().map(|start| start.failed).max().unwrap_or(0)
    };
    if tried < width {
        return (Vec::new(), false);
    }
    let clean = (0..=tried - width).any(|from| worst(from) == 0);
    let shut = |from: usize| starts[from..from + width].iter().any(|start| 2 * start.closed > start.futures);
    let open = (0..=tried - width).any(|from| !shut(from));
    let near = smoothed(&starts[..tried], prices);
    let curve = curve(&starts[..tried], prices);
    let scores: Vec<f64> =
        near.iter().zip(starts).map(|(near, start)| near.max(curve.mean(&start.peaks))).collect();
    let mut found: Vec<Candidate> = (0..=tried - width)
        .filter(|from| if clean { worst(*from) == 0 } else { !open || !shut(*from) })
        .map(|from| Candidate {
            places: from..=from + width - 1,
            score: scores[from..from + width].iter().copied().fold(0.0, f64::max),
            day: futures.calendar().midnight_before(futures.instant_ns(starts[from].start_ps)),
        })
        .collect();
    // Stable: equal scores stay in order of time.
    found.sort_by(|a, b| a.score.total_cmp(&b.score));
    let best = found.first().map_or(0.0, |best| best.score);
    let good = best * TOLERANCE.0 + TOLERANCE.1;
    let mut chosen: Vec<Candidate> = Vec::new();
    // The soonest of the good ones first, then one a day, then whatever does not overlap.
    let soonest = found.iter().filter(|one| one.score <= good).min_by_key(|one| *one.places.start()).cloned();
    chosen.extend(soonest);
    for other_day in [true, false] {
        for one in &found {
            if chosen.len() >= most {
                break;
            }
            let apart = chosen.iter().all(|taken| {
                (one.places.end() < taken.places.start() || one.places.start() > taken.places.end())
                    && !(other_day && one.day == taken.day)
            });
            if apart {
                chosen.push(one.clone());
            }
        }
    }
    (chosen, clean)
}

/// Expected costs, each the mean over the starts within half an hour of it.
fn smoothed(starts: &[StartFigures], prices: &Cost) -> Vec<f64> {
    let own: Vec<f64> = starts.iter().map(|start| cost(start, prices)).collect();
    let near = |place: usize| {
        let at = starts[place].start_ps;
        let first = starts.partition_point(|start| start.start_ps + NEAR_PS < at);
        let last = starts.partition_point(|start| start.start_ps <= at + NEAR_PS);
        // Where nothing was simulated, nothing is known of the cost.
        let those = || (first..last).filter(|near| starts[*near].futures > starts[*near].closed);
        let count = those().count();
        if count == 0 { own[place] } else { those().map(|near| own[near]).sum::<f64>() / count as f64 }
    };
    (0..starts.len()).map(near).collect()
}

/// What rollouts cost at a load.
fn curve(starts: &[StartFigures], prices: &Cost) -> LoadCurve {
    let begun = starts.iter().flat_map(|start| &start.each).filter(|one| !one.closed);
    LoadCurve::of(begun.map(|one| (one.peak_per_s, of_one(one, prices))).collect(), DOUBT_SD)
}

fn of_one(one: &Outcome, prices: &Cost) -> f64 {
    one.extra_missed as f64 * prices.miss
        + one.cut as f64 * prices.cut
        + one.below_n_s / 3600.0 * prices.hour_below_n
}

/// The starts of a candidate, in the horizon.
#[must_use]
pub fn starts_of(screening: &Screening, candidate: &Candidate) -> Vec<Ps> {
    screening.starts[candidate.places.clone()].iter().map(|start| start.start_ps).collect()
}
