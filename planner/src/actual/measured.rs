//! Measured delays, in the form that a scenario has them.
//!
//! A phase that is found out by looking again and again ends up to one look late: half of the interval is taken off. Of three and more
//! the delay is lognormal; its 95 % point is where the *next* one lies with 95 %, so few measurements give a wide one
//! (`exp(mean + t(0.95, n - 1) * sd * sqrt(1 + 1/n))` in logarithms).

use serde::{Deserialize, Serialize};
use slackwater_policy::{Plan, RolloutReport, Span, VersionRef};
use slackwater_scenarios::{Delay, HumanDuration};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Phases, sorted};
use crate::screen::quantile;

/// A lognormal is fitted from so many on.
const FEW: usize = 3;

/// One delay of the scenario as it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its key: `from.stop`, `to.startup`.
    pub key: String,
    /// From so many moves.
    pub count: usize,
    /// The shortest, seconds.
    pub least_s: f64,
    /// The longest.
    pub most_s: f64,
    /// As the scenario has it.
    pub delay: Delay,
}

impl Measured {
    /// A delay from the seconds that it took each time; `None` without any.
    #[must_use]
    pub fn of(key: &str, seconds: Vec<f64>) -> Option<Self> {
        let values = sorted(seconds);
        let (least_s, most_s) = (*values.first()?, *values.last()?);
        Some(Self { key: key.to_owned(), count: values.len(), least_s, most_s, delay: delay(&values)? })
    }
}

/// What rollouts say of the delays of their scenario. Moves that did not reach a phase say nothing of it, nor does a stop that cut requests
/// of how an idle engine stops.
#[must_use]
pub fn measured(rollouts: &[(Plan, RolloutReport)]) -> Vec<Measured> {
    let mut found: Vec<(String, Vec<f64>)> = Vec::new();
    let mut add = |table: VersionRef, key: &str, value: Option<f64>| {
        let Some(value) = value else { return };
        let table = if table == VersionRef::From { "from" } else { "to" };
        let key = format!("{table}.{key}");
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => found.push((key, vec![value])),
        }
    };
    for (plan, report) in rollouts {
        let steps = &plan.rollout.steps;
        for moved in &report.moves {
            let phases = Phases::of(moved);
            let (old, new) = (other(moved.target), moved.target);
            if moved.cut == 0 && !moved.drain_timed_out {
                add(old, "stop", phases.stop_s);
            }
            add(old, "gpu_release", phases.gpu_free_s.map(|it| looked_at(it, steps.gpu_free.every)));
            add(new, "startup", phases.load_s.map(|it| looked_at(it, steps.health.every)));
            add(new, "warm_up", phases.warm_s);
        }
    }
    found.into_iter().filter_map(|(key, values)| Measured::of(&key, values)).collect()
}

fn other(version: VersionRef) -> VersionRef {
    match version {
        VersionRef::From => VersionRef::To,
        VersionRef::To => VersionRef::From,
    }
}

/// A span that ended at a look: half of the interval off, unless the first look found it.
fn looked_at(seconds: f64, every: Span) -> f64 {
    let every = every.as_secs_f64();
    if seconds < every { seconds } else { seconds - every / 2.0 }
}

/// The delay that these values, in order, are draws of.
fn delay(values: &[f64]) -> Option<Delay> {
    let rounded = |seconds: f64| HumanDuration::from_secs_f64((seconds * 1000.0).round() / 1000.0);
    let middle = quantile(values, 0.5)?;
    let constant = || rounded(middle).map(Delay::Constant);
    // What is over within a millisecond has no logarithm worth fitting.
    if values.len() < FEW || values.iter().any(|value| *value < 0.001) {
        return constant();
    }
    #[allow(clippy::cast_precision_loss)] // a handful of moves
    let n = values.len() as f64;
    let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let mean = logarithms.iter().sum::<f64>() / n;
    let sd = (logarithms.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.95);
    let (median, p95) =
        (rounded(mean.exp())?, rounded((mean + student * sd * (1.0 + 1.0 / n).sqrt()).exp())?);
    if median.is_zero() || p95 <= median { constant() } else { Some(Delay::Lognormal { median, p95 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(values: &[f64]) -> Delay {
        delay(&sorted(values.to_vec())).unwrap()
    }

    #[test]
    fn few_give_a_constant_and_many_a_spread_that_covers_the_next_one() {
        assert_eq!(seconds(&[3.0]).median().as_secs_f64(), 3.0);
        assert!(matches!(seconds(&[3.0, 4.0]), Delay::Constant(_)));
        assert!(matches!(seconds(&[3.0, 3.0, 3.0]), Delay::Constant(_)), "no spread, no lognormal");
        assert!(matches!(seconds(&[0.0, 0.2, 0.3]), Delay::Constant(_)));
        // By hand: the logarithms are 0, 1, 2, so mean 1, deviation 1; t(0.95, 2) = 2.919986, times sqrt(4/3).
        let Delay::Lognormal { median, p95 } = seconds(&[1.0, 1f64.exp(), 2f64.exp()]) else {
            panic!("three values that differ are a distribution")
        };
        assert!((median.as_secs_f64() - 1f64.exp()).abs() < 1e-3, "{median:?}");
        let by_hand = (1.0 + 2.919_986 * (4.0_f64 / 3.0).sqrt()).exp();
        assert!((p95.as_secs_f64() / by_hand - 1.0).abs() < 1e-4, "{p95:?} {by_hand}");
    }

    #[test]
    fn half_a_look_is_taken_off() {
        let every = Span::from_secs(2);
        assert_eq!(looked_at(61.0, every), 60.0);
        assert_eq!(looked_at(0.1, every), 0.1, "found at the first look");
    }
}
