//! A rollout in which nothing goes wrong, command by command.

use slackwater_policy::{Outcome, Plan, Span, VersionRef, fold};

use crate::world::{Run, T0, at, secs};

pub(crate) fn plan(replicas: usize) -> Plan {
    Plan::rolling("model-1", "model-2", (0..replicas).map(|index| format!("r{index}")))
}

#[test]
fn one_after_another() {
    let mut run = Run::new(plan(3));
    run.world.start_takes = secs(3);
    for real in &mut run.world.real {
        real.busy_for = secs(2);
    }
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.all_serve(VersionRef::To));
    assert!(run.rollout.report().exceptions.is_empty());
    // Tenths of seconds since the start; the world takes 0.1 s for most things.
    let mut want = vec![(0, 0, "observe"), (0, 1, "observe"), (0, 2, "observe")];
    let one_move = [
        (0, "observe"),
        (1, "take out"),
        (2, "probe in-flight"),
        (13, "probe in-flight"),
        (24, "probe in-flight"),
        (35, "probe in-flight"),
        (36, "stop"),
        (56, "probe GPU"),
        (57, "start"),
        (58, "probe health"),
        (79, "probe health"),
        (100, "probe health"),
        (101, "probe fingerprint"),
        (102, "smoke prompt"),
        (112, "warm up"),
        (152, "admit"),
    ];
    // Admission confirmed at 15.3 s, then a minute's soak.
    for (replica, begins) in [(0, 1), (1, 754), (2, 1_507)] {
        want.extend(one_move.map(|(at, name)| (begins + at, replica, name)));
    }
    let got: Vec<_> = run
        .world
        .issued
        .iter()
        .map(|(at, command)| {
            (at.since(T0).as_nanos() / 100_000_000, command.replica.unwrap().0, command.action.name())
        })
        .collect();
    assert_eq!(got, want);

    let report = fold(run.rollout.plan(), &run.records);
    assert_eq!((report.outcome, report.started_at), (Some(Outcome::Completed), Some(T0)));
    assert_eq!(report.ended_at, Some(at(226)));
    assert_eq!((report.moves.len(), report.cut, report.serving_min, report.holds.len()), (3, 0, 2, 0));
    let out = Span::from_millis(15_200);
    assert_eq!(report.moves[0].out(), Some(out));
    assert_eq!(report.time_below_n, out.times(3));
    assert_eq!(report.moves[0].drain(), Some(Span::from_millis(3_400)));
    assert_eq!(report.moves[0].load(), Some(Span::from_millis(4_400)));
}
