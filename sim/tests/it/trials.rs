//! Lean worlds say what whole worlds say.

use std::sync::Arc;

use proptest::prelude::*;
use slackwater_sim::{Setup, TraceCursor, World, attainment};

use crate::kit::{Run, WITH_ROWS, near, ps};
use crate::ledgers::{cases, small};

proptest! {
    #![proptest_config(cases(200, "tests/trials-regressions.txt"))]

    /// Run to the same end, a lean world's trial is the whole world's result: the same verdict, durations, drains, cuts, and
    /// latencies to within a bin. Part of its service levels is taken out on the way, as planners do it.
    /// Catches: a fork's books that forget, or count something twice; a bin that is off.
    #[test]
    fn a_trial_is_the_result_in_short(small in small(), keep in 0.0..1.0_f64) {
        let (trace, start) = (small.trace(), ps(small.start_s()));
        let whole = Run::of(small.spec.rolling(&trace, start, WITH_ROWS));
        let setup = Arc::new(Setup::new(&small.spec.scenario()).unwrap());
        let mut lean = World::lean(setup, TraceCursor::new(Arc::clone(&trace))).unwrap();
        lean.run_until(start).unwrap();
        // Nothing that arrived in the judged period may be taken out, nor what the gate looks at.
        lean.take_service_before(ps((small.start_s() * keep - 70.0).max(0.0)));
        let mut fork = lean.clone();
        drop(lean);
        fork.begin_rollout(small.spec.plan(start)).unwrap();
        fork.run_until(ps(40.0 * 3600.0)).unwrap();
        let trial = fork.trial().unwrap();
        let rollout = whole.rollout();
        prop_assert_eq!(&trial.outcome, &rollout.outcome);
        prop_assert_eq!(trial.completed, rollout.outcome == "completed");
        near(trial.duration_s, rollout.ended_s - rollout.started_s);
        near(trial.below_n_s, rollout.below_n_s);
        prop_assert_eq!(&trial.service, &whole.result.service);
        prop_assert_eq!(trial.drains.len(), rollout.drains.len());
        for (short, long) in trial.drains.iter().zip(&rollout.drains) {
            let sorted = |values: &[f64]| { let mut values = values.to_vec(); values.sort_by(f64::total_cmp); values };
            prop_assert_eq!(sorted(&short.residual_s), long.residual_s.clone());
            prop_assert_eq!(sorted(&short.cut_after_s), long.cut_after_s.clone());
        }
        // What was cut or failed before the rollout is no part of it.
        let attempts = &whole.result.attempts;
        prop_assert!(trial.cut <= attempts.cut);
        prop_assert!(trial.failed <= attempts.timed_out + attempts.rejected);
        if start == 0 {
            prop_assert_eq!(trial.cut, attempts.cut);
            let bins = fork.latencies().unwrap();
            prop_assert_eq!(bins.ttft.count(), whole.result.ttft_s.count);
            for (q, exact) in [(0.5, whole.result.ttft_s.p50), (0.99, whole.result.ttft_s.p99)] {
                if let (Some(binned), Some(exact)) = (bins.ttft.quantile_s(q), exact) {
                    prop_assert!((binned / exact - 1.0).abs() < 0.04, "{q}: {binned} {exact}");
                }
            }
        }
    }

    /// The same without a rollout: steps taken out on the way, put together, give the verdict of the whole run.
    #[test]
    fn steps_taken_out_are_the_service_level(small in small()) {
        let trace = small.trace();
        let whole = small.spec.run(&trace);
        let setup = Arc::new(Setup::new(&small.spec.scenario()).unwrap());
        let mut lean = World::lean(setup, TraceCursor::new(Arc::clone(&trace))).unwrap();
        lean.run_until(ps(40.0 * 3600.0)).unwrap();
        let middle = ps(small.span_s() / 2.0);
        let mut steps = lean.take_service_before(middle / ps(10.0) * ps(10.0));
        steps.extend(lean.take_service_before(lean.now() + ps(10.0)));
        // The judged period ends with the run.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // hours
        steps.truncate((whole.result.service.until_s / 10.0).ceil() as usize);
        let (all, worst) = attainment(&steps);
        near(all, whole.result.service.attainment);
        // The books of the whole run end where something last happened to an arrival or a retry: steps after that, with
        // nothing in them, let windows slide on.
        while steps.last() == Some(&(0, 0)) {
            steps.pop();
        }
        let (_, trimmed) = attainment(&steps);
        let exact = whole.result.service.worst_5min_attainment;
        prop_assert!(worst <= exact + 1e-9 && exact <= trimmed + 1e-9, "{worst} {exact} {trimmed}");
    }
}

/// Requests that were under way when steps were taken out still count, in the first step kept.
#[test]
fn a_miss_after_its_step_is_gone_is_not_lost() {
    let spec = crate::kit::Spec { slo: "ttft = 0.001".to_owned(), ..crate::kit::Spec::default() };
    let trace = crate::kit::trace([(1.0, 100, 2_000), (30.0, 10, 10)]);
    let setup = Arc::new(Setup::new(&spec.scenario()).unwrap());
    let mut lean = World::lean(setup, TraceCursor::new(trace)).unwrap();
    lean.run_until(ps(1.001)).unwrap();
    let gone = lean.take_service_before(ps(10.0));
    lean.run_until(ps(3600.0)).unwrap();
    let kept = lean.take_service_before(ps(3600.0));
    let missed = |steps: &[(u32, u32)]| steps.iter().map(|step| step.1).sum::<u32>();
    assert_eq!((missed(&gone), missed(&kept)), (0, 2));
}
