//! Faults that were found, each as small as it gets.

use slackwater_policy::{Figure, Guard, GuardAction, Span};
use slackwater_sim::{RolloutState, RunOptions};

use crate::kit::{Engine, Outcome, Run, Spec, WITH_ROWS, near, outcome, ps, trace};

/// An error-share guard in the scenario is one the plan accepts.
#[test]
fn a_scenario_with_an_error_guard_can_be_planned() {
    let spec = Spec {
        replicas: 2,
        rollout: "guard = { max_error_share = 0.2, over = \"60s\" }".to_owned(),
        ..Spec::default()
    };
    let plan = slackwater_sim::plan_for(&spec.scenario(), None, 0, &[]);
    assert!(plan.is_ok(), "{plan:?}");
}

/// And it stops a rollout that fails requests: here every request of the new version runs into the client's time-out.
#[test]
fn an_error_guard_ends_a_rollout_that_fails_requests() {
    let spec = Spec {
        replicas: 2,
        to: "step_time_factor = 50".to_owned(),
        clients: "timeout = 5\nretries = { max = 0 }".to_owned(),
        rollout: "soak = 600\non_failure = \"hold\"\nguard = { max_error_share = 0.2, over = \"60s\" }"
            .to_owned(),
        ..Spec::default()
    };
    let run = spec.roll(&trace((0..900).map(|number| (f64::from(number), 10, 100))), ps(30.0));
    assert!(run.rollout().outcome.starts_with("held: "), "{}", run.rollout().outcome);
}

/// Two at a time, each approved: the second approval is not a reason to call the first move off, over and over.
#[test]
fn two_at_a_time_with_each_move_approved_comes_to_an_end() {
    let spec = Spec {
        replicas: 3,
        rollout: "max_unavailable = 2\nsoak = 5\napproval = \"each_move\"\napproval_delay = 10".to_owned(),
        ..Spec::default()
    };
    let mut world = spec.rolling(&trace([(0.0, 1, 1), (5.0, 1, 1)]), ps(3.0), WITH_ROWS);
    world.run_until(ps(3600.0)).unwrap();
    assert_ne!(world.rollout_state(), Some(RolloutState::UnderWay));
    assert_eq!(Run::so_far(world).rollout().outcome, "completed");
}

/// A rollout begun when the traffic is over and everything answered still takes place.
#[test]
fn a_rollout_after_the_last_request_takes_place() {
    let spec = Spec { replicas: 2, rollout: "soak = 5".to_owned(), ..Spec::default() };
    let mut world = spec.world(&trace([(1.0, 1, 1)]), WITH_ROWS);
    assert!(world.run_until(ps(100.0)).unwrap(), "nothing is left to do");
    world.begin_rollout(spec.plan(ps(100.0))).unwrap();
    assert_eq!(Run::of(world).rollout().outcome, "completed");
}

/// The only request is refused the moment it comes, and with it the run ends: that is no kept service level.
#[test]
fn a_run_that_ends_with_its_last_arrival_judges_that_arrival() {
    let spec =
        Spec { engine: Engine { block_size: 16, kv_blocks: 2, ..Engine::default() }, ..Spec::default() };
    for at in [0.0, 20.0] {
        let run = spec.run(&trace([(at, 1000, 1)]));
        assert_eq!(run.result.requests.rejected, 1);
        let service = &run.result.service;
        assert_eq!((service.arrived, service.missed), (1, 1), "arrived at {at} s: {service:?}");
        assert!(!service.kept);
    }
}

/// In flight from 1 s to the closing at 5 s, of 5 s: 0.8 on average, though it has not ended.
#[test]
fn requests_under_way_at_the_end_were_in_flight() {
    let spec = Spec { engine: Engine { c0_ms: 1000.0, ..Engine::default() }, ..Spec::default() };
    let mut world = spec.world(&trace([(1.0, 1, 100)]), WITH_ROWS);
    world.run_until(ps(5.0)).unwrap();
    let run = Run::so_far(world);
    assert_eq!(run.result.requests.unfinished, 1);
    near(run.result.phases[0].in_flight_mean, 0.8);
}

/// A guard on a percentile sees the same figures whether or not the series is asked for.
#[test]
fn guards_do_not_depend_on_what_is_written_down() {
    let guard = Guard {
        figure: Figure::TtftP99,
        limit: 0.5,
        sustained: Span::from_secs(20),
        action: GuardAction::Hold,
    };
    let spec = Spec {
        replicas: 2,
        // The new version takes 1 s to the first token.
        to: "step_time_factor = 100".to_owned(),
        rollout: "soak = 300".to_owned(),
        guards: vec![guard],
        ..Spec::default()
    };
    let trace = trace((0..2000).map(|number| (f64::from(number) * 0.5, 10, 5)));
    let outcomes = [true, false].map(|series| {
        let run = Run::of(spec.rolling(&trace, ps(30.0), RunOptions { series, rows: false }));
        run.rollout().outcome.clone()
    });
    assert!(outcomes[0].starts_with("held: "), "{}", outcomes[0]);
    assert_eq!(outcomes[0], outcomes[1]);
}

/// What no replica took names no replica.
#[test]
fn a_request_too_long_for_every_replica_names_none() {
    let spec =
        Spec { engine: Engine { block_size: 16, kv_blocks: 2, ..Engine::default() }, ..Spec::default() };
    let run = spec.run(&trace([(1.0, 1000, 1)]));
    assert_eq!(outcome(&run.rows[0]), Outcome::Rejected);
    assert_eq!(run.rows[0].replica, None);
}

/// Asking for a time that has passed changes nothing.
#[test]
fn running_until_an_earlier_time_is_no_way_back() {
    let spec = Spec { replicas: 2, ..Spec::default() };
    let mut world = spec.world(&trace([(1.0, 10, 10), (50.0, 10, 10)]), WITH_ROWS);
    world.run_until(ps(20.0)).unwrap();
    world.run_until(ps(5.0)).unwrap();
    assert_eq!(world.now(), ps(20.0));
}

/// After two hours samples are merged by twos: an arrival of the last, odd one is still in the series.
#[test]
fn the_series_hold_every_arrival() {
    let run = Spec::default().run(&trace([(1.0, 1, 1), (7205.0, 1, 1)]));
    let series = &run.result.series;
    let arrived: f64 = series.arrivals_per_s.iter().map(|rate| rate * series.interval_s).sum();
    near(arrived, 2.0);
}
