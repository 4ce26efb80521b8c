//! The same thing at every point of a rollout: a person's order, a restart, a journal that ends there.

use slackwater_policy::{
    Event, HoldReason, Operator, Outcome, Phase, Plan, Record, Recorder, Rollout, StrategySpec, VersionRef,
    fold,
};

use crate::happy::plan;
use crate::world::{Fate, Run};

/// A run of the plan after each of its events, good and with a replica that never becomes healthy.
fn every_point(mut check: impl FnMut(Run, bool)) {
    for (k, broken) in [(1, false), (2, false), (1, true)] {
        let mut plan = plan(3);
        plan.strategy = StrategySpec::Rolling { max_unavailable: k, order: Vec::new() };
        plan.rollout.steps.health.within = Some(crate::world::secs(80));
        let mut run = Run::new(plan);
        run.world.start_takes = crate::world::secs(10);
        if broken {
            run.world.real[1].never_healthy = Some(VersionRef::To);
        }
        run.step();
        while !run.rollout.rests() {
            check(run.clone(), broken);
            assert!(run.step());
        }
        assert!(broken || run.rollout.outcome() == Some(Outcome::Completed));
    }
}

#[test]
fn a_pause_ends_at_n_and_a_resume_completes() {
    every_point(|mut run, broken| {
        run.order(Operator::Pause).run();
        if run.rollout.outcome().is_some() {
            return;
        }
        assert!(matches!(run.rollout.phase(), Phase::Holding { settled: true, .. }));
        assert_eq!(run.serving(), 3, "{:#?}", run.rollout.status());
        run.order(Operator::Resume).run();
        if !broken {
            assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
            assert!(run.all_serve(VersionRef::To));
        }
    });
}

#[test]
fn an_abort_ends_with_everybody_serving_and_the_new_ones_named() {
    every_point(|mut run, _| {
        run.order(Operator::Abort).run();
        let outcome = run.rollout.outcome();
        if outcome == Some(Outcome::Completed) {
            return;
        }
        assert_eq!(outcome, Some(Outcome::Aborted));
        assert_eq!(run.serving(), 3, "{:#?}", run.rollout.status());
        let report = run.rollout.report();
        for (id, real) in run.world.real.iter().enumerate() {
            let named = report.exceptions.iter().any(|exception| exception.replica.index() == id);
            assert_eq!(named, real.process == Some(VersionRef::To));
        }
        assert!(report.exceptions.iter().all(|exception| exception.mend.starts_with("slackwater ")));
    });
}

#[test]
fn a_rollback_brings_everybody_back() {
    every_point(|mut run, _| {
        run.order(Operator::Rollback).run();
        assert_eq!(run.rollout.outcome(), Some(Outcome::RolledBack));
        assert!(run.all_serve(VersionRef::From));
        assert!(run.rollout.report().exceptions.is_empty());
    });
}

#[test]
fn orders_that_contradict_each_other() {
    let all = [Operator::Pause, Operator::Resume, Operator::Abort, Operator::Rollback, Operator::Approve];
    every_point(|run, _| {
        for first in all {
            for second in all {
                let mut run = run.clone();
                run.order(first).step();
                run.order(second).run();
                assert_eq!(run.serving(), 3, "{first:?}, {second:?}: {:#?}", run.rollout.status());
            }
        }
    });
}

#[test]
fn the_executor_dies_anywhere() {
    every_point(|mut run, broken| {
        // What was on its way to it is lost; what it had asked has happened.
        run.world.clear_queue();
        run.rollout = Rollout::replay(run.rollout.plan().clone(), &run.records).unwrap();
        run.restart().run();
        if !broken {
            assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
            assert!(run.all_serve(VersionRef::To));
        }
        assert_eq!(fold(run.rollout.plan(), &run.records).cut, 0, "nobody was cut by the crash");
    });
}

#[test]
fn the_journal_ends_at_every_record() {
    the_journal_of_ends_at_every_record(&plan(2), |run| run.all_serve(VersionRef::To));
}

/// Cuts the journal of a run of this plan at every record, and goes on from there to the same good end.
pub(crate) fn the_journal_of_ends_at_every_record(plan: &Plan, good: impl Fn(&Run) -> bool) {
    let mut run = Run::new(plan.clone());
    run.world.start_takes = crate::world::secs(10);
    // States after each event, to compare with, and the worlds as they were.
    let mut after: Vec<(usize, Run)> = Vec::new();
    while !run.rollout.rests() {
        assert!(run.step());
        after.push((events(&run.records), run.clone()));
    }
    let records = run.records.clone();
    for cut in 0..=records.len() {
        let rollout = Rollout::replay(plan.clone(), &records[..cut]).unwrap();
        // An event's record brings the rollout where the event brought it, whether its commands were written or not.
        let told = events(&records[..cut]);
        let Some((_, reached)) = after.iter().rev().find(|(events, _)| *events == told) else {
            assert_eq!(told, 0);
            assert_eq!(rollout.phase(), Phase::Waiting);
            continue;
        };
        assert_eq!(rollout, reached.rollout, "cut at {cut}");
        let mut on = reached.clone();
        on.rollout = rollout;
        on.records.truncate(cut);
        on.recorder = Recorder::after(&on.records);
        on.world.clear_queue();
        on.restart().run();
        assert_eq!(on.rollout.outcome(), Some(Outcome::Completed), "cut at {cut}");
        assert!(good(&on), "cut at {cut}");
        // The whole journal, cut and gone on with, replays too.
        assert_eq!(Rollout::replay(plan.clone(), &on.records).unwrap(), on.rollout, "cut at {cut}");
    }
}

fn events(records: &[Record]) -> usize {
    records.iter().filter(|record| matches!(record.entry, slackwater_policy::Entry::Event(_))).count()
}

#[test]
fn a_journal_survives_json_and_tampering_shows() {
    let mut run = Run::new(plan(2));
    run.run();
    let lines: Vec<String> =
        run.records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let back: Vec<Record> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, run.records);
    assert!(
        lines[0].starts_with(r#"{"seq":0,"at":1700000000000000000,"entry":{"event":"start"}}"#),
        "{}",
        lines[0]
    );
    let mut gap = back.clone();
    gap.remove(5);
    assert!(Rollout::replay(plan(2), &gap).unwrap_err().to_string().contains("record 5 is missing"));
    let mut other = plan(2);
    other.rollout.soak = crate::world::secs(120);
    assert!(Rollout::replay(other, &back).is_err(), "another plan shows");
}

#[test]
fn ended_is_ended() {
    let mut run = Run::new(plan(2));
    run.run();
    for order in [Operator::Abort, Operator::Rollback, Operator::Pause, Operator::Resume] {
        run.order(order);
        assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    }
    let down = run.world.crash(0);
    run.tell(down, &mut |_| Fate::Usual);
    run.tell(Event::Recovered, &mut |_| Fate::Usual);
    assert_eq!((run.rollout.deadline(), run.rollout.outcome()), (None, Some(Outcome::Completed)));
}

#[test]
fn a_pause_within_a_soft_hold_is_a_persons() {
    let mut asked = plan(2);
    asked.rollout.approve = slackwater_policy::Approve::Each;
    let mut run = Run::new(asked);
    run.run();
    run.order(Operator::Pause).run();
    assert!(matches!(
        run.rollout.phase(),
        Phase::Holding { reason: HoldReason::Operator, settled: true, .. }
    ));
}
