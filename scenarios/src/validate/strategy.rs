//! What a rollout's strategy asks of the scenario around it.

use super::{Check, at_least_one, longer_than_zero, problem, within};
use crate::rollout::{Comparison, Quality, Ramp, Rollout, Strategy};
use crate::scenario::Scenario;

pub(super) fn check(scenario: &Scenario) -> Check {
    let rollout = &scenario.rollout;
    spares(scenario)?;
    if rollout.strategy == Strategy::Recreate && !rollout.accept_downtime {
        let help = "nobody serves for a while: say `accept_downtime = true`, or use strategy \"rolling\"";
        return Err(problem("rollout.strategy", "\"recreate\" means downtime", help));
    }
    if rollout.strategy != Strategy::Surge {
        at_least_one("rollout.max_unavailable", rollout.max_unavailable())?;
    }
    at_least_one("rollout.pairs_at_once", rollout.pairs_at_once)?;
    within("rollout.beside_slowdown", rollout.beside_slowdown, 1.0, 100.0)?;
    if rollout.strategy != Strategy::Halves && !rollout.first_half.is_empty() {
        let help = "set rollout.strategy = \"halves\", or leave it out";
        return Err(problem("rollout.first_half", "only strategy \"halves\" has a first half", help));
    }
    if let Some(compare) = &rollout.compare {
        comparison(rollout, compare)?;
    }
    if let Some(slow_start) = &rollout.ramp {
        ramp(slow_start)?;
    }
    if let Some(evaluation) = &rollout.quality {
        quality(evaluation)?;
    }
    Ok(())
}

/// Spare places are there where the strategy needs them, and nowhere else; no two places share a name.
fn spares(scenario: &Scenario) -> Check {
    let (spares, replicas) = (scenario.fleet.spares, scenario.fleet.replica_count());
    match scenario.rollout.strategy {
        Strategy::Surge => at_least_one("fleet.spares", spares)?,
        Strategy::BlueGreen if spares as usize != replicas => {
            let help =
                format!("give fleet.spares = {replicas}, or use strategy \"halves\", which needs none");
            return Err(problem(
                "fleet.spares",
                format_args!("strategy \"blue-green\" needs {replicas}"),
                help,
            ));
        }
        Strategy::BlueGreen => {}
        _ if spares > 0 => {
            let help = "leave it out, or set rollout.strategy to \"surge\" or \"blue-green\"";
            return Err(problem("fleet.spares", "this strategy uses no spare GPU", help));
        }
        _ => {}
    }
    let places = scenario.places();
    for (index, place) in places.iter().enumerate() {
        if places[..index].iter().any(|other| other.name == place.name) {
            let message = format!("`{}` is what the rollout calls a place of its own", place.name);
            return Err(problem("fleet.replicas", message, "give that replica another name"));
        }
    }
    Ok(())
}

fn comparison(rollout: &Rollout, compare: &Comparison) -> Check {
    if rollout.strategy != Strategy::Canary {
        let help = "set rollout.strategy = \"canary\", or leave it out";
        return Err(problem("rollout.compare", "only a canary is compared with the old version", help));
    }
    within("rollout.compare.ttft_ratio", compare.ttft_ratio, 0.01, 100.0)?;
    within("rollout.compare.tpot_ratio", compare.tpot_ratio, 0.01, 100.0)?;
    within("rollout.compare.error_margin", compare.error_margin, 0.0, 0.99)?;
    within("rollout.compare.false_alarm", compare.false_alarm, 1e-9, 0.5)?;
    at_least_one("rollout.compare.blocks_min", compare.blocks_min)
}

fn ramp(ramp: &Ramp) -> Check {
    within("rollout.ramp.from", f64::from(ramp.from), 1.0, 99.0)?;
    at_least_one("rollout.ramp.steps", ramp.steps)?;
    longer_than_zero("rollout.ramp.over", ramp.over)
}

fn quality(quality: &Quality) -> Check {
    if !quality.out_of_rotation && !quality.live {
        let help = "set out_of_rotation or live to true, or leave rollout.quality out";
        return Err(problem("rollout.quality", "is never asked", help));
    }
    Ok(())
}
