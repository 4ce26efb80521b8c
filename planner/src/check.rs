//! A plan looked at again, in under a second: before its start, or in the middle of its rollout.
//!
//! The forecast is the plan's own expected load, times what the live rate says of it; lengths and bursts are those the plan was
//! made with. Some hundreds of futures of the next minutes are simulated, as many as a second allows, so the answer is coarser than
//! the plan's and never calls safe what the plan did not certify.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slackwater_engine::Ps;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::{Arrival, Bursts};

use crate::calendar::Calendar;
use crate::capacity::{gate_of, of_the_rest};
use crate::chance::Risk;
use crate::future::{Forecast, Futures, LEAD_PS, Source};
use crate::plan::{PlanError, seconds};
use crate::planned::{LoadSlot, Planned, Verdict};
use crate::screen::quantile;
use crate::stretch::{Attempt, SHORT_WARM_UP_PS, Tried, run};
use crate::trials::enough_for;

/// Schema id of [`CheckKit`].
pub const KIT_SCHEMA: &str = "slackwater.check-kit/1";
/// Schema id of [`Checked`].
pub const CHECKED_SCHEMA: &str = "slackwater.checked/1";

/// Requests that a check may simulate: about a second's worth.
const REQUESTS: f64 = 500_000.0;
/// Futures, at least and at most.
const FUTURES: (u64, u64) = (30, 300);
/// How far a live rate may be from what it was a few minutes later: standard deviation of the logarithm.
const LIVE_SD: f64 = 0.05;
/// Pairs of lengths kept.
const SAMPLE: usize = 5_000;
/// Consecutive requests of a block.
const BLOCK: u32 = 50;

/// What a check needs beside the plan: written with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckKit {
    /// Always [`KIT_SCHEMA`].
    pub schema: String,
    /// The answer's hash, so that files of two plans are not mixed.
    pub hash: String,
    /// The scenario, resolved, with the recommended drain timeout.
    pub scenario: String,
    /// The horizon's start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Whether that is a time on the calendar.
    pub has_calendar: bool,
    /// (input, output) lengths in the order of the traffic.
    pub lengths: Vec<(u32, u32)>,
    /// How arrivals lie around their rate.
    pub bursts: Bursts,
}

impl CheckKit {
    /// The kit of a plan that was made with this scenario and sample.
    #[must_use]
    pub fn new(
        planned: &Planned,
        scenario: &Scenario,
        futures: &Futures,
        sample: &[Arrival],
        bursts: Bursts,
    ) -> Self {
        let every = sample.len().div_ceil(SAMPLE).max(1);
        let run = 100;
        let kept = sample.chunks(run).step_by(every).flatten().take(SAMPLE);
        let mut scenario = scenario.clone();
        scenario.traffic.file = None;
        Self {
            schema: KIT_SCHEMA.to_owned(),
            hash: planned.hash.clone(),
            scenario: scenario.to_toml(),
            start_ns: futures.start_ns(),
            has_calendar: futures.has_calendar(),
            lengths: kept.map(|arrival| (arrival.input_tokens, arrival.output_tokens)).collect(),
            bursts,
        }
    }
}

/// What a check is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Now, nanoseconds since the Unix epoch.
    pub now_ns: i64,
    /// Requests a second at present, where it was measured.
    pub live_rate: Option<f64>,
    /// Replicas that serve the new version already: the rollout is under way.
    pub done: Vec<String>,
}

/// The answer of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Always [`CHECKED_SCHEMA`].
    pub schema: String,
    /// When it was asked for.
    pub now: String,
    /// Start, or go on.
    pub safe: bool,
    /// Why, or why not, a sentence each.
    pub reasons: Vec<String>,
    /// Safe on these conditions only, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// What the reader should know of the engines' profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The certified window that this is in, and until when a start in it is certified.
    pub window: Option<(String, String)>,
    /// What the plan expects now, requests a second.
    pub expected_rate_per_s: f64,
    /// What was measured.
    pub live_rate_per_s: Option<f64>,
    /// What the replicas that stay carry.
    pub capacity_of_the_rest_per_s: Option<f64>,
    /// The risk budget.
    pub budget: f64,
    /// What can be done, the best first by cost: `start`, or `continue`, `hold`, `go_back`.
    pub options: Vec<ChoiceRow>,
    /// Requests simulated.
    pub simulated_requests: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChoiceRow {
    /// `start`, `continue`, `hold` or `go_back`.
    pub choice: String,
    /// The chance that the service level is missed, or the rollout does not end well.
    pub risk: Risk,
    /// Requests cut, on average.
    pub cut: f64,
    /// Requests that miss the service level, on average.
    pub missed: f64,
    /// Half take no longer; 0 of holding.
    pub duration_p50_s: f64,
    /// 95 % take no longer.
    pub duration_p95_s: f64,
    /// By the scenario's prices, in requests that miss.
    pub cost: f64,
}

/// Looks at a plan again.
///
/// # Errors
/// When the kit is not the plan's, its scenario is broken, or a simulation fails.
pub fn check(planned: &Planned, kit: &CheckKit, question: &Question) -> Result<Checked, PlanError> {
    let scenario = scenario_of(planned, kit)?;
    let planning = scenario.plan.clone().unwrap_or_default();
    let since_ns = question.now_ns.saturating_sub(kit.start_ns);
    let now = since_ns.saturating_mul(1000).saturating_add_unsigned(LEAD_PS);
    let horizon = planned.asked.horizon_s;
    let Some(now) =
        u64::try_from(now).ok().filter(|now| *now >= LEAD_PS && seconds(*now - LEAD_PS) < horizon)
    else {
        return Ok(outside(planned, kit, question));
    };
    let calendar = Calendar::new(planning.time_zone.as_deref());
    let at_s = seconds(now - LEAD_PS);
    let expected = slot_at(planned, at_s).map_or(0.0, |slot| slot.mean_per_s);
    let ratio = ratio_of(question.live_rate, expected);
    let futures = forecast_of(planned, kit, &scenario, question.live_rate, at_s);
    let gate = gate_of(&planned.capacity);
    let usual = planned.recommended.as_ref().map_or(1_800.0, |best| best.duration_p95_s);
    let mut checked = Checked {
        schema: CHECKED_SCHEMA.to_owned(),
        now: calendar.text(question.now_ns),
        safe: false,
        reasons: Vec::new(),
        conditions: Vec::new(),
        warnings: crate::reach::profile_errors(&scenario),
        window: window_at(planned, at_s),
        expected_rate_per_s: expected,
        live_rate_per_s: question.live_rate,
        capacity_of_the_rest_per_s: of_the_rest(&scenario, &planned.capacity),
        budget: planned.asked.risk,
        options: Vec::new(),
        simulated_requests: 0,
    };
    let rate = (expected * ratio).max(0.1);
    let lasts = enough_for(Some(usual));
    let each = rate * (2.0 * usual + 600.0);
    let ways = if question.done.is_empty() { 1.0 } else { 3.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded
    let count = ((REQUESTS / each / ways) as u64).clamp(FUTURES.0, FUTURES.1);
    let mut look = Look {
        futures: &futures,
        gate: &gate,
        now,
        lasts,
        count,
        checked: &mut checked,
        planning: &planning,
    };
    if question.done.is_empty() {
        let tried = look.option("start", &scenario)?;
        within_reach(&mut checked, &tried, &scenario);
        before(&mut checked, planned);
    } else {
        middle(&mut look, &scenario, &question.done)?;
        under_way(&mut checked);
    }
    Ok(checked)
}

/// The plan's scenario, with its drain timeout.
pub(crate) fn scenario_of(planned: &Planned, kit: &CheckKit) -> Result<Scenario, PlanError> {
    if kit.hash != planned.hash {
        return Err(PlanError::NoHistory(format!(
            "check.json belongs to another plan (answer {} there, {} in plan.json); copy both files from one folder",
            short(&kit.hash),
            short(&planned.hash)
        )));
    }
    Scenario::parse(&kit.scenario, "check.json").map_err(|error| {
        PlanError::NoHistory(format!("the scenario inside check.json can't be read: {error}"))
    })
}

fn slot_at(planned: &Planned, at_s: f64) -> Option<&LoadSlot> {
    planned.load.iter().rev().find(|slot| slot.at_s <= at_s)
}

fn ratio_of(live_rate: Option<f64>, expected: f64) -> f64 {
    live_rate.filter(|_| expected > 0.0).map_or(1.0, |rate| rate / expected)
}

/// Futures of the load that the plan expects around `at_s`, times what the live rate says of it.
pub(crate) fn forecast_of(
    planned: &Planned,
    kit: &CheckKit,
    scenario: &Scenario,
    live_rate: Option<f64>,
    at_s: f64,
) -> Futures {
    let planning = scenario.plan.clone().unwrap_or_default();
    let slot = slot_at(planned, at_s);
    let ratio = ratio_of(live_rate, slot.map_or(0.0, |slot| slot.mean_per_s));
    let sd = match (live_rate, slot) {
        (Some(_), _) => LIVE_SD,
        // What the futures of the plan spread over.
        (None, Some(slot)) if slot.low_per_s > 0.0 => {
            ((slot.high_per_s / slot.low_per_s).ln() / 4.0).max(LIVE_SD)
        }
        (None, _) => 0.15,
    };
    let forecast = Forecast {
        rates: planned.load.iter().map(|slot| slot.mean_per_s * ratio).collect(),
        slot_s: planned.load.get(1).map_or(600.0, |slot| slot.at_s),
        lengths: kit
            .lengths
            .iter()
            .map(|(input, output)| Arrival { at_ps: 0, input_tokens: *input, output_tokens: *output })
            .collect(),
        block: BLOCK,
        bursts: kit.bursts,
        sd,
    };
    Futures::new(
        Source::Forecast(Arc::new(forecast)),
        Calendar::new(planning.time_zone.as_deref()),
        scenario.seed,
        kit.start_ns,
        kit.has_calendar,
        1.0,
    )
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The certified window that holds this time.
fn window_at(planned: &Planned, at_s: f64) -> Option<(String, String)> {
    let window = planned.certified.iter().find(|window| {
        window.verdict == Verdict::Safe && at_s >= window.start_s && at_s <= window.start_s + window.window_s
    })?;
    let last =
        planned.windows.iter().rev().find(|start| start.start_s <= window.start_s + window.window_s)?;
    Some((window.start.clone(), last.start.clone()))
}

fn outside(planned: &Planned, kit: &CheckKit, question: &Question) -> Checked {
    let calendar = Calendar::new(Some(planned.asked.time_zone.as_str()));
    Checked {
        schema: CHECKED_SCHEMA.to_owned(),
        now: calendar.text(question.now_ns),
        safe: false,
        reasons: vec![format!(
            "this is outside of the time that was planned for, {} to {}: make a new plan",
            calendar.text(kit.start_ns),
            planned.windows.last().map_or_else(|| calendar.text(kit.start_ns), |start| start.start.clone())
        )],
        conditions: Vec::new(),
        warnings: Vec::new(),
        window: None,
        expected_rate_per_s: 0.0,
        live_rate_per_s: question.live_rate,
        capacity_of_the_rest_per_s: None,
        budget: planned.asked.risk,
        options: Vec::new(),
        simulated_requests: 0,
    }
}

/// What every option is tried with.
struct Look<'a> {
    futures: &'a Futures,
    gate: &'a [CapacityRow],
    now: Ps,
    lasts: Ps,
    count: u64,
    checked: &'a mut Checked,
    planning: &'a slackwater_scenarios::Planning,
}

impl Look<'_> {
    fn tried(&mut self, scenario: &Scenario) -> Result<Vec<Tried>, PlanError> {
        use rayon::prelude::*;
        let starts = [self.now];
        let attempt = Attempt::new(scenario, self.gate, &starts);
        let stretch = (self.now - SHORT_WARM_UP_PS, self.now + self.lasts);
        let found: Vec<_> = (0..self.count)
            .into_par_iter()
            .map(|future| run(self.futures, future, stretch, &attempt))
            .collect::<Result<_, _>>()?;
        self.checked.simulated_requests += found.iter().map(|(baseline, _)| baseline.simulated).sum::<u64>();
        Ok(found.into_iter().flat_map(|(_, tried)| tried).collect())
    }

    /// Tries a rollout begun now.
    fn option(&mut self, choice: &str, scenario: &Scenario) -> Result<Vec<Tried>, PlanError> {
        let tried = self.tried(scenario)?;
        let count = tried.len().max(1) as f64;
        let mean = |value: &dyn Fn(&Tried) -> f64| tried.iter().map(value).sum::<f64>() / count;
        let mut durations: Vec<f64> = tried.iter().map(|one| one.trial.duration_s).collect();
        durations.sort_by(f64::total_cmp);
        let (cut, missed) = (mean(&|one| one.trial.cut as f64), mean(&|one| one.trial.service.missed as f64));
        let hours = mean(&|one| one.trial.below_n_s) / 3600.0;
        let prices = self.planning.cost;
        let failed = tried.iter().filter(|one| one.failed()).count() as u64;
        self.checked.options.push(ChoiceRow {
            choice: choice.to_owned(),
            risk: Risk::of(failed, tried.len() as u64, self.planning.confidence),
            cut,
            missed,
            duration_p50_s: quantile(&durations, 0.5).unwrap_or(0.0),
            duration_p95_s: quantile(&durations, 0.95).unwrap_or(0.0),
            cost: missed * prices.miss + cut * prices.cut + hours * prices.hour_below_n,
        });
        Ok(tried)
    }
}

/// Going on, holding, going back. Replicas that are moved already are taken to be as fast as the version that the others move
/// from: a rollout is simulated of those that are left.
fn middle(look: &mut Look<'_>, scenario: &Scenario, done: &[String]) -> Result<(), PlanError> {
    let names: Vec<String> =
        scenario.places().into_iter().filter(|place| !place.spare).map(|place| place.name).collect();
    if let Some(unknown) = done.iter().find(|name| !names.contains(name)) {
        return Err(PlanError::NoHistory(format!(
            "there is no replica `{unknown}` in the plan; it has {}",
            names.join(", ")
        )));
    }
    let left: Vec<String> = names.iter().filter(|name| !done.contains(name)).cloned().collect();
    if !left.is_empty() {
        let mut onward = scenario.clone();
        onward.rollout.only = left;
        onward.rollout.order.retain(|name| !done.contains(name));
        let tried = look.option("continue", &onward)?;
        within_reach(look.checked, &tried, scenario);
        let missed = tried.iter().filter(|one| one.kept_without == Some(false)).count();
        look.checked.options.push(ChoiceRow {
            choice: "hold".to_owned(),
            risk: Risk::of(missed as u64, tried.len() as u64, look.planning.confidence),
            cut: 0.0,
            missed: 0.0,
            duration_p50_s: 0.0,
            duration_p95_s: 0.0,
            cost: 0.0,
        });
    }
    let mut back = scenario.clone();
    std::mem::swap(&mut back.from, &mut back.to);
    back.rollout.only = done.to_vec();
    back.rollout.order.retain(|name| done.contains(name));
    look.option("go_back", &back)?;
    Ok(())
}

/// What is beyond the measured engines' reach is no more than extrapolated.
fn within_reach(checked: &mut Checked, tried: &[Tried], scenario: &Scenario) {
    let reach = crate::reach::of_trials(tried.iter());
    let (conditions, warnings) = crate::reach::conditions(&reach, scenario.slo.share);
    checked.conditions.extend(conditions);
    checked.warnings.extend(warnings);
}

fn before(checked: &mut Checked, planned: &Planned) {
    let Some(start) = checked.options.first() else { return };
    let risk = start.risk;
    let within = risk.estimate <= checked.budget;
    match &checked.window {
        Some((from, until)) => {
            checked.reasons.push(format!("this is in the certified window {from} to {until}"));
        }
        None => {
            let next = planned.certified.iter().find(|window| window.verdict == Verdict::Safe);
            checked.reasons.push(match next {
                Some(next) => format!("this is in no certified window; there is one at {}", next.start),
                None => "the plan found no window".to_owned(),
            });
        }
    }
    checked.reasons.push(format!(
        "started now, {} of {} futures miss ({:.2} %, budget {:.2} %)",
        risk.misses,
        risk.futures,
        risk.estimate * 100.0,
        checked.budget * 100.0
    ));
    checked.safe = within && checked.window.is_some();
    if let (Some(live), Some(capacity)) = (checked.live_rate_per_s, checked.capacity_of_the_rest_per_s)
        && live > capacity
    {
        checked.safe = false;
        checked.reasons.push(format!(
            "{live:.2} requests a second are more than the {capacity:.2} that the rest carries"
        ));
    }
}

fn under_way(checked: &mut Checked) {
    let budget = checked.budget;
    checked.options.sort_by(|a, b| {
        let over = |row: &ChoiceRow| row.risk.estimate > budget;
        over(a)
            .cmp(&over(b))
            .then(a.risk.estimate.total_cmp(&b.risk.estimate))
            .then(rank(&a.choice).cmp(&rank(&b.choice)))
    });
    let onward = checked.options.iter().find(|row| row.choice == "continue");
    checked.safe = onward.is_none_or(|row| row.risk.estimate <= budget);
    for row in &checked.options {
        checked.reasons.push(format!(
            "{}: {} of {} futures miss ({:.2} %, budget {:.2} %)",
            row.choice.replace('_', " "),
            row.risk.misses,
            row.risk.futures,
            row.risk.estimate * 100.0,
            budget * 100.0
        ));
    }
}

/// Of equal risk: to go on ends it soonest, and holding costs nothing.
fn rank(choice: &str) -> u8 {
    match choice {
        "start" | "continue" => 0,
        "hold" => 1,
        _ => 2,
    }
}
