//! Is it right? Plans made from the days before, held against the day that came.
//!
//! ```text
//! for each day d:   days before d ──► futures ──► promise for every start of d
//!                   day d as it was ──► a rollout at every start of d ──► what came          score, cost, regret
//! ```
//! The load is scaled beforehand, from the rates alone, so that the question is neither trivial nor hopeless: at a stated share of
//! all starts the load is above what the replicas that stay carry. Days, not starts, are the independent pieces of evidence: starts
//! of one day share its traffic.

mod load;

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use slackwater_engine::Ps;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::traffic::SharedTrace;
use slackwater_scenarios::{HumanDuration, Keyed, Scenario};

pub use load::{BREAKS, scale};

use crate::calendar::{Calendar, DAY_PS};
use crate::capacity::{gate_of, of_the_rest};
use crate::chance::{lower, upper};
use crate::choose::candidates;
use crate::future::{Futures, LEAD_PS, Source};
use crate::history::History;
use crate::plan::{Ask, PlanError, capacity_of, into_horizon_s};
use crate::planned::CapacityRange;
use crate::screen::{Screen, Screening, quantile, screen};
use crate::stretch::{Attempt, TRIAL_MOST_PS, Tried, run};
use crate::variant;
use crate::watch::Watch;

/// Schema id of [`Backtest`].
pub const BACKTEST_SCHEMA: &str = "slackwater.backtest/1";

/// A promise is in one of these classes, by its upper edge.
const CLASSES: [f64; 7] = [0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// What a back-test found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backtest {
    /// Always [`BACKTEST_SCHEMA`].
    pub schema: String,
    /// The version of Slackwater that made it.
    pub slackwater: String,
    /// The scenario's name.
    pub scenario: String,
    /// The seed of all randomness.
    pub seed: u64,
    /// SHA-256 of the inputs, by name.
    pub inputs: std::collections::BTreeMap<String, String>,
    /// Days that were planned and replayed.
    pub days: u64,
    /// The traffic was multiplied by this, beforehand.
    pub scale: f64,
    /// Share of all starts, all days, at which a rollout failed.
    pub starts_that_break: f64,
    /// The risk promised for the starts that were recommended: the mean over days of the larger of the Monte Carlo bound and the
    /// history floor.
    pub promised: f64,
    /// The share of days on which the recommended start failed.
    pub observed: f64,
    /// Its interval over days, two-sided with 90 %.
    pub observed_interval: (f64, f64),
    /// Whether what was observed may be what was promised: the interval's lower end is not above the promise.
    pub within: bool,
    /// Days on which no start was clean in all futures, so that the plan would have said no.
    pub declined: u64,
    /// Mean square of promise less outcome, over all starts. Lower is better.
    pub brier: f64,
    /// The same for one who always promises the overall share that breaks.
    pub brier_of_the_mean: f64,
    /// Variance of the promises: how far they commit themselves.
    pub sharpness: f64,
    /// Of the starts that held, the share that had been clean in all futures.
    pub safe_found: f64,
    /// Of the starts that were clean in all futures, the share that failed; and its interval, days resampled, 90 %.
    pub clean_failed: f64,
    /// See `clean_failed`.
    pub clean_failed_interval: (f64, f64),
    /// Promises by class: what was promised, and what came.
    pub reliability: Vec<ReliabilityRow>,
    /// The rules, the plan first, the oracle last.
    pub rules: Vec<RuleRow>,
    /// Day by day.
    pub by_day: Vec<DayRow>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Requests simulated.
    pub simulated_requests: u64,
    /// Seconds it took.
    pub wall_s: f64,
    /// It was stopped before all days were done.
    pub partial: bool,
}

/// Promises of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityRow {
    /// Promises up to this.
    pub up_to: f64,
    /// Starts with such a promise.
    pub starts: u64,
    /// Days they are from.
    pub days: u64,
    /// Their mean promise.
    pub promised: f64,
    /// The share that failed.
    pub observed: f64,
    /// Its interval, days resampled, 90 %.
    pub interval: (f64, f64),
}

/// A rule, over all days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleRow {
    /// In words.
    pub rule: String,
    /// Days on which its rollout missed the service level or did not end well.
    pub violations: u64,
    /// Requests cut.
    pub cut: f64,
    /// Requests that missed the service level.
    pub missed: f64,
    /// Hours with fewer than all replicas.
    pub hours_below_n: f64,
    /// By the stated prices, in requests that miss.
    pub cost: f64,
    /// What the oracle would have saved.
    pub regret: f64,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DayRow {
    /// Its midnight.
    pub day: String,
    /// Days it was planned from.
    pub history_days: u64,
    /// The start that was recommended.
    pub start: String,
    /// The drain timeout.
    pub drain_timeout_s: f64,
    /// The risk promised.
    pub promised: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Share of the day's starts that failed.
    pub starts_that_break: f64,
    /// The plan's cost and the oracle's.
    pub cost: f64,
    /// See `cost`.
    pub oracle_cost: f64,
}

/// A start of a day: promised, and whether it failed.
#[derive(Clone, Copy)]
struct Scored {
    day: usize,
    promised: f64,
    clean: bool,
    failed: bool,
}

/// Candidates of a day, the soonest good one and the best ones after it.
const LOOKED_AT: usize = 3;

fn history_of(ask: &Ask) -> Result<&Arc<SharedTrace>, PlanError> {
    ask.history.as_ref().filter(|trace| trace.epoch_ns.is_some() && !trace.arrivals.is_empty()).ok_or_else(|| {
        PlanError::NoHistory(
            "a back-test replays recorded days: give a history on the calendar that spans several days (--history FILE)"
                .to_owned(),
        )
    })
}

/// Everything the days share.
struct Setting<'a> {
    scenario: Scenario,
    gate: Vec<CapacityRow>,
    capacity: Vec<CapacityRange>,
    calendar: Calendar,
    trace: &'a Arc<SharedTrace>,
    every: Ps,
    futures: u64,
    watch: &'a dyn Watch,
}

/// Plans and replays every day that has one before it and one after its last rollout. `ask.history` is scaled already, by
/// `scale`, which is only reported here.
///
/// # Errors
/// When the scenario can't be simulated, or the history has too few days.
pub fn backtest(ask: &Ask, scale: f64, watch: &dyn Watch) -> Result<Backtest, PlanError> {
    let began = Instant::now();
    let planning = ask.scenario.plan.clone().unwrap_or_default();
    let (scenario, mut notes) = variant::for_planning(&ask.scenario);
    let calendar = Calendar::new(planning.time_zone.as_deref());
    let trace = history_of(ask)?;
    let whole = History::new(Arc::clone(trace), &calendar);
    let days: Vec<i64> = midnights(&whole, trace);
    if days.len() < 2 {
        return Err(PlanError::NoHistory(format!(
            "{} has {} whole days; a back-test needs at least two: one to plan from and one to replay",
            trace.report.source,
            days.len()
        )));
    }
    let all = Futures::new(
        Source::Recorded(Box::new(whole.clone())),
        calendar.clone(),
        scenario.seed,
        0,
        true,
        1.0,
    );
    let capacity = capacity_of(&scenario, &all, watch)?;
    let setting = Setting {
        gate: gate_of(&capacity),
        scenario,
        capacity,
        calendar,
        trace,
        every: planning.every.as_picos(),
        futures: u64::from(planning.futures),
        watch,
    };
    let mut tally = Tally::default();
    let mut partial = false;
    for (number, midnight) in days.iter().enumerate().skip(1) {
        watch.progress("days planned and replayed", number as u64 - 1, days.len() as u64 - 1);
        let Some(day) = one_day(&setting, number, *midnight)? else {
            partial = true;
            break;
        };
        tally.take_in(day);
    }
    if whole.holes.is_empty() {
        notes.push("the recording has no hole of 20 minutes or more".to_owned());
    } else {
        notes.push(format!(
            "{} holes of the recording are no traffic of zero: other days stood in for them",
            whole.holes.len()
        ));
    }
    notes.extend(trace.report.warnings());
    let mut result = tally.result(scenario_seed(ask));
    result.slackwater.clone_from(&ask.slackwater);
    result.scenario.clone_from(&ask.scenario.name);
    result.inputs.clone_from(&ask.inputs);
    result.scale = scale;
    result.notes = notes;
    result.partial = partial;
    result.wall_s = began.elapsed().as_secs_f64();
    Ok(result)
}

fn scenario_seed(ask: &Ask) -> u64 {
    ask.scenario.seed
}

/// Midnights of the days that are known for the most part, in the trace's calendar.
fn midnights(history: &History, trace: &SharedTrace) -> Vec<i64> {
    let epoch = trace.epoch_ns.unwrap_or(0);
    let whole = history.days.iter().filter(|day| {
        let known = day.known.iter().filter(|known| **known).count();
        known * 10 >= day.known.len() * 9
    });
    whole.map(|day| epoch + day.start_ps / 1000).collect()
}

/// What a day brought.
struct Day {
    scored: Vec<(f64, bool, bool)>,
    row: DayRow,
    declined: bool,
    rules: Vec<RuleRow>,
    simulated: u64,
}

fn one_day(setting: &Setting<'_>, number: usize, midnight: i64) -> Result<Option<Day>, PlanError> {
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
    let screening = screen(&futures, &what, *watch)?;
    if screening.partial {
        return Ok(None);
    }
    let prices = scenario.plan.clone().unwrap_or_default();
    let (chosen, clean) = candidates(
        &screening,
        &futures,
        &prices.cost,
        (1, of_the_rest(scenario, &setting.capacity), LOOKED_AT),
    );
    // As a plan does among the windows it has certified: the cheapest, by what each start and its neighbours cost.
    let cheapest = chosen.iter().min_by(|a, b| a.score.total_cmp(&b.score));
    let Some(best) = cheapest.map(|candidate| *candidate.places.start()) else { return Ok(None) };
    let timeout = drain_timeout(&screening, best, scenario, &prices);
    // The day as it was.
    let real = Futures::new(Source::Replay(Arc::clone(trace)), calendar.clone(), seed, midnight, true, 1.0);
    let starts: Vec<Ps> = screening.starts.iter().map(|start| start.start_ps).collect();
    let attempt = Attempt { closed_above, ..Attempt::new(scenario, gate, &starts) };
    let (baseline, tried) = run(&real, 0, (0, last + TRIAL_MOST_PS), &attempt)?;
    let simulated = screening.simulated + baseline.simulated;
    let came = |start: Ps| tried.iter().find(|one| one.start_ps == start);
    let failed = |start: Ps| came(start).is_none_or(Tried::failed);
    let promised = |place: usize| {
        let figures = &screening.starts[place];
        (figures.failed as f64 + 0.5) / (figures.futures as f64 + 1.0)
    };
    let scored: Vec<(f64, bool, bool)> = (0..starts.len())
        .map(|place| (promised(place), screening.starts[place].failed == 0, failed(starts[place])))
        .collect();
    let breaks = scored.iter().filter(|(_, _, failed)| *failed).count() as f64 / scored.len().max(1) as f64;

    // Each way, replayed with its own drain timeout.
    let replay = |start: Ps, timeout: HumanDuration, gated: bool| -> Result<RuleRow, PlanError> {
        let scenario = variant::drained_within(scenario, timeout);
        let none: [CapacityRow; 0] = [];
        let gate: &[CapacityRow] = if gated { gate } else { &none };
        let one = [start];
        let attempt = Attempt { without: false, ..Attempt::new(&scenario, gate, &one) };
        let from = start.saturating_sub(LEAD_PS);
        let (_, tried) = run(&real, 0, (from, start + TRIAL_MOST_PS), &attempt)?;
        Ok(tried.first().map_or_else(RuleRow::default, |one| row_of(one, &prices)))
    };
    let plan = replay(starts[best], timeout, true)?;
    let seconds = |s: u64| HumanDuration::from_secs(s);
    let at_three = place_of(&starts, 3.0 * 3600.0);
    let mut rules = vec![named("the plan", plan.clone())];
    rules.push(named("03:00, drain 60 s", replay(starts[at_three], seconds(60), false)?));
    let calm = lowest_hour(setting, midnight);
    let calm = place_of(&starts, calm);
    for fixed in [30, 60, 120] {
        let rule = format!("yesterday's calmest hour, drain {fixed} s");
        rules.push(named(&rule, replay(starts[calm], seconds(fixed), false)?));
    }
    let random: Vec<RuleRow> = tried.iter().map(|one| row_of(one, &prices)).collect();
    rules.push(named("any start (mean of all)", mean(&random, starts.len(), &baseline.closed)));
    let least = random.iter().min_by(|a, b| a.cost.total_cmp(&b.cost)).cloned().unwrap_or_default();
    let oracle = if plan.cost < least.cost { plan.clone() } else { least };
    rules.push(named("the oracle", oracle.clone()));
    for rule in &mut rules {
        rule.regret = rule.cost - oracle.cost;
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
            promised: bound,
            failed: plan.violations > 0,
            starts_that_break: breaks,
            cost: plan.cost,
            oracle_cost: oracle.cost,
        },
        declined: !clean,
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
        cut: one.trial.cut as f64,
        missed: one.trial.service.missed as f64,
        hours_below_n: hours,
        cost: one.trial.service.missed as f64 * prices.miss
            + one.trial.cut as f64 * prices.cut
            + hours * prices.hour_below_n,
        ..RuleRow::default()
    }
}

fn named(rule: &str, row: RuleRow) -> RuleRow {
    RuleRow { rule: rule.to_owned(), ..row }
}

/// The mean of all starts. Where the gate never opened nothing was done: a violation that costs nothing.
fn mean(rows: &[RuleRow], starts: usize, closed: &[Ps]) -> RuleRow {
    let count = starts.max(1) as f64;
    let sum = |value: &dyn Fn(&RuleRow) -> f64| rows.iter().map(value).sum::<f64>() / count;
    let violations = rows.iter().map(|row| row.violations).sum::<u64>() + closed.len() as u64;
    RuleRow {
        violations: u64::from(violations * 2 > starts as u64),
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
    let hour = 3_600_i64 * 1_000_000_000_000;
    let count = |number: i64| at(yesterday + (number + 1) * hour) - at(yesterday + number * hour);
    let calmest =
        (0..24).filter(|number| count(*number) > 0).min_by_key(|number| count(*number)).unwrap_or(3);
    calmest as f64 * 3600.0
}

/// All days so far.
#[derive(Default)]
struct Tally {
    days: Vec<DayRow>,
    declined: u64,
    scored: Vec<Scored>,
    rules: Vec<RuleRow>,
    simulated: u64,
}

impl Tally {
    fn take_in(&mut self, day: Day) {
        let number = self.days.len();
        self.scored.extend(day.scored.into_iter().map(|(promised, clean, failed)| Scored {
            day: number,
            promised,
            clean,
            failed,
        }));
        self.days.push(day.row);
        self.declined += u64::from(day.declined);
        self.simulated += day.simulated;
        if self.rules.is_empty() {
            self.rules = day.rules;
            return;
        }
        for (mine, theirs) in self.rules.iter_mut().zip(day.rules) {
            mine.violations += theirs.violations;
            mine.cut += theirs.cut;
            mine.missed += theirs.missed;
            mine.hours_below_n += theirs.hours_below_n;
            mine.cost += theirs.cost;
            mine.regret += theirs.regret;
        }
    }

    fn result(self, seed: u64) -> Backtest {
        let days = self.days.len() as u64;
        let failures = self.days.iter().filter(|day| day.failed).count() as u64;
        let starts = self.scored.len().max(1) as f64;
        let breaks = self.scored.iter().filter(|one| one.failed).count() as f64 / starts;
        let square = |promised: f64, failed: bool| (promised - f64::from(u8::from(failed))).powi(2);
        let brier = self.scored.iter().map(|one| square(one.promised, one.failed)).sum::<f64>() / starts;
        let middle = self.scored.iter().map(|one| one.promised).sum::<f64>() / starts;
        let sharpness = self.scored.iter().map(|one| (one.promised - middle).powi(2)).sum::<f64>() / starts;
        let held = self.scored.iter().filter(|one| !one.failed).count().max(1) as f64;
        let found = self.scored.iter().filter(|one| !one.failed && one.clean).count() as f64;
        let promised = self.days.iter().map(|day| day.promised).sum::<f64>() / days.max(1) as f64;
        let interval = (lower(failures, days, 0.05), upper(failures, days, 0.05));
        let clean = |one: &&Scored| one.clean;
        let (clean_failed, clean_failed_interval) = self.share(clean, seed);
        Backtest {
            schema: BACKTEST_SCHEMA.to_owned(),
            slackwater: String::new(),
            scenario: String::new(),
            seed,
            inputs: std::collections::BTreeMap::new(),
            days,
            scale: 1.0,
            starts_that_break: breaks,
            promised,
            observed: if days == 0 { 0.0 } else { failures as f64 / days as f64 },
            observed_interval: interval,
            within: interval.0 <= promised,
            declined: self.declined,
            brier,
            brier_of_the_mean: breaks * (1.0 - breaks),
            sharpness,
            safe_found: found / held,
            clean_failed,
            clean_failed_interval,
            reliability: self.reliability(seed),
            rules: self.rules,
            by_day: self.days,
            notes: Vec::new(),
            simulated_requests: self.simulated,
            wall_s: 0.0,
            partial: false,
        }
    }

    fn reliability(&self, seed: u64) -> Vec<ReliabilityRow> {
        let mut from = 0.0;
        CLASSES
            .iter()
            .map(|up_to| {
                let within = move |one: &&Scored| {
                    one.promised > from && one.promised <= *up_to || (from == 0.0 && one.promised == 0.0)
                };
                let those: Vec<&Scored> = self.scored.iter().filter(|one| within(one)).collect();
                let (observed, interval) = self.share(within, seed);
                let mut days: Vec<usize> = those.iter().map(|one| one.day).collect();
                days.dedup();
                let count = those.len().max(1) as f64;
                from = *up_to;
                ReliabilityRow {
                    up_to: *up_to,
                    starts: those.len() as u64,
                    days: days.len() as u64,
                    promised: those.iter().map(|one| one.promised).sum::<f64>() / count,
                    observed,
                    interval,
                }
            })
            .filter(|row| row.starts > 0)
            .collect()
    }

    /// The share of such starts that failed, and its interval when days are resampled.
    fn share(&self, such: impl Fn(&&Scored) -> bool, seed: u64) -> (f64, (f64, f64)) {
        const RESAMPLES: u64 = 1_000;
        let mut by_day = vec![(0.0_f64, 0.0_f64); self.days.len()];
        for one in self.scored.iter().filter(such) {
            by_day[one.day].0 += f64::from(u8::from(one.failed));
            by_day[one.day].1 += 1.0;
        }
        let ratio = |sum: (f64, f64)| if sum.1 > 0.0 { sum.0 / sum.1 } else { 0.0 };
        let add = |a: (f64, f64), b: &(f64, f64)| (a.0 + b.0, a.1 + b.1);
        let all = ratio(by_day.iter().fold((0.0, 0.0), add));
        if by_day.is_empty() {
            return (0.0, (0.0, 1.0));
        }
        let keyed = Keyed::new(seed);
        let mut shares: Vec<f64> = (0..RESAMPLES)
            .map(|number| {
                let drawn = (0..by_day.len() as u64).map(|place| {
                    let pick = keyed.bits("backtest.days", &[number, place]) % by_day.len() as u64;
                    by_day[usize::try_from(pick).unwrap_or(0)]
                });
                ratio(drawn.fold((0.0, 0.0), |a, b| add(a, &b)))
            })
            .collect();
        shares.sort_by(f64::total_cmp);
        (all, (quantile(&shares, 0.05).unwrap_or(0.0), quantile(&shares, 0.95).unwrap_or(1.0)))
    }
}
