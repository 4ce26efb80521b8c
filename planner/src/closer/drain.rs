//! The drain timeout: who would be cut, against time at N-1.

use slackwater_scenarios::{AtDeadline, Cost, HumanDuration};

use super::{Together, fresh, try_start};
use crate::chance::upper;
use crate::choose::Candidate;
use crate::plan::{PlanError, Search};
use crate::planned::{DrainHour, DrainRow};
use crate::screen::{Screening, StartFigures};
use crate::trials::enough_for;
use crate::variant::drained_within;

/// Futures for each timeout, all the same ones.
const FUTURES: u64 = 200;
/// Points of a survival curve.
const SURVIVAL_S: [f64; 16] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 450.0, 600.0];

/// What came of comparing timeouts.
pub(crate) struct Drained {
    pub(crate) rows: Vec<DrainRow>,
    pub(crate) timeout: Option<HumanDuration>,
}

/// Tries every timeout at the first start of the best candidate. The one to use has the least expected cost, where the scenario
/// states costs; else it is the shortest whose chance of any cut is bounded by the budget, and where none is, the one of the
/// least cost.
pub(crate) fn drain(
    search: &mut Search<'_>,
    screening: &Screening,
    candidate: Option<&Candidate>,
) -> Result<Drained, PlanError> {
    let Some(candidate) = candidate else { return Ok(Drained { rows: Vec::new(), timeout: None }) };
    let figures = &screening.starts[*candidate.places.start()];
    let mut timeouts = search.planning.drain_timeouts.clone();
    timeouts.push(search.scenario.rollout.drain_timeout);
    timeouts.sort_unstable();
    timeouts.dedup();
    let prices = search.planning.cost;
    let mut rows = Vec::new();
    for (number, timeout) in timeouts.iter().enumerate() {
        let stage = format!("drain timeout {} of {}", number + 1, timeouts.len());
        match row(search, figures, *timeout, &stage)? {
            Some(row) => rows.push(row),
            None => break,
        }
    }
    let stated = prices != Cost::default();
    let cut_risk = search.planning.cut_risk;
    let fits = |row: &DrainRow| !stated && row.p_any_cut_upper <= cut_risk;
    // Where all that were asked for cut too much, one as long as clients have patience is looked at too: nobody waits longer.
    let patience = search.scenario.clients.timeout;
    if !stated
        && search.scenario.rollout.at_deadline == AtDeadline::Cut
        && rows.len() == timeouts.len()
        && !rows.iter().any(fits)
        && rows.last().is_some_and(|row| row.p_any_cut > cut_risk)
        && timeouts.last().is_some_and(|last| *last < patience)
        && let Some(row) = row(search, figures, patience, "a drain timeout as long as clients have patience")?
    {
        timeouts.push(patience);
        rows.push(row);
    }
    let within = rows.iter().position(fits);
    let cheapest = || (0..rows.len()).min_by(|a, b| rows[*a].cost.total_cmp(&rows[*b].cost));
    let chosen = within.or_else(cheapest);
    if let Some(chosen) = chosen {
        rows[chosen].recommended = true;
    }
    Ok(Drained { timeout: chosen.map(|place| timeouts[place]), rows })
}

fn row(
    search: &mut Search<'_>,
    figures: &StartFigures,
    timeout: HumanDuration,
    stage: &str,
) -> Result<Option<DrainRow>, PlanError> {
    let scenario = drained_within(&search.scenario, timeout);
    let moves = search.scenario.fleet.replica_count() as u64;
    let usual = enough_for(figures.duration_s(0.95)) + moves * timeout.as_picos();
    let tried =
        try_start(search, &scenario, (figures.start_ps, usual), (fresh::DRAIN, FUTURES), (stage, None))?;
    Ok(tried.map(|trials| {
        let all = Together::of(trials.iter());
        DrainRow {
            timeout_s: timeout.as_secs_f64(),
            cut: all.cut,
            p_any_cut: all.any_cut as f64 / all.futures.max(1) as f64,
            p_any_cut_upper: upper(all.any_cut, all.futures, 1.0 - search.planning.confidence),
            duration_p50_s: all.duration_s(0.5),
            duration_p95_s: all.duration_s(0.95),
            below_n_s: all.below_n_s,
            missed: all.missed,
            risk: all.risk(search.planning.confidence),
            cost: all.cost(&search.planning.cost),
            recommended: false,
        }
    }))
}

/// The survival of drained replicas by local hour of the start, from the screening.
pub(crate) fn by_hour(search: &Search<'_>, screening: &Screening) -> Vec<DrainHour> {
    let mut hours: Vec<Vec<f64>> = vec![Vec::new(); 24];
    for figures in &screening.starts {
        let instant = search.futures.instant_ns(figures.start_ps);
        let second = if search.futures.has_calendar() {
            search.futures.calendar().second_of_day(instant)
        } else {
            (instant / 1_000_000_000).rem_euclid(86_400) as f64
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 23
        let hour = ((second / 3600.0) as usize).min(23);
        hours[hour].extend(figures.drains.iter().map(|(last, cut)| if *cut { f64::INFINITY } else { *last }));
    }
    let curve = |drains: &[f64]| {
        let share =
            |after: f64| drains.iter().filter(|last| **last > after).count() as f64 / drains.len() as f64;
        SURVIVAL_S.iter().map(|after| (*after, share(*after))).collect()
    };
    (0_u32..)
        .zip(&hours)
        .filter(|(_, drains)| !drains.is_empty())
        .map(|(hour, drains)| DrainHour { hour, drains: drains.len() as u64, survival: curve(drains) })
        .collect()
}
