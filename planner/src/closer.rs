//! A closer look at a few starts, each question on fresh futures of its own.

mod drain;
mod recommend;
mod sensitivity;
mod strategies;
mod today;

use slackwater_engine::Ps;
use slackwater_policy::Operator;
use slackwater_scenarios::{Cost, Scenario};

use crate::chance::Risk;
use crate::plan::{PlanError, Search};
use crate::screen::quantile;
use crate::stretch::Tried;
use crate::trials::Trials;

pub(crate) use drain::{by_hour, drain};
pub(crate) use recommend::{back_out, bands, cost_of, expected, matching, recommended, risk_facts};
pub(crate) use sensitivity::sensitivity;
pub(crate) use strategies::strategies;
pub(crate) use today::today;

/// First future of each question: none meets another's, and none those of screening or certification.
pub(crate) mod fresh {
    pub(crate) const DRAIN: u64 = 1 << 40;
    pub(crate) const STRATEGIES: u64 = 2 << 40;
    pub(crate) const SENSITIVITY: u64 = 3 << 40;
    pub(crate) const TODAY: u64 = 4 << 40;
}

/// Many trials of one start, taken together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Together {
    pub(crate) futures: u64,
    pub(crate) failed: u64,
    pub(crate) any_cut: u64,
    pub(crate) cut: f64,
    pub(crate) missed: f64,
    pub(crate) below_n_s: f64,
    /// Sorted.
    pub(crate) durations_s: Vec<f64>,
    pub(crate) saw_both_share: Option<f64>,
}

impl Together {
    pub(crate) fn of<'t>(trials: impl Iterator<Item = &'t Tried> + Clone) -> Self {
        let count = trials.clone().count().max(1) as f64;
        let sum = |value: &dyn Fn(&Tried) -> f64| trials.clone().map(value).sum::<f64>() / count;
        let mut durations: Vec<f64> = trials.clone().map(|tried| tried.trial.duration_s).collect();
        durations.sort_by(f64::total_cmp);
        let shares: Vec<f64> = trials.clone().filter_map(|tried| tried.trial.saw_both_share).collect();
        Self {
            futures: trials.clone().count() as u64,
            failed: trials.clone().filter(|tried| tried.failed()).count() as u64,
            any_cut: trials.clone().filter(|tried| tried.trial.cut > 0).count() as u64,
            cut: sum(&|tried| tried.trial.cut as f64),
            missed: sum(&|tried| tried.trial.service.missed as f64),
            below_n_s: sum(&|tried| tried.trial.below_n_s),
            durations_s: durations,
            saw_both_share: (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64),
        }
    }

    pub(crate) fn risk(&self, confidence: f64) -> Risk {
        Risk::of(self.failed, self.futures, confidence)
    }

    pub(crate) fn duration_s(&self, q: f64) -> f64 {
        quantile(&self.durations_s, q).unwrap_or(0.0)
    }

    pub(crate) fn cost(&self, prices: &Cost) -> f64 {
        self.missed * prices.miss + self.cut * prices.cut + self.below_n_s / 3600.0 * prices.hour_below_n
    }
}

/// Tries one start in so many futures (or in as many as the search may); `None` when the search was stopped.
pub(crate) fn try_start(
    search: &mut Search<'_>,
    scenario: &Scenario,
    (start, lasts): (Ps, Ps),
    (first, count): (u64, u64),
    (stage, order): (&str, Option<(Ps, Operator)>),
) -> Result<Option<Vec<Tried>>, PlanError> {
    let starts = [start];
    let trials = Trials {
        scenario,
        gate: &search.gate,
        starts: &starts,
        futures: first..first + count.min(search.at_most),
        lasts,
        order,
        stage,
    };
    match trials.run(&search.futures, search.watch)? {
        Some((found, requests)) => {
            search.simulated += requests;
            Ok(Some(found.into_iter().flatten().collect()))
        }
        None => {
            search.partial = true;
            Ok(None)
        }
    }
}
