//! Predicted against actual, on rollouts made up with a coverage that is known, and on simulated ones.

use rand::SeedableRng;
use rand_distr::{Distribution, LogNormal};
use rand_xoshiro::SplitMix64;
use slackwater_planner::actual::{
    Calibration, Coverage, Kept, Move, Phases, Prediction, Sample, Seen, by_phase, calibrate, compare,
    measured, of_scenario,
};
use slackwater_policy::{Outcome, Plan, Span, fold};
use slackwater_scenarios::{Delay, Scenario};
use slackwater_sim::{plan_for, start_offset_ps};

/// A rollout of four moves whose loads are drawn, `slower` times as long.
fn made_up(draws: &mut SplitMix64, slower: f64) -> Seen {
    let load = LogNormal::new(60_f64.ln(), 0.25).expect("a distribution");
    let moves: Vec<Move> = (0..4)
        .map(|number| Move {
            replica: format!("replica-{number}"),
            done: Some(true),
            phases: Phases { load_s: Some(load.sample(draws) * slower), ..Phases::default() },
            ..Move::default()
        })
        .collect();
    let rollout_s = moves.iter().filter_map(|it| it.phases.load_s).sum();
    Seen { outcome: Some(Outcome::Completed), moves, rollout_s: Some(rollout_s), ..Seen::default() }
}

/// So many rollouts, each beside a prediction from 200 others.
fn calibrated(rollouts: u64, slower: f64) -> Calibration {
    calibrated_by(7, rollouts, slower)
}

fn calibrated_by(seed: u64, rollouts: u64, slower: f64) -> Calibration {
    let mut draws = SplitMix64::seed_from_u64(seed);
    let predicted = Prediction {
        source: "made up".to_owned(),
        rollouts: (0..200).map(|_| made_up(&mut draws, 1.0)).collect(),
        stated: false,
    };
    let pairs: Vec<(Prediction, Seen)> =
        (0..rollouts).map(|_| (predicted.clone(), made_up(&mut draws, slower))).collect();
    calibrate(&pairs)
}

fn figure<'a>(calibration: &'a Calibration, name: &str) -> &'a Coverage {
    calibration.figures.iter().find(|row| row.name == name).expect("a figure of that name")
}

#[test]
fn draws_of_what_was_predicted_are_within_it_as_often_as_promised() {
    let calibration = calibrated(200, 1.0);
    assert_eq!((calibration.rollouts, calibration.completed, calibration.moves), (200, 200, 800));
    let load = figure(&calibration, "load");
    assert_eq!(load.count, 800);
    assert!(load.within_p95.upper - load.within_p95.lower < 0.05, "800 moves say it closely: {load:?}");
    for (promised, seen) in &load.curve {
        assert!((promised - seen).abs() < 0.05, "{promised}: {seen}");
    }
    assert_ne!(load.kept, Kept::Broken);
    assert_eq!(figure(&calibration, "drain").kept, Kept::Unknown, "nothing was measured of drains");
}

#[test]
fn the_intervals_hold_the_truth_as_often_as_they_say_and_few_are_accused() {
    // A rollout's moves are drawn apart here, so 90 % of the intervals of moves hold the truth, and of whole rollouts too.
    let (mut held, mut accused, sets) = (0_u32, 0_u32, 300_u32);
    for seed in 0..u64::from(sets) {
        let calibration = calibrated_by(seed, 40, 1.0);
        for name in ["load", "rollout"] {
            let row = figure(&calibration, name);
            for (share, promised) in [(row.within_p50, 0.5), (row.within_p95, 0.95)] {
                held += u32::from(share.lower <= promised && promised <= share.upper);
            }
            accused += u32::from(matches!(row.kept, Kept::Broken | Kept::Shifted));
        }
    }
    let (held, accused) = (f64::from(held) / f64::from(4 * sets), f64::from(accused) / f64::from(2 * sets));
    assert!((0.88..0.99).contains(&held), "{held} of the intervals hold the truth");
    assert!(accused < 0.02, "{accused} are accused though their promise is kept");
}

#[test]
fn what_is_slower_than_predicted_is_found_out() {
    let calibration = calibrated(30, 1.3);
    assert_eq!(figure(&calibration, "load").kept, Kept::Broken);
    assert_eq!(figure(&calibration, "rollout").kept, Kept::Broken);
    // Slightly slower: the 95 % point hides it, the median does not.
    let slightly = calibrated(200, 1.06);
    assert_eq!(figure(&slightly, "load").kept, Kept::Shifted, "{:?}", figure(&slightly, "load"));
}

#[test]
fn few_rollouts_show_nothing_and_say_how_many_they_are() {
    let calibration = calibrated(2, 1.0);
    assert_eq!(calibration.rollouts, 2);
    let rollout = figure(&calibration, "rollout");
    assert!(rollout.within_p95.lower < 0.5, "two are no proof: {:?}", rollout.within_p95);
    assert_eq!(rollout.kept, Kept::NoSignAgainst);
    // 59 of 59 within are the first that show 95 % with 95 %, were the prediction known exactly; of 200 simulated it takes more.
    let many = calibrated(100, 0.5);
    assert_eq!(figure(&many, "rollout").kept, Kept::Kept);
}

#[test]
fn a_plan_without_simulations_promises_no_spread() {
    let plan = Plan::rolling("v1", "v2", ["a", "b"]);
    let mut draws = SplitMix64::seed_from_u64(1);
    let calibration = calibrate(&[(Prediction::stated(&plan), made_up(&mut draws, 1.0))]);
    assert_eq!(calibration.rollouts, 0);
}

const SCENARIO: &str = "seed = 3\n[fleet]\nreplicas = 3\n[from]\nengine = 'a100-llama-3.1-8b'\nstop = '2s'\n\
    startup = { median = '20s', p95 = '30s' }\nwarm_up = '3s'\n[to]\nname = 'v2'\n[traffic.generate]\nduration = '20m'\nrate_per_s = 3.0\n\
    [slo]\nttft = '2s'\ntpot = '100ms'\nshare = 0.99\n[rollout]\nstart = '2m'\nsoak = '5s'\ndrain_timeout = '60s'\n";

fn planned(scenario: &Scenario) -> Plan {
    let start = start_offset_ps(scenario.rollout.start, None).expect("a start");
    plan_for(scenario, None, start, &[]).expect("a plan")
}

#[test]
fn simulated_rollouts_predict_simulated_rollouts_and_give_back_their_delays() {
    let scenario = Scenario::parse(SCENARIO, "test").expect("a scenario");
    let plan = planned(&scenario);
    let predicted = of_scenario(&scenario, &plan, 40, "itself").expect("simulated");
    assert_eq!(predicted.rollouts.len(), 40);
    assert_eq!(
        of_scenario(&scenario, &plan, 40, "itself").expect("again"),
        predicted,
        "same seed, same bits"
    );

    // Rollouts of other seeds stand for what was lived through.
    let other = Scenario::parse(&SCENARIO.replace("seed = 3", "seed = 1000"), "test").expect("a scenario");
    let lived = of_scenario(&other, &plan, 30, "other").expect("simulated").rollouts;
    let pairs: Vec<(Prediction, Seen)> = lived.iter().map(|seen| (predicted.clone(), seen.clone())).collect();
    let calibration = calibrate(&pairs);
    for row in &calibration.figures {
        assert!(!matches!(row.kept, Kept::Broken | Kept::Shifted), "{row:?}");
    }
    let load = figure(&calibration, "load").within_p95;
    assert!(load.lower <= 0.95 && load.upper >= 0.95, "{load:?}");

    let compared = compare(&plan, &predicted, lived[0].clone(), Vec::new());
    assert_eq!(compared.predicted.moves.len(), 3);
    let row = compared.phases.iter().find(|row| row.name == "load").expect("a row");
    let band = row.predicted.expect("a band");
    assert!((19.0..24.0).contains(&band.p50), "{band:?}");
    assert!((27.0..36.0).contains(&band.p95.expect("120 moves have one")), "{band:?}");
    let names: Vec<&str> = compared.latency.iter().map(|row| row.phase.as_str()).collect();
    assert_eq!(names, ["before", "replica-0", "replica-1", "replica-2", "after"]);
}

#[test]
fn measured_delays_are_those_of_the_scenario() {
    let scenario = Scenario::parse(SCENARIO, "test").expect("a scenario");
    let plan = planned(&scenario);
    let reports: Vec<_> = (0..12)
        .map(|seed| {
            let text = SCENARIO.replace("seed = 3", &format!("seed = {seed}"));
            let scenario = Scenario::parse(&text, "test").expect("a scenario");
            let journal = journal_of(&scenario, &plan);
            (plan.clone(), fold(&plan, &journal))
        })
        .collect();
    let found = measured(&reports);
    let of =
        |key: &str| found.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("no {key}: {found:?}"));
    assert_eq!(of("to.startup").count, 36);
    let Delay::Lognormal { median, p95 } = of("to.startup").delay else { panic!("{found:?}") };
    assert!((median.as_secs_f64() / 20.0 - 1.0).abs() < 0.1, "{median}");
    assert!((p95.as_secs_f64() / 30.0 - 1.0).abs() < 0.15, "{p95}");
    assert!((of("from.stop").delay.median().as_secs_f64() - 2.0).abs() < 0.05, "{found:?}");
    assert!(found.iter().all(|row| row.key != "to.stop"), "no new version was stopped");
}

fn journal_of(scenario: &Scenario, plan: &Plan) -> Vec<slackwater_policy::Record> {
    use slackwater_sim::{RunInfo, RunOptions, Setup, World};
    let setup = std::sync::Arc::new(Setup::new(scenario).expect("a setup"));
    let traffic = scenario.open_traffic().expect("traffic");
    let mut world = World::new(setup, traffic, RunOptions { series: false, rows: false }).expect("a world");
    world.run_until(start_offset_ps(scenario.rollout.start, None).expect("a start")).expect("run");
    world.begin_rollout(plan.clone()).expect("begun");
    world.run().expect("run");
    world.finish(RunInfo::default()).1
}

#[test]
fn a_request_belongs_to_the_phase_in_which_it_was_sent() {
    let scenario = Scenario::parse(SCENARIO, "test").expect("a scenario");
    let plan = planned(&scenario);
    let report = fold(&plan, &journal_of(&scenario, &plan));
    let first = report.moves[0].started_at;
    let second = report.moves[1].started_at;
    let at = |sent_at, ttft_s| Sample { sent_at, ttft_s: Some(ttft_s), tpot_s: None };
    let before = slackwater_policy::Time::ZERO;
    let samples = [
        at(before, 1.0),
        at(first, 2.0),
        at(first + Span::from_nanos(1), 4.0),
        at(second, 8.0),
        at(report.ended_at.expect("it ended"), 16.0),
    ];
    let found = by_phase(&plan, &report, &samples);
    let told: Vec<(&str, u64, Option<f64>)> =
        found.iter().map(|row| (row.phase.as_str(), row.count, row.ttft_p99_s)).collect();
    assert_eq!(told[0], ("before", 1, Some(1.0)));
    assert_eq!((told[1].0, told[1].1), ("replica-0", 2));
    assert_eq!(told[2], ("replica-1", 1, Some(8.0)));
    assert_eq!(told[3], ("after", 1, Some(16.0)));
}

#[test]
fn a_scenario_of_another_fleet_is_refused_by_name() {
    let scenario = Scenario::parse(SCENARIO, "test").expect("a scenario");
    let plan = Plan::rolling("v1", "v2", ["a", "b"]);
    let refused = of_scenario(&scenario, &plan, 1, "itself").expect_err("other replicas").to_string();
    assert!(refused.contains("a, b") && refused.contains("replica-0"), "{refused}");
}
