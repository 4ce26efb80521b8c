//! Same seed, same bits; and a fork is the same run.

use std::sync::Arc;

use proptest::prelude::*;
use slackwater_engine::Ps;
use slackwater_scenarios::SharedTrace;
use slackwater_sim::{RunOptions, TraceCursor, World};

use crate::kit::{Engine, Run, Spec, WITH_ROWS, ps, trace};
use crate::ledgers::{cases, small};

/// The world of `spec` at `at`, its rollout begun at `start` if that lies before.
fn at(spec: &Spec, trace: &Arc<SharedTrace>, start: Ps, at: Ps) -> World<TraceCursor> {
    if at < start {
        let mut world = spec.world(trace, WITH_ROWS);
        world.run_until(at).unwrap();
        world
    } else {
        let mut world = spec.rolling(trace, start, WITH_ROWS);
        world.run_until(at).unwrap();
        world
    }
}

/// Goes on to the end, beginning the rollout at `start` if that lies ahead.
fn on(mut world: World<TraceCursor>, spec: &Spec, start: Ps) -> Run {
    if world.rollout_state().is_none() {
        world.run_until(start).unwrap();
        world.begin_rollout(spec.plan(start)).unwrap();
    }
    Run::of(world)
}

#[track_caller]
fn same(left: &Run, right: &Run) {
    assert_eq!(left.result.hash, right.result.hash);
    // The hash leaves out what these hold: the attempts, the verdict, the series, and each request by itself.
    assert_eq!(left.result, right.result);
    assert_eq!(left.rows, right.rows);
    assert_eq!(left.journal, right.journal);
}

proptest! {
    #![proptest_config(cases(100, "tests/forks-regressions.txt"))]

    /// Catches: state shared between copies, or left out of one; a stream of draws that the other run moves on.
    #[test]
    fn a_fork_at_any_time_goes_on_as_the_original(small in small(), when in 0.0..1.5) {
        let (trace, start) = (small.trace(), ps(small.start_s()));
        let whole = on(at(&small.spec, &trace, start, 0), &small.spec, start);
        let original = at(&small.spec, &trace, start, ps(small.span_s() * when));
        let fork = original.clone();
        // The fork first, and a second fork that is given up on the way.
        let mut given_up = original.clone();
        given_up.run_until(given_up.now() + ps(3.0)).unwrap();
        let fork = on(fork, &small.spec, start);
        let original = on(original, &small.spec, start);
        drop(given_up);
        same(&whole, &fork);
        same(&whole, &original);
    }

    /// Catches: an event lost, doubled or put off at the border of two stretches of a run.
    #[test]
    fn in_small_pieces_as_in_one_go(small in small(), pieces in prop::collection::vec(1..5_000_u32, 1..40)) {
        let (trace, start) = (small.trace(), ps(small.start_s()));
        let whole = small.spec.roll(&trace, start);
        let mut world = small.spec.rolling(&trace, start, WITH_ROWS);
        let mut rows = Vec::new();
        for piece in pieces.iter().cycle() {
            let ended = world.run_until(world.now() + ps(f64::from(*piece) / 1e3)).unwrap();
            rows.extend(world.take_rows());
            if ended {
                break;
            }
        }
        rows.sort_by_key(|row| row.number);
        let pieces = Run { rows, ..Run::of(world) };
        same(&whole, &pieces);
    }

    /// Catches: a run that is another when it is looked at more closely.
    #[test]
    fn what_is_written_down_changes_nothing(small in small()) {
        let (trace, start) = (small.trace(), ps(small.start_s()));
        let whole = small.spec.roll(&trace, start);
        for (series, rows) in [(false, false), (false, true), (true, false)] {
            let other = Run::of(small.spec.rolling(&trace, start, RunOptions { series, rows }));
            prop_assert_eq!(&other.result.hash, &whole.result.hash);
            prop_assert_eq!(other.rows.is_empty(), !rows || whole.rows.is_empty());
        }
    }
}

/// A world in which the seed decides something: the start-up times.
fn drawn() -> (Spec, Arc<SharedTrace>) {
    let spec = Spec {
        replicas: 3,
        engine: Engine {
            max_num_seqs: 8,
            inbound_ms: 3.0,
            outbound_ms: 3.0,
            jitter: 0.5,
            ..Engine::default()
        },
        to: "startup = { median = \"20s\", p95 = \"40s\" }".to_owned(),
        rollout: "soak = 5".to_owned(),
        ..Spec::default()
    };
    let trace = trace((0..1500_u32).map(|number| (f64::from(number) * 0.2, 50, 300 + number % 200)));
    (spec, trace)
}

/// Catches: randomness that does not come from the seed, and a hash that does not see what happened.
#[test]
fn the_seed_is_all_the_difference() {
    let (spec, trace) = drawn();
    let run = |seed| Spec { seed, ..spec.clone() }.roll(&trace, ps(30.0)).result.hash;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// The times at which most is under way: in a drain, while the process stops, while the new one starts, in the soak.
/// Catches: timers, drains or processes that a copy does not carry.
#[test]
fn a_fork_within_a_move_goes_on_as_the_original() {
    let (spec, trace) = drawn();
    let start = ps(30.0);
    let whole = spec.roll(&trace, start);
    assert_eq!(whole.rollout().outcome, "completed");
    for moved in &whole.rollout().moves {
        let instants = [
            moved.taken_out_s,
            moved.drained_s,
            moved.stopped_s,
            moved.gpu_free_s,
            moved.start_issued_s,
            moved.healthy_s,
            moved.warmed_s,
            moved.admitted_s,
            moved.ended_s,
        ];
        for pair in instants.map(|instant| ps(instant.unwrap())).windows(2) {
            for time in [pair[0], u64::midpoint(pair[0], pair[1])] {
                let original = at(&spec, &trace, start, time);
                let fork = on(original.clone(), &spec, start);
                same(&whole, &fork);
                same(&whole, &on(original, &spec, start));
            }
        }
    }
}

/// Two futures of one past: with and without a rollout they differ, and neither learns of the other.
#[test]
fn forks_may_part() {
    let (spec, trace) = drawn();
    let mut past = spec.world(&trace, WITH_ROWS);
    past.run_until(ps(30.0)).unwrap();
    let mut rolling = past.clone();
    rolling.begin_rollout(spec.plan(ps(30.0))).unwrap();
    let rolling = Run::of(rolling);
    same(&Run::of(past), &spec.run(&trace));
    same(&rolling, &spec.roll(&trace, ps(30.0)));
    assert!(rolling.result.steps != spec.run(&trace).result.steps);
}
