//! The whole answer: capacity, screening, drain timeout, certification, strategies, sensitivity, the plan file.
//!
//! ```text
//! history ─► futures ─┬─► screening of every start ─► candidates ─► drain timeout ─► certification (fresh futures)
//! capacity ─► gate ───┘                                                                  │
//!                              strategies, sensitivity, bands, today's way (fresh futures) ◄┘─► Planned, policy::Plan
//! ```
//! The answer depends on scenario, traffic, seed and version alone, not on threads or time; a search that was stopped says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::{CapacityRow, Plan};
use slackwater_scenarios::traffic::statistics::Collector;
use slackwater_scenarios::traffic::{Arrival, Bursts, SharedTrace};
use slackwater_scenarios::{HumanDuration, Planning, Scenario, Strategy};
use slackwater_sim::{SimError, can_roll};

use crate::calendar::{Calendar, DAY_PS};
use crate::capacity::{CAPACITY_SAMPLE, gate_of, of_the_rest, ranges};
use crate::certify::{Certified, Certify};
use crate::check::CheckKit;
use crate::choose::{Candidate, candidates, starts_of};
use crate::future::{Futures, LEAD_PS, Source};
use crate::history::History;
use crate::planned::{
    Answer, Asked, CapacityRange, CertifiedWindow, FleetPlanned, HistoryFacts, LoadSlot, PLANNED_SCHEMA,
    Planned, Verdict,
};
use crate::screen::{Adapt, Screen, Screening, screen};
use crate::trials::enough_for;
use crate::watch::Watch;
use crate::{closer, plan_file, reach, spread, variant, words};

/// What a plan is computed from.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The scenario.
    pub scenario: Scenario,
    /// The version of Slackwater.
    pub slackwater: String,
    /// SHA-256 of the inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// The history, where the scenario's traffic is a file; its drawn traffic is a profile and needs none.
    pub history: Option<Arc<SharedTrace>>,
}

/// A plan can't be computed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A simulation failed.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// There is nothing to learn from.
    #[error("{0}")]
    NoHistory(String),
}

/// A plan, and the file that the executor runs; no file without a window.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The answer.
    pub planned: Planned,
    /// The plan file.
    pub plan: Option<Plan>,
    /// What a later look at it needs.
    pub kit: CheckKit,
}

/// Everything the stages share.
pub(crate) struct Search<'a> {
    pub(crate) ask: &'a Ask,
    pub(crate) planning: Planning,
    pub(crate) scenario: Scenario,
    pub(crate) futures: Futures,
    pub(crate) capacity: Vec<CapacityRange>,
    pub(crate) gate: Vec<CapacityRow>,
    pub(crate) watch: &'a dyn Watch,
    /// Questions beside the certificate are asked of no more futures than this.
    pub(crate) at_most: u64,
    pub(crate) simulated: u64,
    pub(crate) partial: bool,
}

/// Where no window is clean, what lies nearest is a hint, not a promise: so many futures are enough for it.
const HINTS: u64 = 40;

impl Search<'_> {
    /// What the replicas that stay carry while one move is under way.
    pub(crate) fn capacity_of_the_rest(&self) -> Option<f64> {
        of_the_rest(&self.scenario, &self.capacity)
    }

    /// The instant so far into the horizon, in words.
    pub(crate) fn text(&self, at: Ps) -> String {
        if self.futures.has_calendar() {
            self.futures.calendar().text(self.futures.instant_ns(at))
        } else {
            format!("{} s after the start of the traffic", self.futures.instant_ns(at) / 1_000_000_000)
        }
    }
}

/// Seconds since the horizon's start of a horizon time.
pub(crate) fn into_horizon_s(at: Ps) -> f64 {
    seconds(at) - seconds(LEAD_PS)
}

pub(crate) fn seconds(at: Ps) -> f64 {
    at as f64 / PS_PER_S as f64
}

/// Computes a plan.
///
/// # Errors
/// When the scenario can't be simulated, or there is no traffic to learn from. That no window is safe is an answer, not an
/// error.
pub fn plan(ask: &Ask, watch: &dyn Watch) -> Result<Answered, PlanError> {
    let began = Instant::now();
    let planning = ask.scenario.plan.clone().unwrap_or_default();
    let (scenario, mut warnings) = variant::for_planning(&ask.scenario);
    warnings.extend(reach::profile_errors(&scenario));
    let calendar = Calendar::new(planning.time_zone.as_deref());
    let (futures, history, horizon) = futures_of(ask, &planning, calendar, &mut warnings)?;
    watch.progress("capacity", 0, 1);
    let capacity = capacity_of(&scenario, &futures, watch)?;
    let capacity_new = capacity_of_the_new(&scenario, &futures)?;
    let gate = gate_of(&capacity);
    let at_most = u64::from(planning.certify_futures);
    let mut search = Search {
        ask,
        planning,
        scenario,
        futures,
        capacity,
        gate,
        watch,
        at_most,
        simulated: 0,
        partial: false,
    };
    let alone = can_roll(&search.scenario).err().map(|error| error.to_string());
    if alone.is_some() {
        // What can be said at all is said of the way that works: all at once.
        search.scenario.rollout.strategy = Strategy::Recreate;
        search.scenario.rollout.accept_downtime = true;
    }
    let screening = screened(&mut search, horizon)?;
    let mut planned = frame(&search, history, horizon, warnings);
    planned.load = load(&screening);
    planned.capacity_new = capacity_new;
    let (chosen, clean) = chosen(&search, &screening);
    if !clean {
        search.at_most = search.at_most.min(HINTS);
    }
    let drained = closer::drain(&mut search, &screening, chosen.first())?;
    if let Some(timeout) = drained.timeout {
        search.scenario.rollout.drain_timeout = timeout;
    }
    planned.drain = drained.rows;
    planned.drain_by_hour = closer::by_hour(&search, &screening);
    let certified =
        if alone.is_none() && clean { certified(&mut search, &screening, &chosen)? } else { Vec::new() };
    planned.windows = words::windows(&search, &screening, &certified);
    planned.certified = windows_certified(&search, &certified);
    let best = best_of(&planned.certified);
    if let Some(best) = best {
        planned.reach = reach::of_trials(certified[best].trials.iter().flatten());
        planned.bands = closer::bands(&search, &certified[best]);
        planned.expected = closer::expected(&mut search, &certified[best])?;
        planned.recommended = Some(closer::recommended(&search, &screening, &certified[best]));
    }
    let start = best
        .map(|best| certified[best].starts[0])
        .or_else(|| chosen.first().map(|candidate| screening.starts[*candidate.places.start()].start_ps));
    if let Some(start) = start {
        let usual = enough_for(words::usual_duration(&screening, start));
        planned.strategies = closer::strategies(&mut search, start)?;
        // What turns a window red, and what it spares, is asked of a window.
        if let Some(recommended) = &mut planned.recommended {
            planned.sensitivity = closer::sensitivity(&mut search, start, usual)?;
            planned.today = closer::today(&mut search, horizon, usual)?;
            closer::back_out(recommended, &planned.strategies);
            planned.matching = Some(closer::matching(&search, recommended));
        }
    }
    planned.seeds = spread::seeds(&search, &screening, best.map(|best| &certified[best]));
    words::conclude(&mut planned, &search, &screening, alone.as_deref());
    planned.partial = search.partial || screening.partial;
    planned.simulated_requests = search.simulated;
    planned.hash = hash(&planned);
    planned.wall_s = began.elapsed().as_secs_f64();
    let plan = match best {
        Some(best) => Some(plan_file::plan(&search, &planned, &certified, best)?),
        None => None,
    };
    let (sample, bursts) = likeness(&search)?;
    let kit = CheckKit::new(&planned, &search.scenario, &search.futures, &sample, bursts);
    Ok(Answered { planned, plan, kit })
}

/// Over everything but the time it took.
fn hash(planned: &Planned) -> String {
    let mut plain = Planned { wall_s: 0.0, hash: String::new(), ..planned.clone() };
    if let Some(sample) = plain.expected.as_mut().and_then(|expected| expected.sample.as_mut()) {
        sample.wall_s = 0.0;
        sample.requests_per_wall_s = 0.0;
    }
    // Plain data with string keys always serialises.
    let bytes = serde_json::to_vec(&plain).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The futures, what is known of the history, and how long the horizon is.
fn futures_of(
    ask: &Ask,
    planning: &Planning,
    calendar: Calendar,
    warnings: &mut Vec<String>,
) -> Result<(Futures, HistoryFacts, Ps), PlanError> {
    let horizon = planning.horizon.as_picos();
    let Some(trace) = &ask.history else {
        let Some(generate) = &ask.scenario.traffic.generate else {
            return Err(PlanError::NoHistory(
                "the scenario names no traffic to learn from: set traffic.file, or give --history FILE"
                    .to_owned(),
            ));
        };
        let start = planning.from.unwrap_or(generate.start).0;
        let source = Source::Profile(Box::new(generate.clone()));
        let facts = HistoryFacts {
            kind: "profile".to_owned(),
            source: "traffic.generate".to_owned(),
            ..HistoryFacts::default()
        };
        warnings.push(
            "the traffic is a stated profile, not a recording: the risk is that of the profile, and says nothing of how far \
             the profile is from what will come"
                .to_owned(),
        );
        let futures = Futures::new(source, calendar, ask.scenario.seed, start, true, planning.growth);
        return Ok((futures, facts, horizon));
    };
    if trace.arrivals.is_empty() {
        return Err(PlanError::NoHistory(format!(
            "{} holds no request that could be learnt from; give a history with requests in it (--history FILE)",
            trace.report.source
        )));
    }
    let history = History::new(Arc::clone(trace), &calendar);
    let has_calendar = trace.epoch_ns.is_some();
    let epoch = trace.epoch_ns.unwrap_or(0);
    let span = trace.arrivals.last().map_or(0, |last| last.at_ps);
    let start = match (planning.from, history.has_days()) {
        (Some(from), true) if has_calendar => from.0,
        (_, true) => {
            history.ends_ns().map_or((span / 1000).cast_signed(), |end| calendar.midnight_after(end))
        }
        (_, false) => epoch,
    };
    let days = seconds(span) / 86_400.0;
    let horizon = if history.has_days() {
        horizon
    } else {
        warnings.push(format!(
            "the history is {} long, less than a day and a half: only starts within that time are looked at, and nothing is \
             known of how one day differs from the next; a history of at least 8 days lets weekdays be told apart",
            words::span(seconds(span))
        ));
        horizon.min(history.period_ps)
    };
    let text = |at: Ps| {
        if has_calendar {
            calendar.text(epoch + (at / 1000).cast_signed())
        } else {
            format!("{} s", at / PS_PER_S)
        }
    };
    let facts = HistoryFacts {
        kind: "recorded".to_owned(),
        source: trace.report.source.clone(),
        days,
        requests: trace.arrivals.len() as u64,
        ends: history.ends_ns().map(|end| calendar.text(end)),
        holes: history.holes.iter().map(|hole| (text(hole.from_ps), text(hole.until_ps))).collect(),
        dropped: trace.report.dropped.iter().map(|dropped| (dropped.reason.clone(), dropped.count)).collect(),
        day_sd: history.day_sd,
        noise_sd: 0.0,
    };
    if !history.holes.is_empty() {
        warnings.push(format!(
            "the recording has {} holes of 10 minutes or more; other days stand in for them",
            history.holes.len()
        ));
    }
    warnings.extend(trace.report.warnings());
    let source = Source::Recorded(Box::new(history));
    let futures = Futures::new(source, calendar, ask.scenario.seed, start, has_calendar, planning.growth);
    let facts = HistoryFacts { noise_sd: futures.noise_sd(), ..facts };
    Ok((futures, facts, horizon))
}

/// Requests of the traffic, for their lengths, and how arrivals lie around their rate.
fn likeness(search: &Search<'_>) -> Result<(Vec<Arrival>, Bursts), PlanError> {
    match search.futures.source() {
        Source::Recorded(history) => {
            // The last day says most of tomorrow.
            let from = history.trace.arrivals.last().map_or(0, |last| last.at_ps.saturating_sub(DAY_PS));
            let last_day = history.between(from.cast_signed(), DAY_PS + 1);
            let mut collector = Collector::default();
            for arrival in last_day {
                collector.observe(&Arrival { at_ps: arrival.at_ps - from, ..*arrival }, &[], None);
            }
            let fitted = collector.finish(history.trace.report.clone()).fit();
            // Too short or too thin to tell: independent arrivals.
            let bursts = fitted.map(|fit| fit.generate.bursts()).unwrap_or_default();
            Ok((last_day.to_vec(), Bursts { noise: None, ..bursts }))
        }
        Source::Profile(generate) => {
            let sample = crate::capacity::sample(&search.scenario).map_err(SimError::from)?;
            Ok((sample, Bursts { noise: None, ..generate.bursts() }))
        }
        Source::Replay(_) | Source::Forecast(_) => Ok((Vec::new(), Bursts::default())),
    }
}

/// Requests for a capacity's lengths.
fn lengths_of(scenario: &Scenario, futures: &Futures) -> Result<Vec<Arrival>, PlanError> {
    Ok(match futures.source() {
        Source::Recorded(history) => {
            let arrivals = &history.trace.arrivals;
            // Spread over the history, in runs, so that neighbours stay neighbours.
            let runs = arrivals.len().div_ceil(CAPACITY_SAMPLE).max(1);
            let run = 500;
            arrivals.chunks(run).step_by(runs).flatten().copied().take(CAPACITY_SAMPLE).collect()
        }
        Source::Profile(_) | Source::Replay(_) | Source::Forecast(_) => {
            crate::capacity::sample(scenario).map_err(SimError::from)?
        }
    })
}

/// What all replicas carry once they run the new version; `None` where it computes as the old one does.
fn capacity_of_the_new(scenario: &Scenario, futures: &Futures) -> Result<Option<CapacityRange>, PlanError> {
    let (from, to) = (&scenario.from, &scenario.to);
    let alike = from.engine == to.engine
        && from.step_time_factor == to.step_time_factor
        && from.output_length_factor == to.output_length_factor;
    if alike {
        return Ok(None);
    }
    let mut after = scenario.clone();
    after.from = scenario.to.clone();
    let count = u32::try_from(scenario.fleet.replica_count()).unwrap_or(u32::MAX);
    Ok(ranges(&after, &lengths_of(scenario, futures)?, count..=count)?.pop())
}

/// What the replicas that stay would carry with other settings; `None` where nobody stays, or it can't be told.
pub(crate) fn rest_of(scenario: &Scenario, futures: &Futures) -> Option<f64> {
    let count = u32::try_from(scenario.fleet.replica_count()).ok()?;
    let rest = count.checked_sub(scenario.rollout.max_unavailable()).filter(|rest| *rest > 0)?;
    let found = ranges(scenario, &lengths_of(scenario, futures).ok()?, rest..=rest).ok()?;
    of_the_rest(scenario, &found)
}

pub(crate) fn capacity_of(
    scenario: &Scenario,
    futures: &Futures,
    watch: &dyn Watch,
) -> Result<Vec<CapacityRange>, PlanError> {
    let sample = lengths_of(scenario, futures)?;
    let count = u32::try_from(scenario.fleet.replica_count()).unwrap_or(u32::MAX);
    let out = scenario.rollout.max_unavailable().max(if scenario.rollout.strategy == Strategy::Halves {
        count.div_ceil(2)
    } else {
        1
    });
    let fewest = if count <= 8 { 1 } else { count.saturating_sub(out + 1).max(1) };
    let found = ranges(scenario, &sample, fewest..=count)?;
    watch.progress("capacity", 1, 1);
    Ok(found)
}

fn screened(search: &mut Search<'_>, horizon: Ps) -> Result<Screening, PlanError> {
    let rollout = &search.scenario.rollout;
    // Where the gate would never open, no simulation is needed to know it.
    let closed_above = match rollout.strategy {
        Strategy::Rolling | Strategy::Canary | Strategy::Swap => search
            .capacity_of_the_rest()
            .map(|rate| (rate / (1.0 + rollout.gate.margin), rollout.gate.give_up.as_picos())),
        _ => None,
    };
    let what = Screen {
        scenario: &search.scenario,
        gate: &search.gate,
        closed_above,
        horizon_ps: horizon,
        every_ps: search.planning.every.as_picos(),
        futures: u64::from(search.planning.futures),
        adapt: Some(Adapt {
            rest_per_s: search.capacity_of_the_rest().filter(|_| !search.scenario.remembers()),
        }),
    };
    let screening = screen(&search.futures, &what, search.watch)?;
    search.simulated += screening.simulated;
    Ok(screening)
}

fn chosen(search: &Search<'_>, screening: &Screening) -> (Vec<Candidate>, bool) {
    let planning = &search.planning;
    let starts = usize::try_from(planning.window.as_nanos() / planning.every.as_nanos()).unwrap_or(0) + 1;
    let most = usize::try_from(planning.certify_windows).unwrap_or(1);
    candidates(screening, &search.futures, &planning.cost, (starts, most))
}

fn certified(
    search: &mut Search<'_>,
    screening: &Screening,
    chosen: &[Candidate],
) -> Result<Vec<Certified>, PlanError> {
    let mut all = Vec::new();
    for (number, candidate) in chosen.iter().enumerate() {
        let certify = Certify {
            scenario: &search.scenario,
            gate: &search.gate,
            budget: search.planning.risk,
            confidence: search.planning.confidence,
            futures: u64::from(search.planning.certify_futures),
            windows: chosen.len(),
        };
        let starts = starts_of(screening, candidate);
        let longest = screening.starts[candidate.places.clone()]
            .iter()
            .filter_map(|start| start.duration_s(0.95))
            .fold(0.0, f64::max);
        // The drain may take longer by now than it did in the screening.
        let slack = search.scenario.rollout.drain_timeout.as_secs_f64();
        let lasts = enough_for(Some(longest + slack));
        match certify.window(&search.futures, (number, &starts, lasts), search.watch)? {
            Some((window, requests)) => {
                search.simulated += requests;
                all.push(window);
            }
            None => {
                search.partial = true;
                break;
            }
        }
    }
    Ok(all)
}

fn windows_certified(search: &Search<'_>, certified: &[Certified]) -> Vec<CertifiedWindow> {
    certified
        .iter()
        .map(|window| {
            let (first, last) = (window.starts[0], window.starts[window.starts.len() - 1]);
            CertifiedWindow {
                start: search.text(first),
                start_s: into_horizon_s(first),
                window_s: seconds(last - first),
                verdict: window.found.into(),
                risk: closer::risk_facts(search, window),
                cost: closer::cost_of(search, window),
            }
        })
        .collect()
}

/// The safe window of the least cost; of those about as cheap the soonest.
fn best_of(windows: &[CertifiedWindow]) -> Option<usize> {
    let safe = || windows.iter().enumerate().filter(|(_, window)| window.verdict == Verdict::Safe);
    let least = safe().map(|(_, window)| window.cost).min_by(f64::total_cmp)?;
    safe()
        .filter(|(_, window)| window.cost <= least * 1.1 + 1.0)
        .min_by(|a, b| a.1.start_s.total_cmp(&b.1.start_s))
        .map(|(place, _)| place)
}

fn load(screening: &Screening) -> Vec<LoadSlot> {
    let slots = screening.rates.iter().enumerate();
    slots
        .map(|(number, (mean, low, high))| LoadSlot {
            at_s: number as f64 * screening.slot_s,
            mean_per_s: *mean,
            low_per_s: *low,
            high_per_s: *high,
        })
        .collect()
}

/// What is said before anything was found.
fn frame(search: &Search<'_>, history: HistoryFacts, horizon: Ps, warnings: Vec<String>) -> Planned {
    let (scenario, planning) = (&search.ask.scenario, &search.planning);
    let source = |version: &slackwater_scenarios::Version| version.engine.source.clone();
    Planned {
        schema: PLANNED_SCHEMA.to_owned(),
        slackwater: search.ask.slackwater.clone(),
        scenario: scenario.name.clone(),
        seed: scenario.seed,
        inputs: search.ask.inputs.clone(),
        partial: false,
        answer: Answer::NoGo,
        reasons: Vec::new(),
        nearest: Vec::new(),
        warnings,
        fleet: FleetPlanned {
            from: scenario.from.name.clone(),
            to: scenario.to.name.clone(),
            replicas: scenario
                .places()
                .into_iter()
                .filter(|place| !place.spare)
                .map(|place| place.name)
                .collect(),
            tensor_parallel: scenario.fleet.tensor_parallel,
            spares: scenario.fleet.spares,
            profiles: (source(&scenario.from), source(&scenario.to)),
            measured: words::is_measured(scenario),
            router: slackwater_sim::router_name(scenario),
        },
        slo: slackwater_sim::slo_facts(scenario),
        asked: Asked {
            risk: planning.risk,
            cut_risk: planning.cut_risk,
            confidence: planning.confidence,
            every_s: planning.every.as_secs_f64(),
            horizon_s: seconds(horizon),
            futures: u64::from(planning.futures),
            growth: planning.growth,
            time_zone: planning.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
            strategy: variant::name(scenario.rollout.strategy).to_owned(),
            cost: (planning.cost.miss, planning.cost.cut, planning.cost.hour_below_n),
        },
        history,
        recommended: None,
        certified: Vec::new(),
        windows: Vec::new(),
        load: Vec::new(),
        capacity: search.capacity.clone(),
        capacity_new: None,
        seeds: None,
        drain: Vec::new(),
        drain_by_hour: Vec::new(),
        matching: None,
        strategies: Vec::new(),
        sensitivity: Vec::new(),
        bands: Vec::new(),
        reach: Vec::new(),
        expected: None,
        today: Vec::new(),
        simulated_requests: 0,
        wall_s: 0.0,
        hash: String::new(),
    }
}

/// Whole seconds, at least one.
pub(crate) fn human(seconds: f64) -> HumanDuration {
    HumanDuration::from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
