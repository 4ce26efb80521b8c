//! Capacity: the highest steady rate of this mix of requests that so many replicas serve within the service level.
//!
//! Found by bisection over simulated runs. The traffic of a probe is steady (Poisson) at the rate probed, with the
//! (prompt, output) pairs of the real traffic in their own order, so that long requests cluster as they really do. Every
//! probe sees the same draws (common random numbers), scaled in time. Requests of such a probe stand alone and share nothing, so
//! a prefix cache is left out of it: what replicas with warm caches carry is more.
//!
//! Where conversations are drawn (`traffic.generate.sessions`), a probe draws them too, at a steady rate, and meets caches that
//! they have warmed: agents whose prompts are found to 97 % would else be probed as if each computed all of it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::planned::CapacityRange;
use rayon::prelude::*;
use slackwater_engine::PS_PER_S;
use slackwater_policy::CapacityRow;
use slackwater_scenarios::TraceError;
use slackwater_scenarios::calibration::Calibration;
use slackwater_scenarios::traffic::{Arrival, ImportReport, SharedTrace};
use slackwater_scenarios::{Arrivals, Generate, HumanDuration, Keyed, Scenario, Strategy};
use slackwater_sim::{CapacityPoint, RunInfo, RunOptions, Setup, SimError, TraceCursor, World};

/// A probe lasts so long in simulated time: many times the longest usual answer, and two sliding windows.
const PROBE_S: f64 = 900.0;
/// No probe of few requests lasts longer.
const PROBE_S_MOST: f64 = 7_200.0;
/// Conversations are under way for so long before they are judged, and caches warm.
const WARM_UP_S: u64 = 600;
/// With so many requests a probe may end sooner: enough for a 99 % share.
const PROBE_REQUESTS_ENOUGH: usize = 40_000;
/// But never before so much simulated time: a sliding window of the service level.
const PROBE_S_MIN: f64 = 300.0;
/// A probe has at least so many requests, however long they take: a share of 99 % can't be told from fewer.
const PROBE_REQUESTS_MIN: usize = 1_000;
/// The bracket is closed to this share of the rate.
const PRECISION: f64 = 0.02;
/// Bisection halves the bracket each time; this bounds the search should a profile behave oddly.
const PROBES_MAX: u32 = 24;

/// Rates below are as good as none.
const LEAST_RATE: f64 = 1e-3;

/// How far apart the ends of what a measured profile leaves open are taken, in standard deviations: nine in ten lie between.
const ERROR_ENDS: f64 = 1.645;

/// The scenario with its old version's engine as slow and as fast as its measurement leaves likely; empty of a profile without a
/// known error.
///
/// What may be off is the pace of all steps (by the error on what was held out of the fit) and each coefficient that is left open.
/// Each is tried by itself, on one replica; an end has all of them off together, each by its share of the whole effect: of all
/// engines that carry so much less (or more), the likeliest.
fn ends(scenario: &Scenario, sample: &[Arrival]) -> Result<Vec<Scenario>, SimError> {
    let engine = &scenario.from.engine;
    let sd = engine.calibration.as_ref().and_then(Calibration::step_time_sd);
    let open = engine.left_open();
    let mut effects: Vec<(&str, f64, f64)> = Vec::new();
    if !open.is_empty() {
        let plain = carried(scenario, sample, 1, 1.0)?.rate_per_s;
        let tasks: Vec<(&str, f64)> = open.iter().flat_map(|of| [(*of, -1.0), (*of, 1.0)]).collect();
        let effect = |(held, sign): (&'static str, f64)| {
            let mut other = scenario.clone();
            let draw = |name: &str| if name == held { sign * ERROR_ENDS } else { 0.0 };
            other.from.engine = engine.moved(draw).unwrap_or_else(|| engine.clone());
            let rate = carried(&other, sample, 1, plain)?.rate_per_s;
            let effect = (rate.max(LEAST_RATE) / plain.max(LEAST_RATE)).ln();
            // A smaller one is what the bisection leaves open.
            Ok((held, sign, if effect.abs() > PRECISION { effect } else { 0.0 }))
        };
        effects = tasks.into_par_iter().map(effect).collect::<Result<_, SimError>>()?;
    }
    if sd.is_none() && effects.is_empty() {
        return Ok(Vec::new());
    }
    let of_pace = ERROR_ENDS * sd.unwrap_or(0.0);
    // Slow steps carry less.
    Ok([-1.0, 1.0].map(|way| off_by(scenario, way, of_pace, &effects)).into())
}

/// The end that carries less (`-1.0`) or more (`1.0`).
fn off_by(scenario: &Scenario, way: f64, of_pace: f64, effects: &[(&str, f64, f64)]) -> Scenario {
    // Of each coefficient the side that goes this way further.
    let side = |held: &str| {
        let of = effects.iter().filter(|(name, _, effect)| *name == held && way * effect > 0.0);
        of.max_by(|a, b| a.2.abs().total_cmp(&b.2.abs()))
    };
    let open = scenario.from.engine.left_open();
    let squares = open.iter().filter_map(|held| side(held)).map(|(_, _, effect)| effect * effect);
    let of_coefficients: f64 = squares.sum();
    let mut other = scenario.clone();
    if of_coefficients <= 0.0 {
        other.from.step_time_factor *= (-way * of_pace).exp();
        return other;
    }
    let whole = (of_pace * of_pace + of_coefficients).sqrt();
    other.from.step_time_factor *= (-way * of_pace * of_pace / whole).exp();
    let draw =
        |name: &str| side(name).map_or(0.0, |(_, sign, effect)| sign * ERROR_ENDS * effect.abs() / whole);
    if let Some(moved) = scenario.from.engine.moved(draw) {
        other.from.engine = moved;
    }
    other
}

/// What so many replicas of the scenario carry, running its old version: for each count in `serving`, the highest rate
/// simulated that kept the service level and the lowest that did not; with a measured profile, over an engine as slow and one as
/// fast as its measurement leaves likely. `sample` is the traffic the lengths are taken from;
/// without any there is no answer.
///
/// # Errors
/// When a run fails; see [`SimError`].
pub fn capacity(
    scenario: &Scenario,
    sample: &[Arrival],
    serving: RangeInclusive<u32>,
) -> Result<Vec<CapacityPoint>, SimError> {
    let mut points: Vec<CapacityPoint> = Vec::new();
    if sample.is_empty() {
        return Ok(points);
    }
    let ends = ends(scenario, sample)?;
    for count in serving {
        // The next replica carries about as much again as each of those before.
        let each = points.last().map_or(1.0, |last| last.rate_per_s / f64::from(last.replicas));
        let mut point = carried(scenario, sample, count, each * f64::from(count))?;
        for other in &ends {
            let other = carried(other, sample, count, point.rate_per_s)?;
            point =
                CapacityPoint { low: point.low.min(other.low), high: point.high.max(other.high), ..point };
        }
        points.push(point);
    }
    Ok(points)
}

/// Requests whose lengths a capacity is probed with.
pub const CAPACITY_SAMPLE: usize = 20_000;
/// Bisections of a range, each with draws of its own.
const REPEATS: u64 = 3;

/// The first requests of the scenario's traffic, for their lengths; of sessions all turns, in the order of their times.
///
/// # Errors
/// When the traffic can't be opened or read.
pub fn sample(scenario: &Scenario) -> Result<Vec<Arrival>, TraceError> {
    let mut source = scenario.open_traffic()?;
    let sessions = scenario.session_plan();
    let mut sample = Vec::new();
    let mut number = 0;
    while sample.len() < CAPACITY_SAMPLE
        && let Some(arrival) = source.next_arrival()?
    {
        match &sessions {
            Some(plan) => sample.extend(plan.nominal(number, arrival.at_ps)),
            None => sample.push(arrival),
        }
        number += 1;
    }
    sample.sort_by_key(|arrival| arrival.at_ps);
    Ok(sample)
}

/// What so many replicas carry, with its range: bisected several times with different draws (and from another place of the
/// sample on), in parallel. The middle bisection's rate; the lowest rate that any of them found to keep the service level, and
/// the highest that any of them found to miss it. With a measured profile one bisection is with an engine as slow, and one with an
/// engine as fast, as its measurement leaves likely.
///
/// # Errors
/// As [`capacity`].
pub fn ranges(
    scenario: &Scenario,
    sample: &[Arrival],
    serving: RangeInclusive<u32>,
) -> Result<Vec<CapacityRange>, SimError> {
    if sample.is_empty() {
        return Ok(Vec::new());
    }
    let counts: Vec<u32> = serving.collect();
    let first = counts.first().copied().unwrap_or(1);
    let each = carried(scenario, sample, first, f64::from(first))?.rate_per_s / f64::from(first);
    let ends = ends(scenario, sample)?;
    let searches: Vec<(u32, u64)> =
        counts.iter().flat_map(|count| (0..REPEATS).map(move |repeat| (*count, repeat))).collect();
    let found: Vec<CapacityPoint> = searches
        .into_par_iter()
        .map(|(count, repeat)| {
            let end = usize::try_from(repeat).unwrap_or(0).checked_sub(1);
            let mut other = end.and_then(|end| ends.get(end)).unwrap_or(scenario).clone();
            other.seed = (scenario.seed.wrapping_add(repeat << 40)) >> 1;
            let turn =
                sample.len() / usize::try_from(REPEATS).unwrap_or(1) * usize::try_from(repeat).unwrap_or(0);
            let mut turned = sample.to_vec();
            turned.rotate_left(turn);
            carried(&other, &turned, count, each * f64::from(count))
        })
        .collect::<Result<_, SimError>>()?;
    Ok(found
        .chunks(usize::try_from(REPEATS).unwrap_or(1))
        .map(|points| {
            let mut rates: Vec<f64> = points.iter().map(|point| point.rate_per_s).collect();
            rates.sort_by(f64::total_cmp);
            CapacityRange {
                replicas: points[0].replicas,
                rate_per_s: rates[rates.len() / 2],
                low: points.iter().map(|point| point.low).fold(f64::INFINITY, f64::min),
                high: points.iter().map(|point| point.high).fold(0.0, f64::max),
            }
        })
        .collect())
}

/// The policy's gate: a table of what so many replicas carry.
#[must_use]
pub fn gate_of(capacity: &[CapacityRange]) -> Vec<CapacityRow> {
    let row = |range: &CapacityRange| {
        Some(CapacityRow { serving: u16::try_from(range.replicas).ok()?, rate: range.rate_per_s })
    };
    capacity.iter().filter_map(row).collect()
}

/// What the replicas that stay carry while the scenario's rollout has others in hand; `None` where nobody stays, or the table
/// does not say.
#[must_use]
pub fn of_the_rest(scenario: &Scenario, capacity: &[CapacityRange]) -> Option<f64> {
    let count = u32::try_from(scenario.fleet.replica_count()).ok()?;
    let out = match scenario.rollout.strategy {
        Strategy::Surge | Strategy::BlueGreen | Strategy::SideBySide => 0,
        Strategy::Halves => count.div_ceil(2),
        Strategy::Recreate => count,
        Strategy::Rolling | Strategy::Canary | Strategy::Swap => scenario.rollout.max_unavailable(),
    };
    let rest = count.saturating_sub(out);
    capacity.iter().find(|row| row.replicas == rest).map(|row| row.rate_per_s)
}

/// What exactly `serving` replicas carry; the search begins at `guess` requests a second.
///
/// # Errors
/// As [`capacity`].
pub fn carried(
    scenario: &Scenario,
    sample: &[Arrival],
    serving: u32,
    guess: f64,
) -> Result<CapacityPoint, SimError> {
    let mut scenario = scenario.clone();
    scenario.fleet.replicas = slackwater_scenarios::fleet::Replicas::Count(serving);
    // Nobody is moved here, so no place is empty.
    scenario.fleet.spares = 0;
    scenario.rollout = slackwater_scenarios::Rollout::default();
    // What whole replicas carry.
    scenario.faults.clear();
    let talks = scenario.session_plan().is_some();
    if !talks {
        // Of a recording the sample's requests stand alone and share nothing.
        scenario.from.engine.prefix_caching = false;
    }
    let setup = Arc::new(Setup::new(&scenario)?);
    let keeps = |rate: f64| {
        if talks { conversations_keep_slo(&scenario, rate) } else { keeps_slo(&setup, sample, rate) }
    };
    let (mut low, mut high) = (0.0_f64, f64::INFINITY);
    let mut rate = guess.max(LEAST_RATE);
    for _ in 0..PROBES_MAX {
        if keeps(rate)? {
            low = rate;
        } else {
            high = rate;
        }
        if high.is_finite() && high - low <= PRECISION * high {
            break;
        }
        rate = match (low > 0.0, high.is_finite()) {
            (true, true) => (low + high) / 2.0,
            (true, false) => low * 2.0,
            (false, _) => high / 2.0,
        };
        if rate < LEAST_RATE {
            // Not even one request in a quarter of an hour: the service level can't be met at all.
            break;
        }
    }
    Ok(CapacityPoint { replicas: serving, rate_per_s: low, low, high })
}

/// Whether the scenario's conversations, drawn at this steady rate (of all turns), keep the service level once their caches are
/// warm, as a whole and in every five minutes.
fn conversations_keep_slo(scenario: &Scenario, rate: f64) -> Result<bool, SimError> {
    let mut scenario = scenario.clone();
    scenario.traffic.rate_scale = 1.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // two hours at most
    let lasts_s = (PROBE_REQUESTS_MIN as f64 / rate).clamp(PROBE_S, PROBE_S_MOST) as u64;
    if let Some(drawn) = &mut scenario.traffic.generate {
        *drawn = Generate {
            duration: HumanDuration::from_secs(WARM_UP_S + lasts_s),
            rate_per_s: rate,
            profile: None,
            arrivals: Arrivals::default(),
            clients: None,
            on_off: None,
            flicker: None,
            noise: None,
            hourly: Vec::new(),
            weekend_hourly: Vec::new(),
            weekday: Vec::new(),
            drift: None,
            ..drawn.clone()
        };
    }
    let setup = Arc::new(Setup::new(&scenario)?);
    let options = RunOptions { series: false, rows: false };
    let mut world = World::new(setup, scenario.open_traffic()?, options)?;
    world.run_until(WARM_UP_S * PS_PER_S)?;
    world.judge_from_now();
    world.run()?;
    let (result, _) = world.finish(RunInfo::default());
    Ok(result.service.kept)
}

/// Whether a steady run at `rate` keeps the service level, as a whole and in every five minutes.
fn keeps_slo(setup: &Arc<Setup>, sample: &[Arrival], rate: f64) -> Result<bool, SimError> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
    let within = |seconds: f64| (rate * seconds) as usize;
    let most = PROBE_REQUESTS_ENOUGH.max(within(PROBE_S_MIN));
    let count = within(PROBE_S).clamp(PROBE_REQUESTS_MIN, most);
    let keyed = Keyed::new(setup.scenario().seed);
    let mut at_s = 0.0_f64;
    let arrivals: Vec<Arrival> = (0..count)
        .map(|number| {
            let uniform = keyed.uniform("capacity-gap", &[number as u64]);
            at_s += -(1.0 - uniform).ln() / rate;
            Arrival { at_ps: slackwater_engine::step_time::ps_from_s(at_s), ..sample[number % sample.len()] }
        })
        .collect();
    let trace = SharedTrace {
        arrivals: arrivals.into(),
        prefixes: Arc::default(),
        epoch_ns: None,
        report: ImportReport::default(),
    };
    let options = RunOptions { series: false, rows: false };
    let mut world = World::new(Arc::clone(setup), TraceCursor::new(Arc::new(trace)), options)?;
    world.run()?;
    let (result, _) = world.finish(RunInfo::default());
    Ok(result.service.kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"
        [fleet]
        replicas = 3
        [from]
        engine = "a100-llama-3.1-8b"
        [to]
        [traffic.generate]
        duration = "10m"
        rate_per_s = 5
    "#;

    #[test]
    fn what_the_measurement_leaves_open_widens_the_range() {
        use slackwater_scenarios::alternatives::Alternative;
        let mut scenario = Scenario::parse(SCENARIO, "test").unwrap();
        let sample = scenario.load_traffic().unwrap();
        let range = |scenario: &Scenario| capacity(scenario, &sample.arrivals, 1..=1).unwrap()[0];
        let plain = range(&scenario);
        let engine = &scenario.from.engine;
        let seqs = |by: f64| Alternative {
            c_seq_us: engine.c_seq_us * by,
            c_kv_us: engine.c_kv_us * by,
            ..Alternative::of("c_kv_us", engine)
        };
        // One that makes no difference to what is carried.
        let front = Alternative { outbound_ms: 3.0, ..Alternative::of("front_end_ms", engine) };
        let alternatives = vec![seqs(0.2), seqs(5.0), front];
        scenario.from.engine.calibration = Some(Calibration { alternatives, ..Calibration::default() });
        let open = range(&scenario);
        assert_eq!(open.rate_per_s, plain.rate_per_s, "the middle is the profile's own");
        let moved = |draw: f64| {
            let mut other = scenario.clone();
            other.from.engine =
                other.from.engine.moved(|name| if name == "c_kv_us" { draw } else { 0.0 }).unwrap();
            other.from.engine.calibration = None;
            range(&other)
        };
        // Brackets are closed to the precision, from wherever the search began.
        let near = |one: f64, other: f64| (one / other - 1.0).abs() < 2.0 * PRECISION;
        let (slow, fast) = (moved(ERROR_ENDS), moved(-ERROR_ENDS));
        assert!(near(open.low, slow.low) && near(open.high, fast.high), "{open:?} {slow:?} {fast:?}");
        assert!(open.low < 0.8 * plain.low && open.high > 1.05 * plain.high, "{plain:?} {open:?}");
        // With an error of the pace beside it, both together go further than either.
        scenario.from.engine.calibration.as_mut().unwrap().hold_out =
            Some(slackwater_scenarios::calibration::HoldOut {
                requests: 90,
                ttft_mean: 0.0,
                tpot_mean: 0.15,
                e2e_mean: 0.0,
            });
        let both = range(&scenario);
        assert!(both.low < open.low && both.high > open.high, "{open:?} {both:?}");
    }

    #[test]
    fn more_replicas_carry_more_and_the_bracket_holds() {
        let scenario = Scenario::parse(SCENARIO, "test").unwrap();
        let sample = scenario.load_traffic().unwrap();
        let points = capacity(&scenario, &sample.arrivals, 1..=3).unwrap();
        assert_eq!(points.len(), 3);
        let mut last = 0.0;
        for point in points {
            assert!(point.rate_per_s > last, "{point:?}");
            assert!(point.low <= point.high && point.high - point.low <= 0.03 * point.high, "{point:?}");
            last = point.rate_per_s;
        }
    }

    #[test]
    fn conversations_are_probed_with_the_caches_they_warm() {
        let text = r#"
            [fleet]
            replicas = 1
            [from]
            engine = { base = "a100-llama-3.1-8b", prefix_caching = CACHING }
            [to]
            [traffic.generate]
            duration = "10m"
            rate_per_s = 1
            input = [{ median = 150, sigma = 0.5 }]
            output = [{ median = 60, sigma = 0.5 }]
            [traffic.generate.sessions]
            turns = { geometric = 6 }
            think = { median = "4s", p95 = "10s" }
            system_prompts = { count = 2, tokens = 6000 }
        "#;
        let carried = |caching: &str| {
            let scenario = Scenario::parse(&text.replace("CACHING", caching), "test").unwrap();
            let sample = sample(&scenario).unwrap();
            capacity(&scenario, &sample, 1..=1).unwrap()[0].rate_per_s
        };
        let (warm, cold) = (carried("true"), carried("false"));
        // Six of seven tokens of a prompt are computed again without a cache.
        assert!(warm > 2.0 * cold && cold > 0.0, "{warm} {cold}");
    }
}
