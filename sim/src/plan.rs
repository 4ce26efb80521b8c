//! The plan a scenario asks for: the same file the executor runs, without the planner's search behind it.

use slackwater_engine::Ps;
use slackwater_policy::{
    Approve, AtDeadline, CapacityRow, Compare, CompareSpec, DrainSpec, EvaluateOn, ExpectedPhases, Figure,
    GateSpec, Guard, GuardAction, Limits, OnFailure, Plan, QualitySpec, RampSpec, ReplicaSpec, RolloutSpec,
    Slo, Span, StepLimits, StrategySpec, Target, Then, Time, Window,
};
use slackwater_scenarios::rollout::AtHardLimit;
use slackwater_scenarios::{
    Approval, AtDeadline as ScenarioDeadline, Comparison, Evaluated, HumanDuration,
    OnFailure as ScenarioFailure, Place, Quality, Ramp, Scenario, StartTime, Strategy,
};

use crate::setup::SetupError;

/// The traffic's time 0 in the policy's time; the Unix epoch when it has no calendar.
pub(crate) fn epoch(epoch_ns: Option<i64>) -> Time {
    let nanos = epoch_ns.and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
    Time::ZERO + Span::from_nanos(nanos)
}

/// When the rollout begins, in picoseconds since the start of the traffic, whose time 0 is `epoch_ns`.
///
/// # Errors
/// When a calendar time is asked of traffic without a calendar, or lies before it.
pub fn start_offset_ps(start: StartTime, epoch_ns: Option<i64>) -> Result<Ps, SetupError> {
    match start {
        StartTime::After(offset) => Ok(offset.as_picos()),
        StartTime::At(time) => {
            let epoch = epoch_ns.ok_or(SetupError::NoCalendar)?;
            let nanos = u64::try_from(i128::from(time.0) - i128::from(epoch))
                .map_err(|_| SetupError::StartsTooEarly)?;
            Ok(nanos.saturating_mul(1000))
        }
    }
}

fn span(duration: HumanDuration) -> Span {
    Span::from_nanos(duration.as_nanos())
}

/// The plan of `scenario`'s rollout, beginning `start_ps` after the traffic does. `capacity` is what so many replicas
/// carry, in requests a second, where it is known; without it the scenario's own figure is used, or no gate at all.
///
/// # Errors
/// When the policy refuses such a rollout (one replica, say); the message says what to do instead.
pub fn plan_for(
    scenario: &Scenario,
    epoch_ns: Option<i64>,
    start_ps: Ps,
    capacity: &[CapacityRow],
) -> Result<Plan, SetupError> {
    crate::alone::can_roll(scenario)?;
    let asked = &scenario.rollout;
    let places = scenario.places();
    let mut plan =
        Plan::rolling(&scenario.from.name, &scenario.to.name, places.iter().map(|place| place.name.clone()));
    plan.seed = scenario.seed;
    let spec = |place: Place| {
        let Place { name, gpus, spare, beside } = place;
        ReplicaSpec { name, gpus, spare: spare && beside.is_none(), beside }
    };
    plan.replicas = places.into_iter().map(spec).collect();
    plan.strategy = strategy(scenario);
    plan.only = asked.only.clone();
    if asked.restart_only {
        plan.target = Target::Same;
        plan.to = plan.from.clone();
    }
    let expected = expected_phases(scenario);
    plan.rollout = RolloutSpec {
        move_expected: expected.whole.unwrap_or(Span::ZERO),
        soak: span(asked.soak),
        approve: match asked.approval {
            Approval::None => Approve::None,
            Approval::AfterFirst => Approve::First,
            Approval::EachMove => Approve::Each,
        },
        on_failure: match asked.on_failure {
            ScenarioFailure::Rollback => OnFailure::RollBackAll,
            ScenarioFailure::Hold => OnFailure::RollBackReplica,
        },
        bring_ups: asked.start_attempts,
        stop_grace: span(asked.stop_timeout),
        ramp: asked.ramp.as_ref().map(ramp),
        quality: asked.quality.as_ref().map(quality),
        drain: drain(scenario),
        steps: step_limits(scenario),
        ..RolloutSpec::default()
    };
    plan.expected = expected;
    plan.gate = GateSpec {
        capacity: if capacity.is_empty() { stated_capacity(scenario) } else { capacity.to_vec() },
        margin: asked.gate.margin,
        recheck: span(asked.gate.poll),
        wait_max: span(asked.gate.give_up),
    };
    plan.guards = asked
        .guard
        .max_error_share
        .map(|limit| Guard {
            figure: Figure::ErrorRate,
            limit,
            // The share is already one over a sliding time; it is looked at every 10 s.
            sustained: Span::from_secs(10),
            action: match asked.on_failure {
                ScenarioFailure::Rollback => GuardAction::RollBack,
                ScenarioFailure::Hold => GuardAction::Hold,
            },
        })
        .into_iter()
        .collect();
    plan.slo = Slo {
        ttft_s: Some(scenario.slo.ttft.as_secs_f64()),
        tpot_s: Some(scenario.slo.tpot.as_secs_f64()),
        e2e_s: scenario.slo.e2e.map(HumanDuration::as_secs_f64),
        share: Some(scenario.slo.share),
    };
    if let Some(window) = asked.window {
        let opens = epoch(epoch_ns) + Span::from_nanos(start_ps.div_ceil(1000));
        plan.windows = vec![Window::new(opens, opens + span(window))];
        for next in &asked.next_windows {
            let offset = start_offset_ps(next.start, epoch_ns)?;
            let opens = epoch(epoch_ns) + Span::from_nanos(offset.div_ceil(1000));
            plan.windows.push(Window::new(opens, opens + span(next.lasts)));
        }
    }
    plan.validate().map_err(|error| SetupError::Plan(error.to_string()))?;
    Ok(plan)
}

fn strategy(scenario: &Scenario) -> StrategySpec {
    let asked = &scenario.rollout;
    let max_unavailable = u16::try_from(asked.max_unavailable()).unwrap_or(u16::MAX);
    let order = asked.order.clone();
    let keep_old = span(asked.keep_old);
    match asked.strategy {
        Strategy::Rolling => StrategySpec::Rolling { max_unavailable, order },
        Strategy::Canary => StrategySpec::Canary {
            canary: asked.canary.clone(),
            canary_soak: span(asked.canary_soak),
            compare: asked.compare.as_ref().map(|compare| Compare::Measured(comparison(compare))),
            compare_within: span(asked.compare_within),
            max_unavailable,
            order,
        },
        Strategy::Recreate => {
            StrategySpec::Recreate { accept_downtime: asked.accept_downtime, at_once: None, order }
        }
        Strategy::Surge => StrategySpec::Surge { max_unavailable, order },
        Strategy::BlueGreen => StrategySpec::BlueGreen { keep_old },
        Strategy::Halves => StrategySpec::Halves { first: asked.first_half.clone() },
        Strategy::SideBySide => StrategySpec::SideBySide {
            pairs_at_once: u16::try_from(asked.pairs_at_once).unwrap_or(u16::MAX),
            keep_old,
            order,
        },
        Strategy::Swap => StrategySpec::Swap { max_unavailable, order },
    }
}

fn ramp(asked: &Ramp) -> RampSpec {
    let steps = u8::try_from(asked.steps).unwrap_or(u8::MAX);
    RampSpec { from: asked.from, steps, over: span(asked.over) }
}

fn quality(asked: &Quality) -> QualitySpec {
    QualitySpec {
        out_of_rotation: asked.out_of_rotation,
        live: asked.live,
        replicas: match asked.replicas {
            Evaluated::First => EvaluateOn::First,
            Evaluated::Each => EvaluateOn::Each,
        },
        command: Vec::new(),
    }
}

fn comparison(asked: &Comparison) -> CompareSpec {
    CompareSpec {
        ttft_ratio: asked.ttft_ratio,
        tpot_ratio: asked.tpot_ratio,
        error_margin: asked.error_margin,
        false_alarm: asked.false_alarm,
        warm_up: span(asked.warm_up),
        blocks_min: asked.blocks_min,
    }
}

fn drain(scenario: &Scenario) -> DrainSpec {
    let asked = &scenario.rollout;
    DrainSpec {
        timeout: span(asked.drain_timeout),
        at_deadline: match asked.at_deadline {
            ScenarioDeadline::Cut => AtDeadline::Cut,
            ScenarioDeadline::Abort => AtDeadline::Abort,
            ScenarioDeadline::Extend(extend) => AtDeadline::Extend {
                hard_limit: span(extend.to),
                then: match extend.then {
                    AtHardLimit::Cut => Then::Cut,
                    AtHardLimit::Abort => Then::Abort,
                },
            },
        },
        probe_every: span(asked.in_flight_poll),
        zeroes: asked.zero_sightings,
        ..DrainSpec::default()
    }
}

fn step_limits(scenario: &Scenario) -> StepLimits {
    let asked = &scenario.rollout;
    let defaults = StepLimits::default();
    // A reply may take as long as the polite stop plus the kill.
    let stop_reply = span(asked.stop_timeout) + defaults.stop.reply_within;
    StepLimits {
        stop: Limits { reply_within: stop_reply, ..defaults.stop },
        gpu_free: Limits { within: Some(span(asked.gpu_release_timeout)), ..defaults.gpu_free },
        health: Limits {
            within: Some(span(asked.health.timeout)),
            every: span(asked.health.interval),
            ..defaults.health
        },
        smoke: Limits {
            attempts: Some(asked.smoke.attempts),
            every: span(asked.smoke.interval),
            reply_within: span(asked.smoke.timeout),
            ..defaults.smoke
        },
        warm_up: Limits {
            attempts: Some(asked.warm_up.attempts),
            every: span(asked.warm_up.interval),
            reply_within: span(asked.warm_up.timeout),
            ..defaults.warm_up
        },
        ..defaults
    }
}

/// The capacity the scenario states, if it does: so much a replica.
fn stated_capacity(scenario: &Scenario) -> Vec<CapacityRow> {
    let Some(rate) = scenario.rollout.gate.capacity_per_replica else { return Vec::new() };
    let count = u16::try_from(scenario.fleet.replica_count()).unwrap_or(u16::MAX);
    (1..=count).map(|serving| CapacityRow { serving, rate: f64::from(serving) * rate }).collect()
}

/// What one move may take: medians of its phases, and for the whole, which the window must hold, 95 % points with the
/// longest drain.
fn expected_phases(scenario: &Scenario) -> ExpectedPhases {
    let (from, to, asked) = (&scenario.from, &scenario.to, &scenario.rollout);
    let drain = match asked.at_deadline {
        ScenarioDeadline::Extend(extend) => extend.to,
        ScenarioDeadline::Cut | ScenarioDeadline::Abort => asked.drain_timeout,
    };
    let whole =
        [drain, from.stop.p95(), from.gpu_release.p95(), to.startup.p95(), to.warm_up.p95(), asked.soak]
            .into_iter()
            .map(span)
            // Looks are not for free: poll intervals and replies add some seconds to each phase.
            .fold(Span::from_secs(15), |sum, part| sum + part);
    ExpectedPhases {
        drain: None,
        stop: Some(span(from.stop.median())),
        gpu_free: Some(span(from.gpu_release.median())),
        load: Some(span(to.startup.median())),
        warm: Some(span(to.warm_up.median())),
        whole: Some(whole),
    }
}
