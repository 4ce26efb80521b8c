//! Strategies that use places which are empty at first, and those that change how one replica is moved: what they ask of the world, in order,
//! and what becomes of them when things go wrong.

use slackwater_policy::{
    Approve, CapacityRow, EvaluateOn, Event, HoldReason, Note, OnFailure, Operator, Outcome, Phase, Plan,
    QualitySpec, RampSpec, ReplicaId, ReplicaSpec, ReplicaState, Rollout, Span, StrategySpec, VersionRef,
    Window, fold,
};

use crate::happy::plan;
use crate::strategies::{Case, only, survives_everywhere};
use crate::world::{Fate, Run, at, secs};

fn place(name: &str, beside: Option<&str>) -> ReplicaSpec {
    ReplicaSpec {
        name: name.to_owned(),
        gpus: Vec::new(),
        spare: beside.is_none(),
        beside: beside.map(str::to_owned),
    }
}

fn with_spares(replicas: usize, spares: usize, strategy: StrategySpec) -> Plan {
    let mut plan = plan(replicas);
    plan.replicas.extend((0..spares).map(|index| place(&format!("s{index}"), None)));
    plan.strategy = strategy;
    plan
}

pub(crate) fn surge(replicas: usize, spares: usize, max_unavailable: u16) -> Plan {
    with_spares(replicas, spares, StrategySpec::Surge { max_unavailable, order: Vec::new() })
}

pub(crate) fn blue_green(replicas: usize, keep_old: u64) -> Plan {
    with_spares(replicas, replicas, StrategySpec::BlueGreen { keep_old: secs(keep_old) })
}

pub(crate) fn side_by_side(replicas: usize, pairs_at_once: u16, keep_old: u64) -> Plan {
    let mut plan = plan(replicas);
    plan.replicas.extend((0..replicas).map(|index| place(&format!("t{index}"), Some(&format!("r{index}")))));
    plan.strategy = StrategySpec::SideBySide { pairs_at_once, keep_old: secs(keep_old), order: Vec::new() };
    plan
}

pub(crate) fn halves(replicas: usize) -> Plan {
    let mut plan = plan(replicas);
    plan.strategy = StrategySpec::Halves { first: Vec::new() };
    plan
}

pub(crate) fn swap(replicas: usize) -> Plan {
    let mut plan = plan(replicas);
    plan.strategy = StrategySpec::Swap { max_unavailable: 1, order: Vec::new() };
    plan
}

/// Quick in everything, without a soak.
fn quick(mut plan: Plan) -> Run {
    plan.rollout.soak = Span::ZERO;
    plan.rollout.warm_up_requests = 0;
    let mut run = Run::new(plan);
    run.world.start_takes = secs(1);
    for real in &mut run.world.real {
        real.busy_for = Span::ZERO;
    }
    run
}

fn slow(plan: Plan) -> Run {
    let mut run = Run::new(plan);
    run.world.start_takes = secs(10);
    run
}

/// What was asked of each replica, looks at health apart: "0 take out, 3 start".
fn asked(run: &Run) -> Vec<String> {
    let all = run.world.issued.iter().filter_map(|(_, command)| {
        let name = command.action.name();
        let id = command.replica?.0;
        (!matches!(name, "probe health" | "probe in-flight")).then(|| format!("{id} {name}"))
    });
    all.collect()
}

/// The parts of `words`, each a replica's commands in a row.
fn sequence(words: &[(u16, &[&str])]) -> Vec<String> {
    words.iter().flat_map(|(id, names)| names.iter().map(move |name| format!("{id} {name}"))).collect()
}

fn held(run: &Run) -> Option<HoldReason> {
    match run.rollout.phase() {
        Phase::Holding { reason, settled: true, .. } => Some(reason),
        _ => None,
    }
}

fn completed(run: &Run) -> bool {
    run.rollout.outcome() == Some(Outcome::Completed)
        && run.all_serve(VersionRef::To)
        && run.rollout.report().exceptions.is_empty()
}

fn back(run: &Run) -> bool {
    run.rollout.outcome() == Some(Outcome::RolledBack)
        && run.all_serve(VersionRef::From)
        && run.rollout.report().exceptions.is_empty()
}

fn serving_min(run: &Run) -> usize {
    fold(run.rollout.plan(), &run.records).serving_min
}

const UP: &[&str] = &["probe GPU", "start", "probe fingerprint", "smoke prompt", "admit"];
const DOWN: &[&str] = &["observe", "take out", "stop"];

fn starts(run: &Run) -> Vec<u32> {
    run.world.real.iter().map(|real| real.starts).collect()
}

#[test]
fn surge_by_one_spare() {
    let mut run = quick(surge(2, 1, 0));
    run.run();
    assert!(completed(&run), "{:#?}", run.rollout.status());
    let mut want = sequence(&[(0, &["observe"]), (1, &["observe"]), (2, &["observe", "observe"]), (2, UP)]);
    for id in [0, 1] {
        want.extend(sequence(&[(id, DOWN), (id, UP)]));
    }
    want.extend(sequence(&[(2, DOWN)]));
    assert_eq!(asked(&run), want);
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!((report.serving_min, report.time_below_n, report.cut), (2, Span::ZERO, 0));
    let legs: Vec<_> = report.moves.iter().map(|mv| (mv.replica.0, mv.leaves)).collect();
    assert_eq!(legs, [(2, false), (0, false), (1, false), (2, true)]);
    assert_eq!(run.rollout.report().empty, [ReplicaId(2)]);
}

#[test]
fn surge_moves_as_many_at_a_time_as_spares_serve() {
    for (spares, max_unavailable, at_a_time) in [(2, 0, 2), (1, 1, 2), (1, 0, 1), (3, 1, 4)] {
        let mut run = slow(surge(4, spares, max_unavailable));
        run.run();
        assert!(completed(&run));
        assert_eq!(serving_min(&run), 4 - usize::from(max_unavailable).min(at_a_time - spares));
        let moves = fold(run.rollout.plan(), &run.records).moves;
        let first = moves.iter().find(|mv| mv.replica.0 < 4).unwrap().started_at;
        let begun = moves.iter().filter(|mv| mv.started_at == first).count();
        assert_eq!(begun, at_a_time, "{spares} spares");
        let spare_serves = moves[spares - 1].ended_at.unwrap();
        assert!(first >= spare_serves, "after the spares have soaked");
    }
}

#[test]
fn a_surge_rolled_back_uses_the_spares() {
    // While they serve, after they were emptied, and before any was up.
    for (done, started) in [(1, [2, 0, 1]), (2, [2, 2, 2]), (0, [0, 0, 1])] {
        let mut run = slow(surge(2, 1, 0));
        match done {
            0 => run.run_until(|run| run.world.real[2].starts == 1),
            1 => run.run_until(|run| run.world.serves(0) && run.world.real[0].starts == 1),
            _ => run.run_until(|run| run.world.real[1].starts == 1 && run.world.real[2].process.is_none()),
        };
        run.order(Operator::Rollback).run();
        assert!(back(&run), "{:#?}", run.rollout.status());
        assert_eq!(serving_min(&run), 2);
        assert_eq!(starts(&run), started, "{done}");
    }
}

#[test]
fn a_spare_that_does_not_come_up_is_emptied_again() {
    let mut plan = surge(3, 1, 0);
    plan.rollout.steps.health.within = Some(secs(60));
    let mut run = slow(plan);
    run.world.real[3].never_healthy = Some(VersionRef::To);
    run.run();
    assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(3), .. })));
    assert!(run.world.real[3].process.is_none() && run.serving() == 3);
    assert_eq!(run.rollout.status().replicas[3].state, ReplicaState::Empty);
    run.world.real[3].never_healthy = None;
    run.order(Operator::Resume).run();
    assert!(completed(&run));
}

#[test]
fn a_spare_somebody_uses_is_named_when_it_is_not_empty_at_the_end() {
    let mut run = slow(surge(2, 1, 0));
    run.run_until(|run| run.world.serves(2));
    run.order(Operator::Abort).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Aborted));
    let report = run.rollout.report();
    let spare = report.exceptions.iter().find(|exception| exception.name == "s0").unwrap();
    assert!(spare.reason.contains("where nothing should run"), "{}", spare.reason);
    assert_eq!(spare.mend, "slackwater rollback PLAN");
}

#[test]
fn an_abort_sees_a_spare_off_that_is_leaving() {
    let mut run = slow(surge(2, 1, 0));
    run.run_until(|run| run.world.serves(1) && run.world.real[1].starts == 1);
    run.run_until(|run| !run.world.real[2].in_rotation);
    run.order(Operator::Abort).run();
    assert_eq!((run.rollout.outcome(), run.serving()), (Some(Outcome::Aborted), 2));
    assert!(run.world.real[2].process.is_none());
    assert_eq!(run.rollout.report().empty, [ReplicaId(2)]);
}

#[test]
fn side_by_side_pair_by_pair() {
    let mut run = quick(side_by_side(2, 1, 0));
    run.run();
    assert!(completed(&run), "{:#?}", run.rollout.status());
    let looks: Vec<_> = (0..4).map(|id| (id, &["observe"][..])).collect();
    let mut want = sequence(&looks);
    for (old, twin) in [(0, 2), (1, 3)] {
        want.extend(sequence(&[(twin, &["observe"]), (twin, UP), (old, DOWN)]));
    }
    assert_eq!(asked(&run), want);
    assert_eq!((serving_min(&run), starts(&run)), (2, vec![0, 0, 1, 1]));
    assert_eq!(run.rollout.report().serving, [ReplicaId(2), ReplicaId(3)]);
}

#[test]
fn a_kept_one_is_let_back_in_at_once() {
    for (kept, instant) in [(600, true), (1, false)] {
        for plan in [side_by_side(2, 2, kept), blue_green(2, kept)] {
            let mut run = slow(plan);
            run.run_until(|run| run.serving() == 4);
            run.run_until(|run| run.serving() == 2 && !run.world.real[0].in_rotation);
            let until = run.world.now + secs(90);
            run.world.schedule(until, Event::Tick);
            run.run_until(|run| run.world.now >= until);
            if !instant {
                run.run();
                assert!(completed(&run));
                continue;
            }
            assert_eq!(run.rollout.status().replicas[0].state, ReplicaState::Standby);
            run.order(Operator::Rollback);
            run.run_until(|run| run.world.serves(0) && run.world.serves(1));
            assert!(run.world.now <= until + secs(3), "only the rotation changes");
            run.run();
            assert!(back(&run), "{:#?}", run.rollout.status());
            assert_eq!((starts(&run), serving_min(&run)), (vec![0, 0, 1, 1], 2));
        }
    }
}

#[test]
fn blue_green_switches_all_at_once() {
    let mut run = quick(blue_green(2, 30));
    // One comes up much later than the other.
    run.run_until(|run| run.world.real[2].process.is_some() && run.world.real[3].process.is_some());
    run.world.real[3].ready_at = run.world.now + secs(100);
    run.run();
    assert!(completed(&run), "{:#?}", run.rollout.status());
    let times = |name: &str| {
        let asked = run.world.issued.iter().filter(|(_, command)| command.action.name() == name);
        asked.map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let (admit, out, stop) = (times("admit"), times("take out"), times("stop"));
    assert_eq!((admit.len(), out.len(), stop.len()), (2, 2, 2));
    assert_eq!(admit[0], admit[1], "together");
    assert_eq!(out[0], out[1]);
    assert!(out[0].since(admit[0]) < secs(1), "mixed for the moment of the switch");
    assert!(stop[0].since(out[0]) >= secs(30), "kept for a way back");
    assert_eq!(serving_min(&run), 2);
    assert_eq!(run.rollout.report().empty, [ReplicaId(0), ReplicaId(1)]);
}

#[test]
fn blue_green_waits_outside_when_it_holds() {
    let mut run = slow(blue_green(2, 60));
    run.run_until(|run| run.world.real[2].process.is_some());
    run.order(Operator::Pause).run();
    assert_eq!((held(&run), run.serving()), (Some(HoldReason::Operator), 2));
    let states: Vec<_> = run.rollout.status().replicas.iter().map(|replica| replica.state).collect();
    assert_eq!(states[2..], [ReplicaState::Standby; 2]);
    assert!(run.world.real[2].process.is_some() && !run.world.real[2].in_rotation);
    let mut aborted = run.clone();
    aborted.order(Operator::Abort).run();
    assert_eq!(aborted.serving(), 2);
    assert_eq!(aborted.rollout.report().exceptions.len(), 2, "what stands by is named");
    let mut undone = run.clone();
    undone.order(Operator::Rollback).run();
    assert!(back(&undone));
    run.order(Operator::Resume).run();
    assert!(completed(&run));
    assert_eq!(starts(&run), [0, 0, 1, 1], "not started again");
}

#[test]
fn one_of_blue_green_that_fails_leaves_all_old_ones_serving() {
    for on_failure in [OnFailure::RollBackReplica, OnFailure::RollBackAll, OnFailure::Park] {
        let mut plan = blue_green(2, 60);
        plan.rollout.on_failure = on_failure;
        plan.rollout.steps.health.within = Some(secs(60));
        let mut run = slow(plan);
        run.world.real[3].never_healthy = Some(VersionRef::To);
        run.run();
        assert_eq!(run.serving(), 2);
        assert!(run.world.serves(0) && run.world.serves(1));
        assert!(run.world.real.iter().skip(2).all(|real| !real.in_rotation));
        if on_failure == OnFailure::RollBackAll {
            assert!(back(&run));
            continue;
        }
        run.world.real[3].never_healthy = None;
        run.order(Operator::Resume).run();
        assert!(completed(&run), "{:#?}", run.rollout.status());
    }
}

#[test]
fn halves_switch_at_once_and_never_serve_below_the_other_half() {
    let mut run = slow(halves(5));
    run.run();
    assert!(completed(&run));
    assert_eq!(serving_min(&run), 2);
    let times = |name: &str| {
        let asked = run.world.issued.iter().filter(|(_, command)| command.action.name() == name);
        asked.map(|(at, command)| (*at, command.replica.unwrap().0)).collect::<Vec<_>>()
    };
    let (admit, out) = (times("admit"), times("take out"));
    assert_eq!(out.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(out[0].0 == out[2].0 && out[3].0 == out[4].0);
    assert!(admit[0].0 == admit[2].0 && admit[3].0 == admit[4].0);
    assert!(out[3].0 > admit[2].0 && out[3].0.since(admit[2].0) < secs(1));
}

#[test]
fn halves_ask_whether_the_other_half_carries_the_load() {
    let mut plan = halves(4);
    plan.gate.capacity = vec![CapacityRow { serving: 2, rate: 20.0 }, CapacityRow { serving: 3, rate: 30.0 }];
    let mut run = slow(plan);
    run.world.load = 25.0;
    run.run();
    assert!(matches!(held(&run), Some(HoldReason::Gate { .. })));
    assert!(run.all_serve(VersionRef::From) && !asked(&run).iter().any(|asked| asked.contains("take out")));
    run.world.load = 15.0;
    run.order(Operator::Resume).run();
    assert!(completed(&run));
}

#[test]
fn a_named_half() {
    let mut plan = halves(3);
    plan.strategy = StrategySpec::Halves { first: vec!["r2".to_owned()] };
    let mut run = slow(plan);
    run.run();
    assert!(completed(&run));
    let moves = fold(run.rollout.plan(), &run.records).moves;
    assert_eq!(moves.iter().map(|mv| mv.replica.0).collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(serving_min(&run), 1);
}

#[test]
fn a_swap_keeps_the_process() {
    let mut run = quick(swap(2));
    run.run();
    assert!(completed(&run));
    let one = &["observe", "take out", "swap", "probe fingerprint", "smoke prompt", "admit"];
    let want = sequence(&[(0, &["observe"]), (1, &["observe"]), (0, one), (1, one)]);
    assert_eq!(asked(&run), want);
    assert_eq!(starts(&run), [0, 0]);
    // Going back they are swapped too.
    let mut undone = slow(swap(3));
    undone.run_until(|run| run.world.serves(0) && run.world.real[0].process == Some(VersionRef::To));
    undone.order(Operator::Rollback).run();
    assert!(back(&undone));
    assert_eq!(starts(&undone), [0, 0, 0]);
}

#[test]
fn a_swap_that_fails_goes_back_by_a_full_stop_and_start() {
    for wrong in [false, true] {
        let mut run = slow(swap(3));
        if wrong {
            run.world.real[0].smoke_fails = Some(VersionRef::To);
        } else {
            run.world.real[0].swap_fails = true;
        }
        run.run();
        assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(0), .. })));
        assert!(run.all_serve(VersionRef::From));
        assert_eq!(starts(&run), [1, 0, 0]);
        let swaps = asked(&run).iter().filter(|asked| asked.ends_with("swap")).count();
        assert_eq!(swaps, 1, "never twice");
    }
    // One that is down has nothing to swap.
    let mut down = slow(swap(3));
    down.world.real[1].process = None;
    down.run();
    assert!(completed(&down));
    assert_eq!(starts(&down), [0, 1, 0]);
}

fn weights(run: &Run, replica: u16) -> Vec<(Span, Option<u8>)> {
    let admits = run.world.issued.iter().filter_map(|(at, command)| match command.action {
        slackwater_policy::Action::Admit { weight } if command.replica == Some(ReplicaId(replica)) => {
            Some((*at, weight))
        }
        _ => None,
    });
    let all: Vec<_> = admits.collect();
    all.iter().map(|(at, weight)| (at.since(all[0].0), *weight)).collect()
}

fn ramped(mut plan: Plan) -> Plan {
    plan.rollout.ramp = Some(RampSpec { from: 20, steps: 4, over: secs(60) });
    plan
}

#[test]
fn a_ramp_gives_all_of_the_weight_by_and_by() {
    let mut run = slow(ramped(plan(2)));
    run.run();
    assert!(completed(&run));
    let tenth = Span::from_millis(100);
    let want: Vec<_> =
        (0_u8..5).map(|step| ((secs(15) + tenth).times(u64::from(step)), Some(20 + 20 * step))).collect();
    assert_eq!(weights(&run, 0), want);
    let mv = &fold(run.rollout.plan(), &run.records).moves[0];
    assert_eq!(
        mv.ended_at.unwrap().since(mv.admitted_at.unwrap()),
        secs(120) + tenth.times(4),
        "then the soak"
    );
}

#[test]
fn a_balancer_without_weights_gives_all_at_once() {
    let mut run = slow(ramped(plan(2)));
    run.world.weights_work = false;
    run.run();
    assert!(completed(&run));
    assert_eq!(weights(&run, 0).iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [Some(20), None]);
    let skipped = fold(run.rollout.plan(), &run.records)
        .notes
        .iter()
        .filter(|timed| matches!(timed.note, Note::RampSkipped { .. }))
        .count();
    assert_eq!(skipped, 2);
}

#[test]
fn a_ramp_is_cut_short_by_an_order_and_not_made_on_the_way_back() {
    let mut run = slow(ramped(plan(2)));
    run.run_until(|run| run.world.real[0].weight == 40);
    let mut aborted = run.clone();
    aborted.order(Operator::Abort).run();
    assert_eq!((aborted.world.real[0].weight, aborted.serving()), (100, 2));
    run.order(Operator::Rollback).run();
    assert!(back(&run));
    assert_eq!(weights(&run, 0).last().unwrap().1, None);
}

fn judged(mut plan: Plan, live: bool, replicas: EvaluateOn) -> Plan {
    plan.rollout.quality =
        Some(QualitySpec { out_of_rotation: !live, live, replicas, command: vec!["./judge".to_owned()] });
    plan
}

fn evaluations(run: &Run) -> Vec<u16> {
    let all = run.world.issued.iter().filter(|(_, command)| command.action.name().starts_with("evaluate"));
    all.map(|(_, command)| command.replica.unwrap().0).collect()
}

#[test]
fn the_evaluation_is_asked_of_the_first_or_of_each() {
    for live in [false, true] {
        for (replicas, want) in [(EvaluateOn::First, vec![0]), (EvaluateOn::Each, vec![0, 1, 2])] {
            let mut plan = judged(plan(3), live, replicas);
            plan.strategy = StrategySpec::Rolling { max_unavailable: 2, order: Vec::new() };
            let mut run = slow(plan);
            run.run();
            assert!(completed(&run));
            assert_eq!(evaluations(&run), want);
            let order: Vec<_> = asked(&run).into_iter().filter(|asked| asked.starts_with("0 ")).collect();
            let at = |name: &str| order.iter().position(|asked| asked == &format!("0 {name}")).unwrap();
            let evaluated = if live { at("evaluate live") } else { at("evaluate") };
            assert!(evaluated > at("warm up") && (evaluated > at("admit")) == live);
        }
    }
}

#[test]
fn a_version_found_wanting_is_taken_back() {
    let plans = [plan(3), surge(3, 1, 0), blue_green(3, 600), side_by_side(3, 1, 600), halves(3), swap(3)];
    for plan in plans {
        for live in [false, true] {
            for on_failure in [OnFailure::RollBackReplica, OnFailure::RollBackAll, OnFailure::Park] {
                let mut plan = judged(plan.clone(), live, EvaluateOn::Each);
                plan.rollout.on_failure = on_failure;
                let mut run = slow(plan);
                for real in &mut run.world.real {
                    real.evaluation_fails = Some((VersionRef::To, live));
                }
                run.run();
                let what = format!("{live} {on_failure:?} {:#?}", run.rollout.status());
                let parks = on_failure == OnFailure::Park && !live;
                assert!(parks || run.serving() >= 3, "{what}");
                let wanting = run
                    .world
                    .real
                    .iter()
                    .filter(|real| real.in_rotation && real.process == Some(VersionRef::To));
                if on_failure == OnFailure::RollBackAll || run.rollout.outcome().is_some() {
                    assert!(back(&run), "{what}");
                } else {
                    assert!(matches!(held(&run), Some(HoldReason::MoveFailed { .. })), "{what}");
                    let halves = matches!(run.rollout.plan().strategy, StrategySpec::Halves { .. });
                    assert!(wanting.count() == 0 || (halves && live), "{what}");
                }
                run.order(Operator::Rollback).run();
                assert!(back(&run), "{:#?}", run.rollout.status());
                let toward = run
                    .world
                    .issued
                    .iter()
                    .filter(|(_, command)| command.action.name().starts_with("evaluate"));
                assert!(toward.count() <= 6);
            }
        }
    }
}

#[test]
fn each_survives_everywhere() {
    let plans = [
        surge(2, 1, 0),
        surge(3, 2, 1),
        blue_green(2, 30),
        side_by_side(2, 1, 30),
        side_by_side(3, 2, 0),
        only(side_by_side(2, 1, 30), &["r1"]),
        halves(3),
        halves(2),
        swap(3),
        judged(ramped(plan(3)), true, EvaluateOn::First),
        judged(ramped(blue_green(2, 5)), false, EvaluateOn::Each),
    ];
    for plan in plans {
        survives_everywhere(&Case {
            done: if plan.only.is_empty() {
                completed
            } else {
                |run| run.rollout.outcome() == Some(Outcome::Completed)
            },
            plan,
            back,
        });
    }
}

#[test]
fn a_window_that_closes_mid_way_holds_at_n_and_goes_on_in_the_next() {
    for plan in [surge(3, 1, 0), side_by_side(3, 1, 30), halves(4), blue_green(2, 30)] {
        let mut plan = plan;
        plan.rollout.move_expected = secs(150);
        plan.windows = vec![Window::new(at(100), at(260)), Window::new(at(2_000), at(9_000))];
        let mut run = slow(plan);
        run.world.schedule(at(1_500), Event::Tick);
        run.run_until(|run| run.world.now >= at(1_500));
        let n = run.rollout.plan().count();
        if run.rollout.outcome().is_none() {
            let Phase::Holding { reason, settled, until, .. } = run.rollout.phase() else {
                panic!("{:#?}", run.rollout.status())
            };
            assert_eq!((reason, settled, until), (HoldReason::Window, true, Some(at(2_000))));
            assert!(run.serving() >= n);
        }
        run.run();
        assert!(completed(&run), "{:#?}", run.rollout.status());
    }
}

#[test]
fn approvals_of_those_that_go_together_and_of_pairs() {
    for (plan, approve, asked) in [
        (blue_green(2, 0), Approve::Each, 1),
        (halves(4), Approve::Each, 2),
        (side_by_side(2, 1, 0), Approve::Each, 2),
        (side_by_side(3, 1, 0), Approve::First, 1),
        (surge(2, 1, 0), Approve::Each, 3),
        (surge(2, 1, 0), Approve::First, 1),
    ] {
        let mut plan = plan;
        plan.rollout.approve = approve;
        let mut run = slow(plan);
        let mut given = 0;
        while run.run().rollout.outcome().is_none() {
            assert_eq!(held(&run), Some(HoldReason::Approval));
            assert!(run.serving() >= run.rollout.plan().count());
            run.order(Operator::Approve);
            given += 1;
        }
        assert_eq!((completed(&run), given), (true, asked), "{:?}", run.rollout.plan().strategy);
    }
}

#[test]
fn a_twin_that_dies_while_the_old_one_leaves_lets_it_back_in() {
    for plan in [side_by_side(2, 1, 60), blue_green(2, 60)] {
        let mut run = slow(plan);
        run.world.real[0].busy_for = secs(30);
        run.run_until(|run| run.world.serves(2) && !run.world.real[0].in_rotation);
        let down = run.world.crash(2);
        run.tell(down, &mut |_| Fate::Usual);
        run.run();
        assert!(completed(&run), "{:#?}", run.rollout.status());
        assert_eq!(starts(&run)[2], 2);
    }
}

#[test]
fn what_stands_by_is_let_back_in_when_a_hold_misses_it() {
    let mut plan = side_by_side(2, 1, 10_000);
    plan.rollout.steps.health.within = Some(secs(60));
    plan.rollout.revivals = 0;
    let mut run = slow(plan);
    run.run_until(|run| run.rollout.status().replicas[0].state == ReplicaState::Standby);
    run.world.real[2].never_healthy = Some(VersionRef::To);
    let down = run.world.crash(2);
    run.tell(down, &mut |_| Fate::Usual);
    run.run();
    assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(2), .. })));
    assert!(run.world.serves(0) && run.serving() == 2, "{:#?}", run.rollout.status());
}

#[test]
fn the_executor_dies_after_the_places_have_changed() {
    for plan in [surge(2, 1, 0), side_by_side(2, 1, 600), blue_green(2, 600)] {
        let mut run = slow(plan);
        run.step();
        while !run.rollout.rests() {
            // A fresh rollout, without its journal: it has only what it sees.
            let mut lost = run.clone();
            lost.world.clear_queue();
            lost.rollout = Rollout::new(run.rollout.plan().clone()).unwrap();
            (lost.records, lost.recorder) = (Vec::new(), slackwater_policy::Recorder::new());
            lost.tell(Event::Start, &mut |_| Fate::Usual);
            lost.run();
            assert!(completed(&lost), "{:#?}", lost.rollout.status());
            assert!(run.step());
        }
    }
}

#[test]
fn what_is_refused() {
    let refused = |plan: Plan, words: &str| {
        let error = plan.validate().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(surge(3, 0, 0), "with `surge` at least one with spare = true");
    refused(surge(3, 1, 3), "strategy.max_unavailable is 3; expected 0, or fewer");
    let mut rolling = surge(3, 1, 0);
    rolling.strategy = StrategySpec::default();
    refused(rolling, "replicas is 1 spare and 0 beside another; expected none of these with this strategy");
    let mut few = blue_green(3, 0);
    few.replicas.truncate(5);
    refused(few, "as many with spare = true as without");
    refused(
        only(blue_green(2, 0), &["r1"]),
        "only is r1; expected nothing, as blue-green switches all at once",
    );
    let mut missing = side_by_side(3, 1, 0);
    missing.replicas.truncate(5);
    refused(missing, "with `side_by_side` one beside each replica");
    let mut nobody = side_by_side(2, 1, 0);
    nobody.replicas[2].beside = Some("r9".to_owned());
    refused(nobody, "replicas[2].beside is r9; expected the name of a replica in the plan");
    let mut same = side_by_side(2, 1, 0);
    same.replicas[3].beside = Some("r0".to_owned());
    refused(same, "one twin a replica");
    let mut chain = side_by_side(2, 1, 0);
    chain.replicas[3].beside = Some("t0".to_owned());
    refused(chain, "replicas[3].beside is t0; expected a replica that is not spare itself");
    let mut gpus = side_by_side(2, 1, 0);
    gpus.replicas[3].gpus = vec![7];
    refused(gpus, "replicas[3].gpus is [7]; expected the GPUs of the replica it is beside");
    refused(side_by_side(2, 3, 0), "strategy.pairs_at_once is 3; expected 1 to the number of pairs");
    refused(only(surge(3, 1, 0), &["s0"]), "only is s0; expected names of replicas that are not spare");
    let mut first = blue_green(2, 0);
    first.rollout.approve = Approve::First;
    refused(first, "rollout.approve is first; expected `each`");
    let mut all = halves(3);
    all.strategy = StrategySpec::Halves { first: ["r0", "r1", "r2"].map(str::to_owned).to_vec() };
    refused(all, "strategy.first is a half of 3 of 3 replicas");
    let mut drill = swap(2);
    drill.target = slackwater_policy::Target::Same;
    drill.to.name.clone_from(&drill.from.name);
    refused(drill, "target is same; expected `new`");
    let mut both = ramped(plan(2));
    both.rollout.admit_weight = Some(50);
    refused(both, "rollout.admit_weight is 50; expected nothing, as rollout.ramp says");
    let mut steep = ramped(plan(2));
    steep.rollout.ramp = Some(RampSpec { from: 100, steps: 1, over: secs(1) });
    refused(steep, "rollout.ramp.from is 100; expected 1 to 99 percent");
    let mut idle = judged(plan(2), false, EvaluateOn::Each);
    idle.rollout.quality = idle.rollout.quality.map(|spec| QualitySpec { out_of_rotation: false, ..spec });
    refused(idle, "rollout.quality is neither out_of_rotation nor live");
}

#[test]
fn the_keys() {
    let text = r#"
        schema = "slackwater.plan/1"
        from.name = "llama-3.1"
        to.name = "llama-3.3"
        replicas = [{ name = "r0", gpus = [0] }, { name = "r1", gpus = [1] }, { name = "t0", beside = "r0" }, { name = "t1", beside = "r1" }]
        strategy = { kind = "side_by_side", keep_old = "15m" }
        [rollout]
        ramp = { from = 20, steps = 4, over = "60s" }
        quality = { out_of_rotation = true, replicas = "first", command = ["python", "judge.py"] }
    "#;
    let twins: Plan = toml::from_str(text).unwrap();
    twins.validate().unwrap();
    assert_eq!((twins.count(), twins.partner(ReplicaId(3))), (2, Some(ReplicaId(1))));
    let spares = text.replace("beside = \"r0\"", "spare = true").replace("beside = \"r1\"", "spare = true");
    let strategies = [
        (text.to_owned(), "kind = \"side_by_side\", keep_old = \"15m\""),
        (spares.clone(), "kind = \"surge\""),
        (spares, "kind = \"blue_green\""),
        (
            text.replace(", beside = \"r0\"", "").replace(", beside = \"r1\"", ""),
            "kind = \"halves\", first = [\"r1\", \"t1\"]",
        ),
        (text.replace(", beside = \"r0\"", "").replace(", beside = \"r1\"", ""), "kind = \"swap\""),
    ];
    for (text, strategy) in strategies {
        let text = text.replace("kind = \"side_by_side\", keep_old = \"15m\"", strategy);
        let plan: Plan = toml::from_str(&text).unwrap();
        plan.validate().unwrap();
        assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}

/// Found by the simulator's swarm: whoever watches over a dead process brings it back, unless it is told to stop.
#[test]
fn a_kept_one_that_dies_by_itself_is_told_to_stop_before_it_counts_as_empty() {
    let told = |run: &Run| asked(run).iter().filter(|said| *said == "0 stop").count();
    for noticed in [true, false] {
        let mut run = slow(side_by_side(2, 1, 300));
        run.run_until(|run| run.rollout.status().replicas[0].state == ReplicaState::Standby);
        assert_eq!(told(&run), 0);
        let down = run.world.crash(0);
        if noticed {
            run.tell(down, &mut |_| Fate::Usual);
        } else {
            // Or a restart finds it dead.
            run.restart();
        }
        run.run();
        assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
        assert_eq!(told(&run), 1, "{:?}", asked(&run));
    }
}
