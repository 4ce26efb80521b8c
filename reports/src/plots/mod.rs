//! Plots: plain data in, an SVG document out; PNG from the same SVG.
//!
//! ```text
//! SimulationResult, Style -> traffic | replicas | latency | distribution | survival -> SVG -> png()
//! ```
//!
//! Every plot takes any data without a panic: what can't be drawn is said ("no data"). Samples thicker than the drawing are thinned
//! (rates to their mean, latencies and queues to their peak), and all of them are in `series.csv`.

pub(crate) mod axis;
mod distribution;
mod gantt;
mod latency;
mod png;
mod replicas;
pub(crate) mod rollout;
pub(crate) mod sheet;
mod survival;
pub(crate) mod theme;
mod traffic;

use slackwater_sim::{RolloutResult, SimulationResult};

pub use distribution::distribution;
pub use latency::latency;
pub use png::{PngError, SCALE, png};
pub use replicas::replicas;
pub(crate) use rollout::rollout;
pub use survival::survival;
pub use theme::{Form, Style, Theme, css_variables, themeable};
pub use traffic::traffic;

/// One of the plots, for whoever wants them all.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    /// File name without extension.
    pub name: &'static str,
    /// One line on what to see in it.
    pub caption: &'static str,
    /// Draws it.
    pub draw: fn(&SimulationResult, Style) -> String,
}

/// All plots, in the order of a report.
pub const PLOTS: [Plot; 5] = [
    Plot {
        name: "traffic",
        caption: "What arrived, and what the replicas in rotation can carry within the service level.",
        draw: traffic,
    },
    Plot {
        name: "replicas",
        caption: "Where the work was while replicas left and came back; each move's stages underneath.",
        draw: replicas,
    },
    Plot {
        name: "latency",
        caption: "Latency of the requests that completed in each interval, against the service level's bounds.",
        draw: latency,
    },
    Plot {
        name: "distribution",
        caption: "The share of requests slower than a given latency: the lower and the further left, the better.",
        draw: distribution,
    },
    Plot {
        name: "drain",
        caption: "How long requests already running kept a drained replica busy: the case for or against a drain timeout.",
        draw: survival,
    },
];

/// A stretch of time to show: all of it, or the rollout and its surroundings where all would hide it.
#[derive(Debug, Clone, Copy)]
struct View {
    from: f64,
    until: f64,
    zoomed: bool,
}

impl View {
    /// All samples, from 0.
    fn whole(result: &SimulationResult) -> View {
        let last = result.series.at_s.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
        let until = if last > 0.0 { last } else { result.traffic.span_s.max(1.0) };
        View { from: 0.0, until, zoomed: false }
    }

    /// The rollout with `around` times its length on either side, if that is less than all.
    fn near(result: &SimulationResult, around: f64) -> View {
        let whole = View::whole(result);
        let Some((from, until)) = result.rollout.as_ref().and_then(period) else { return whole };
        let margin = ((until - from) * around).max(120.0);
        let (from, until) = ((from - margin).max(0.0), (until + margin).min(whole.until.max(until)));
        if until - from < 0.8 * whole.until { View { from, until, zoomed: true } } else { whole }
    }

    fn holds(&self, at: f64) -> bool {
        at >= self.from && at <= self.until
    }
}

/// When the rollout was, if its times are times.
fn period(rollout: &RolloutResult) -> Option<(f64, f64)> {
    let (from, until) = (rollout.started_s, rollout.ended_s);
    (from.is_finite() && until.is_finite() && until >= from).then_some((from, until))
}

/// When faults befell this replica, within a view.
fn befallen<'a>(
    result: &'a SimulationResult,
    replica: &'a str,
    view: View,
) -> impl Iterator<Item = f64> + 'a {
    let all = result.faults.iter().flat_map(|fault| &fault.befell);
    all.filter(move |one| one.replica == replica && view.holds(one.at_s)).map(|one| one.at_s)
}

/// Samples of a series with their times, within a view.
fn samples<'a, T: Copy>(
    at_s: &'a [f64],
    values: &'a [T],
    view: View,
    value: impl Fn(T) -> Option<f64> + 'a,
) -> axis::Samples {
    at_s.iter()
        .zip(values)
        .filter(|(at, _)| view.holds(**at))
        .map(|(at, v)| (*at, value(*v).filter(|v| v.is_finite())))
        .collect()
}
