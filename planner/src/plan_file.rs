//! The plan file: what was found, in the policy's own terms.

use slackwater_policy::{Guard, GuardAction, Plan, Span, Time, Window};
use slackwater_sim::{SimError, plan_for};

use crate::certify::{Certified, Found};
use crate::plan::{PlanError, Search};
use crate::planned::Planned;
use crate::screen::quantile;

/// A band must be broken for so long before it holds a rollout.
const SUSTAINED: Span = Span::from_secs(60);

/// The plan of the recommended window, the other safe ones after it.
pub(crate) fn plan(
    search: &Search<'_>,
    planned: &Planned,
    certified: &[Certified],
    best: usize,
) -> Result<Plan, PlanError> {
    let start = certified[best].starts[0];
    let epoch = search.futures.has_calendar().then(|| search.futures.start_ns());
    let mut plan = plan_for(&search.scenario, epoch, start, &search.gate).map_err(SimError::from)?;
    plan.slackwater.clone_from(&search.ask.slackwater);
    plan.seed = search.ask.scenario.seed;
    plan.inputs = planned.inputs.clone();
    plan.inputs.insert("answer".to_owned(), planned.hash.clone());
    if search.futures.has_calendar() {
        plan.windows = windows(search, certified, best, plan.rollout.move_expected);
    }
    for band in planned.bands.iter().filter(|_| planned.fleet.measured) {
        plan.guards.push(Guard {
            figure: band.figure,
            limit: band.limit,
            sustained: SUSTAINED,
            action: GuardAction::Hold,
        });
    }
    plan.validate().map_err(|error| SimError::from(slackwater_sim::SetupError::Plan(error.to_string())))?;
    Ok(plan)
}

/// Each certified window, from its first start until a rollout begun at its last is over, in order and apart. The last move
/// must still fit, so what a move is expected to take at most is the least.
fn windows(search: &Search<'_>, certified: &[Certified], best: usize, move_expected: Span) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let safe = certified.iter().enumerate().filter(|(_, window)| window.found == Found::Safe);
    let mut sorted: Vec<&Certified> = safe
        .filter(|(place, window)| *place == best || window.starts[0] > certified[best].starts[0])
        .map(|(_, window)| window)
        .collect();
    sorted.sort_by_key(|window| window.starts[0]);
    for window in sorted {
        let mut durations: Vec<f64> =
            window.trials.iter().flatten().map(|tried| tried.trial.duration_s).collect();
        durations.sort_by(f64::total_cmp);
        let longest = quantile(&durations, 0.95).unwrap_or(0.0);
        let at = |ns: i64| Time::ZERO + Span::from_nanos(u64::try_from(ns).unwrap_or(0));
        let opens = at(search.futures.instant_ns(window.starts[0]));
        let last = at(search.futures.instant_ns(window.starts[window.starts.len() - 1]));
        let closes = last + Span::from_secs_f64(longest.ceil()).unwrap_or(move_expected) + move_expected;
        if windows.last().is_none_or(|before| before.closes < opens) {
            windows.push(Window { latest_start: Some(last), ..Window::new(opens, closes) });
        }
    }
    windows
}
