//! Lean worlds, for planners: the same events and the same verdict, with books small enough to fork a world every few
//! simulated minutes, and an outcome in place of a whole result.

use std::sync::Arc;

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_scenarios::traffic::Traffic;

use crate::bins::LatencyBins;
use crate::books::{ServiceBucket, TICK_PS, seconds};
use crate::driver::RolloutState;
use crate::reach::EngineReach;
use crate::result::ServiceVerdict;
use crate::setup::Setup;
use crate::world::{RunOptions, SimError, World};

/// Latencies of requests answered whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeanLatencies {
    /// Time to first token.
    pub ttft: LatencyBins,
    /// Time per output token after the first.
    pub tpot: LatencyBins,
}

impl LeanLatencies {
    /// Takes in all of another.
    pub fn add(&mut self, other: &Self) {
        self.ttft.add(&other.ttft);
        self.tpot.add(&other.tpot);
    }
}

/// The largest values that guarded figures came to at any tick since the rollout's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Peaks {
    /// Median time to first token of 10 s, seconds.
    pub ttft_p50_s: f64,
    /// 99th percentile of it.
    pub ttft_p99_s: f64,
    /// Median time per output token of 10 s, seconds.
    pub tpot_p50_s: f64,
    /// 99th percentile of it.
    pub tpot_p99_s: f64,
    /// Requests waiting, over all replicas.
    pub queue: u64,
}

/// One drain of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainTrial {
    /// Its replica's index.
    pub replica: u16,
    /// Seconds since the start of the traffic.
    pub from_s: f64,
    /// How long each request that was in flight went on until it was answered, seconds; in the order of their ends.
    pub residual_s: Vec<f64>,
    /// After how long each of those that were cut was cut, seconds.
    pub cut_after_s: Vec<f64>,
}

/// What one rollout in one future came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Every replica serves the new version, and the rollout says it is done.
    pub completed: bool,
    /// How it stands, in words.
    pub outcome: String,
    /// Why it went back, where it did.
    pub why_back: Option<String>,
    /// When it began, seconds since the start of the traffic.
    pub begun_s: f64,
    /// From its start to its end (or to where it came to hold, or to where the trial stopped), seconds.
    pub duration_s: f64,
    /// Of that, time with fewer than all replicas in rotation.
    pub below_n_s: f64,
    /// The service level from its start until the service was back to its baseline.
    pub service: ServiceVerdict,
    /// Attempts ended by a stop, since its start.
    pub cut: u64,
    /// Attempts that failed otherwise, since its start.
    pub failed: u64,
    /// Share of the sessions judged that were answered by both versions; `None` where the traffic has no sessions.
    pub saw_both_share: Option<f64>,
    /// Its drains.
    pub drains: Vec<DrainTrial>,
    /// Largest values of what guards watch, where the plan has any guard or [`World::watch_peaks`] was called.
    pub peaks: Peaks,
    /// What the engines were given since its start, against what their profiles were measured on; empty without calibrations.
    pub reach: Vec<EngineReach>,
}

impl<T: Traffic> World<T> {
    /// A world with lean books: no phases, no rows, no series, and no [`finish`](Self::finish) (it would find nothing to
    /// report); [`trial`](Self::trial) says what came of a rollout. Everything else happens exactly as in any other world.
    ///
    /// # Errors
    /// As [`World::new`].
    pub fn lean(setup: Arc<Setup>, traffic: T) -> Result<Self, SimError> {
        let mut world = Self::new(setup, traffic, RunOptions { series: false, rows: false })?;
        world.books.lean = Some(Box::default());
        Ok(world)
    }

    /// Writes down [`Trial::peaks`] also where the plan guards nothing.
    pub fn watch_peaks(&mut self) {
        self.books.peaks_wanted = true;
    }

    /// Latencies of the requests answered since this was asked last (or since judging began); lean worlds only.
    pub fn take_latencies(&mut self) -> LeanLatencies {
        self.books.lean.as_deref_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The same without taking them.
    #[must_use]
    pub fn latencies(&self) -> Option<&LeanLatencies> {
        self.books.lean.as_deref()
    }

    /// Moves what is known of arrivals and misses before `at`, in steps of 10 s, out of the world, so that forks need not
    /// copy it: (arrived, missed) of each step since this was asked last. A request that ends later and arrived before `at`
    /// counts in the first step that is kept, so leave requests time to end, and the last minute, which the
    /// policy's gate looks at. The verdict can't look further back.
    pub fn take_service_before(&mut self, at: Ps) -> Vec<(u32, u32)> {
        self.books.service.forget_before(at).iter().map(|bucket| (bucket.arrived, bucket.missed)).collect()
    }

    /// Whether everything is known of the period that a rollout is judged by: it is over, no request waits in a queue
    /// since, and every request that arrived before that has ended.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        let settled = self.driver.as_ref().and_then(|driver| driver.settled);
        self.finished
            || settled.is_some_and(|settled| self.requests.open().all(|open| open.arrived >= settled))
    }

    /// When the rollout ended or came to hold for a person.
    #[must_use]
    pub fn rollout_over(&self) -> Option<Ps> {
        self.driver.as_ref().and_then(|driver| driver.over)
    }

    /// What the rollout came to, as far as the world has run; `None` without one. Requests that are still open and arrived in
    /// the judged period count as missed.
    #[must_use]
    pub fn trial(&self) -> Option<Trial> {
        let driver = self.driver.as_ref()?;
        let end = driver.over.unwrap_or(self.end());
        let below_now = driver.below_since.map_or(0, |since| end.saturating_sub(since));
        let outcome = driver.outcome();
        let until = self.judged_until();
        let mut service = self.verdict(Some(until));
        let open = self.requests.open().filter(|request| request.arrived < until).count() as u64;
        if open > 0 {
            // Where they would have fallen is not known; one more miss in the worst five minutes is the least they are.
            service.missed += open;
            service.attainment = share(service.arrived.saturating_sub(service.missed), service.arrived);
            service.worst_5min_attainment = service.worst_5min_attainment.min(service.attainment);
            service.kept &= service.attainment >= self.setup.scenario.slo.share;
        }
        let attempts = &self.books.attempts;
        let [cut_before, failed_before] = self.books.failures_before;
        let drains = driver.drains.iter().map(|drain| DrainTrial {
            replica: drain.replica,
            from_s: seconds(drain.from),
            residual_s: drain.residual.iter().copied().map(seconds).collect(),
            cut_after_s: drain.cut_after.iter().copied().map(seconds).collect(),
        });
        Some(Trial {
            completed: driver.state() == RolloutState::Ended && outcome == "completed",
            outcome,
            why_back: driver.why_back(),
            begun_s: seconds(driver.begun),
            duration_s: seconds(end - driver.begun),
            below_n_s: seconds(driver.below_n + below_now),
            service,
            cut: attempts.cut - cut_before,
            failed: attempts.timed_out + attempts.rejected - failed_before,
            saw_both_share: self.setup.sessions.as_ref().map(|_| {
                let mixed = self.sessions.tally(driver.settled.is_some()).mixed;
                if mixed.judged == 0 { 0.0 } else { share(mixed.saw_both, mixed.judged) }
            }),
            drains: drains.collect(),
            peaks: self.books.peaks,
            reach: self.engine_reach(),
        })
    }
}

/// How the service level was met over steps of 10 s ([`World::take_service_before`]): attainment as a whole, and in the
/// worst five minutes. Of nothing, everything is well.
#[must_use]
pub fn attainment(steps: &[(u32, u32)]) -> (f64, f64) {
    let met = |steps: &[(u32, u32)]| {
        let (arrived, missed) = steps.iter().fold((0_u64, 0_u64), |(arrived, missed), step| {
            (arrived + u64::from(step.0), missed + u64::from(step.1))
        });
        share(arrived.saturating_sub(missed), arrived)
    };
    let whole = met(steps);
    let window = crate::summary::WINDOW_TICKS.min(steps.len()).max(1);
    (whole, steps.windows(window).map(met).fold(whole, f64::min))
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Arrivals and misses since the start of the traffic, in steps of 10 s; the first ones may have been taken out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    /// Steps taken out.
    gone: usize,
    buckets: Vec<ServiceBucket>,
}

impl Service {
    /// The step of this time, or the first one kept.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // 10 s buckets of a 213-day clock
    pub(crate) fn at(&mut self, at: Ps) -> &mut ServiceBucket {
        let bucket = ((at / TICK_PS) as usize).saturating_sub(self.gone);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, ServiceBucket::default());
        }
        &mut self.buckets[bucket]
    }

    pub(crate) fn get(&self, number: usize) -> Option<&ServiceBucket> {
        self.buckets.get(number.checked_sub(self.gone)?)
    }

    /// Steps that there are, those taken out included.
    pub(crate) fn len(&self) -> usize {
        self.gone + self.buckets.len()
    }

    /// Those from the `first` to before the `last`, as far as they are kept.
    pub(crate) fn range(&self, first: usize, last: usize) -> &[ServiceBucket] {
        let end = last.saturating_sub(self.gone).min(self.buckets.len());
        &self.buckets[first.saturating_sub(self.gone).min(end)..end]
    }

    #[allow(clippy::cast_possible_truncation)] // 10 s buckets of a 213-day clock
    fn forget_before(&mut self, at: Ps) -> Vec<ServiceBucket> {
        let count = ((at / TICK_PS) as usize).saturating_sub(self.gone);
        if count > self.buckets.len() {
            self.buckets.resize(count, ServiceBucket::default());
        }
        self.gone += count;
        self.buckets.drain(..count).collect()
    }
}

/// So long after its end a rollout that leaves a queue behind is given to be judged by a trial.
pub const SETTLE_PS: Ps = 900 * PS_PER_S;
