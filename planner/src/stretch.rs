//! One stretch of one future: a run without a rollout, from which rollouts are forked at many starts.
//!
//! ```text
//! from ---- warm-up ----|s0---|s1---|s2--- ... --------- until       baseline: one lean world, run once
//!                        \rollout, to its end   (a fork)
//!                              \rollout ...
//! ```

use std::sync::Arc;

use slackwater_engine::{PS_PER_S, Ps};
use slackwater_policy::CapacityRow;
use slackwater_scenarios::Scenario;
use slackwater_scenarios::traffic::Traffic;
use slackwater_sim::{
    LeanLatencies, SETTLE_PS, Setup, SimError, TraceCursor, Trial, World, attainment, plan_for,
};

use crate::future::{Futures, LEAD_PS, Source};

/// A world is met in its course: so long before the first start it begins.
pub const WARM_UP_PS: Ps = LEAD_PS;
/// The same where the world is one of requests that stand alone, and only one start is of interest.
pub const SHORT_WARM_UP_PS: Ps = 300 * PS_PER_S;
/// A rollout that is not over by then is not what anybody calls a window.
pub const TRIAL_MOST_PS: Ps = 3 * 3600 * PS_PER_S;
/// Steps of the service level.
pub(crate) const STEP_PS: Ps = 10 * PS_PER_S;
/// Misses are written to their step of arrival for so long after it.
const LAG_PS: Ps = 1_800 * PS_PER_S;
/// How often a trial looks whether it is over.
const LOOK_PS: Ps = 30 * PS_PER_S;

/// A rollout tried at one start.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The start, in the horizon.
    pub start_ps: Ps,
    /// What came of it.
    pub trial: Trial,
    /// Latencies of the requests answered from its start until it was judged.
    pub latencies: LeanLatencies,
    /// Whether the same period without a rollout kept the service level; `None` where that was not looked at.
    pub kept_without: Option<bool>,
    /// Requests that missed the service level in the same period without a rollout, likewise.
    pub missed_without: Option<u64>,
}

impl Tried {
    /// Requests that missed the service level beyond those that would have missed it without a rollout (where that was looked at):
    /// a rollout that waits at its gate for an hour is not to blame for what that hour brings.
    #[must_use]
    pub fn extra_missed(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.trial.service.missed) - signed(self.missed_without.unwrap_or(0))
    }

    /// The rollout missed the service level, or did not come to its end.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.trial.service.kept || !self.trial.completed
    }
}

/// The run without a rollout over a stretch.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// (arrived, missed) in steps of 10 s from the stretch's start.
    pub steps: Vec<(u32, u32)>,
    /// Where the stretch begins, in the horizon.
    pub from_ps: Ps,
    /// Latencies by starts: between each and the next.
    pub latencies: Vec<LeanLatencies>,
    /// Starts at which the gate would never have opened.
    pub closed: Vec<Ps>,
    /// Starts that were not tried because the load was calm; see [`Look::UnlessCalm`].
    pub calm: Vec<Ps>,
    /// Requests simulated, those of forks included.
    pub simulated: u64,
}

impl Baseline {
    /// Steps from one time of the horizon to another.
    #[must_use]
    pub fn between(&self, from: Ps, until: Ps) -> &[(u32, u32)] {
        let step = |at: Ps| usize::try_from(at.saturating_sub(self.from_ps) / STEP_PS).unwrap_or(usize::MAX);
        let last = step(until + STEP_PS - 1).min(self.steps.len());
        &self.steps[step(from).min(last)..last]
    }

    /// Arrivals a second in the busiest five minutes of a time.
    #[must_use]
    pub fn peak_rate(&self, from: Ps, until: Ps) -> f64 {
        let steps = self.between(from, until);
        let width = 30.min(steps.len());
        if width == 0 {
            return 0.0;
        }
        let most =
            steps.windows(width).map(|five| five.iter().map(|step| u64::from(step.0)).sum::<u64>()).max();
        most.unwrap_or(0) as f64 / (width as f64 * 10.0)
    }
}

/// Whether a start is tried in a future.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// It is.
    Try,
    /// Unless fewer than so many requests a second arrive in the busiest five minutes of so long a time.
    UnlessCalm(f64, Ps),
    /// It is not: enough is known of it.
    No,
}

/// What is tried in a stretch.
pub struct Attempt<'a> {
    /// The scenario whose rollout it is; its traffic is not looked at.
    pub scenario: &'a Scenario,
    /// What so many replicas carry, for the policy's gate.
    pub gate: &'a [CapacityRow],
    /// Starts, in the horizon, in order.
    pub starts: &'a [Ps],
    /// What the replicas that stay carry, and how long the gate waits for the load to fall below it: where it never does in that
    /// time, the rollout can't begin, and need not be simulated. Absent: every start is.
    pub closed_above: Option<(f64, Ps)>,
    /// For each start, whether it is tried; absent: all are.
    pub looks: Option<&'a [Look]>,
    /// Whether the same period without a rollout is wanted: [`Tried::kept_without`] and the whole of the baseline.
    pub without: bool,
    /// Whether [`Trial::peaks`] are wanted.
    pub peaks: bool,
    /// A person's order, so long after the start.
    pub order: Option<(Ps, slackwater_policy::Operator)>,
}

impl<'a> Attempt<'a> {
    /// Rollouts as the scenario asks for them at these starts.
    #[must_use]
    pub fn new(scenario: &'a Scenario, gate: &'a [CapacityRow], starts: &'a [Ps]) -> Self {
        Self {
            scenario,
            gate,
            starts,
            closed_above: None,
            looks: None,
            without: true,
            peaks: false,
            order: None,
        }
    }
}

/// Runs a stretch of future number `future` and tries a rollout at each start.
///
/// # Errors
/// When the scenario can't be simulated.
pub fn run(
    futures: &Futures,
    future: u64,
    (from, until): (Ps, Ps),
    attempt: &Attempt<'_>,
) -> Result<(Baseline, Vec<Tried>), SimError> {
    let scenario = futures.scenario(attempt.scenario, future, from, until);
    if let (Source::Profile(_), [start], false, None) =
        (futures.source(), attempt.starts, attempt.without, attempt.closed_above)
    {
        return one_start(&scenario, *start, (from, until), attempt);
    }
    let trace = futures.draw(&scenario, future, from, until)?;
    let epoch_ns = trace.epoch_ns;
    let mut baseline = Baseline { from_ps: from, ..Baseline::default() };
    let load = (attempt.closed_above.is_some() || attempt.looks.is_some())
        .then(|| Load::of(&trace.arrivals, until - from));
    let wanted = wanted(attempt, load.as_ref(), from, &mut baseline);
    let Some(last_wanted) = wanted.iter().rposition(|wanted| *wanted) else {
        if let (Some(load), true) = (load, attempt.without) {
            baseline.steps = load.steps.into_iter().map(|arrived| (arrived, 0)).collect();
        }
        return Ok((baseline, Vec::new()));
    };
    let setup = Arc::new(Setup::new(&scenario)?);
    let mut world = World::lean(setup, TraceCursor::new(Arc::new(trace)))?;
    let mut tried = Vec::with_capacity(attempt.starts.len());
    let mut forgotten = 0;
    for (number, start) in attempt.starts[..=last_wanted].iter().enumerate() {
        let start_ps = start - from;
        world.run_until(start_ps)?;
        let latencies = world.take_latencies();
        if number > 0 {
            baseline.latencies.push(latencies);
        }
        let forget = start_ps.saturating_sub(LAG_PS) / STEP_PS * STEP_PS;
        if forget > forgotten {
            baseline.steps.extend(world.take_service_before(forget));
            forgotten = forget;
        }
        if !wanted[number] {
            continue;
        }
        let plan = plan_for(&scenario, epoch_ns, start_ps, attempt.gate)?;
        let mut fork = world.clone();
        if attempt.peaks {
            fork.watch_peaks();
        }
        fork.begin_rollout(plan)?;
        let trial = to_its_end(&mut fork, start_ps, until - from, attempt.order)?;
        baseline.simulated += fork.arrived() - world.arrived();
        let Some(trial) = trial else { continue };
        tried.push(Tried {
            start_ps: *start,
            trial,
            latencies: fork.take_latencies(),
            kept_without: None,
            missed_without: None,
        });
    }
    if !attempt.without {
        baseline.simulated += world.arrived();
        return Ok((baseline, tried));
    }
    // The rest of the stretch without a rollout: what the last starts are held against.
    let last = tried
        .last()
        .map_or(0, |last| last.start_ps - from + ps(last.trial.service.until_s - last.trial.begun_s));
    let starts = attempt.starts[last_wanted] - from;
    let rest = (last.max(starts) + LAG_PS).min(until - from);
    world.run_until(rest.max(world.now()))?;
    baseline.latencies.push(world.take_latencies());
    baseline.steps.extend(world.take_service_before(world.now() / STEP_PS * STEP_PS));
    baseline.simulated += world.arrived();
    // Of what was not simulated any more only the load is known.
    if let Some(load) = load {
        let rest = load.steps.iter().skip(baseline.steps.len());
        baseline.steps.extend(rest.map(|arrived| (*arrived, 0)));
    }
    for tried in &mut tried {
        let begun = tried.start_ps;
        let judged = begun + ps(tried.trial.service.until_s - tried.trial.service.from_s);
        let steps = baseline.between(begun, judged);
        let (whole, worst) = attainment(steps);
        tried.kept_without = Some(whole >= scenario.slo.share && worst >= scenario.slo.share);
        tried.missed_without = Some(steps.iter().map(|step| u64::from(step.1)).sum());
    }
    Ok((baseline, tried))
}

/// A single start of drawn traffic: nothing is forked, and no more is drawn than the rollout meets.
fn one_start(
    scenario: &Scenario,
    start: Ps,
    (from, until): (Ps, Ps),
    attempt: &Attempt<'_>,
) -> Result<(Baseline, Vec<Tried>), SimError> {
    let setup = Arc::new(Setup::new(scenario)?);
    let mut world = World::lean(setup, scenario.open_traffic()?)?;
    let epoch_ns = world.traffic().epoch_ns();
    world.run_until(start - from)?;
    let plan = plan_for(scenario, epoch_ns, start - from, attempt.gate)?;
    if attempt.peaks {
        world.watch_peaks();
    }
    world.begin_rollout(plan)?;
    let trial = to_its_end(&mut world, start - from, until - from, attempt.order)?;
    let baseline = Baseline { from_ps: from, simulated: world.arrived(), ..Baseline::default() };
    let tried = trial.map(|trial| Tried {
        start_ps: start,
        trial,
        latencies: world.take_latencies(),
        kept_without: None,
        missed_without: None,
    });
    Ok((baseline, tried.into_iter().collect()))
}

/// Lets a rollout go on until it is judged, or the traffic of the stretch is over, or it lasts too long.
fn to_its_end<T: Traffic>(
    fork: &mut World<T>,
    start: Ps,
    until: Ps,
    mut order: Option<(Ps, slackwater_policy::Operator)>,
) -> Result<Option<Trial>, SimError> {
    let last = until.min(start + TRIAL_MOST_PS);
    loop {
        let now = fork.now();
        let mut next = now + LOOK_PS;
        if let Some((after, what)) = order {
            let due = start + after;
            if now >= due {
                fork.order(what)?;
                order = None;
            } else {
                next = next.min(due);
            }
        }
        let ended = fork.run_until(next.min(last))?;
        let waited = fork.rollout_over().is_some_and(|over| fork.now() >= over + SETTLE_PS);
        if (ended && order.is_none()) || fork.now() >= last || waited || fork.is_judged() {
            return Ok(fork.trial());
        }
    }
}

/// Which starts a rollout is to be simulated at; what settles the others is written down.
fn wanted(attempt: &Attempt<'_>, load: Option<&Load>, from: Ps, baseline: &mut Baseline) -> Vec<bool> {
    let wanted = |(number, start): (usize, &Ps)| {
        let Some(load) = load else { return true };
        let at = start - from;
        let look = attempt.looks.and_then(|looks| looks.get(number)).copied().unwrap_or(Look::Try);
        if look == Look::No {
            return false;
        }
        if let Some((rate, wait)) = attempt.closed_above
            && load.least_per_s(at, at + wait).is_some_and(|least| least > rate)
        {
            baseline.closed.push(*start);
            return false;
        }
        if let Look::UnlessCalm(rate, lasts) = look
            && load.most_per_s(at, at + lasts) < rate
        {
            baseline.calm.push(*start);
            return false;
        }
        true
    };
    attempt.starts.iter().enumerate().map(wanted).collect()
}

/// Arrivals in steps of 10 s.
struct Load {
    steps: Vec<u32>,
}

impl Load {
    fn of(arrivals: &[slackwater_scenarios::traffic::Arrival], lasts: Ps) -> Self {
        let step = |at: Ps| usize::try_from(at / STEP_PS).unwrap_or(usize::MAX - 1);
        // Steps without an arrival at the end are known too, but not beyond the stretch.
        let mut steps = vec![0; step(lasts).max(arrivals.last().map_or(0, |last| step(last.at_ps) + 1))];
        for arrival in arrivals {
            steps[step(arrival.at_ps)] += 1;
        }
        Self { steps }
    }

    fn between(&self, from: Ps, until: Ps) -> &[u32] {
        let step = |at: Ps| usize::try_from(at / STEP_PS).unwrap_or(usize::MAX - 1);
        let last = (step(until) + 1).min(self.steps.len());
        &self.steps[step(from).min(last)..last]
    }

    /// Arrivals a second in the calmest minute, as the policy's gate sees them; `None` where the traffic ends before.
    fn least_per_s(&self, from: Ps, until: Ps) -> Option<f64> {
        let step = |at: Ps| usize::try_from(at / STEP_PS).unwrap_or(usize::MAX - 1);
        let steps = self.steps.get(step(from).saturating_sub(6)..=step(until))?;
        let least = steps.windows(6).map(|minute| minute.iter().sum::<u32>()).min()?;
        Some(f64::from(least) / 60.0)
    }

    /// Arrivals a second in the busiest five minutes.
    fn most_per_s(&self, from: Ps, until: Ps) -> f64 {
        let steps = self.between(from, until);
        let width = 30.min(steps.len()).max(1);
        let most = steps.windows(width).map(|five| five.iter().map(|step| u64::from(*step)).sum::<u64>());
        most.max().unwrap_or(0) as f64 / (width as f64 * 10.0)
    }
}

/// Picoseconds of a figure in seconds.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating
pub fn ps(seconds: f64) -> Ps {
    (seconds.max(0.0) * PS_PER_S as f64) as Ps
}
