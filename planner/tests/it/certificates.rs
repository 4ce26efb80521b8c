//! Are certificates kept? Windows certified at a risk, held against futures that nobody used.

use slackwater_planner::calendar::Calendar;
use slackwater_planner::certify::{Certify, FRESH, Found, first_stage};
use slackwater_planner::chance::at_most;
use slackwater_planner::future::{Futures, LEAD_PS, Source};
use slackwater_planner::trials::Trials;
use slackwater_planner::watch::Unwatched;
use slackwater_scenarios::Scenario;

use crate::answers::{OFFICE, answer};

const HOUR: u64 = 3_600 * 1_000_000_000_000;

/// Fresh futures for holding a certificate against: opt-in runs take 2,000.
fn fresh() -> u64 {
    std::env::var("CERTIFICATE_FUTURES").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

pub(crate) fn futures_of(scenario: &Scenario) -> Futures {
    let generate = scenario.traffic.generate.clone().unwrap();
    let start = generate.start.0;
    Futures::new(Source::Profile(Box::new(generate)), Calendar::new(None), scenario.seed, start, true, 1.0)
}

/// Catches: certification on futures that were used before, a bound that is none, a window that is another than the one certified.
#[test]
fn a_certified_window_is_not_refuted() {
    let answered = answer(OFFICE, &["plan.horizon=8h"]);
    let best = answered.planned.recommended.as_ref().unwrap();
    let scenario = Scenario::parse(&answered.kit.scenario, "kit").unwrap();
    let futures = futures_of(&scenario);
    let gate = answered.plan.as_ref().unwrap().gate.capacity.clone();
    let first = LEAD_PS + (best.start_s * 1e12) as u64;
    let starts = [first, first + (best.window_s * 1e12) as u64];
    let trials = Trials {
        scenario: &scenario,
        gate: &gate,
        starts: &starts,
        futures: 99 * FRESH..99 * FRESH + fresh(),
        lasts: HOUR,
        order: None,
        stage: "",
    };
    let (found, _) = trials.run(&futures, &Unwatched).unwrap().unwrap();
    let misses =
        found.iter().filter(|future| future.iter().any(slackwater_planner::stretch::Tried::failed)).count()
            as u64;
    // So many misses or more, were the risk what was promised.
    let chance = if misses == 0 { 1.0 } else { 1.0 - at_most(misses - 1, fresh(), best.risk.upper) };
    assert!(chance >= 0.01, "{misses} of {} futures missed; promised at most {}", fresh(), best.risk.upper);
}

/// A window by day is refuted, not certified; one on the edge is neither, when the budget is where its risk is.
#[test]
fn a_bad_window_is_found_out() {
    let scenario = Scenario::parse_with(OFFICE, "test.toml", &["rollout.gate.give_up=\"1s\""]).unwrap();
    let futures = futures_of(&scenario);
    let certify =
        Certify { scenario: &scenario, gate: &[], budget: 0.05, confidence: 0.95, futures: 20, windows: 1 };
    let noon = [LEAD_PS + 12 * HOUR];
    let (window, _) = certify.window(&futures, (0, &noon, HOUR), &Unwatched).unwrap().unwrap();
    assert_eq!(window.found, Found::Unsafe, "{:?}", window.risk);
    let night = [LEAD_PS + 2 * HOUR];
    let (window, _) = certify.window(&futures, (0, &night, HOUR), &Unwatched).unwrap().unwrap();
    assert_eq!(window.found, Found::Safe, "{:?}", window.risk);
    assert!(window.risk.futures >= first_stage(20, 0.05, 0.95, 1));
}

/// Twenty clean futures prove no risk of a hundredth: the first stage alone takes what the budget needs.
#[test]
fn twenty_clean_futures_are_not_enough() {
    assert!(first_stage(20, 0.01, 0.95, 1) >= 368);
    assert!(first_stage(20, 0.01, 0.95, 3) >= 477);
    assert_eq!(first_stage(5_000, 0.01, 0.95, 3), 5_000);
}
