//! Every start against some tens of futures: what is worth a closer look, and what is out of the question.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_sim::{LeanLatencies, SimError, Trial};

use crate::calendar::DAY_PS;
use crate::future::{Futures, LEAD_PS};
use crate::stretch::{Attempt, Baseline, Look, TRIAL_MOST_PS, Tried, WARM_UP_PS, run};
use crate::watch::Watch;

/// What screening found of one start.
#[derive(Clone, Debug, Default)]
pub struct StartFigures {
    /// The start, in the horizon.
    pub start_ps: Ps,
    /// Futures it was tried in.
    pub futures: u64,
    /// Of these, the ones in which the service level was missed or the rollout did not end well.
    pub failed: u64,
    /// Futures in which it was not tried because the load was calm: see [`Adapt`].
    pub calm: u64,
    /// Each future that it was tried in, in their order.
    pub each: Vec<Outcome>,
    /// In which the service level was missed.
    pub slo_missed: u64,
    /// In which the rollout held, went back, or took too long.
    pub not_completed: u64,
    /// In which the gate would never have opened, known without a simulation; they count as not completed.
    pub closed: u64,
    /// In which the service level was missed in the same period without any rollout.
    pub missed_without: u64,
    /// In which any request was cut.
    pub any_cut: u64,
    /// Requests cut, over all futures.
    pub cut: u64,
    /// Requests that missed the service level, over all futures.
    pub missed: u64,
    /// Of these, what the same time without a rollout would not have missed.
    pub extra_missed: i64,
    /// Durations, seconds, sorted.
    pub durations_s: Vec<f64>,
    /// Time below N, seconds, over all futures.
    pub below_n_s: f64,
    /// Arrivals a second in the busiest five minutes while it lasts (or would have), in each future, tried in it or not.
    pub peaks: Vec<f64>,
    /// Latencies with the rollout, from its start until it was judged.
    pub with: LeanLatencies,
    /// Latencies of the same time without it.
    pub without: LeanLatencies,
    /// How long drained replicas took until the last request was answered or cut, seconds, and whether any was cut.
    pub drains: Vec<(f64, bool)>,
}

/// A start in one future.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Which.
    pub future: u64,
    /// The service level was missed, or the rollout did not end well.
    pub failed: bool,
    /// The gate would never have opened.
    pub closed: bool,
    /// Requests that missed the service level beyond those that would have missed it without a rollout.
    pub extra_missed: i64,
    /// Requests cut.
    pub cut: u64,
    /// Time below N, seconds.
    pub below_n_s: f64,
    /// Arrivals a second in the busiest five minutes.
    pub peak_per_s: f64,
}

impl StartFigures {
    fn take_in(&mut self, tried: &Tried, future: u64) {
        self.futures += 1;
        self.each.push(Outcome {
            future,
            failed: tried.failed(),
            closed: false,
            extra_missed: tried.extra_missed(),
            cut: tried.trial.cut,
            below_n_s: tried.trial.below_n_s,
            peak_per_s: 0.0,
        });
        self.failed += u64::from(tried.failed());
        self.slo_missed += u64::from(!tried.trial.service.kept);
        self.not_completed += u64::from(!tried.trial.completed);
        self.any_cut += u64::from(tried.trial.cut > 0);
        self.cut += tried.trial.cut;
        self.missed += tried.trial.service.missed;
        self.extra_missed += tried.extra_missed();
        self.durations_s.push(tried.trial.duration_s);
        self.below_n_s += tried.trial.below_n_s;
        self.with.add(&tried.latencies);
        for drain in &tried.trial.drains {
            let last = drain.residual_s.iter().chain(&drain.cut_after_s).copied().fold(0.0, f64::max);
            self.drains.push((last, !drain.cut_after_s.is_empty()));
        }
    }

    /// Mean over the futures of the arrivals a second in the busiest five minutes.
    #[must_use]
    pub fn usual_peak(&self) -> f64 {
        self.peaks.iter().sum::<f64>() / self.peaks.len().max(1) as f64
    }

    /// The most of them over the futures.
    #[must_use]
    pub fn highest_peak(&self) -> f64 {
        self.peaks.iter().copied().fold(0.0, f64::max)
    }

    /// A quantile of the durations, seconds; `None` where no future was simulated.
    #[must_use]
    pub fn duration_s(&self, q: f64) -> Option<f64> {
        quantile(&self.durations_s, q)
    }
}

/// A quantile of sorted values, by the nearest rank.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rank
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// What screening found.
#[derive(Clone, Debug, Default)]
pub struct Screening {
    /// Every start.
    pub starts: Vec<StartFigures>,
    /// Arrivals a second, by slots of `slot_s` seconds of the horizon: over futures the mean, the least, the most.
    pub rates: Vec<(f64, f64, f64)>,
    /// Seconds a slot.
    pub slot_s: f64,
    /// Requests simulated.
    pub simulated: u64,
    /// How rollouts stood that did not end well, in words, and how many.
    pub ends: BTreeMap<String, u64>,
    /// It was stopped before all was tried.
    pub partial: bool,
}

/// What is screened.
pub struct Screen<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The gate's table.
    pub gate: &'a [CapacityRow],
    /// See [`Attempt::closed_above`].
    pub closed_above: Option<(f64, Ps)>,
    /// How long the horizon is.
    pub horizon_ps: Ps,
    /// From one start to the next.
    pub every_ps: Ps,
    /// In so many futures.
    pub futures: u64,
    /// How starts may be spared; absent: each is tried in every future.
    pub adapt: Option<Adapt>,
}

/// Not every start need be simulated in every future. After the first [`FIRST`] futures, in which all are,
/// - one that failed in all of them is out of the question and is tried no more;
/// - one that failed in none is tried only in those further futures in which the load is not calm: below [`CALM`] of what the
///   replicas that stay carry, in the busiest five minutes of half as long again as its rollouts took.
///
/// Nothing good is promised by screening, so nothing is lost but how narrow the bounds of a start are that was spared; only the
/// futures in which a start was simulated count as evidence.
#[derive(Clone, Copy, Debug)]
pub struct Adapt {
    /// What the replicas that stay carry, where that decides: not of sessions or caches, whose load is more than arrivals.
    pub rest_per_s: Option<f64>,
}

/// Futures in which every start is tried: if all miss, the risk is above 60 % with 95 % confidence.
pub const FIRST: u64 = 6;
/// A calm load, as a share of what the replicas that stay carry.
pub const CALM: f64 = 0.6;
/// Different ends of rollouts that are told apart.
const ENDS: usize = 40;

/// Evidence from one future.
type Seen = Option<(Baseline, Vec<Tried>)>;

/// The slots of [`Screening::rates`].
const RATE_SLOT_PS: Ps = 600 * PS_PER_S;

/// Tries every start.
///
/// # Errors
/// When the scenario can't be simulated.
pub fn screen(futures: &Futures, what: &Screen<'_>, watch: &dyn Watch) -> Result<Screening, SimError> {
    let mut screening = Screening { slot_s: RATE_SLOT_PS as f64 / PS_PER_S as f64, ..Screening::default() };
    // A day at a time: no more traffic is in memory than the threads need.
    let piece = DAY_PS.min(what.horizon_ps).max(what.every_ps);
    let pieces = what.horizon_ps.div_ceil(piece);
    let done = std::sync::atomic::AtomicU64::new(0);
    for day in 0..pieces {
        let begins = LEAD_PS + day * piece;
        let ends = (begins + piece).min(LEAD_PS + what.horizon_ps);
        let first = (begins - LEAD_PS).div_ceil(what.every_ps);
        let starts: Vec<Ps> =
            (first..).map(|n| LEAD_PS + n * what.every_ps).take_while(|start| *start < ends).collect();
        let from = begins.saturating_sub(WARM_UP_PS);
        let try_in = |which: Range<u64>, looks: Option<&[Look]>| {
            let attempt = Attempt {
                closed_above: what.closed_above,
                looks,
                ..Attempt::new(what.scenario, what.gate, &starts)
            };
            which
                .into_par_iter()
                .map(|future| {
                    if watch.stopped() {
                        return Ok(None);
                    }
                    let found = run(futures, future, (from, ends + TRIAL_MOST_PS), &attempt)?;
                    let so_far = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    watch.progress("screening every start", so_far, pieces * what.futures);
                    Ok(Some(found))
                })
                .collect::<Result<Vec<Seen>, SimError>>()
        };
        let first = if what.adapt.is_some() { FIRST.min(what.futures) } else { what.futures };
        let mut tried = try_in(0..first, None)?;
        if let Some(adapt) = &what.adapt
            && first < what.futures
            && tried.iter().all(Option::is_some)
        {
            let looks = looks(&starts, &tried, adapt);
            tried.extend(try_in(first..what.futures, Some(&looks))?);
        }
        screening.partial |= tried.iter().any(Option::is_none);
        let done: Vec<(Baseline, Vec<Tried>)> = tried.into_iter().flatten().collect();
        screening.take_in(&starts, (begins, ends), &done);
        if screening.partial {
            break;
        }
    }
    Ok(screening)
}

/// How a rollout stood that did not end well: `is rolled back: ...`.
fn end_in_words(trial: &Trial) -> String {
    let why = trial.why_back.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    match trial.outcome.as_str() {
        "rolled_back" => format!("is rolled back{why}"),
        "aborted" => format!("is aborted{why}"),
        held if held.starts_with("held") => held.replacen("held", "comes to hold", 1),
        _ => "is still under way when the trial ends".to_owned(),
    }
}

/// What is tried in the further futures, after the first ones.
fn looks(starts: &[Ps], first: &[Seen], adapt: &Adapt) -> Vec<Look> {
    let mut failed = vec![0_usize; starts.len()];
    let mut lasted = vec![0.0_f64; starts.len()];
    let place = |start: Ps| starts.partition_point(|known| *known < start);
    for (baseline, tried) in first.iter().flatten() {
        for one in tried {
            let place = place(one.start_ps);
            failed[place] += usize::from(one.failed());
            lasted[place] = lasted[place].max(one.trial.duration_s);
        }
        for start in &baseline.closed {
            failed[place(*start)] += 1;
        }
    }
    let look = |(failed, lasted): (&usize, &f64)| match (*failed, adapt.rest_per_s) {
        (all, _) if all == first.len() => Look::No,
        (0, Some(rest)) => Look::UnlessCalm(CALM * rest, crate::stretch::ps(lasted * 1.5)),
        _ => Look::Try,
    };
    failed.iter().zip(&lasted).map(look).collect()
}

impl Screening {
    fn take_in(&mut self, starts: &[Ps], (begins, ends): (Ps, Ps), done: &[(Baseline, Vec<Tried>)]) {
        let known = self.starts.len();
        self.starts
            .extend(starts.iter().map(|start| StartFigures { start_ps: *start, ..StartFigures::default() }));
        for (number, (baseline, tried)) in done.iter().enumerate() {
            let future = number as u64;
            self.simulated += baseline.simulated;
            let place = |start: Ps| starts.partition_point(|known| *known < start);
            for one in tried {
                let place = place(one.start_ps);
                let figures = &mut self.starts[known + place];
                figures.take_in(one, future);
                figures.missed_without += u64::from(one.kept_without == Some(false));
                if !one.trial.completed {
                    let end = end_in_words(&one.trial);
                    if self.ends.len() < ENDS || self.ends.contains_key(&end) {
                        *self.ends.entry(end).or_default() += 1;
                    }
                }
                // The same time without a rollout, by whole starts.
                let mut at = place;
                let end = one.start_ps + crate::stretch::ps(one.trial.duration_s);
                while let Some(latencies) = baseline.latencies.get(at)
                    && starts.get(at).is_some_and(|start| *start < end)
                {
                    figures.without.add(latencies);
                    at += 1;
                }
            }
            for start in &baseline.closed {
                let figures = &mut self.starts[known + place(*start)];
                figures.futures += 1;
                figures.closed += 1;
                figures.failed += 1;
                figures.not_completed += 1;
                figures.each.push(Outcome { future, failed: true, closed: true, ..Outcome::default() });
            }
            for start in &baseline.calm {
                self.starts[known + place(*start)].calm += 1;
            }
        }
        // The load in every future, also where nothing was tried.
        for figures in &mut self.starts[known..] {
            figures.durations_s.sort_by(f64::total_cmp);
            let lasts = figures.duration_s(0.5).map_or(1_800 * PS_PER_S, crate::stretch::ps);
            let peak = |baseline: &Baseline| baseline.peak_rate(figures.start_ps, figures.start_ps + lasts);
            figures.peaks = done.iter().map(|(baseline, _)| peak(baseline)).collect();
            for one in &mut figures.each {
                let place = usize::try_from(one.future).ok();
                one.peak_per_s = place.and_then(|place| figures.peaks.get(place)).copied().unwrap_or(0.0);
            }
        }
        let mut at = begins;
        while at < ends {
            let until = (at + RATE_SLOT_PS).min(ends);
            let rates = done.iter().map(|(baseline, _)| {
                let steps = baseline.between(at, until);
                let arrived: u64 = steps.iter().map(|step| u64::from(step.0)).sum();
                arrived as f64 / (steps.len().max(1) as f64 * 10.0)
            });
            let rates: Vec<f64> = rates.collect();
            let mean = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
            let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
            self.rates.push((
                mean,
                if least.is_finite() { least } else { 0.0 },
                rates.iter().copied().fold(0.0, f64::max),
            ));
            at = until;
        }
    }
}
