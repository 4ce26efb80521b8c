//! What the exhaustive exploration (`explore/`) found, as scripts.

use slackwater_policy::{
    Action, AtDeadline, Command, Event, HoldReason, Operator, Outcome, Phase, ReplicaId, Step, StrategySpec,
    Verdict, VersionRef, Window, fold,
};

use crate::happy::plan;
use crate::places::{halves, surge};
use crate::world::{Fate, Run, T0, at, secs};

fn at_step(run: &Run, step: Step) -> bool {
    run.rollout.status().replicas[0].step == Some(step)
}

fn last_issued(run: &Run, replica: u16, name: &str) -> bool {
    let mine = run.world.issued.iter().rfind(|(_, command)| command.replica == Some(ReplicaId(replica)));
    mine.is_some_and(|(_, command)| command.action.name() == name)
}

/// The policy kept it for dead, skipped the drain, and its own safety check stopped the rollout.
#[test]
fn a_replica_that_comes_back_while_the_others_are_still_looked_at_is_looked_at_again() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| at_step(run, Step::Admit));
    run.world.real[0].process = None;
    run.restart();
    // Its own look is answered first, in the order of the commands' ids.
    let looks =
        |run: &Run| run.world.issued.iter().filter(|(_, command)| command.action == Action::Observe).count();
    let before = looks(&run);
    run.run_until(|run| run.rollout.status().replicas[0].running.is_none());
    run.world.real[0].process = Some(VersionRef::To);
    run.tell(Event::ReplicaUp { replica: ReplicaId(0) }, &mut |_| Fate::Usual);
    assert_eq!(looks(&run), before + 1);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.all_serve(VersionRef::To));
}

/// The drain's time, which is over for a reason, was held against a drain that had long ended: the replica was parked.
#[test]
fn a_restart_after_the_drain_does_not_drain_again_what_nothing_new_has_reached() {
    let mut plan = plan(2);
    plan.rollout.drain.at_deadline = AtDeadline::Abort;
    plan.rollout.drain.timeout = secs(12);
    let mut run = Run::new(plan);
    run.run_until(|run| last_issued(run, 0, "stop"));
    // The stop was not carried out before the executor went away, and a while passes until it is back.
    run.world.real[0].process = Some(VersionRef::From);
    run.world.now = run.world.now + secs(60);
    run.restart().run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed), "{:#?}", run.rollout.report());
    assert!(run.all_serve(VersionRef::To));
}

/// Its admission had been asked for: the safety check counts it as one that may have requests, and so must the policy.
#[test]
fn one_that_comes_back_while_it_was_to_be_admitted_is_drained_when_it_goes_back() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| at_step(run, Step::Admit));
    (run.world.real[0].process, run.world.real[0].in_rotation) = (None, false);
    run.order(Operator::Abort).restart();
    run.run_until(|run| run.rollout.status().replicas[0].running.is_none());
    run.world.real[0].process = Some(VersionRef::To);
    run.tell(Event::ReplicaUp { replica: ReplicaId(0) }, &mut |_| Fate::Usual);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Aborted));
    assert!(run.all_serve(VersionRef::From));
}

/// The old look came after the news, and what had been routed there again was cut.
#[test]
fn a_look_at_the_gate_that_is_older_than_the_return_is_not_believed() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| at_step(run, Step::Gate));
    let down = run.world.crash(0);
    run.tell(down, &mut |_| Fate::Usual);
    run.world.real[0].process = Some(VersionRef::From);
    run.tell(Event::ReplicaUp { replica: ReplicaId(0) }, &mut |_| Fate::Usual);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert_eq!(fold(run.rollout.plan(), &run.records).cut, 0);
}

/// It was taken for serving on the word, although the look had just found that it does not.
#[test]
fn a_comparison_that_passes_while_replicas_are_looked_at_waits_for_what_they_show() {
    let mut plan = plan(2);
    plan.strategy = StrategySpec::Canary {
        canary: None,
        canary_soak: secs(60),
        compare: Some(slackwater_policy::Compare::Told),
        compare_within: secs(600),
        max_unavailable: 1,
        order: Vec::new(),
    };
    let mut run = Run::new(plan);
    run.run_until(|run| at_step(run, Step::Compare));
    let mut well = run.clone();
    run.world.real[0].never_healthy = Some(VersionRef::To);
    for run in [&mut run, &mut well] {
        run.restart().step();
        run.tell(Event::Comparison { verdict: Verdict::Pass }, &mut |_| Fate::Usual);
        run.run();
    }
    assert!(run.world.serves(1) && run.world.real[1].process == Some(VersionRef::From));
    assert_eq!(well.rollout.outcome(), Some(Outcome::Completed), "and the word is not forgotten");
}

/// The safety check took the second look of one survey for the end of the move, and its next step for another move's beginning.
#[test]
fn a_move_that_is_looked_at_twice_after_a_restart_goes_on_when_the_window_is_over() {
    let mut plan = plan(2);
    plan.rollout.move_expected = secs(300);
    plan.windows = vec![Window::new(T0, at(600))];
    let mut run = Run::new(plan);
    run.run_until(|run| at_step(run, Step::AwaitZero));
    run.world.real[0].process = None;
    run.world.now = at(1_000);
    run.restart().run_until(|run| run.rollout.status().replicas[0].running.is_none());
    run.world.real[0].process = Some(VersionRef::From);
    run.tell(Event::ReplicaUp { replica: ReplicaId(0) }, &mut |_| Fate::Usual);
    run.run();
    assert!(matches!(run.rollout.phase(), Phase::Holding { reason: HoldReason::Window, .. }));
    assert!(run.world.serves(0) && run.world.real[0].process == Some(VersionRef::To));
}

/// A drain that ended before an admission says nothing of what the admission brought.
#[test]
fn what_was_admitted_is_drained_again_before_it_is_stopped() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| last_issued(run, 0, "admit"));
    let mut crashed = run.clone();
    // The balancer has it back; the process dies and comes back with requests on it.
    crashed.world.real[0].process = None;
    crashed.restart().run();
    assert_eq!(crashed.rollout.outcome(), Some(Outcome::Completed));
    run.world.real[0].in_rotation = false;
    run.world.real[0].process = Some(VersionRef::From);
    let before = run.world.issued.len();
    run.restart().run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    let after = run.world.issued.iter().skip(before).filter(|(_, it)| it.replica == Some(ReplicaId(0)));
    let names: Vec<&str> = after.map(|(_, command)| command.action.name()).collect();
    let probe = names.iter().position(|name| *name == "probe in-flight");
    let stop = names.iter().position(|name| *name == "stop");
    assert!(probe.is_some() && probe < stop, "{names:?}");
}

/// Until it rests, with never fewer than these serving.
fn never_below(run: &mut Run, serving: usize) {
    run.run_until(|run| {
        assert!(run.serving() >= serving, "{:#?}", run.rollout.status());
        run.rollout.rests()
    });
}

/// The order to leave that it is given meanwhile is carried out or not, and not answered; nobody else is.
fn crash_and_return(run: &mut Run, replica: u16, back: VersionRef, leaves: bool) {
    let mut never = |command: &Command| match command.action {
        Action::TakeOut { .. } if command.replica == Some(ReplicaId(replica)) => {
            if leaves {
                Fate::Lost
            } else {
                Fate::Never
            }
        }
        _ if command.replica != Some(ReplicaId(replica)) => Fate::Never,
        _ => Fate::Usual,
    };
    let down = run.world.crash(replica);
    run.tell(down, &mut never);
    while !last_issued(run, replica, "take out") {
        assert!(run.step_with(&mut never));
    }
    run.world.real[usize::from(replica)].process = Some(back);
    run.tell(Event::ReplicaUp { replica: ReplicaId(replica) }, &mut |_| Fate::Usual);
}

/// The order to leave, given while it was down and never carried out, was given again when it served and could not be spared.
#[test]
fn a_replica_that_comes_back_before_it_has_left_is_asked_to_leave_when_it_can_be_spared() {
    let mut run = Run::new(surge(2, 1, 0));
    run.run_until(|run| run.rollout.status().replicas[2].step.is_some());
    crash_and_return(&mut run, 0, VersionRef::From, false);
    never_below(&mut run, 2);
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.all_serve(VersionRef::To));
}

/// The same on the way back to the old version, where it was the last one that served.
#[test]
fn a_replica_that_failed_and_comes_back_is_restored_when_it_can_be_spared() {
    let mut plan = halves(2);
    plan.rollout.bring_ups = 1;
    let mut run = Run::new(plan);
    run.run_until(|run| run.rollout.status().replicas[1].step == Some(Step::AwaitZero));
    crash_and_return(&mut run, 0, VersionRef::To, false);
    let until = run.world.now + secs(60);
    while run.world.now < until {
        let other = |command: &Command| command.replica == Some(ReplicaId(1));
        run.step_with(&mut |command| if other(command) { Fate::Never } else { Fate::Usual });
        assert_eq!(run.serving(), 1);
    }
    never_below(&mut run, 1);
    assert!(matches!(run.rollout.phase(), Phase::Holding { reason: HoldReason::MoveFailed { .. }, .. }));
    assert!(run.all_serve(VersionRef::From), "{:#?}", run.rollout.report());
}

/// It has left on an order given while it was down: it serves again, whatever the rollout does next.
#[test]
fn a_replica_that_comes_back_after_it_has_left_goes_back_first() {
    let mut run = Run::new(plan(2));
    run.run_until(|run| at_step(run, Step::Gate));
    crash_and_return(&mut run, 0, VersionRef::From, true);
    let before = run.world.real[0].starts;
    run.run_until(|run| run.world.serves(0));
    assert_eq!(run.world.real[0].starts, before);
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
}
