//! Whole rollouts under load: nothing is lost.

use slackwater_policy::{Outcome, fold};

use super::fleet::{Fleet, Front, Spec, exit, is_there, records, text};

/// Rolls a fleet so many times, there and back.
pub(super) fn rolled(fleet: &mut Fleet, rollouts: usize) {
    for round in 0..rollouts {
        let output = fleet.run(&[]);
        assert_eq!(exit(&output), 0, "round {round}: {}", text(&output));
        let report = fold(&fleet.plan, &records(&fleet.state()));
        assert_eq!((report.outcome, report.cut), (Some(Outcome::Completed), 0), "round {round}");
        let new = format!("/models/v{}", if round % 2 == 0 { 2 } else { 1 });
        assert_eq!(fleet.roots(), vec![new; 4], "round {round}");
        fleet.turn_round();
    }
}

/// The same with streams on it all the time.
fn nothing_is_lost(front: Front, rollouts: usize) {
    let spec = Spec::new(front, 4);
    let mut fleet = Fleet::start(&spec);
    let load = fleet.load(12);
    rolled(&mut fleet, rollouts);
    let report = fleet.stop_load(load);
    eprintln!(
        "{front:?}: {rollouts} rollouts of 4, {} streams sent, {} completed, {} failed, {} truncated, {} duplicated",
        report.sent, report.completed, report.failed, report.truncated, report.duplicated
    );
    assert!(report.is_clean(), "{front:?}: {:?}", report.faults);
    assert!(report.sent > 50, "{front:?}: only {} streams were sent", report.sent);
}

pub(super) fn how_many() -> usize {
    std::env::var("SLACKWATER_ROLLOUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(2)
}

#[test]
fn nothing_is_lost_behind_the_gateway() {
    nothing_is_lost(Front::Gateway, how_many());
}

#[test]
fn nothing_is_lost_behind_nginx() {
    if is_there("nginx") {
        nothing_is_lost(Front::Nginx, how_many());
    }
}

#[test]
fn nothing_is_lost_behind_haproxy() {
    if is_there("haproxy") {
        nothing_is_lost(Front::Haproxy, how_many());
    }
}
