//! What each strategy does besides rolling: its good end, a person's order and a dead executor at every event, its journal cut anywhere.

use slackwater_policy::{
    Approve, Compare, Event, Figure, Guard, GuardAction, HoldReason, OnFailure, Operator, Outcome, Phase,
    Plan, ReplicaId, Rollout, StrategySpec, Target, Time, Verdict, VersionRef, fold,
};

use crate::anywhere::the_journal_of_ends_at_every_record;
use crate::happy::plan;
use crate::world::{Fate, Run, at, secs};

/// A plan, what is true at its good end, and what after it was rolled back.
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) done: fn(&Run) -> bool,
    pub(crate) back: fn(&Run) -> bool,
}

fn run(plan: &Plan) -> Run {
    let mut run = Run::new(plan.clone());
    run.world.start_takes = secs(10);
    run
}

fn held(run: &Run) -> Option<HoldReason> {
    match run.rollout.phase() {
        Phase::Holding { reason, settled: true, .. } => Some(reason),
        _ => None,
    }
}

/// Every order and a restart of the executor after every event, with and without a replica that does not come up as it should.
pub(crate) fn survives_everywhere(case: &Case) {
    for broken in [None, Some(0), Some(1), Some(case.plan.replicas.len() - 1)] {
        let mut plan = case.plan.clone();
        plan.rollout.steps.health.within = Some(secs(80));
        let broken = broken.filter(|id| plan.replicas.get(*id).is_some());
        let n = plan.count();
        let mut run = run(&plan);
        if let Some(id) = broken {
            run.world.real[id].never_healthy = Some(VersionRef::To);
        }
        run.step();
        while !run.rollout.rests() {
            let ordered = |order| {
                let mut run = run.clone();
                run.order(order).run();
                run
            };
            let mut paused = ordered(Operator::Pause);
            assert!(paused.serving() >= n, "hold means N: {:#?}", paused.rollout.status());
            if paused.rollout.outcome().is_none() {
                paused.order(Operator::Resume).run();
            }
            assert!(broken.is_some() || (case.done)(&paused), "{:#?}", paused.rollout.status());

            let aborted = ordered(Operator::Abort);
            assert!(aborted.serving() >= n, "{:#?}", aborted.rollout.status());
            assert_eq!(aborted.rollout.outcome(), Some(Outcome::Aborted));

            let back = ordered(Operator::Rollback);
            assert_eq!(back.rollout.outcome(), Some(Outcome::RolledBack));
            assert!((case.back)(&back), "{:#?}", back.rollout.status());

            let mut restarted = run.clone();
            restarted.world.clear_queue();
            restarted.rollout = Rollout::replay(plan.clone(), &restarted.records).unwrap();
            restarted.restart().run();
            assert!(restarted.serving() >= n);
            assert!(broken.is_some() || (case.done)(&restarted), "{:#?}", restarted.rollout.status());
            assert_eq!(fold(&plan, &restarted.records).cut, 0, "nobody was cut by the crash");
            assert!(run.step());
        }
        assert!(broken.is_some() || (case.done)(&run));
    }
    the_journal_of_ends_at_every_record(&case.plan, case.done);
}

fn completed(run: &Run) -> bool {
    run.rollout.outcome() == Some(Outcome::Completed) && run.serving() == run.world.real.len()
}

fn drill(replicas: usize) -> Plan {
    let mut plan = plan(replicas);
    plan.to.name.clone_from(&plan.from.name);
    plan.target = Target::Same;
    plan
}

#[test]
fn a_drill_restarts_each_once_and_tells_by_the_stop() {
    let mut run = run(&drill(3));
    run.run();
    assert!(completed(&run));
    assert!(run.world.real.iter().all(|real| real.starts == 1), "{:#?}", run.world.real);
    assert!(run.rollout.report().exceptions.is_empty());
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!((report.moves.len(), report.serving_min, report.cut), (3, 2, 0));
}

#[test]
fn a_drill_survives_everywhere() {
    survives_everywhere(&Case {
        plan: drill(3),
        done: |run| completed(run) && run.world.real.iter().all(|real| real.starts >= 1),
        back: |run| run.serving() == 3 && run.rollout.report().exceptions.is_empty(),
    });
}

#[test]
fn a_drill_rolled_back_leaves_what_serves_alone() {
    let mut run = run(&drill(3));
    run.run_until(|run| run.world.real[1].starts == 1);
    run.order(Operator::Rollback).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
    let starts: Vec<u32> = run.world.real.iter().map(|real| real.starts).collect();
    assert_eq!(starts[0], 1, "it serves: not again");
    assert_eq!(starts[2], 0, "never begun");
    assert_eq!(run.serving(), 3);
}

#[test]
fn a_drill_whose_replica_does_not_come_up_brings_it_up_again_with_the_same_version() {
    for on_failure in [OnFailure::RollBackReplica, OnFailure::RollBackAll] {
        let mut plan = drill(3);
        plan.rollout.on_failure = on_failure;
        plan.rollout.steps.health.within = Some(secs(80));
        let mut run = run(&plan);
        // The world lets the start that mends succeed.
        run.world.real[0].never_healthy = Some(VersionRef::To);
        run.run();
        assert_eq!(run.serving(), 3);
        assert_eq!(run.world.real[0].starts, 3, "twice for the drill, once to mend it");
        assert_eq!((run.world.real[1].starts, run.world.real[2].starts), (0, 0));
        if on_failure == OnFailure::RollBackAll {
            assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
        } else {
            assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(0), .. })));
            run.order(Operator::Resume).run();
            assert!(completed(&run));
            assert_eq!(run.world.real[0].starts, 3, "it was restarted: that is done");
        }
    }
}

#[test]
fn one_that_came_back_by_itself_before_its_turn_is_restarted_and_after_it_is_not() {
    for (who, starts) in [(2, 1), (0, 1)] {
        let mut run = run(&drill(3));
        run.run_until(|run| run.world.real[1].starts == 1);
        let down = run.world.crash(who);
        // Its supervisor has started it before anybody noticed.
        run.world.real[usize::from(who)].process = Some(VersionRef::From);
        run.tell(down, &mut |_| Fate::Usual);
        run.tell(Event::ReplicaUp { replica: ReplicaId(who) }, &mut |_| Fate::Usual);
        run.run();
        assert!(completed(&run));
        assert_eq!(run.world.real[usize::from(who)].starts, starts, "replica {who}");
    }
}

pub(crate) fn only(mut plan: Plan, names: &[&str]) -> Plan {
    plan.only = names.iter().map(|name| (*name).to_owned()).collect();
    plan
}

fn starts(run: &Run) -> Vec<u32> {
    run.world.real.iter().map(|real| real.starts).collect()
}

#[test]
fn only_those_named_are_touched_and_the_others_named() {
    let mut run = run(&only(plan(3), &["r2"]));
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert_eq!(starts(&run), [0, 0, 1]);
    let report = run.rollout.report();
    assert_eq!(report.serving, [ReplicaId(2)]);
    for (exception, name) in report.exceptions.iter().zip(["r0", "r1"]) {
        assert_eq!(exception.name, name);
        assert!(exception.reason.contains("the plan's `only` leaves it alone"), "{}", exception.reason);
        assert_eq!(exception.mend, format!("slackwater run PLAN --only {name}"));
    }
}

#[test]
fn a_drill_of_one_leaves_the_others_right_as_they_are() {
    let mut run = run(&only(drill(3), &["r1"]));
    run.run();
    assert!(completed(&run));
    assert_eq!(starts(&run), [0, 1, 0]);
    assert!(run.rollout.report().exceptions.is_empty());
}

#[test]
fn one_left_alone_that_is_down_keeps_the_others_in_and_does_not_keep_the_end() {
    let mut plan = only(plan(3), &["r0"]);
    plan.gate.wait_max = secs(60);
    let mut shut = run(&plan);
    shut.world.real[2].process = None;
    shut.run();
    assert!(matches!(held(&shut), Some(HoldReason::Gate { replica: ReplicaId(0), .. })));
    assert_eq!((shut.serving(), starts(&shut)), (2, vec![0, 0, 0]));

    let mut late = run(&plan);
    late.run_until(|run| run.world.real[0].starts == 1);
    let down = late.world.crash(2);
    late.tell(down, &mut |_| Fate::Usual);
    late.run();
    assert_eq!(late.rollout.outcome(), Some(Outcome::Completed));
    assert_eq!(starts(&late), [1, 0, 0]);
    let report = late.rollout.report();
    assert_eq!(report.exceptions.len(), 2);
    assert!(report.exceptions[1].reason.starts_with("does not serve"), "{}", report.exceptions[1].reason);
}

#[test]
fn a_subset_survives_everywhere() {
    survives_everywhere(&Case {
        plan: only(plan(3), &["r0", "r2"]),
        done: |run| completed(run) && run.world.real[1].starts == 0,
        back: |run| run.all_serve(VersionRef::From) && run.world.real[1].starts == 0,
    });
    survives_everywhere(&Case {
        plan: only(drill(3), &["r1"]),
        done: |run| completed(run) && run.world.real[0].starts + run.world.real[2].starts == 0,
        back: |run| run.serving() == 3 && run.world.real[0].starts + run.world.real[2].starts == 0,
    });
}

fn recreate(replicas: usize, at_once: Option<u16>) -> Plan {
    let mut plan = plan(replicas);
    plan.strategy = StrategySpec::Recreate { accept_downtime: true, at_once, order: Vec::new() };
    plan
}

/// When each replica was asked this.
fn times(run: &Run, name: &str) -> Vec<Time> {
    let asked = run.world.issued.iter().filter(|(_, command)| command.action.name() == name);
    asked.map(|(at, _)| *at).collect()
}

#[test]
fn recreate_stops_all_before_it_starts_any() {
    let mut run = run(&recreate(3, None));
    run.world.real[1].busy_for = secs(60);
    run.run();
    assert!(completed(&run) && run.all_serve(VersionRef::To));
    let (out, stop, start) = (times(&run, "take out"), times(&run, "stop"), times(&run, "start"));
    assert_eq!((out.len(), stop.len(), start.len()), (3, 3, 3));
    assert!(out.iter().max() < stop.iter().min() && stop.iter().max() < start.iter().min());
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!((report.serving_min, report.cut), (0, 0));
}

#[test]
fn recreate_in_chunks() {
    let mut run = run(&recreate(5, Some(2)));
    run.run();
    assert!(completed(&run) && run.all_serve(VersionRef::To));
    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!(report.serving_min, 3);
    let out = times(&run, "take out");
    assert!(out[0] == out[1] && out[2] == out[3] && out[1] < out[2] && out[3] < out[4], "{out:?}");
    assert!(times(&run, "admit")[1] < out[2], "the next chunk waits for the whole of this one");
}

#[test]
fn recreate_of_a_single_replica_and_a_drill_of_one() {
    let mut single = run(&recreate(1, None));
    single.run();
    assert!(completed(&single) && single.all_serve(VersionRef::To));
    let mut same = recreate(1, None);
    same.target = Target::Same;
    same.to.name.clone_from(&same.from.name);
    let mut same = run(&same);
    same.run();
    assert!(completed(&same));
    assert_eq!(starts(&same), [1]);
}

#[test]
fn recreate_survives_everywhere() {
    for (replicas, at_once) in [(3, None), (3, Some(2)), (1, None), (2, Some(1))] {
        survives_everywhere(&Case {
            plan: recreate(replicas, at_once),
            done: |run| completed(run) && run.all_serve(VersionRef::To),
            back: |run| run.all_serve(VersionRef::From),
        });
    }
}

#[test]
fn recreate_leaves_nothing_before_all_can_be_undone() {
    let mut run = run(&recreate(3, None));
    run.world.real[2].undo_ready = false;
    run.run();
    assert_eq!(held(&run), Some(HoldReason::NoWayBack { replica: ReplicaId(2) }));
    assert!(times(&run, "take out").is_empty());
    run.world.real[2].undo_ready = true;
    run.order(Operator::Resume).run();
    assert!(completed(&run));
}

#[test]
fn recreate_asks_for_one_approval_a_chunk() {
    for (at_once, asked) in [(None, 1), (Some(2), 2)] {
        let mut plan = recreate(4, at_once);
        plan.rollout.approve = Approve::Each;
        let mut run = run(&plan);
        let mut given = 0;
        while run.run().rollout.outcome().is_none() {
            assert_eq!((held(&run), run.serving()), (Some(HoldReason::Approval), 4));
            run.order(Operator::Approve);
            given += 1;
        }
        assert_eq!((completed(&run), given), (true, asked));
    }
}

#[test]
fn recreate_does_not_roll_back_for_the_errors_it_accepted() {
    let mut plan = recreate(2, None);
    plan.guards = vec![Guard {
        figure: Figure::ErrorRate,
        limit: 0.1,
        sustained: secs(5),
        action: GuardAction::RollBack,
    }];
    let mut run = run(&plan);
    run.run_until(|run| run.serving() == 0);
    for _ in 0..4 {
        run.tell(Event::Figure { figure: Figure::ErrorRate, value: 1.0 }, &mut |_| Fate::Usual);
        let until = run.world.now + secs(3);
        run.world.schedule(until, Event::Tick);
        run.run_until(|run| run.world.now >= until);
    }
    assert_eq!(run.serving(), 0);
    run.run();
    assert!(completed(&run) && run.all_serve(VersionRef::To));
}

fn canary(replicas: usize, name: Option<&str>) -> Plan {
    let mut plan = plan(replicas);
    plan.strategy = StrategySpec::Canary {
        canary: name.map(str::to_owned),
        canary_soak: secs(600),
        compare: None,
        compare_within: secs(300),
        max_unavailable: 1,
        order: vec!["r1".to_owned()],
    };
    plan
}

fn pass_until(run: &mut Run, seconds: u64) {
    run.world.schedule(at(seconds), Event::Tick);
    run.run_until(|run| run.world.now >= at(seconds));
}

#[test]
fn the_canary_goes_first_and_is_watched_for_longer() {
    for (name, first, second) in [(None, 1, 0), (Some("r2"), 2, 1)] {
        let mut plan = canary(4, name);
        if let StrategySpec::Canary { max_unavailable, .. } = &mut plan.strategy {
            *max_unavailable = 2;
        }
        let mut run = run(&plan);
        run.run();
        assert!(completed(&run) && run.all_serve(VersionRef::To));
        let moves = fold(&plan, &run.records).moves;
        assert_eq!((moves[0].replica, moves[1].replica), (ReplicaId(first), ReplicaId(second)));
        assert_eq!(moves[0].ended_at.unwrap().since(moves[0].admitted_at.unwrap()), secs(600));
        assert_eq!(moves[1].ended_at.unwrap().since(moves[1].admitted_at.unwrap()), secs(60));
        assert_eq!(moves[1].started_at, moves[0].ended_at.unwrap());
        assert_eq!(moves[2].started_at, moves[1].started_at, "rolling then, two at a time");
    }
}

#[test]
fn a_person_approves_after_the_canary() {
    let mut plan = canary(3, None);
    plan.rollout.approve = Approve::First;
    let mut run = run(&plan);
    run.run();
    assert_eq!(held(&run), Some(HoldReason::Approval));
    assert_eq!(starts(&run), [0, 1, 0]);
    assert!(run.world.now >= at(600));
    run.order(Operator::Approve).run();
    assert!(completed(&run));
}

#[test]
fn a_canary_that_goes_down_is_rolled_back_alone() {
    for (on_failure, told) in [OnFailure::RollBackReplica, OnFailure::RollBackAll]
        .into_iter()
        .flat_map(|it| [(it, true), (it, false)])
    {
        let mut plan = canary(3, None);
        plan.rollout.on_failure = on_failure;
        let mut run = run(&plan);
        pass_until(&mut run, 300);
        let down = run.world.crash(1);
        if told {
            run.tell(down, &mut |_| Fate::Usual);
        } else {
            run.restart();
        }
        run.run();
        assert!(run.all_serve(VersionRef::From), "{:#?}", run.rollout.status());
        assert_eq!(starts(&run), [0, 2, 0], "no second chance, and nobody else was touched");
        if on_failure == OnFailure::RollBackAll {
            assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
        } else {
            assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(1), .. })));
            run.order(Operator::Resume).run();
            assert!(completed(&run), "a person lets it try again");
        }
    }
}

#[test]
fn a_canary_of_the_wrong_version_is_rolled_back_alone() {
    let mut run = run(&canary(3, None));
    run.run_until(|run| run.world.real[1].starts == 1);
    run.world.real[1].wrong_version = true;
    run.run_until(|run| times(run, "probe fingerprint").len() == 1);
    run.world.real[1].wrong_version = false;
    run.run();
    assert!(matches!(held(&run), Some(HoldReason::MoveFailed { replica: ReplicaId(1), .. })));
    assert!(run.all_serve(VersionRef::From));
    assert_eq!(starts(&run), [0, 2, 0]);
}

#[test]
fn a_guard_breached_while_the_canary_soaks_rolls_it_back_alone() {
    let guard = Guard { figure: Figure::TtftP99, limit: 2.0, sustained: secs(30), action: GuardAction::Hold };
    for (when, rolls_back) in [(300, true), (5, false), (750, false)] {
        let mut plan = canary(3, None);
        plan.guards = vec![guard];
        let mut run = run(&plan);
        pass_until(&mut run, when);
        for _ in 0..5 {
            run.world.real[1].busy_until = run.world.real[1].busy_until.max(run.world.now + secs(60));
            run.tell(Event::Figure { figure: Figure::TtftP99, value: 3.0 }, &mut |_| Fate::Usual);
            let until = run.world.now + secs(10);
            run.world.schedule(until, Event::Tick);
            run.run_until(|run| run.world.now >= until || run.rollout.rests());
        }
        run.run();
        assert_eq!(run.serving(), 3);
        if rolls_back {
            assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
            assert!(run.all_serve(VersionRef::From));
            assert_eq!(starts(&run), [0, 2, 0]);
        } else {
            assert!(
                matches!(held(&run), Some(HoldReason::Guard { .. })),
                "before and after it, the guard's action"
            );
        }
    }
}

#[test]
fn one_that_is_down_is_the_canary() {
    let mut run = run(&canary(3, Some("r2")));
    run.world.real[0].process = None;
    run.run();
    assert!(completed(&run));
    let moves = fold(run.rollout.plan(), &run.records).moves;
    assert_eq!(moves.iter().map(|mv| mv.replica.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(moves[0].ended_at.unwrap().since(moves[0].admitted_at.unwrap()), secs(600));
}

fn compared(replicas: usize) -> Plan {
    let mut plan = canary(replicas, None);
    let StrategySpec::Canary { compare, .. } = &mut plan.strategy else { unreachable!() };
    *compare = Some(Compare::Told);
    plan
}

fn say(run: &mut Run, verdict: Verdict) {
    run.tell(Event::Comparison { verdict }, &mut |_| Fate::Usual);
}

#[test]
fn a_comparison_must_say_pass_before_the_others_go() {
    // Said while it soaks, or while it is waited for. The canary's soak is over at about 625 s, the wait at 925 s.
    for (when, begins) in [(300, 600), (700, 700)] {
        let mut run = run(&compared(3));
        pass_until(&mut run, when);
        say(&mut run, Verdict::Undecided);
        assert_eq!(starts(&run), [0, 1, 0]);
        say(&mut run, Verdict::Pass);
        run.run();
        assert!(completed(&run) && run.all_serve(VersionRef::To));
        let second = fold(run.rollout.plan(), &run.records).moves[1].started_at;
        assert!(second >= at(begins) && second < at(begins + 50), "{second}");
    }
}

#[test]
fn the_last_word_of_a_comparison_counts_and_a_pass_too_early_does_not() {
    let mut early = run(&compared(3));
    early.step();
    say(&mut early, Verdict::Pass);
    early.run();
    assert_eq!(held(&early), Some(HoldReason::Comparison), "no canary served yet");
    let mut taken_back = run(&compared(3));
    pass_until(&mut taken_back, 300);
    say(&mut taken_back, Verdict::Pass);
    say(&mut taken_back, Verdict::Undecided);
    taken_back.run();
    assert_eq!(held(&taken_back), Some(HoldReason::Comparison));
}

#[test]
fn a_comparison_that_fails_rolls_the_canary_back_alone() {
    for when in [300, 700, 2_000] {
        let mut run = run(&compared(3));
        pass_until(&mut run, when);
        say(&mut run, Verdict::Fail);
        run.run();
        assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
        assert!(run.all_serve(VersionRef::From));
        assert_eq!(starts(&run), [0, 2, 0]);
    }
}

#[test]
fn a_comparison_that_does_not_come_holds_and_may_come_late() {
    for resume in [false, true] {
        let mut run = run(&compared(3));
        run.run();
        assert_eq!((held(&run), run.serving()), (Some(HoldReason::Comparison), 3));
        assert_eq!(starts(&run), [0, 1, 0]);
        assert!(run.world.now >= at(900));
        say(&mut run, Verdict::Undecided);
        assert_eq!(held(&run), Some(HoldReason::Comparison));
        if resume {
            run.order(Operator::Resume);
        } else {
            say(&mut run, Verdict::Pass);
        }
        run.run();
        assert!(completed(&run) && run.all_serve(VersionRef::To));
    }
}

#[test]
fn while_a_comparison_is_waited_for() {
    let mut run = run(&compared(3));
    pass_until(&mut run, 700);
    let ordered = |order| {
        let mut run = run.clone();
        run.order(order).run();
        (run.rollout.outcome(), run)
    };
    let (outcome, aborted) = ordered(Operator::Abort);
    assert_eq!((outcome, aborted.serving()), (Some(Outcome::Aborted), 3));
    assert_eq!(aborted.rollout.report().exceptions.len(), 1, "the canary is named");
    let (outcome, back) = ordered(Operator::Rollback);
    assert!(outcome == Some(Outcome::RolledBack) && back.all_serve(VersionRef::From));
    let (_, mut paused) = ordered(Operator::Pause);
    assert_eq!((held(&paused), paused.serving()), (Some(HoldReason::Operator), 3));
    paused.order(Operator::Resume).run();
    assert_eq!(held(&paused), Some(HoldReason::Comparison), "a pause passes nobody");

    let mut dead = run.clone();
    let down = dead.world.crash(1);
    dead.tell(down, &mut |_| Fate::Usual);
    dead.run();
    assert!(matches!(held(&dead), Some(HoldReason::MoveFailed { replica: ReplicaId(1), .. })));
    assert!(dead.all_serve(VersionRef::From));

    run.rollout = Rollout::replay(run.rollout.plan().clone(), &run.records).unwrap();
    run.restart();
    pass_until(&mut run, 750);
    say(&mut run, Verdict::Pass);
    run.run();
    assert!(completed(&run) && run.all_serve(VersionRef::To));
    assert_eq!(starts(&run), [1, 1, 1]);
}

#[test]
fn a_rollback_has_no_canary() {
    let mut run = run(&canary(4, None));
    run.run_until(|run| run.world.real[2].starts == 1);
    let since = run.world.now;
    run.order(Operator::Rollback).run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
    assert!(run.all_serve(VersionRef::From));
    assert!(run.world.now < since + secs(300), "three replicas, no soak");
}

#[test]
fn a_canary_survives_everywhere() {
    for plan in [canary(3, None), canary(3, Some("r2")), only(canary(3, Some("r1")), &["r1"])] {
        survives_everywhere(&Case {
            done: if plan.only.is_empty() {
                |run| run.all_serve(VersionRef::To) && completed(run)
            } else {
                completed
            },
            plan,
            back: |run| run.all_serve(VersionRef::From),
        });
    }
}

#[test]
fn what_is_refused() {
    let refused = |plan: Plan, words: &str| {
        let error = plan.validate().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(only(plan(3), &["r9"]), "only is r9; expected names of replicas in the plan");
    refused(only(plan(3), &["r1", "r1"]), "only is r1; expected each name once");
    let recreate = |accept_downtime, at_once| {
        let mut plan = plan(3);
        plan.strategy = StrategySpec::Recreate { accept_downtime, at_once, order: Vec::new() };
        plan
    };
    refused(recreate(false, None), "strategy.accept_downtime is false; expected true, as nobody may serve");
    refused(recreate(true, Some(0)), "strategy.at_once is 0; expected 1 to the number of replicas");
    refused(recreate(true, Some(4)), "strategy.at_once is 4; expected 1 to the number of replicas");
    let mut first = recreate(true, None);
    first.rollout.approve = Approve::First;
    refused(first, "rollout.approve is first; expected `each`");
    refused(canary(3, Some("r9")), "strategy.canary is r9; expected names of replicas in the plan");
    refused(
        only(canary(3, Some("r2")), &["r1"]),
        "strategy.canary is r2; expected names that `only` has too",
    );
    let mut short = canary(3, None);
    let StrategySpec::Canary { canary_soak, .. } = &mut short.strategy else { unreachable!() };
    *canary_soak = secs(0);
    let mut never = compared(3);
    let StrategySpec::Canary { compare_within, .. } = &mut never.strategy else { unreachable!() };
    *compare_within = secs(0);
    refused(never, "strategy.compare_within is 0s; expected a duration above zero");
    refused(short, "strategy.canary_soak is 0s; expected a duration above zero");
    let mut other = drill(3);
    other.to.name = "model-2".to_owned();
    refused(other, "to.name is model-2; expected the name in from.name");
    let mut order = only(plan(3), &["r1"]);
    order.strategy = StrategySpec::Rolling { max_unavailable: 1, order: vec!["r0".to_owned()] };
    refused(order, "strategy.order is r0; expected names that `only` has too");
}

#[test]
fn the_keys_of_a_drill() {
    let text = r#"
        schema = "slackwater.plan/1"
        target = "same"
        only = ["r1"]
        from.name = "llama-3.1"
        to.name = "llama-3.1"
        replicas = [{ name = "r0" }, { name = "r1" }]
    "#;
    let plan: Plan = toml::from_str(text).unwrap();
    plan.validate().unwrap();
    assert!(plan.is_drill() && plan.moves(ReplicaId(1)) && !plan.moves(ReplicaId(0)));
    assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
}

#[test]
fn the_keys_of_recreate() {
    let text = r#"
        schema = "slackwater.plan/1"
        from.name = "llama-3.1"
        to.name = "llama-3.3"
        replicas = [{ name = "r0" }]
        strategy = { kind = "recreate", accept_downtime = true }
    "#;
    let plan: Plan = toml::from_str(text).unwrap();
    plan.validate().unwrap();
    let silent: Plan = toml::from_str(&text.replace(", accept_downtime = true", "")).unwrap();
    assert!(silent.validate().is_err());
}

#[test]
fn the_keys_of_a_canary() {
    let text = r#"
        schema = "slackwater.plan/1"
        from.name = "llama-3.1"
        to.name = "llama-3.3"
        replicas = [{ name = "r0" }, { name = "r1" }, { name = "r2" }]
        rollout.approve = "first"
        strategy = { kind = "canary", canary = "r1", canary_soak = "30m", max_unavailable = 2, order = ["r2"] }
    "#;
    let plan: Plan = toml::from_str(text).unwrap();
    plan.validate().unwrap();
    assert_eq!(plan.strategy.canary_soak(), Some(secs(1_800)));
    assert_eq!(toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(), plan);
}
