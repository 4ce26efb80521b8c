//! How much traffic a back-test has: chosen before any plan is made.

use std::sync::Arc;

use rayon::prelude::*;
use slackwater_engine::Ps;

use super::{history_of, midnights};
use crate::calendar::{Calendar, DAY_PS};
use crate::capacity::of_the_rest;
use crate::future::{Futures, LEAD_PS, Source};
use crate::history::{History, SLOT_PS};
use crate::plan::{Ask, PlanError, capacity_of};
use crate::screen::quantile;
use crate::stretch::{Attempt, TRIAL_MOST_PS, run};
use crate::variant;
use crate::watch::Watch;

/// How the load is scaled before anything else: at first this share of the starts is to lie above what the rest carries.
pub const BREAKS: f64 = 0.45;

/// Of the starts tried beforehand, the share that breaks lies between these.
const PILOT: (f64, f64) = (0.35, 0.55);
/// Times that the load is tried beforehand.
const PILOTS: u32 = 6;

/// By what the traffic must be multiplied so that about [`BREAKS`] of all starts break. First from the rates alone: so many
/// ten-minute slots are to lie above what the replicas that stay carry behind the gate. Bursts and queues decide what that means for
/// the service level, so the days are then replayed as they came, with a rollout every two hours and no gate, and the load is
/// moved until 35 to 55 % of these miss it.
/// No plan and no promise has any part in this.
///
/// # Errors
/// When the capacity can't be simulated, or the history has no days.
pub fn scale(ask: &Ask, watch: &dyn Watch) -> Result<f64, PlanError> {
    let mut factor = by_rates(ask, watch)?;
    let (mut low, mut high) = (0.0_f64, f64::INFINITY);
    for pilot in 0..PILOTS {
        watch.progress("choosing the load", u64::from(pilot), u64::from(PILOTS));
        let share = breaking(ask, factor)?;
        if share > PILOT.1 {
            high = factor;
        } else if share < PILOT.0 {
            low = factor;
        } else {
            break;
        }
        factor = match (low > 0.0, high.is_finite()) {
            (true, true) => (low * high).sqrt(),
            (_, true) => factor * 0.8,
            (_, false) => factor * 1.25,
        };
    }
    Ok(factor)
}

/// The share of rollouts that fail, begun every two hours of the days as they came, with nobody looking at the load.
fn breaking(ask: &Ask, factor: f64) -> Result<f64, PlanError> {
    let mut scaled = ask.scenario.clone();
    scaled.traffic.rate_scale *= factor;
    let trace = Arc::new(scaled.load_traffic().map_err(slackwater_sim::SimError::from)?);
    let (scenario, _) = variant::for_planning(&scaled);
    let planning = scenario.plan.clone().unwrap_or_default();
    let calendar = Calendar::new(planning.time_zone.as_deref());
    let whole = History::new(Arc::clone(&trace), &calendar);
    let days = midnights(&whole, &trace);
    let hours = (0..12).map(|number| LEAD_PS + (2 * number + 1) * 3_600_000_000_000_000);
    let starts: Vec<Ps> = hours.collect();
    let tried: Vec<(u64, u64)> = days
        .par_iter()
        .map(|midnight| {
            let source = Source::Replay(Arc::clone(&trace));
            let real = Futures::new(source, calendar.clone(), scenario.seed, *midnight, true, 1.0);
            let attempt = Attempt { without: false, ..Attempt::new(&scenario, &[], &starts) };
            let (_, tried) = run(&real, 0, (0, LEAD_PS + DAY_PS + TRIAL_MOST_PS), &attempt)?;
            Ok((tried.iter().filter(|one| one.failed()).count() as u64, tried.len() as u64))
        })
        .collect::<Result<_, slackwater_sim::SimError>>()?;
    let (failed, all) = tried.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Ok(failed as f64 / all.max(1) as f64)
}

/// The first guess, from the rates alone.
fn by_rates(ask: &Ask, watch: &dyn Watch) -> Result<f64, PlanError> {
    let (scenario, _) = variant::for_planning(&ask.scenario);
    let planning = scenario.plan.clone().unwrap_or_default();
    let trace = history_of(ask)?;
    let calendar = Calendar::new(planning.time_zone.as_deref());
    let history = History::new(Arc::clone(trace), &calendar);
    let mut counts: Vec<f64> = Vec::new();
    let span = trace.arrivals.last().map_or(0, |last| last.at_ps);
    let mut at = 0;
    while at < span {
        let count = history.between(at.cast_signed(), SLOT_PS).len();
        if count > 0 {
            counts.push(count as f64 * 1e12 / SLOT_PS as f64);
        }
        at += SLOT_PS;
    }
    counts.sort_by(f64::total_cmp);
    let futures = Futures::new(Source::Recorded(Box::new(history)), calendar, scenario.seed, 0, true, 1.0);
    let capacity = capacity_of(&scenario, &futures, watch)?;
    let rest = of_the_rest(&scenario, &capacity).unwrap_or(0.0) / (1.0 + scenario.rollout.gate.margin);
    let usual = quantile(&counts, 1.0 - BREAKS).unwrap_or(0.0);
    Ok(if usual > 0.0 { rest / usual } else { 1.0 })
}
