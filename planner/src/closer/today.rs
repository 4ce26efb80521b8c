//! What they do today: an hour by gut, and a fixed wait for the drain, without a gate.

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_scenarios::HumanDuration;

use super::{Together, fresh};
use crate::future::LEAD_PS;
use crate::plan::{PlanError, Search};
use crate::planned::TodayRow;
use crate::stretch::Tried;
use crate::trials::Trials;

/// Futures for each way.
const FUTURES: u64 = 100;

/// 03:00 of the first day, and noon, each with 60 s of drain.
pub(crate) fn today(search: &mut Search<'_>, horizon: Ps, usual: Ps) -> Result<Vec<TodayRow>, PlanError> {
    let mut rows = Vec::new();
    for (hour, words) in [(3, "03:00 and `sleep 60`"), (12, "noon and `sleep 60`")] {
        let Some(start) = first_at(search, hour, horizon) else { continue };
        let mut scenario = search.scenario.clone();
        scenario.rollout.drain_timeout = HumanDuration::from_secs(60);
        scenario.rollout.gate.capacity_per_replica = None;
        let starts = [start];
        let stage = format!("today's way: {words}");
        let trials = Trials {
            scenario: &scenario,
            gate: &[],
            starts: &starts,
            futures: fresh::TODAY..fresh::TODAY + FUTURES.min(search.at_most),
            lasts: 2 * usual,
            order: None,
            stage: &stage,
        };
        let Some((found, requests)) = trials.run(&search.futures, search.watch)? else {
            search.partial = true;
            break;
        };
        search.simulated += requests;
        let found: Vec<Tried> = found.into_iter().flatten().collect();
        let all = Together::of(found.iter());
        rows.push(TodayRow {
            way: words.to_owned(),
            start: search.text(start),
            risk: all.risk(search.planning.confidence),
            cut: all.cut,
            p_any_cut: all.any_cut as f64 / all.futures.max(1) as f64,
            missed: all.missed,
            duration_p50_s: all.duration_s(0.5),
            cost: all.cost(&search.planning.cost),
        });
    }
    Ok(rows)
}

/// The first time in the horizon at which it is this hour.
fn first_at(search: &Search<'_>, hour: u32, horizon: Ps) -> Option<Ps> {
    if !search.futures.has_calendar() {
        return None;
    }
    let step = 300 * PS_PER_S;
    (0..).map(|number| LEAD_PS + number * step).take_while(|at| *at < LEAD_PS + horizon).find(|at| {
        let second = search.futures.calendar().second_of_day(search.futures.instant_ns(*at));
        let asked = f64::from(hour) * 3600.0;
        second >= asked && second < asked + 300.0
    })
}
