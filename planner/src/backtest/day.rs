//! One day: planned from the days before it, then replayed as it came; and what each rule would have done.

use std::sync::Arc;

use slackwater_engine::Ps;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::traffic::SharedTrace;
use slackwater_scenarios::{HumanDuration, Keyed, Scenario};

use super::{DayRow, HOUR_PS, RuleRow, Setting};
use crate::calendar::DAY_PS;
use crate::capacity::of_the_rest;
use crate::chance::upper;
use crate::choose::candidates;
use crate::future::{Futures, LEAD_PS, Source};
use crate::history::History;
use crate::plan::{PlanError, into_horizon_s};
use crate::promise::promises;
use crate::screen::{Screen, Screening, screen};
use crate::stretch::{Attempt, TRIAL_MOST_PS, Tried, run};
use crate::variant;

/// Candidates of a day, the soonest good one and the best ones after it.
const LOOKED_AT: usize = 3;

/// What a day brought.
pub(super) struct Day {
    /// Of each start: promised, clean in all futures, failed.
    pub(super) scored: Vec<(f64, bool, bool)>,
    pub(super) row: DayRow,
    pub(super) rules: Vec<RuleRow>,
    pub(super) simulated: u64,
}

/// Plans a day from the days before it, and replays it. `None` when it was stopped.
pub(super) fn one_day(setting: &Setting<'_>, number: usize, midnight: i64) -> Result<Option<Day>, PlanError> {
    let Setting { scenario, gate, calendar, trace, watch, .. } = setting;
    let epoch = trace.epoch_ns.unwrap_or(0);
    let before = (midnight - epoch).max(0).cast_unsigned() * 1000;
    let past = SharedTrace {
        arrivals: trace.arrivals[..trace.arrivals.partition_point(|arrival| arrival.at_ps < before)].into(),
        prefixes: Arc::default(),
        epoch_ns: trace.epoch_ns,
        report: trace.report.clone(),
    };
    let history = History::new(Arc::new(past), calendar);
    let seed = Keyed::new(scenario.seed).bits("backtest", &[number as u64]) >> 1;
    let futures =
        Futures::new(Source::Recorded(Box::new(history)), calendar.clone(), seed, midnight, true, 1.0);
    let last = LEAD_PS + DAY_PS;
    let closed_above = of_the_rest(scenario, &setting.capacity)
        .map(|rate| (rate / (1.0 + scenario.rollout.gate.margin), scenario.rollout.gate.give_up.as_picos()));
    let what = Screen {
        scenario,
        gate,
        closed_above,
        horizon_ps: DAY_PS,
        every_ps: setting.every,
        futures: setting.futures,
        adapt: None,
    };
    let mut screening = screen(&futures, &what, *watch)?;
    if screening.partial {
        return Ok(None);
    }
    // What a rollout would have met there is not known, whatever rule would have gone.
    screening.starts.retain(|start| !setting.in_a_hole(futures.instant_ns(start.start_ps)));
    let prices = scenario.plan.clone().unwrap_or_default();
    let (chosen, clean) = candidates(&screening, &futures, &prices.cost, (1, LOOKED_AT));
    // As a plan does among the windows it has certified: the cheapest, by what each start and its neighbours cost.
    let cheapest = chosen.iter().min_by(|a, b| a.score.total_cmp(&b.score));
    let Some(best) = cheapest.map(|candidate| *candidate.places.start()) else { return Ok(None) };
    let timeout = drain_timeout(&screening, best, scenario, &prices);
    // The day as it was.
    let real = Futures::new(Source::Replay(Arc::clone(trace)), calendar.clone(), seed, midnight, true, 1.0);
    let starts: Vec<Ps> = screening.starts.iter().map(|start| start.start_ps).collect();
    let attempt = Attempt { closed_above, ..Attempt::new(scenario, gate, &starts) };
    let whole_day = (0, last + TRIAL_MOST_PS);
    let (baseline, tried) = run(&real, 0, whole_day, &attempt)?;
    // Today's way looks at no load.
    let (ungated, blind) = run(&real, 0, whole_day, &Attempt::new(scenario, &[], &starts))?;
    let simulated = screening.simulated + baseline.simulated + ungated.simulated;
    let came = |start: Ps| tried.iter().find(|one| one.start_ps == start);
    let failed = |start: Ps| came(start).is_none_or(Tried::failed);
    let scored: Vec<(f64, bool, bool)> = promises(&screening.starts)
        .into_iter()
        .zip(&screening.starts)
        .map(|(promised, start)| (promised, start.failed == 0, failed(start.start_ps)))
        .collect();
    let breaks = blind.iter().filter(|one| one.failed()).count() as f64 / blind.len().max(1) as f64;

    // Each way, replayed with its own drain timeout.
    let replay = |start: Ps, timeout: HumanDuration, gated: bool| -> Result<RuleRow, PlanError> {
        let scenario = variant::drained_within(scenario, timeout);
        let none: [CapacityRow; 0] = [];
        let gate: &[CapacityRow] = if gated { gate } else { &none };
        let one = [start];
        let attempt = Attempt::new(&scenario, gate, &one);
        let from = start.saturating_sub(LEAD_PS);
        let (_, tried) = run(&real, 0, (from, start + TRIAL_MOST_PS), &attempt)?;
        Ok(tried.first().map_or_else(RuleRow::default, |one| row_of(one, &prices)))
    };
    let plan = replay(starts[best], timeout, true)?;
    let seconds = |s: u64| HumanDuration::from_secs(s);
    let at_three = place_of(&starts, 3.0 * 3600.0);
    let mut rules = vec![named("the plan", plan.clone())];
    rules.push(named("03:00, drain 60 s", replay(starts[at_three], seconds(60), false)?));
    let calm = place_of(&starts, lowest_hour(setting, midnight));
    for fixed in [30, 60, 120] {
        let rule = format!("yesterday's calmest hour, drain {fixed} s");
        rules.push(named(&rule, replay(starts[calm], seconds(fixed), false)?));
    }
    let random: Vec<RuleRow> = blind.iter().map(|one| row_of(one, &prices)).collect();
    rules.push(named("any start (mean of all)", mean(&random)));
    // The oracle rolls out: to do nothing is no answer, unless nothing else could be done.
    let mut all: Vec<&RuleRow> = random.iter().chain([&plan]).collect();
    if all.iter().any(|row| row.not_completed == 0) {
        all.retain(|row| row.not_completed == 0);
    }
    let least = all.into_iter().min_by(|a, b| a.cost.total_cmp(&b.cost)).cloned();
    let oracle = least.unwrap_or_default();
    rules.push(named("the oracle", oracle.clone()));
    for rule in &mut rules {
        rule.regret = rule.cost - oracle.cost;
        rule.regret_on_go_days = if clean { rule.regret } else { 0.0 };
    }
    let figures = &screening.starts[best];
    let days = futures.comparable_days(starts[best]);
    let bound = upper(figures.failed, figures.futures, 0.05).max(1.0 / (days as f64 + 1.0));
    Ok(Some(Day {
        row: DayRow {
            day: calendar.text(midnight),
            history_days: number as u64,
            start: calendar.text(futures.instant_ns(starts[best])),
            drain_timeout_s: timeout.as_secs_f64(),
            go: clean,
            promised: bound,
            failed: plan.violations > 0,
            starts_that_break: breaks,
            cost: plan.cost,
            oracle_cost: oracle.cost,
        },
        scored,
        rules,
        simulated,
    }))
}

/// The shortest of the timeouts compared that so many drains of the futures were over by that the whole rollout stays within the
/// budget for any cut.
fn drain_timeout(
    screening: &Screening,
    place: usize,
    scenario: &Scenario,
    planning: &slackwater_scenarios::Planning,
) -> HumanDuration {
    let own = scenario.rollout.drain_timeout;
    let near = place.saturating_sub(6)..(place + 7).min(screening.starts.len());
    let drains: Vec<f64> = screening.starts[near]
        .iter()
        .flat_map(|start| start.drains.iter().map(|(last, cut)| if *cut { f64::INFINITY } else { *last }))
        .collect();
    let moves = scenario.fleet.replica_count().max(1) as f64;
    let fits = |timeout: &HumanDuration| {
        let over = drains.iter().filter(|last| **last > timeout.as_secs_f64()).count() as f64;
        over / drains.len().max(1) as f64 * moves <= planning.cut_risk
    };
    let mut timeouts = planning.drain_timeouts.clone();
    timeouts.sort_unstable();
    timeouts.into_iter().filter(|timeout| *timeout <= own).find(fits).unwrap_or(own)
}

fn row_of(one: &Tried, planning: &slackwater_scenarios::Planning) -> RuleRow {
    let prices = planning.cost;
    let hours = one.trial.below_n_s / 3600.0;
    RuleRow {
        violations: u64::from(one.failed()),
        slo_missed: u64::from(!one.trial.service.kept),
        not_completed: u64::from(!one.trial.completed),
        cut: one.trial.cut as f64,
        missed: one.extra_missed() as f64,
        hours_below_n: hours,
        cost: one.extra_missed() as f64 * prices.miss
            + one.trial.cut as f64 * prices.cut
            + hours * prices.hour_below_n,
        ..RuleRow::default()
    }
}

fn named(rule: &str, row: RuleRow) -> RuleRow {
    RuleRow { rule: rule.to_owned(), ..row }
}

/// The mean of all starts; a bad day when more than half of them were.
fn mean(rows: &[RuleRow]) -> RuleRow {
    let count = rows.len().max(1) as f64;
    let sum = |value: &dyn Fn(&RuleRow) -> f64| rows.iter().map(value).sum::<f64>() / count;
    let most = |value: &dyn Fn(&RuleRow) -> u64| {
        u64::from(rows.iter().map(value).sum::<u64>() * 2 > rows.len() as u64)
    };
    RuleRow {
        violations: most(&|row| row.violations),
        slo_missed: most(&|row| row.slo_missed),
        not_completed: most(&|row| row.not_completed),
        cut: sum(&|row| row.cut),
        missed: sum(&|row| row.missed),
        hours_below_n: sum(&|row| row.hours_below_n),
        cost: sum(&|row| row.cost),
        ..RuleRow::default()
    }
}

/// The start nearest to so many seconds after midnight.
fn place_of(starts: &[Ps], second: f64) -> usize {
    let apart = |place: &usize| (into_horizon_s(starts[*place]) - second).abs();
    (0..starts.len()).min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap_or(0)
}

/// When yesterday's calmest hour began, seconds after midnight.
fn lowest_hour(setting: &Setting<'_>, midnight: i64) -> f64 {
    let trace = setting.trace;
    let epoch = trace.epoch_ns.unwrap_or(0);
    let yesterday = (setting.calendar.midnight_before(midnight - 1) - epoch).saturating_mul(1000);
    let at =
        |time: i64| trace.arrivals.partition_point(|arrival| arrival.at_ps < time.max(0).cast_unsigned());
    let hour = HOUR_PS.cast_signed();
    let count = |number: i64| at(yesterday + (number + 1) * hour) - at(yesterday + number * hour);
    let recorded = |number: &i64| {
        let from = yesterday + number * hour;
        count(*number) > 0 && !setting.hole_between(from, from + hour)
    };
    let calmest = (0..24).filter(recorded).min_by_key(|number| count(*number)).unwrap_or(3);
    calmest as f64 * 3600.0
}
