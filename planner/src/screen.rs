//! Every start against some tens of futures: what is worth a closer look, and what is out of the question.

use rayon::prelude::*;
use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_sim::{LeanLatencies, SimError};

use crate::calendar::DAY_PS;
use crate::future::{Futures, LEAD_PS};
use crate::stretch::{Attempt, Baseline, TRIAL_MOST_PS, Tried, WARM_UP_PS, run};
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
    /// Of those that failed, the ones in futures of even number: half of the evidence.
    pub failed_even: u64,
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
    /// Durations, seconds, sorted.
    pub durations_s: Vec<f64>,
    /// Time below N, seconds, over all futures.
    pub below_n_s: f64,
    /// Arrivals a second in the busiest five minutes while it lasts (or would have): the mean over futures and the most.
    pub peak_rate: (f64, f64),
    /// Latencies with the rollout, from its start until it was judged.
    pub with: LeanLatencies,
    /// Latencies of the same time without it.
    pub without: LeanLatencies,
    /// How long drained replicas took until the last request was answered or cut, seconds, and whether any was cut.
    pub drains: Vec<(f64, bool)>,
}

impl StartFigures {
    fn take_in(&mut self, tried: &Tried, even: bool) {
        self.futures += 1;
        self.failed_even += u64::from(even && tried.failed());
        self.failed += u64::from(tried.failed());
        self.slo_missed += u64::from(!tried.trial.service.kept);
        self.not_completed += u64::from(!tried.trial.completed);
        self.any_cut += u64::from(tried.trial.cut > 0);
        self.cut += tried.trial.cut;
        self.missed += tried.trial.service.missed;
        self.durations_s.push(tried.trial.duration_s);
        self.below_n_s += tried.trial.below_n_s;
        self.with.add(&tried.latencies);
        for drain in &tried.trial.drains {
            let last = drain.residual_s.iter().chain(&drain.cut_after_s).copied().fold(0.0, f64::max);
            self.drains.push((last, !drain.cut_after_s.is_empty()));
        }
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
}

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
        let attempt =
            Attempt { closed_above: what.closed_above, ..Attempt::new(what.scenario, what.gate, &starts) };
        let tried: Vec<Option<(Baseline, Vec<Tried>)>> = (0..what.futures)
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
            .collect::<Result<_, SimError>>()?;
        screening.partial |= tried.iter().any(Option::is_none);
        let done: Vec<(Baseline, Vec<Tried>)> = tried.into_iter().flatten().collect();
        screening.take_in(&starts, (begins, ends), &done);
        if screening.partial {
            break;
        }
    }
    Ok(screening)
}

impl Screening {
    fn take_in(&mut self, starts: &[Ps], (begins, ends): (Ps, Ps), done: &[(Baseline, Vec<Tried>)]) {
        let known = self.starts.len();
        self.starts
            .extend(starts.iter().map(|start| StartFigures { start_ps: *start, ..StartFigures::default() }));
        for (number, (baseline, tried)) in done.iter().enumerate() {
            let even = number % 2 == 0;
            self.simulated += baseline.simulated;
            let place = |start: Ps| starts.partition_point(|known| *known < start);
            for one in tried {
                let place = place(one.start_ps);
                let figures = &mut self.starts[known + place];
                figures.take_in(one, even);
                figures.missed_without += u64::from(one.kept_without == Some(false));
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
                figures.failed_even += u64::from(even);
                figures.not_completed += 1;
            }
        }
        // The load in every future, also where nothing was tried.
        for figures in &mut self.starts[known..] {
            figures.durations_s.sort_by(f64::total_cmp);
            let lasts = figures.duration_s(0.5).map_or(1_800 * PS_PER_S, crate::stretch::ps);
            let peaks = done
                .iter()
                .map(|(baseline, _)| baseline.peak_rate(figures.start_ps, figures.start_ps + lasts));
            let peaks: Vec<f64> = peaks.collect();
            let count = peaks.len().max(1) as f64;
            figures.peak_rate =
                (peaks.iter().sum::<f64>() / count, peaks.iter().copied().fold(0.0, f64::max));
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
