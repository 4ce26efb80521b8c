//! All that the policy knows, at the same start, in the same futures.

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::Operator;
use slackwater_scenarios::Scenario;

use super::{Together, fresh, try_start};
use crate::plan::{PlanError, Search, human};
use crate::planned::{StrategyFigures, StrategyRow};
use crate::screen::quantile;
use crate::stretch::{TRIAL_MOST_PS, Tried, ps};
use crate::variant::{StrategyVariant, strategies as variants};

/// Futures for each strategy.
const FUTURES: u64 = 60;
/// Futures in which it is called back.
const BACK_OUTS: u64 = 30;
/// The worst moment to go back is late: this share of the usual duration.
pub(crate) const LATE: f64 = 0.9;

pub(crate) fn strategies(search: &mut Search<'_>, start: Ps) -> Result<Vec<StrategyRow>, PlanError> {
    let mut base = search.ask.scenario.clone();
    base.rollout.drain_timeout = search.scenario.rollout.drain_timeout;
    let (base, _) = crate::variant::for_planning(&base);
    let mut rows = Vec::new();
    for variant in variants(&base) {
        let StrategyVariant { name, with, scenario } = variant;
        let row = |possible, note, figures| StrategyRow {
            strategy: name.to_owned(),
            with: with.clone(),
            possible,
            note,
            figures,
        };
        let scenario = match scenario {
            Ok(scenario) => scenario,
            Err(why) => {
                rows.push(row(false, why, None));
                continue;
            }
        };
        let stage = format!("strategy {name}");
        let found = try_start(
            search,
            &scenario,
            (start, TRIAL_MOST_PS / 2),
            (fresh::STRATEGIES, FUTURES),
            (&stage, None),
        );
        let trials = match found {
            Ok(Some(trials)) => trials,
            Ok(None) => break,
            // A strategy that this fleet can't follow is no reason to give up on the others.
            Err(PlanError::Sim(error @ slackwater_sim::SimError::Setup(_))) => {
                rows.push(row(false, error.to_string(), None));
                continue;
            }
            Err(error) => return Err(error),
        };
        let all = Together::of(trials.iter());
        let back_out = back_out_s(search, &scenario, start, all.duration_s(0.5))?;
        let extra =
            f64::from(scenario.fleet.spares * scenario.fleet.tensor_parallel) * all.duration_s(0.5) / 3600.0;
        let note = note(&scenario, &all, &trials);
        rows.push(row(
            true,
            note,
            Some(StrategyFigures {
                risk: all.risk(search.planning.confidence),
                duration_p50_s: all.duration_s(0.5),
                duration_p95_s: all.duration_s(0.95),
                below_n_s: all.below_n_s,
                extra_gpu_hours: extra,
                cut: all.cut,
                missed: all.missed,
                saw_both_share: all.saw_both_share,
                back_out_p95_s: back_out,
                cost: all.cost(&search.planning.cost),
            }),
        ));
    }
    Ok(rows)
}

/// What a reader should know of a row, most often nothing.
fn note(scenario: &Scenario, all: &Together, trials: &[Tried]) -> String {
    use slackwater_scenarios::Strategy;
    let mut said = match scenario.rollout.strategy {
        Strategy::SideBySide => format!(
            "both engines must fit into the GPU's memory; beside each other they are taken to be {} times as slow",
            scenario.rollout.beside_slowdown
        ),
        Strategy::Swap => format!(
            "only for engines that can load weights in place; takes {} a replica by the scenario",
            scenario.to.swap.median()
        ),
        Strategy::Recreate => "nobody serves meanwhile".to_owned(),
        _ => String::new(),
    };
    if all.failed > 0
        && let Some(first) = trials.iter().find(|tried| !tried.trial.completed)
    {
        if !said.is_empty() {
            said.push_str("; ");
        }
        said.push_str(&first.trial.outcome);
    }
    said
}

/// From the order to go back, given late in the rollout, until it is over; its 95 % point.
pub(crate) fn back_out_s(
    search: &mut Search<'_>,
    scenario: &Scenario,
    start: Ps,
    usual_s: f64,
) -> Result<Option<f64>, PlanError> {
    if usual_s <= 0.0 {
        return Ok(None);
    }
    let after = ps(human(usual_s * LATE).as_secs_f64());
    let order = Some((after, Operator::Rollback));
    let found = try_start(
        search,
        scenario,
        (start, (3 * ps(usual_s) + 900 * PS_PER_S).min(TRIAL_MOST_PS)),
        (fresh::STRATEGIES, BACK_OUTS),
        ("the way back", order),
    )?;
    let Some(trials) = found else { return Ok(None) };
    let mut took: Vec<f64> = trials
        .iter()
        .filter(|tried| tried.trial.outcome == "rolled_back")
        .map(|tried| tried.trial.duration_s - after as f64 / PS_PER_S as f64)
        .collect();
    took.sort_by(f64::total_cmp);
    Ok(quantile(&took, 0.95))
}
