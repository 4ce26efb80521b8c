//! Rollouts in which nothing goes wrong.

use slackwater_policy::{Outcome, Plan, VersionRef};

use crate::world::{Run, T0};

pub(crate) fn plan(replicas: usize) -> Plan {
    Plan::rolling("model-1", "model-2", (0..replicas).map(|index| format!("r{index}")))
}

#[test]
fn one_after_another() {
    let mut run = Run::new(plan(3));
    run.run();
    assert_eq!(run.rollout.outcome(), Some(Outcome::Completed));
    assert!(run.all_serve(VersionRef::To));
    assert!(run.rollout.report().exceptions.is_empty());
    for (at, command) in &run.world.issued {
        println!("{:9.1} {:?} {}", at.since(T0).as_secs_f64(), command.replica, command.action.name());
    }
}
