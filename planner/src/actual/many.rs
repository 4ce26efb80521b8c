//! Many simulated rollouts of one plan, each in full, for the spread of every phase.
//!
//! The plan is the one that was run, without its windows: when it was run is known. Of a recorded trace the starts are spread over the
//! minutes after the scenario's own start, as the same start would meet the same requests each time; drawn traffic is drawn anew.

use std::sync::Arc;

use rayon::prelude::*;
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{Plan, Time};
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::{SharedTrace, Traffic};
use slackwater_sim::{
    RunInfo, RunOptions, SETTLE_PS, Setup, SimError, SimulationResult, TraceCursor, World, start_offset_ps,
};

use super::{PhaseLatency, Prediction, Seen};
use crate::check::{CheckKit, forecast_of, scenario_of};
use crate::future::LEAD_PS;
use crate::plan::PlanError;
use crate::planned::Planned;
use crate::stretch::{SHORT_WARM_UP_PS, TRIAL_MOST_PS};

/// Over so much time after the scenario's start the starts are spread.
pub const SPREAD_PS: Ps = 600 * PS_PER_S;

/// Between two looks at whether a rollout is over.
const LOOK_PS: Ps = 10 * PS_PER_S;

/// So many rollouts of this plan in the scenario's traffic.
///
/// # Errors
/// When the plan is not of this scenario's fleet, the traffic can't be read or ends before the rollout's start, or a simulation fails.
pub fn of_scenario(
    scenario: &Scenario,
    plan: &Plan,
    count: u64,
    source: &str,
) -> Result<Prediction, PlanError> {
    fits(scenario, plan)?;
    let mut plan = plan.clone();
    plan.windows.clear();
    let trace = match scenario.traffic.generate {
        Some(_) => None,
        None => Some(Arc::new(scenario.load_traffic().map_err(SimError::from)?)),
    };
    let ends = trace.as_ref().and_then(|trace| trace.arrivals.last()).map(|last| last.at_ps);
    let one = |number: u64, later: Ps| {
        let scenario = reseeded(scenario, number);
        let setup = Arc::new(Setup::new(&scenario)?);
        match &trace {
            Some(trace) => {
                let start = start_offset_ps(scenario.rollout.start, trace.epoch_ns)? + later;
                through(setup, TraceCursor::new(Arc::clone(trace)), start, &plan)
            }
            None => {
                let traffic = scenario.open_traffic()?;
                let start = start_offset_ps(scenario.rollout.start, traffic.epoch_ns())?;
                through(setup, traffic, start, &plan)
            }
        }
    };
    let Some((first, over)) = one(0, 0)? else {
        return Err(PlanError::NoHistory(
            "the traffic of the scenario is over before its rollout starts; set rollout.start earlier"
                .to_owned(),
        ));
    };
    // As far as whole rollouts still meet traffic.
    let room = ends.map_or(0, |ends| ends.saturating_sub(over)).min(SPREAD_PS);
    let rest: Vec<_> = (1..count)
        .into_par_iter()
        .map(|number| one(number, if trace.is_some() { room / count.max(1) * number } else { 0 }))
        .collect::<Result<Vec<_>, SimError>>()?;
    let rest = rest.into_iter().flatten().map(|(seen, _)| seen);
    Ok(Prediction {
        source: source.to_owned(),
        rollouts: std::iter::once(first).chain(rest).collect(),
        stated: false,
    })
}

/// So many rollouts of this plan in futures of what `slackwater plan` expected, begun when the actual one was.
///
/// # Errors
/// When the kit is not the plan's, the plan is not of its fleet, or a simulation fails.
pub fn of_plan(
    planned: &Planned,
    kit: &CheckKit,
    plan: &Plan,
    begun: Option<Time>,
    count: u64,
    source: &str,
) -> Result<Prediction, PlanError> {
    let scenario = scenario_of(planned, kit)?;
    fits(&scenario, plan)?;
    let mut plan = plan.clone();
    plan.windows.clear();
    let horizon = crate::stretch::ps(planned.asked.horizon_s);
    let since = begun.filter(|_| kit.has_calendar).and_then(|begun| {
        let since_ns = i64::try_from(begun.as_nanos()).ok()?.checked_sub(kit.start_ns)?;
        u64::try_from(since_ns).ok()?.checked_mul(1000).filter(|since| *since < horizon)
    });
    let recommended = planned.recommended.as_ref().map_or(0, |best| crate::stretch::ps(best.start_s));
    let start = LEAD_PS + since.unwrap_or(recommended);
    let futures = forecast_of(planned, kit, &scenario, None, at_s(start));
    let (from, until) = (start - SHORT_WARM_UP_PS, start + TRIAL_MOST_PS);
    let found: Vec<_> = (0..count.max(1))
        .into_par_iter()
        .map(|future| {
            let scenario = futures.scenario(&scenario, future, from, until);
            let trace: SharedTrace = futures.draw(&scenario, future, from, until)?;
            let setup = Arc::new(Setup::new(&scenario)?);
            through(setup, TraceCursor::new(Arc::new(trace)), start - from, &plan)
        })
        .collect::<Result<Vec<_>, SimError>>()?;
    let rollouts = found.into_iter().flatten().map(|(seen, _)| seen).collect();
    Ok(Prediction { source: source.to_owned(), rollouts, stated: false })
}

#[allow(clippy::cast_precision_loss)] // a time of day
fn at_s(at: Ps) -> f64 {
    (at - LEAD_PS) as f64 / PS_PER_S as f64
}

/// The same with draws of its own.
fn reseeded(scenario: &Scenario, number: u64) -> Scenario {
    let mut scenario = scenario.clone();
    // Scenario seeds have 63 bits; the first is the scenario's own rollout.
    scenario.seed = scenario.seed.wrapping_add(number) & (u64::MAX >> 1);
    scenario
}

fn fits(scenario: &Scenario, plan: &Plan) -> Result<(), PlanError> {
    let here: Vec<String> = scenario.places().into_iter().map(|place| place.name).collect();
    let there: Vec<&String> = plan.replicas.iter().map(|replica| &replica.name).collect();
    if here.iter().eq(there.iter().copied()) {
        return Ok(());
    }
    Err(PlanError::NoHistory(format!(
        "the rollout was of {}, the scenario has {}: predict it from the scenario that its plan was made with",
        there.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
        here.join(", ")
    )))
}

/// One rollout from its start until all that it touched is over; `None` where the traffic ends before. And when it was over.
fn through<T: Traffic>(
    setup: Arc<Setup>,
    traffic: T,
    start: Ps,
    plan: &Plan,
) -> Result<Option<(Seen, Ps)>, SimError> {
    let mut world = World::new(setup, traffic, RunOptions { series: false, rows: false })?;
    if world.run_until(start)? {
        return Ok(None);
    }
    world.begin_rollout(plan.clone())?;
    let last = start.saturating_add(TRIAL_MOST_PS);
    loop {
        let ended = world.run_until((world.now() + LOOK_PS).min(last))?;
        let waited = world.rollout_over().is_some_and(|over| world.now() >= over + SETTLE_PS);
        if ended || waited || world.now() >= last {
            break;
        }
    }
    let over = world.rollout_over().unwrap_or(world.now());
    let (result, _) = world.finish(RunInfo::default());
    Ok(Some((seen(plan, &result), over)))
}

/// What a simulation's result has.
fn seen(plan: &Plan, result: &SimulationResult) -> Seen {
    let Some(rollout) = &result.rollout else { return Seen::default() };
    Seen::of(plan, &rollout.report).with_latency(result.phases.iter().map(PhaseLatency::from).collect())
}
