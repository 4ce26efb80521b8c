//! Random worlds: faults, lost, late, doubled and contradictory replies, crashes, restarts and a person's orders at any time.
//!
//! Safety is asserted by the policy itself on every command. What is checked here: it always ends or holds, within a bounded number of
//! events; nobody is left unnamed; and once everything is mended, a rollback brings everybody back.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use slackwater_policy::{
    Approve, AtDeadline, Block, CapacityRow, Compare, CompareSpec, EvaluateOn, Event, Exception, Figure,
    Guard, GuardAction, OnFailure, Operator, Outcome, Plan, QualitySpec, RampSpec, ReplicaId, ReplicaSpec,
    Reply, Rollout, Span, StrategySpec, Target, Then, Verdict, VersionRef, Window,
};

use crate::happy::plan;
use crate::world::{Fate, Run, T0, at, secs};

#[derive(Clone, Debug)]
enum Happening {
    Crash(u16),
    CrashUntold(u16),
    SaysDown(u16),
    SaysUp(u16),
    Order(Operator),
    /// The executor restarts; replies on their way are lost or not.
    Restart(bool),
    /// As `Restart`, and the rollout is rebuilt from its journal.
    Replay,
    ClockBack,
    Bogus(u64),
    Slow(f64),
    Errors(f64),
    Load(f64),
    Compared(Verdict),
    Fault(u16, Fault),
    TimePasses(u64),
}

#[derive(Clone, Debug)]
enum Fault {
    NeverHealthy(VersionRef),
    StuckGauge,
    Lingers,
    WrongVersion,
    SmokeFails,
    NoUndo,
    AdmitFails,
    TakeOutFails,
    LongStreams,
    SwapFails,
    Wanting(VersionRef, bool),
    NoWeights,
    Mended,
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::NeverHealthy(VersionRef::To)),
        Just(Fault::NeverHealthy(VersionRef::From)),
        Just(Fault::StuckGauge),
        Just(Fault::Lingers),
        Just(Fault::WrongVersion),
        Just(Fault::SmokeFails),
        Just(Fault::NoUndo),
        Just(Fault::AdmitFails),
        Just(Fault::TakeOutFails),
        Just(Fault::LongStreams),
        Just(Fault::SwapFails),
        Just(Fault::NoWeights),
        any::<bool>().prop_map(|live| Fault::Wanting(VersionRef::To, live)),
        Just(Fault::Mended),
    ]
}

fn orders() -> impl Strategy<Value = Operator> {
    prop_oneof![
        3 => Just(Operator::Pause),
        4 => Just(Operator::Resume),
        2 => Just(Operator::Approve),
        1 => Just(Operator::Abort),
        1 => Just(Operator::Rollback),
    ]
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![4 => Just(Verdict::Pass), 1 => Just(Verdict::Fail), 2 => Just(Verdict::Undecided)]
}

fn happenings() -> impl Strategy<Value = Happening> {
    let replica = 0_u16..8;
    prop_oneof![
        3 => replica.clone().prop_map(Happening::Crash),
        1 => replica.clone().prop_map(Happening::CrashUntold),
        1 => replica.clone().prop_map(Happening::SaysDown),
        2 => replica.clone().prop_map(Happening::SaysUp),
        6 => orders().prop_map(Happening::Order),
        3 => any::<bool>().prop_map(Happening::Restart),
        2 => Just(Happening::Replay),
        1 => Just(Happening::ClockBack),
        1 => (0_u64..200).prop_map(Happening::Bogus),
        1 => (0.0..5.0).prop_map(Happening::Slow),
        1 => (0.0..1.0).prop_map(Happening::Errors),
        1 => (0.0..40.0).prop_map(Happening::Load),
        2 => verdicts().prop_map(Happening::Compared),
        4 => (replica, faults()).prop_map(|(replica, fault)| Happening::Fault(replica, fault)),
        2 => (1_u64..400).prop_map(Happening::TimePasses),
    ]
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Usual),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Never),
        1 => (1_u64..200).prop_map(|late| Fate::Late(secs(late))),
        1 => (0_u64..100).prop_map(|late| Fate::Twice(secs(late))),
        1 => Just(Fate::Instead(Reply::Healthy)),
        1 => Just(Fate::Instead(Reply::Admitted)),
        1 => any::<bool>().prop_map(|retryable| Fate::Instead(Reply::Failed { reason: "chance".to_owned(), retryable })),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let deadlines = prop_oneof![
        Just(AtDeadline::Cut),
        Just(AtDeadline::Abort),
        Just(AtDeadline::Extend { hard_limit: secs(60), then: Then::Cut }),
        Just(AtDeadline::Extend { hard_limit: secs(60), then: Then::Abort }),
    ];
    let failures =
        prop_oneof![Just(OnFailure::RollBackReplica), Just(OnFailure::RollBackAll), Just(OnFailure::Park)];
    let approvals =
        prop_oneof![4 => Just(Approve::None), 1 => Just(Approve::First), 1 => Just(Approve::Each)];
    let numbers = (2_usize..5, 1_u16..4, 0_u64..2, 1_u32..3, 0_u32..3);
    (numbers, deadlines, failures, approvals, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(
            (replicas, k, soak, bring_ups, revivals),
            at_deadline,
            on_failure,
            approve,
            windows,
            guards,
            gated,
        )| {
            let mut plan = plan(replicas);
            let most = u16::try_from(replicas - 1).unwrap();
            plan.strategy =
                StrategySpec::Rolling { max_unavailable: k.min(most), order: vec!["r1".to_owned()] };
            let rollout = &mut plan.rollout;
            rollout.soak = secs(20 * soak);
            (rollout.bring_ups, rollout.revivals) = (bring_ups, revivals);
            (rollout.drain.timeout, rollout.drain.at_deadline) = (secs(30), at_deadline);
            (rollout.on_failure, rollout.approve, rollout.rollback_gated) = (on_failure, approve, gated);
            rollout.steps.health.within = Some(secs(120));
            rollout.steps.gpu_free.within = Some(secs(20));
            plan.gate.wait_max = secs(120);
            if gated {
                plan.gate.capacity =
                    vec![CapacityRow { serving: 1, rate: 8.0 }, CapacityRow { serving: 2, rate: 16.0 }];
            }
            if windows {
                rollout.move_expected = secs(150);
                plan.windows = vec![
                    Window::new(at(50), at(450)),
                    Window::new(at(900), at(1_500)),
                    Window::new(at(5_000), at(9_000)),
                ];
            }
            if guards {
                let guard = |figure, limit, action| Guard { figure, limit, sustained: secs(5), action };
                plan.guards = vec![
                    guard(Figure::TtftP99, 2.0, GuardAction::Hold),
                    guard(Figure::ErrorRate, 0.2, GuardAction::RollBack),
                ];
            }
            plan
        },
    )
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Rolling,
    Recreate { single: bool, at_once: Option<u16> },
    Canary { named: bool, compare: Option<bool> },
    Surge { spares: usize, max_unavailable: u16 },
    BlueGreen { keep_old: u64 },
    SideBySide { pairs_at_once: u16, keep_old: u64 },
    Halves { named: bool },
    Swap,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let chunks = (prop::bool::weighted(0.2), prop::option::of(1_u16..5));
    prop_oneof![
        2 => Just(Kind::Rolling),
        1 => any::<(bool, Option<bool>)>().prop_map(|(named, compare)| Kind::Canary { named, compare }),
        1 => chunks.prop_map(|(single, at_once)| Kind::Recreate { single, at_once }),
        2 => (1_usize..4, 0_u16..3).prop_map(|(spares, max_unavailable)| Kind::Surge { spares, max_unavailable }),
        2 => prop_oneof![Just(0_u64), Just(60), Just(900)].prop_map(|keep_old| Kind::BlueGreen { keep_old }),
        2 => (1_u16..4, prop_oneof![Just(0_u64), Just(60), Just(900)])
            .prop_map(|(pairs_at_once, keep_old)| Kind::SideBySide { pairs_at_once, keep_old }),
        2 => any::<bool>().prop_map(|named| Kind::Halves { named }),
        1 => Just(Kind::Swap),
    ]
}

/// Changes a rolling plan into one of this kind.
fn set_strategy(plan: &mut Plan, kind: Kind) {
    match kind {
        Kind::Rolling => {}
        Kind::Canary { named, compare } => {
            let max_unavailable = u16::try_from(plan.strategy.max_unavailable()).unwrap();
            plan.strategy = StrategySpec::Canary {
                canary: named.then(|| "r0".to_owned()),
                canary_soak: secs(90),
                compare: compare.map(|told| match told {
                    true => Compare::Told,
                    false => Compare::Measured(CompareSpec {
                        warm_up: secs(10),
                        blocks_min: 2,
                        false_alarm: 0.3,
                        ..CompareSpec::default()
                    }),
                }),
                compare_within: secs(300),
                max_unavailable,
                order: vec!["r1".to_owned()],
            };
        }
        Kind::Surge { spares, max_unavailable } => {
            let most = u16::try_from(plan.replicas.len() - 1).unwrap();
            let max_unavailable = max_unavailable.min(most);
            add_spares(plan, spares);
            plan.strategy = StrategySpec::Surge { max_unavailable, order: vec!["r1".to_owned()] };
        }
        Kind::BlueGreen { keep_old } => {
            add_spares(plan, plan.replicas.len());
            plan.strategy = StrategySpec::BlueGreen { keep_old: secs(keep_old) };
        }
        Kind::SideBySide { pairs_at_once, keep_old } => {
            let pairs = plan.replicas.len();
            let pairs_at_once = pairs_at_once.min(u16::try_from(pairs).unwrap());
            add_spares(plan, pairs);
            for index in 0..pairs {
                plan.replicas[pairs + index].beside = Some(format!("r{index}"));
            }
            let order = vec!["r1".to_owned()];
            plan.strategy = StrategySpec::SideBySide { pairs_at_once, keep_old: secs(keep_old), order };
        }
        Kind::Halves { named } => {
            let first = if named { vec!["r1".to_owned()] } else { Vec::new() };
            plan.strategy = StrategySpec::Halves { first };
        }
        Kind::Swap => {
            let max_unavailable = u16::try_from(plan.strategy.max_unavailable()).unwrap();
            plan.strategy = StrategySpec::Swap { max_unavailable, order: vec!["r1".to_owned()] };
        }
        Kind::Recreate { single, at_once } => {
            if single {
                plan.replicas.truncate(1);
            }
            let count = u16::try_from(plan.replicas.len()).unwrap();
            let at_once = at_once.map(|k| k.min(count));
            let order = if single { Vec::new() } else { vec!["r1".to_owned()] };
            plan.strategy = StrategySpec::Recreate { accept_downtime: true, at_once, order };
            if plan.rollout.approve == Approve::First && at_once.is_none_or(|k| k == count) {
                plan.rollout.approve = Approve::Each;
            }
        }
    }
}

fn add_spares(plan: &mut Plan, spares: usize) {
    for index in 0..spares {
        plan.replicas.push(ReplicaSpec {
            name: format!("s{index}"),
            gpus: Vec::new(),
            spare: true,
            beside: None,
        });
    }
}

fn qualities() -> impl Strategy<Value = Option<QualitySpec>> {
    let asked = (1_u8..4, any::<bool>()).prop_map(|(when, first)| QualitySpec {
        out_of_rotation: when & 1 != 0,
        live: when & 2 != 0,
        replicas: if first { EvaluateOn::First } else { EvaluateOn::Each },
        command: Vec::new(),
    });
    prop_oneof![2 => Just(None), 1 => asked.prop_map(Some)]
}

/// Any strategy's plan: a drill or not, of all replicas or some, evaluated and ramped or not.
fn any_plans() -> impl Strategy<Value = Plan> {
    let some = prop::collection::vec(any::<bool>(), 5);
    let named = prop_oneof![3 => Just(None), 1 => some.prop_map(Some)];
    let ramps = prop_oneof![
        2 => Just(None),
        1 => (1_u8..100, 1_u8..5).prop_map(|(from, steps)| Some(RampSpec { from, steps, over: secs(40) })),
    ];
    (plans(), kinds(), prop::bool::weighted(0.25), named, qualities(), ramps).prop_map(
        |(mut plan, kind, drill, named, quality, ramp)| {
            set_strategy(&mut plan, kind);
            (plan.rollout.quality, plan.rollout.ramp) = (quality, ramp);
            let in_place = plan.count() == plan.replicas.len();
            if drill && in_place && !matches!(plan.strategy, StrategySpec::Swap { .. }) {
                plan.target = Target::Same;
                plan.to.name.clone_from(&plan.from.name);
            }
            let named = named.filter(|_| !matches!(kind, Kind::BlueGreen { .. })).unwrap_or_default();
            let chosen = plan.replicas.iter().zip(named);
            let chosen = chosen.filter(|(replica, chosen)| *chosen && !replica.is_spare());
            plan.only = chosen.map(|(replica, _)| replica.name.clone()).collect();
            allow(&mut plan);
            plan
        },
    )
}

/// Takes out of a drawn plan what it may not have.
fn allow(plan: &mut Plan) {
    let only = plan.only.clone();
    let moved = |name: &String| only.is_empty() || only.contains(name);
    match &mut plan.strategy {
        StrategySpec::Canary { canary, order, .. } => {
            *canary = canary.take().filter(moved);
            order.retain(moved);
        }
        StrategySpec::Rolling { order, .. }
        | StrategySpec::Recreate { order, .. }
        | StrategySpec::Surge { order, .. }
        | StrategySpec::SideBySide { order, .. }
        | StrategySpec::Swap { order, .. } => order.retain(moved),
        StrategySpec::Halves { first } => first.retain(moved),
        StrategySpec::BlueGreen { .. } => {}
        _ => unreachable!("a strategy these plans do not draw"),
    }
    let together = matches!(plan.strategy, StrategySpec::BlueGreen { .. } | StrategySpec::Halves { .. });
    if together && plan.rollout.approve == Approve::First {
        plan.rollout.approve = Approve::Each;
    }
    if let (StrategySpec::Recreate { .. }, Some(quality)) = (&plan.strategy, &mut plan.rollout.quality) {
        quality.replicas = EvaluateOn::Each;
    }
    plan.validate().unwrap();
}

fn apply(run: &mut Run, happening: &Happening, untold: &mut [bool]) {
    let count = u16::try_from(run.world.real.len()).unwrap();
    let usual = &mut |_: &slackwater_policy::Command| Fate::Usual;
    match happening {
        Happening::Crash(id) => {
            let down = run.world.crash(id % count);
            run.tell(down, usual);
        }
        Happening::CrashUntold(id) => {
            run.world.real[usize::from(id % count)].process = None;
            untold[usize::from(id % count)] = true;
        }
        Happening::SaysDown(id) => {
            run.tell(Event::ReplicaDown { replica: ReplicaId(*id), reason: "says who".to_owned() }, usual);
        }
        Happening::SaysUp(id) => run.tell(Event::ReplicaUp { replica: ReplicaId(*id) }, usual),
        Happening::Order(order) => run.tell(Event::Operator(*order), usual),
        Happening::Restart(lost) => {
            if *lost {
                run.world.clear_queue();
            }
            run.tell(Event::Recovered, usual);
        }
        Happening::Replay => {
            let replayed = Rollout::replay(run.rollout.plan().clone(), &run.records).unwrap();
            assert!(run.records.is_empty() || replayed.status() == run.rollout.status());
            run.rollout = replayed;
            run.tell(Event::Recovered, usual);
        }
        Happening::ClockBack => {
            let now = run.world.now;
            run.world.now = T0;
            run.tell(Event::Tick, usual);
            run.world.now = now;
        }
        Happening::Bogus(id) => {
            let id = slackwater_policy::CommandId(*id);
            run.tell(Event::Outcome { id, outcome: Reply::Stopped { cut: 1 } }, usual);
        }
        Happening::Slow(value) => run.tell(Event::Figure { figure: Figure::TtftP99, value: *value }, usual),
        Happening::Errors(value) => {
            run.tell(Event::Figure { figure: Figure::ErrorRate, value: *value }, usual);
        }
        Happening::Compared(verdict) => {
            let told = Event::Comparison { verdict: *verdict };
            run.tell(told, usual);
            // The same word by evidence, for plans that go by it.
            let share = match verdict {
                Verdict::Pass => 0.4,
                Verdict::Fail => 1.0,
                Verdict::Undecided => 0.5,
            };
            for _ in 0..2 {
                let block = Block { ttft: Some(share), tpot: None, errors: Some(0.0) };
                run.tell(Event::Evidence { block }, usual);
            }
        }
        Happening::Load(rate) => run.world.load = *rate,
        Happening::Fault(id, fault) => {
            let real = &mut run.world.real[usize::from(id % count)];
            untold[usize::from(id % count)] |= matches!(fault, Fault::NeverHealthy(_));
            match fault {
                Fault::NeverHealthy(version) => real.never_healthy = Some(*version),
                Fault::StuckGauge => real.stuck_gauge = Some(3),
                Fault::Lingers => real.gpu_lingers = true,
                Fault::WrongVersion => real.wrong_version = true,
                Fault::SmokeFails => real.smoke_fails = Some(VersionRef::To),
                Fault::NoUndo => real.undo_ready = false,
                Fault::AdmitFails => real.admit_fails = true,
                Fault::TakeOutFails => real.take_out_fails = true,
                Fault::LongStreams => real.busy_for = secs(500),
                Fault::SwapFails => real.swap_fails = true,
                Fault::Wanting(version, live) => real.evaluation_fails = Some((*version, *live)),
                Fault::NoWeights => run.world.weights_work = false,
                Fault::Mended => mend(run, usize::from(id % count)),
            }
        }
        Happening::TimePasses(seconds) => {
            let until = run.world.now + Span::from_secs(*seconds);
            run.world.schedule(until, Event::Tick);
            for _ in 0..10_000 {
                if run.world.now >= until || !run.step() {
                    break;
                }
            }
        }
    }
}

fn mend(run: &mut Run, id: usize) {
    let real = &mut run.world.real[id];
    (real.never_healthy, real.stuck_gauge, real.smoke_fails) = (None, None, None);
    (real.gpu_lingers, real.wrong_version, real.admit_fails, real.take_out_fails) =
        (false, false, false, false);
    (real.swap_fails, real.evaluation_fails) = (false, None);
    real.undo_ready = true;
    (real.busy_for, real.busy_until) = (secs(10), T0);
}

/// Condition 6 against the world as it really is.
fn nobody_is_unnamed(run: &Run, untold: &[bool]) {
    let report = run.rollout.report();
    for (id, untold) in untold.iter().enumerate() {
        let named = report.exceptions.iter().any(|exception| exception.replica.index() == id);
        let plan = run.rollout.plan();
        let right = plan.is_drill() || run.world.real[id].process == Some(report.version);
        let serves = run.world.serves(id) && right;
        let empty = report.empty.iter().any(|empty| empty.index() == id);
        let empty = empty && run.world.real[id].process.is_none() && !run.world.real[id].in_rotation;
        assert!(
            named || serves || empty || *untold,
            "r{id} is neither right nor named: {report:#?} {:#?}",
            run.world.real[id]
        );
    }
}

/// With everything mended a person who only ever says go on brings it to its end: it never holds for nothing.
fn on_it_goes(mut run: Run) {
    // Each hold is for an approval, the window, the gate, or one of the replicas.
    for _ in 0..40 {
        if run.rollout.outcome().is_some() {
            break;
        }
        run.order(Operator::Resume).run();
    }
    let outcome = run.rollout.outcome();
    assert!(outcome.is_some(), "{:#?}", run.rollout.status());
    let untold = vec![false; run.world.real.len()];
    nobody_is_unnamed(&run, &untold);
    let report = run.rollout.report();
    let alone = |exception: &Exception| !run.rollout.plan().moves(exception.replica);
    let wrong = report.exceptions.iter().filter(|exception| !alone(exception)).count();
    assert!(outcome == Some(Outcome::Aborted) || wrong == 0, "{report:#?}");
}

fn survives(plan: Plan, fates: &[Fate], happenings: &[(u8, Happening)]) {
    let mut run = Run::new(plan);
    let mut untold = vec![false; run.world.real.len()];
    let mut turn = 0;
    for (steps, happening) in happenings {
        for _ in 0..*steps {
            let alive = run.step_with(&mut |_| {
                turn += 1;
                fates[turn % fates.len()].clone()
            });
            if !alive {
                break;
            }
        }
        if run.rollout.outcome().is_some() {
            break;
        }
        apply(&mut run, happening, &mut untold);
    }
    // From here on every reply comes. What is broken stays broken, and still it ends or holds.
    run.run();
    if !run.records.is_empty() {
        nobody_is_unnamed(&run, &untold);
        let replayed = Rollout::replay(run.rollout.plan().clone(), &run.records).unwrap();
        assert_eq!(replayed, run.rollout);
    }
    if run.rollout.outcome().is_some() {
        return;
    }
    run.world.load = 1.0;
    // Everything is mended, and whoever crashed unseen is seen.
    for (id, untold) in untold.iter_mut().enumerate() {
        mend(&mut run, id);
        *untold = false;
        if !run.rollout.plan().moves(ReplicaId(u16::try_from(id).unwrap())) {
            // One that is left alone is mended by somebody else.
            let plan = run.rollout.plan();
            run.world.real[id].process = (!plan.replicas[id].is_spare()).then_some(VersionRef::From);
        }
    }
    run.restart().run();
    on_it_goes(run.clone());
    run.order(Operator::Rollback).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack), "{:#?}", run.rollout.status());
    let plan = run.rollout.plan();
    for id in 0..run.world.real.len() {
        let process = run.world.real[id].process;
        if plan.replicas[id].is_spare() {
            assert!(process.is_none() && !run.world.real[id].in_rotation, "empty again");
        } else if plan.moves(ReplicaId(u16::try_from(id).unwrap())) {
            assert!(run.world.serves(id) && (plan.is_drill() || process == Some(VersionRef::From)));
        } else {
            assert_eq!(run.world.real[id].starts, 0, "left alone");
        }
    }
    nobody_is_unnamed(&run, &untold);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/proptest-regressions/it.txt"
        )))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_world_is_survived(
        plan in any_plans(),
        fates in prop::collection::vec(fates(), 1..30),
        happenings in prop::collection::vec((0_u8..60, happenings()), 0..20),
    ) {
        survives(plan, &fates, &happenings);
    }
}
