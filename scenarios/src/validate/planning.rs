//! Keys of `[plan]`.

use super::{Check, at_least_one, longer_than_zero, problem, within};
use crate::planning::{Cost, Planning};
use crate::traffic::{ZONE_HELP, known_zone};

/// More starts than this are a slip: a year of them every ten minutes.
const MOST_STARTS: u64 = 52_560;

pub(super) fn check(plan: &Planning) -> Check {
    if let Some(zone) = &plan.time_zone {
        known_zone(zone).map_err(|message| problem("plan.time_zone", message, ZONE_HELP))?;
    }
    longer_than_zero("plan.horizon", plan.horizon)?;
    longer_than_zero("plan.every", plan.every)?;
    longer_than_zero("plan.window", plan.window)?;
    if plan.horizon.as_nanos() / plan.every.as_nanos() > MOST_STARTS {
        return Err(problem(
            "plan.every",
            format!("a start every {} for {} is more than {MOST_STARTS} of them", plan.every, plan.horizon),
            "give a longer `every` or a shorter `horizon`",
        ));
    }
    if !plan.every.as_nanos().is_multiple_of(10_000_000_000) {
        return Err(problem(
            "plan.every",
            format!("{} is not a multiple of 10 s", plan.every),
            "give a multiple of 10 s, such as \"5m\"",
        ));
    }
    within("plan.risk", plan.risk, 1e-4, 0.5)?;
    within("plan.cut_risk", plan.cut_risk, 1e-4, 1.0)?;
    within("plan.confidence", plan.confidence, 0.5, 0.9999)?;
    within("plan.growth", plan.growth, 0.01, 100.0)?;
    at_least_one("plan.futures", plan.futures)?;
    at_least_one("plan.certify_futures", plan.certify_futures)?;
    at_least_one("plan.certify_windows", plan.certify_windows)?;
    if plan.drain_timeouts.is_empty() {
        return Err(problem(
            "plan.drain_timeouts",
            "is empty",
            "give some to compare, such as [\"30s\", \"2m\"]",
        ));
    }
    for timeout in &plan.drain_timeouts {
        longer_than_zero("plan.drain_timeouts", *timeout)?;
    }
    let Cost { miss, cut, hour_below_n } = plan.cost;
    for (key, value) in [("miss", miss), ("cut", cut), ("hour_below_n", hour_below_n)] {
        within(&format!("plan.cost.{key}"), value, 0.0, 1e9)?;
    }
    Ok(())
}
