//! Is it right? Plans made from the days before, held against the day that came.
//!
//! ```text
//! for each day d:   days before d ──► futures ──► promise for every start of d
//!                   day d as it was ──► a rollout at every start of d ──► what came          score, cost, regret
//! ```
//! The load is scaled beforehand, from the rates alone, so that the question is neither trivial nor hopeless: at a stated share of
//! all starts the load is above what the replicas that stay carry. Days, not starts, are the independent pieces of evidence: starts
//! of one day share its traffic.

mod day;
mod load;
mod tally;

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::SharedTrace;

pub use load::{BREAKS, scale};
use tally::Tally;

use crate::calendar::Calendar;
use crate::capacity::gate_of;
use crate::future::{Futures, LEAD_PS, Source};
use crate::history::History;
use crate::plan::{Ask, PlanError, capacity_of};
use crate::planned::CapacityRange;
use crate::variant;
use crate::watch::Watch;

/// Schema id of [`Backtest`].
pub const BACKTEST_SCHEMA: &str = "slackwater.backtest/1";

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
    /// Share of all starts, all days, at which a rollout fails that looks at no load.
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
    /// The same for one who always promises the overall share that failed.
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
    /// Of these, days on which the service level was missed.
    pub slo_missed: u64,
    /// And days on which not every replica came to run the new version: the gate held, or it went back, or took too long.
    pub not_completed: u64,
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
    /// The same over the days on which the plan said go: on the others a rollout that waits before its gate costs nothing, and
    /// does nothing.
    pub regret_on_go_days: f64,
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
    /// Whether the plan would have said go: some start was clean in all futures.
    pub go: bool,
    /// The risk promised.
    pub promised: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Share of the day's starts at which a rollout fails that looks at no load.
    pub starts_that_break: f64,
    /// The plan's cost and the oracle's.
    pub cost: f64,
    /// See `cost`.
    pub oracle_cost: f64,
}

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
    /// All of it; of what comes after the day that is planned only the holes are looked at.
    whole: History,
    every: Ps,
    futures: u64,
    watch: &'a dyn Watch,
}

/// What is looked at of a day after a start: what its rollout meets.
const HOUR_PS: Ps = 3_600 * PS_PER_S;

impl Setting<'_> {
    /// Whether the recording has a hole between two times of its own.
    fn hole_between(&self, from_ps: i64, until_ps: i64) -> bool {
        let times = |time: i64| time.max(0).cast_unsigned();
        self.whole.holes.iter().any(|hole| hole.from_ps < times(until_ps) && hole.until_ps > times(from_ps))
    }

    /// Whether a rollout begun at this instant would meet a hole.
    fn in_a_hole(&self, instant_ns: i64) -> bool {
        let at = (instant_ns - self.trace.epoch_ns.unwrap_or(0)).saturating_mul(1000);
        self.hole_between(at - LEAD_PS.cast_signed(), at + HOUR_PS.cast_signed())
    }
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
        whole,
        every: planning.every.as_picos(),
        futures: u64::from(planning.futures),
        watch,
    };
    let whole = &setting.whole;
    let mut tally = Tally::default();
    let mut partial = false;
    for (number, midnight) in days.iter().enumerate().skip(1) {
        watch.progress("days planned and replayed", number as u64 - 1, days.len() as u64 - 1);
        let Some(day) = day::one_day(&setting, number, *midnight)? else {
            partial = true;
            break;
        };
        tally.take_in(day);
    }
    if whole.holes.is_empty() {
        notes.push("the recording has no hole of 10 minutes or more".to_owned());
    } else {
        notes.push(format!(
            "{} holes of the recording are no traffic of zero: other days stood in for them, and starts whose next hour has one are \
             left out of the days that are replayed",
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
