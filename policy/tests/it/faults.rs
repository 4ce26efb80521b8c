//! One thing goes wrong; what becomes of it, by script.

use slackwater_policy::{
    Approve, AtDeadline, CapacityRow, Event, Figure, Guard, GuardAction, HoldReason, MoveResult, Note,
    OnFailure, Operator, Outcome, Phase, ReplicaId, ReplicaState, Source, StrategySpec, Then, VersionRef,
    Window, fold,
};

use crate::happy::plan;
use crate::world::{Fate, Run, T0, at, secs};

fn hold(run: &Run) -> HoldReason {
    match run.rollout.phase() {
        Phase::Holding { reason, settled: true, .. } => reason,
        other => panic!("does not hold: {other:?}"),
    }
}

fn notes(run: &Run) -> Vec<Note> {
    let report = fold(run.rollout.plan(), &run.records);
    report.notes.into_iter().map(|timed| timed.note).collect()
}

fn asked(run: &Run, replica: u16, name: &str) -> usize {
    let to = Some(ReplicaId(replica));
    run.world
        .issued
        .iter()
        .filter(|(_, command)| command.replica == to && command.action.name() == name)
        .count()
}

#[test]
fn a_drain_that_times_out_is_cut_and_counted() {
    for cut_works in [true, false] {
        let mut run = Run::new(plan(3));
        run.world.real[0].busy_for = secs(1_000);
        run.world.cut_works = cut_works;
        run.run();
        assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
        let report = fold(run.rollout.plan(), &run.records);
        assert_eq!((report.cut, report.moves[0].cut), (1, 1), "by the balancer or else by the stop");
        assert!(report.moves[0].drain_timed_out);
        let waited = report.moves[0].drained_at.unwrap().since(report.moves[0].confirmed_out_at.unwrap());
        assert!(waited >= secs(120) && waited < secs(122), "{waited}");
    }
}

#[test]
fn a_drain_is_extended_to_its_hard_limit() {
    let mut long = plan(3);
    long.rollout.drain.at_deadline = AtDeadline::Extend { hard_limit: secs(300), then: Then::Cut };
    let mut run = Run::new(long);
    run.world.real[0].busy_for = secs(200);
    run.world.real[1].busy_for = secs(1_000);
    run.run();
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!((report.moves[0].cut, report.moves[1].cut), (0, 1));
    assert!(!report.moves[0].drain_timed_out && report.moves[1].drain_timed_out);
    assert!(report.moves[1].drain().unwrap() >= secs(300));
}

#[test]
fn a_drain_that_is_aborted_puts_the_replica_back_and_holds() {
    for at_deadline in [AtDeadline::Abort, AtDeadline::Extend { hard_limit: secs(300), then: Then::Abort }] {
        let mut abort = plan(3);
        abort.rollout.drain.at_deadline = at_deadline;
        let mut run = Run::new(abort);
        run.world.real[0].busy_for = secs(1_000);
        run.run();
        assert_eq!(hold(&run), HoldReason::DrainTimedOut { replica: ReplicaId(0) });
        assert!(run.all_serve(VersionRef::From), "all N serve");
        assert_eq!(asked(&run, 0, "stop"), 0);
    }
}

#[test]
fn a_stuck_gauge_does_not_block_for_ever() {
    let mut run = Run::new(plan(3));
    run.world.real[0].stuck_gauge = Some(3);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let believed = Note::Believed { replica: ReplicaId(0), source: Source::Balancer, other: Some(3) };
    assert!(notes(&run).contains(&believed));
    assert_eq!(fold(run.rollout.plan(), &run.records).cut, 0);
}

#[test]
fn a_version_that_is_never_healthy_is_tried_again_then_undone() {
    for (on_failure, version) in [
        (OnFailure::RollBackReplica, Some(VersionRef::From)),
        (OnFailure::Park, Some(VersionRef::To)),
        (OnFailure::RollBackAll, Some(VersionRef::From)),
    ] {
        let mut plan = plan(3);
        plan.rollout.on_failure = on_failure;
        plan.rollout.steps.health.within = Some(secs(100));
        let mut run = Run::new(plan);
        run.world.real[1].never_healthy = Some(VersionRef::To);
        run.run();
        let report = fold(run.rollout.plan(), &run.records);
        assert_eq!(report.moves[1].attempts, 2, "bring_ups");
        assert_eq!(run.world.real[1].process, version);
        match on_failure {
            OnFailure::RollBackAll => {
                assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
                assert!(run.all_serve(VersionRef::From));
            }
            OnFailure::RollBackReplica => {
                assert!(matches!(hold(&run), HoldReason::MoveFailed { replica: ReplicaId(1), .. }));
                assert_eq!(run.serving(), 3, "hold means N");
                assert!(matches!(report.moves[1].result, Some(MoveResult::Undone { .. })));
            }
            OnFailure::Park => {
                assert!(matches!(hold(&run), HoldReason::MoveFailed { replica: ReplicaId(1), .. }));
                let report = run.rollout.report();
                let parked = report.exceptions.iter().find(|exception| exception.name == "r1").unwrap();
                assert_eq!(parked.state, ReplicaState::Parked);
                assert!(parked.reason.contains("still loading"), "{}", parked.reason);
                // Mended by a person, it is tried again.
                run.world.real[1].never_healthy = None;
                run.order(Operator::Resume).run();
                assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
            }
        }
    }
}

#[test]
fn the_wrong_version_is_not_admitted() {
    let mut run = Run::new(plan(3));
    run.run_until(|run| asked(run, 0, "start") == 1);
    run.world.real[0].wrong_version = true;
    run.run_until(|run| asked(run, 0, "probe fingerprint") == 1);
    run.world.real[0].wrong_version = false;
    run.run();
    assert!(matches!(hold(&run), HoldReason::MoveFailed { .. }));
    assert!(run.all_serve(VersionRef::From));
}

#[test]
fn gpu_memory_that_lingers_parks_the_replica_and_names_the_holder() {
    let mut all_back = plan(3);
    all_back.rollout.on_failure = OnFailure::RollBackAll;
    let mut run = Run::new(all_back);
    run.world.real[0].gpu_lingers = true;
    run.run();
    assert!(
        matches!(hold(&run), HoldReason::MoveFailed { .. }),
        "not the version's fault: no rollback of all"
    );
    let report = run.rollout.report();
    assert_eq!(report.exceptions[0].state, ReplicaState::Parked);
    assert!(report.exceptions[0].reason.contains("PID 4711"), "{}", report.exceptions[0].reason);
    assert_eq!(asked(&run, 0, "start"), 0);
    run.world.real[0].gpu_lingers = false;
    run.order(Operator::Rollback).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
    assert!(run.all_serve(VersionRef::From));
}

#[test]
fn a_balancer_that_does_not_confirm_leaves_the_replica_in_service() {
    let mut run = Run::new(plan(3));
    run.world.real[0].take_out_fails = true;
    run.run();
    assert!(matches!(hold(&run), HoldReason::MoveFailed { .. }));
    assert!(run.all_serve(VersionRef::From));
}

#[test]
fn a_guard_breach_holds_at_n() {
    let mut guarded = plan(4);
    let guard = |figure, action| Guard { figure, limit: 2.0, sustained: secs(30), action };
    guarded.guards =
        vec![guard(Figure::TtftP99, GuardAction::Hold), guard(Figure::ErrorRate, GuardAction::RollBack)];
    for (figure, rolls_back) in [(Figure::TtftP99, false), (Figure::ErrorRate, true)] {
        let mut run = Run::new(guarded.clone());
        // In the middle of the second replica's drain.
        run.run_until(|run| asked(run, 1, "probe in-flight") == 2);
        for second in 0..6 {
            let until = run.world.now + secs(10);
            run.world.real[1].busy_until = until + secs(100);
            run.tell(Event::Figure { figure, value: 3.0 + f64::from(second) }, &mut |_| Fate::Usual);
            run.world.schedule(until, Event::Tick);
            run.run_until(|run| run.world.now >= until || run.rollout.rests());
        }
        run.run();
        if rolls_back {
            assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
            assert!(run.all_serve(VersionRef::From));
        } else {
            assert!(matches!(hold(&run), HoldReason::Guard { figure: Figure::TtftP99, .. }));
            assert_eq!(run.serving(), 4);
            assert_eq!(run.world.real[1].process, Some(VersionRef::From), "put back, not stopped");
            run.order(Operator::Resume).run();
            assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
        }
    }
}

#[test]
fn a_window_that_closes_mid_way_holds_until_the_next_or_a_person() {
    let mut windowed = plan(3);
    windowed.rollout.move_expected = secs(150);
    windowed.windows = vec![Window::new(at(100), at(400)), Window::new(at(2_000), at(2_200))];
    let mut run = Run::new(windowed);
    run.run();
    // Two moves fit (each takes about 140 s), the second window holds the third.
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let starts: Vec<_> = report.moves.iter().filter_map(|mv| mv.taken_out_at).collect();
    assert_eq!(starts.len(), 3);
    assert!(starts[0] >= at(100) && starts[1] < at(250) && starts[2] >= at(2_000), "{starts:?}");

    let mut run = Run::new(run.rollout.plan().clone());
    run.world.schedule(at(1_000), Event::Tick);
    run.run_until(|run| run.world.now >= at(1_000));
    assert_eq!((run.serving(), hold(&run)), (3, HoldReason::Window));
    run.order(Operator::Resume).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.world.now < at(1_900), "a person has waived the window");
}

#[test]
fn the_gate_waits_for_headroom_then_holds() {
    let mut gated = plan(4);
    gated.gate.capacity =
        vec![CapacityRow { serving: 3, rate: 30.0 }, CapacityRow { serving: 4, rate: 40.0 }];
    let mut run = Run::new(gated.clone());
    run.world.load = 28.0;
    run.run_until(|run| run.world.now > at(300));
    assert_eq!(asked(&run, 0, "take out"), 0, "30/s is less than 1.1 times 28/s");
    run.world.load = 27.0;
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));

    let mut run = Run::new(gated);
    run.world.load = 28.0;
    run.run();
    assert!(matches!(hold(&run), HoldReason::Gate { .. }));
    assert!(run.all_serve(VersionRef::From));
}

#[test]
fn nothing_begins_that_could_not_be_undone() {
    let mut run = Run::new(plan(3));
    run.world.real[0].undo_ready = false;
    run.run();
    assert_eq!(hold(&run), HoldReason::NoWayBack { replica: ReplicaId(0) });
    assert_eq!(asked(&run, 0, "take out"), 0);
}

#[test]
fn a_replica_that_is_down_goes_first_and_costs_nothing() {
    let mut gated = plan(4);
    // Three carry the load; while one is down nobody else could be taken out.
    gated.gate.capacity = vec![CapacityRow { serving: 3, rate: 30.0 }];
    let mut run = Run::new(gated);
    run.world.load = 20.0;
    run.world.real[2].process = None;
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!(report.moves[0].replica, ReplicaId(2));
    assert_eq!(asked(&run, 2, "measure load"), 0);
    assert_eq!(report.serving_min, 3);
}

#[test]
fn a_replica_that_dies_in_its_move_is_brought_up_again() {
    for step in ["probe in-flight", "probe GPU", "probe health", "warm up", "admit"] {
        let mut run = Run::new(plan(3));
        run.run_until(|run| asked(run, 1, step) > 0);
        let down = run.world.crash(1);
        run.tell(down, &mut |_| Fate::Usual);
        run.run();
        assert_eq!(run.rollout.outcome(), Some(Outcome::Completed), "{step}");
        assert!(run.all_serve(VersionRef::To), "{step}");
    }
}

#[test]
fn when_another_dies_the_drained_one_goes_back_and_the_dead_one_is_mended_first() {
    let mut run = Run::new(plan(4));
    run.run_until(|run| asked(run, 0, "probe in-flight") > 0);
    let down = run.world.crash(2);
    run.tell(down, &mut |_| Fate::Usual);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let moved: Vec<_> = fold(run.rollout.plan(), &run.records).moves.iter().map(|mv| mv.replica.0).collect();
    assert_eq!(moved, [0, 0, 2, 0, 1, 3], "0 drained, 0 put back, then the dead one, then as listed");
}

#[test]
fn a_replica_that_keeps_dying_is_parked() {
    let mut run = Run::new(plan(3));
    for _ in 0..2 {
        run.run_until(|run| run.rollout.status().replicas[0].state == ReplicaState::Soaked);
        let down = run.world.crash(0);
        run.tell(down, &mut |_| Fate::Usual);
    }
    run.run();
    assert!(matches!(hold(&run), HoldReason::MoveFailed { replica: ReplicaId(0), .. }));
}

#[test]
fn two_at_a_time() {
    let mut two = plan(4);
    two.strategy = StrategySpec::Rolling { max_unavailable: 2, order: vec!["r3".to_owned()] };
    let mut run = Run::new(two);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!(report.serving_min, 2);
    assert_eq!(report.moves[0].replica, ReplicaId(3), "the plan's order");
    assert!(run.world.now < at(300), "two rounds of 140 s");
}

#[test]
fn approvals() {
    for (approve, orders) in [(Approve::Each, 3), (Approve::First, 1), (Approve::None, 0)] {
        let mut plan = plan(3);
        plan.rollout.approve = approve;
        let mut run = Run::new(plan);
        let mut given = 0;
        while run.run().rollout.outcome().is_none() {
            assert_eq!((hold(&run), run.serving()), (HoldReason::Approval, 3));
            run.order(Operator::Approve);
            given += 1;
        }
        assert_eq!((run.rollout.outcome(), given), (Some(Outcome::Completed), orders));
    }
}

#[test]
fn a_lost_reply_is_asked_for_again_and_a_late_one_ignored() {
    let mut run = Run::new(plan(2));
    let mut first = true;
    run.run_with(&mut |command| {
        let fate = if first && command.action.name() == "admit" { Fate::Late(secs(31)) } else { Fate::Usual };
        first &= fate == Fate::Usual;
        fate
    });
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert_eq!(asked(&run, 0, "admit"), 2);
    assert_eq!(run.rollout.status().stale_replies, 1);
}

#[test]
fn refused_events_change_nothing() {
    use slackwater_policy::{CommandId, EventError, Reply};
    let mut run = Run::new(plan(2));
    let tell = |run: &mut Run, event| run.rollout.clone().handle(run.world.now, event);
    assert_eq!(tell(&mut run, Event::Tick), Err(EventError::NotStarted));
    run.step();
    let before = run.rollout.clone();
    let outcome = |id, outcome| Event::Outcome { id: CommandId(id), outcome };
    for (event, refused) in [
        (Event::Start, "AlreadyStarted"),
        (outcome(1, Reply::Admitted), "Contradictory"),
        (outcome(99, Reply::Admitted), "NeverIssued"),
        (Event::ReplicaUp { replica: ReplicaId(7) }, "UnknownReplica"),
        (Event::Load { rate: f64::NAN }, "BadNumber"),
    ] {
        let error = run.rollout.handle(T0 + secs(5), event).unwrap_err();
        assert!(format!("{error:?}").starts_with(refused), "{error:?}");
        assert_eq!(run.rollout, before);
    }
}

#[test]
fn a_clock_that_goes_back_is_noted_and_harmless() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| run.world.now > at(30));
    let now = run.world.now;
    run.world.now = T0;
    run.tell(Event::Tick, &mut |_| Fate::Usual);
    run.world.now = now;
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(notes(&run).contains(&Note::ClockWentBack { said: T0, taken: now }));
}
