//! The recommended window in figures, the bands of what is watched while it lasts, and one rollout of it in full.

use std::sync::Arc;

use slackwater_engine::Ps;
use slackwater_policy::Figure;
use slackwater_sim::{
    LeanLatencies, Peaks, RunInfo, RunOptions, Setup, SimError, SimulationResult, TraceCursor, World,
    plan_for,
};

use super::Together;
use crate::certify::Certified;
use crate::chance::{Risk, upper};
use crate::plan::{PlanError, Search, into_horizon_s, seconds};
use crate::planned::{
    Band, ExpectedPeaks, ExpectedRollout, LatencyChange, Matching, Recommended, RiskFacts, StrategyRow,
};
use crate::screen::{Screening, StartFigures, quantile};
use crate::stretch::{Tried, WARM_UP_PS, ps};
use crate::variant;

/// Rollouts that go as predicted and break a band, at most.
const FALSE_PAUSE: f64 = 0.05;

pub(crate) fn risk_facts(search: &Search<'_>, window: &Certified) -> RiskFacts {
    let days = search.futures.comparable_days(window.starts[0]);
    RiskFacts {
        estimate: window.risk.estimate,
        upper: window.risk.upper,
        budget: search.planning.risk,
        confidence: window.risk.confidence,
        futures: window.risk.futures,
        misses: window.risk.misses,
        history_floor: 1.0 / (days as f64 + 1.0),
        comparable_days: days as u64,
    }
}

/// Expected cost of a rollout begun at any of the window's starts.
pub(crate) fn cost_of(search: &Search<'_>, window: &Certified) -> f64 {
    Together::of(window.trials.iter().flatten()).cost(&search.planning.cost)
}

pub(crate) fn recommended(search: &Search<'_>, screening: &Screening, window: &Certified) -> Recommended {
    let (first, last) = (window.starts[0], window.starts[window.starts.len() - 1]);
    let all = Together::of(window.trials.iter().flatten());
    let cut =
        window.trials.iter().filter(|future| future.iter().any(|tried| tried.trial.cut > 0)).count() as u64;
    let mut cuts: Vec<f64> = window.trials.iter().flatten().map(|tried| tried.trial.cut as f64).collect();
    cuts.sort_by(f64::total_cmp);
    let arrived: f64 = window.trials.iter().flatten().map(|tried| tried.trial.service.arrived as f64).sum();
    let within = |start: &&StartFigures| (first..=last).contains(&start.start_ps);
    let peak = screening.starts.iter().filter(within).map(StartFigures::highest_peak).fold(0.0, f64::max);
    let p95 = all.duration_s(0.95);
    Recommended {
        start: search.text(first),
        start_s: into_horizon_s(first),
        window_s: seconds(last - first),
        latest_start: search.text(last),
        until: search.text(last + ps(p95)),
        drain_timeout_s: search.scenario.rollout.drain_timeout.as_secs_f64(),
        strategy: variant::name(search.scenario.rollout.strategy).to_owned(),
        risk: risk_facts(search, window),
        any_cut: Risk::of(cut, window.trials.len() as u64, search.planning.confidence),
        expected_cut: all.cut,
        cut_p95: quantile(&cuts, 0.95).unwrap_or(0.0),
        expected_missed: all.missed,
        requests_during: arrived / all.futures.max(1) as f64,
        duration_p50_s: all.duration_s(0.5),
        duration_p95_s: p95,
        below_n_s: all.below_n_s,
        latency: latency(screening, first, window),
        back_out_p95_s: None,
        growth_until_closed: search
            .capacity_of_the_rest()
            .filter(|_| peak > 0.0)
            .map(|capacity| capacity / peak),
        valid_until: search.text(last + ps(p95)),
    }
}

/// Without a rollout from the screening's baselines, with it from the certified trials.
fn latency(screening: &Screening, first: Ps, window: &Certified) -> LatencyChange {
    let mut with = LeanLatencies::default();
    for tried in window.trials.iter().flatten() {
        with.add(&tried.latencies);
    }
    let place = screening.starts.partition_point(|start| start.start_ps < first);
    let without = screening.starts.get(place).map(|start| &start.without);
    let pair = |of: &dyn Fn(&LeanLatencies) -> Option<f64>| (without.and_then(of), of(&with));
    LatencyChange {
        ttft_p50_s: pair(&|all| all.ttft.quantile_s(0.5)),
        ttft_p95_s: pair(&|all| all.ttft.quantile_s(0.95)),
        ttft_p99_s: pair(&|all| all.ttft.quantile_s(0.99)),
        tpot_p50_s: pair(&|all| all.tpot.quantile_s(0.5)),
        tpot_p95_s: pair(&|all| all.tpot.quantile_s(0.95)),
        tpot_p99_s: pair(&|all| all.tpot.quantile_s(0.99)),
    }
}

/// The edge below which the largest value of a rollout stays: the smallest value seen whose exceeding is bounded by
/// [`FALSE_PAUSE`] with the plan's confidence; the largest value seen, and the rate that it promises, where the futures are too
/// few for that.
pub(crate) fn bands(search: &Search<'_>, window: &Certified) -> Vec<Band> {
    let alpha = 1.0 - search.planning.confidence;
    // One start a future: others of the same future are no further evidence.
    let peaks: Vec<Peaks> =
        window.trials.iter().filter_map(|future| future.first()).map(|tried| tried.trial.peaks).collect();
    type Value = fn(&Peaks) -> f64;
    let figures: [(Figure, Value); 5] = [
        (Figure::TtftP50, |peaks| peaks.ttft_p50_s),
        (Figure::TtftP99, |peaks| peaks.ttft_p99_s),
        (Figure::TpotP50, |peaks| peaks.tpot_p50_s),
        (Figure::TpotP99, |peaks| peaks.tpot_p99_s),
        (Figure::QueueDepth, |peaks| peaks.queue as f64),
    ];
    let count = peaks.len() as u64;
    figures
        .into_iter()
        .filter(|_| count > 0)
        .map(|(figure, value)| {
            let mut values: Vec<f64> = peaks.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let exceeded = |place: usize| upper(count - 1 - place as u64, count, alpha);
            let place =
                (0..values.len()).find(|place| exceeded(*place) <= FALSE_PAUSE).unwrap_or(values.len() - 1);
            Band {
                figure,
                limit: values[place],
                usual: quantile(&values, 0.5).unwrap_or(0.0),
                false_pause: exceeded(place),
            }
        })
        .collect()
}

/// One rollout in full: begun at the window's first start, in the future whose rollout is of middling duration.
pub(crate) fn expected(
    search: &mut Search<'_>,
    window: &Certified,
) -> Result<Option<ExpectedRollout>, PlanError> {
    let mut firsts: Vec<(f64, u64)> = (0_u64..)
        .zip(&window.trials)
        .filter_map(|(number, future)| Some((future.first()?.trial.duration_s, number)))
        .collect();
    firsts.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let Some((_, number)) = firsts.get(firsts.len() / 2) else { return Ok(None) };
    let peaks: Vec<Peaks> = window.trials.iter().flatten().map(|tried: &Tried| tried.trial.peaks).collect();
    let sample = in_full(search, window, window.first_future + number)?;
    search.simulated +=
        sample.requests.arrived + sample.baseline.as_ref().map_or(0, |base| base.requests.arrived);
    Ok(Some(ExpectedRollout { peaks: ExpectedPeaks::of(&peaks), sample: Some(Box::new(sample)) }))
}

fn in_full(search: &Search<'_>, window: &Certified, future: u64) -> Result<SimulationResult, SimError> {
    let (first, last) = (window.starts[0], window.starts[window.starts.len() - 1]);
    let (from, until) = (first.saturating_sub(WARM_UP_PS), last + window.lasts);
    let scenario = search.futures.scenario(&search.scenario, future, from, until);
    let trace = Arc::new(search.futures.draw(&scenario, future, from, until)?);
    let setup = Arc::new(Setup::new(&scenario)?);
    let plan = plan_for(&scenario, trace.epoch_ns, first - from, &search.gate)?;
    let info = |judged_until| RunInfo {
        slackwater: search.ask.slackwater.clone(),
        judged_until,
        ..RunInfo::default()
    };
    let world = || {
        let options = RunOptions { series: true, rows: false };
        World::new(Arc::clone(&setup), TraceCursor::new(Arc::clone(&trace)), options)
    };
    let mut with = world()?;
    with.run_until(first - from)?;
    with.begin_rollout(plan)?;
    with.run()?;
    let judged = Some(with.judged_until());
    let (mut result, _) = with.finish(info(None));
    let mut without = world()?;
    without.run_until(first - from)?;
    without.judge_from_now();
    without.run()?;
    result.baseline = Some(Box::new(without.finish(info(judged)).0));
    Ok(result)
}

/// The way back, from the row of the strategy that is used.
pub(crate) fn back_out(recommended: &mut Recommended, strategies: &[StrategyRow]) {
    let own = strategies.iter().find(|row| row.strategy == recommended.strategy && row.possible);
    recommended.back_out_p95_s = own.and_then(|row| row.figures?.back_out_p95_s);
}

/// No other time-out may end a stream before the drain's does, nor a process before its engine is done.
pub(crate) fn matching(search: &Search<'_>, recommended: &Recommended) -> Matching {
    let drain = recommended.drain_timeout_s;
    // Read time-outs count the silence before the first token; of an answer that is not streamed, all of it.
    let first_token = recommended.latency.ttft_p99_s.1.unwrap_or(0.0);
    let engine = drain.max(30.0);
    Matching {
        proxy_read_timeout_s: drain.max(3.0 * first_token).max(60.0).ceil(),
        worker_shutdown_timeout_s: (drain + 30.0).ceil(),
        engine_shutdown_timeout_s: engine.ceil(),
        grace_period_s: (engine + search.scenario.rollout.stop_timeout.as_secs_f64()).ceil(),
    }
}
