//! What is explored. A further strategy is a further entry here, and what it changes of the conditions in `conditions.rs`.

use slackwater_policy::{
    Approve, AtDeadline, CapacityRow, Compare, CompareSpec, EvaluateOn, GateSpec, Limits, OnFailure, Plan,
    QualitySpec, RampSpec, ReplicaSpec, Span, StepLimits, StrategySpec, Target, Then, Window,
};

use crate::model::{Bounds, Fault, Setup, T0, orders};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Its name.
    pub name: &'static str,
    /// How many replicas.
    pub replicas: u16,
    /// The plan and the faults.
    pub setup: Setup,
    /// The bounds of the usual tests.
    pub usual: &'static [Bounds],
    /// The bounds of the long run.
    pub long: &'static [Bounds],
}

impl Configuration {
    /// The setup with these bounds.
    pub fn with(&self, bounds: Bounds) -> Setup {
        Setup { bounds, ..self.setup.clone() }
    }
}

/// Bounds, in the order in which the table names them.
pub const fn bounds(faults: u8, orders: u8, crashes: u8) -> Bounds {
    Bounds { faults, orders, crashes }
}

const SECOND: Span = Span::from_secs(1);

/// A plan with few different times, all small, so that the states are few: everything is tried twice, a second apart.
pub fn plan(replicas: u16) -> Plan {
    let names = (0..replicas).map(|id| format!("r{id}"));
    let mut plan = Plan::rolling("old", "new", names);
    let tried = Limits { attempts: Some(2), within: None, every: SECOND, reply_within: SECOND };
    plan.rollout.steps = StepLimits {
        observe: tried,
        take_out: tried,
        in_flight: tried,
        cut: tried,
        stop: tried,
        gpu_free: tried,
        start: tried,
        health: tried,
        identity: tried,
        smoke: tried,
        warm_up: tried,
        admit: tried,
        swap: tried,
        evaluate: tried,
        load: tried,
    };
    plan.rollout.stop_grace = Span::from_millis(500);
    plan.rollout.soak = SECOND;
    plan.rollout.warm_up_requests = 0;
    plan.rollout.bring_ups = 1;
    plan.rollout.drain.timeout = SECOND.times(3);
    plan.rollout.drain.believe_after = SECOND.times(2);
    plan.gate = GateSpec { recheck: SECOND, wait_max: SECOND.times(2), ..GateSpec::default() };
    plan
}

fn changed(replicas: u16, change: impl FnOnce(&mut Plan)) -> Setup {
    let mut plan = plan(replicas);
    change(&mut plan);
    Setup { orders: orders(&plan), plan, faults: Fault::ALL.to_vec(), bounds: bounds(0, 0, 0) }
}

fn canary(compare: Option<Compare>) -> StrategySpec {
    StrategySpec::Canary {
        canary: None,
        canary_soak: SECOND.times(2),
        compare,
        compare_within: SECOND,
        max_unavailable: 1,
        order: Vec::new(),
    }
}

fn recreate(at_once: Option<u16>) -> StrategySpec {
    StrategySpec::Recreate { accept_downtime: true, at_once, order: Vec::new() }
}

/// Spare places behind the replicas, each beside the one of its number or for itself.
fn with_spares(replicas: u16, spares: u16, beside: bool, strategy: StrategySpec) -> Setup {
    changed(replicas, |plan| {
        plan.strategy = strategy;
        plan.replicas.extend((0..spares).map(|id| ReplicaSpec {
            name: format!("s{id}"),
            gpus: Vec::new(),
            spare: !beside,
            beside: beside.then(|| format!("r{id}")),
        }));
    })
}

fn judged(replicas: EvaluateOn, live: bool) -> Setup {
    changed(2, |plan| {
        let command = vec!["evaluate".to_owned()];
        plan.rollout.quality = Some(QualitySpec { out_of_rotation: true, live, replicas, command });
    })
}

/// All of them.
pub fn configurations() -> Vec<Configuration> {
    let mut all = Vec::new();
    let mut add = |name, setup: Setup, usual, long| {
        let replicas = u16::try_from(setup.plan.count()).expect("a handful");
        all.push(Configuration { name, replicas, setup, usual, long });
    };
    add("rolling", changed(2, |_| {}), USUAL_2, LONG_ALL);
    add(
        "rolling, roll back all, two bring-ups",
        changed(2, |plan| {
            plan.rollout.on_failure = OnFailure::RollBackAll;
            plan.rollout.bring_ups = 2;
        }),
        USUAL_2,
        LONG_2,
    );
    add(
        "rolling, drain aborted, park",
        changed(2, |plan| {
            plan.rollout.on_failure = OnFailure::Park;
            plan.rollout.drain.at_deadline =
                AtDeadline::Extend { hard_limit: SECOND.times(4), then: Then::Abort };
        }),
        USUAL_SMALL,
        LONG_2,
    );
    add(
        "rolling, window",
        changed(2, |plan| {
            let second = |second| T0 + SECOND.times(second);
            plan.rollout.move_expected = SECOND.times(2);
            plan.windows = vec![Window::new(T0, second(600)), Window::new(second(1_200), second(1_800))];
        }),
        USUAL_SMALL,
        LONG_2,
    );
    add(
        "rolling, capacity, approve first",
        changed(2, |plan| {
            plan.rollout.approve = Approve::First;
            plan.gate.capacity = vec![CapacityRow { serving: 1, rate: 10.0 }];
        }),
        USUAL_SMALL,
        LONG_2,
    );
    add("canary", changed(2, |plan| plan.strategy = canary(None)), USUAL_SMALL, LONG_2);
    add(
        "canary, compared",
        changed(2, |plan| plan.strategy = canary(Some(Compare::Told))),
        USUAL_SMALL,
        LONG_2,
    );
    add("recreate", changed(2, |plan| plan.strategy = recreate(None)), USUAL_SMALL, LONG_TOGETHER);
    add(
        "drill",
        changed(2, |plan| {
            plan.target = Target::Same;
            plan.to = plan.from.clone();
        }),
        USUAL_SMALL,
        LONG_2,
    );
    let measured = CompareSpec { false_alarm: 0.5, warm_up: SECOND, blocks_min: 1, ..CompareSpec::default() };
    add(
        "canary, measured",
        changed(2, |plan| plan.strategy = canary(Some(Compare::Measured(measured)))),
        USUAL_MEASURED,
        LONG_2,
    );
    let order = Vec::new;
    let keep_old = SECOND.times(2);
    add(
        "surge, one spare",
        with_spares(2, 1, false, StrategySpec::Surge { max_unavailable: 0, order: order() }),
        USUAL_SMALL,
        LONG_2,
    );
    add(
        "side by side",
        with_spares(2, 2, true, StrategySpec::SideBySide { pairs_at_once: 1, keep_old, order: order() }),
        USUAL_SMALL,
        LONG_PAIRS,
    );
    add(
        "blue-green",
        with_spares(2, 2, false, StrategySpec::BlueGreen { keep_old }),
        USUAL_SMALL,
        LONG_TOGETHER,
    );
    let halves = || StrategySpec::Halves { first: Vec::new() };
    add("halves", changed(2, |plan| plan.strategy = halves()), USUAL_SMALL, LONG_2);
    add(
        "swap",
        changed(2, |plan| plan.strategy = StrategySpec::Swap { max_unavailable: 1, order: order() }),
        USUAL_SMALL,
        LONG_2,
    );
    add("rolling, first evaluated", judged(EvaluateOn::First, true), USUAL_SMALL, LONG_2);
    add("rolling, each evaluated", judged(EvaluateOn::Each, true), USUAL_SMALL, LONG_2);
    add(
        "rolling, ramp",
        changed(2, |plan| plan.rollout.ramp = Some(RampSpec { from: 50, steps: 2, over: SECOND.times(2) })),
        USUAL_SMALL,
        LONG_2,
    );
    add("rolling", changed(3, |_| {}), USUAL_3, LONG_3);
    add(
        "rolling, two at once",
        changed(3, |plan| {
            plan.strategy = StrategySpec::Rolling { max_unavailable: 2, order: Vec::new() };
        }),
        USUAL_3,
        LONG_TOGETHER,
    );
    add("canary, then the others", changed(3, |plan| plan.strategy = canary(None)), USUAL_3, LONG_3);
    add(
        "recreate, two at once",
        changed(3, |plan| plan.strategy = recreate(Some(2))),
        USUAL_3,
        LONG_TOGETHER,
    );
    add(
        "only two of three",
        changed(3, |plan| plan.only = vec!["r0".to_owned(), "r2".to_owned()]),
        USUAL_3,
        LONG_3,
    );
    add("halves, of three", changed(3, |plan| plan.strategy = halves()), USUAL_4, LONG_TOGETHER);
    add("rolling", changed(4, |_| {}), USUAL_4, LONG_4);
    all
}

const USUAL_2: &[Bounds] = &[bounds(1, 0, 1), bounds(1, 1, 0), bounds(0, 1, 1)];
const USUAL_SMALL: &[Bounds] = &[bounds(1, 0, 0), bounds(0, 1, 0), bounds(0, 0, 1)];
const USUAL_MEASURED: &[Bounds] = &[bounds(1, 0, 0), bounds(0, 3, 0), bounds(0, 1, 1)];
const USUAL_3: &[Bounds] = &[bounds(1, 0, 0), bounds(0, 1, 0)];
const USUAL_4: &[Bounds] = &[bounds(0, 1, 0)];
const LONG_ALL: &[Bounds] = &[bounds(2, 0, 0), bounds(0, 2, 0), bounds(1, 1, 1)];
const LONG_2: &[Bounds] = &[bounds(1, 0, 1), bounds(1, 1, 0), bounds(0, 1, 1), bounds(2, 0, 0)];
const LONG_PAIRS: &[Bounds] = &[bounds(0, 1, 1), bounds(1, 1, 0), bounds(1, 0, 1), bounds(2, 0, 0)];
const LONG_TOGETHER: &[Bounds] = &[bounds(1, 0, 0), bounds(0, 1, 1)];
const LONG_3: &[Bounds] = &[bounds(1, 0, 1), bounds(1, 1, 0)];
const LONG_4: &[Bounds] = &[bounds(1, 0, 0), bounds(0, 1, 1)];
