//! Each catalog file shows what its first line claims.

use crate::{at, number, root, simulated, slackwater, stderr};

#[test]
fn four_gpu_chat_is_barely_noticed() {
    let result = simulated(&["scenarios/catalog/four-gpu-chat.toml"]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(at(&result, "rollout.moves").as_array().map(Vec::len), Some(4));
    assert_eq!(number(&result, "requests.cut"), 0.0);
    assert_eq!(at(&result, "service.kept"), true);
    let (during, without) = (number(&result, "e2e_s.p99"), number(&result, "baseline.e2e_s.p99"));
    assert!(during < 1.1 * without, "p99 of the whole request {during} s against {without} s");
}

#[test]
fn the_peak_is_too_high_for_three_but_three_hours_earlier_is_not() {
    let file = "scenarios/catalog/peak-too-high.toml";
    let peak = simulated(&[file]);
    assert_eq!(at(&peak, "baseline.service.kept"), true, "four replicas carry the peak");
    assert_eq!(at(&peak, "service.kept"), false, "three don't");
    assert!(number(&peak, "service.attainment") < 0.5);
    let earlier = simulated(&[file, "--start", "2026-01-05T10:15:00Z"]);
    assert_eq!(at(&earlier, "service.kept"), true);
    assert_eq!(at(&earlier, "rollout.outcome"), "completed");
}

#[test]
fn reasoning_outlives_the_drain_though_there_is_room() {
    let file = "scenarios/catalog/reasoning-drain.toml";
    let result = simulated(&[file]);
    assert!(number(&result, "requests.cut") >= 20.0);
    assert_eq!(number(&result, "baseline.requests.cut"), 0.0);
    for phase in at(&result, "phases").as_array().expect("phases are a list") {
        assert!(number(phase, "queue_max") < 5.0, "nobody waits for long: {phase}");
    }
    let patient = simulated(&[file, "--set", "rollout.drain_timeout=15m"]);
    assert_eq!(number(&patient, "requests.cut"), 0.0, "a drain as long as the clients' patience cuts nobody");
}

#[test]
fn a_version_that_never_gets_healthy_is_rolled_back_and_barely_noticed() {
    let result = simulated(&["scenarios/catalog/start-never-healthy.toml"]);
    assert_eq!(at(&result, "rollout.outcome"), "rolled_back");
    let moves = at(&result, "rollout.moves").as_array().expect("moves are a list");
    assert!(moves.iter().all(|moved| at(moved, "replica") == "replica-0"), "it is tried on one replica only");
    assert_eq!(at(&result, "rollout.report.moves.0.attempts"), 2, "it was tried twice");
    let away = number(&result, "rollout.below_n_s");
    assert!((600.0..720.0).contains(&away), "{away} s at N-1");
    assert_eq!(number(&result, "requests.cut"), 0.0);
    assert_eq!(number(&result, "requests.completed"), number(&result, "requests.arrived"));
    assert_eq!(at(&result, "service.kept"), true);
}

#[test]
fn one_more_gpu_lost_in_the_middle_of_a_move_is_one_too_many() {
    let file = "scenarios/catalog/one-more-gpu-lost.toml";
    let result = simulated(&[file]);
    assert_eq!(at(&result, "service.kept"), false, "two don't carry the load");
    assert_eq!(at(&result, "baseline.service.kept"), true, "three do, the lost GPU being lost all the same");
    let outcome = at(&result, "rollout.outcome").as_str().expect("an outcome is text");
    assert!(outcome.starts_with("held: ") && outcome.contains("replica-2"), "{outcome}");
    let moved: Vec<_> = at(&result, "rollout.moves").as_array().expect("a list").iter().collect();
    assert!(
        moved.iter().all(|moved| ["replica-0", "replica-2"].iter().any(|name| at(moved, "replica") == name))
    );
    for phase in at(&result, "phases").as_array().expect("phases are a list") {
        assert!(number(phase, "serving_min") >= 2.0, "never a third one: {phase}");
    }
    let sound = simulated(&[file, "--set", "faults=[]"]);
    assert_eq!(at(&sound, "service.kept"), true, "the rollout alone is harmless");
    assert_eq!(at(&sound, "rollout.outcome"), "completed");
}

fn phases(result: &serde_json::Value) -> &Vec<serde_json::Value> {
    at(result, "phases").as_array().expect("phases are a list")
}

/// The last phase: after the rollout, or while it holds.
fn last(result: &serde_json::Value) -> &serde_json::Value {
    phases(result).last().expect("there is a phase")
}

#[test]
fn a_storm_of_retries_outlives_its_cause() {
    let file = "scenarios/catalog/retry-storm.toml";
    let storm = simulated(&[file]);
    let away = number(&storm, "rollout.below_n_s");
    assert!((70.0..76.0).contains(&away), "away for {away} s");
    assert_eq!(at(last(&storm), "serving_min"), 4, "all are back");
    assert!(number(last(&storm), "until_s") - number(last(&storm), "from_s") > 900.0);
    assert!(number(last(&storm), "attainment") < 0.01, "and nobody is served in time");
    assert!(number(&storm, "retries.worst_minute") > 7.0);
    assert_eq!(at(&storm, "baseline.service.kept"), true, "the same clients do no harm without a cause");
    let budget = simulated(&[file, "--set", "clients.retries.budget=0.1"]);
    let usual = simulated(&[file, "--set", "clients.retries={}"]);
    for calm in [budget, usual] {
        assert!(number(last(&calm), "attainment") > 0.99);
        assert!(number(&calm, "retries.worst_minute") < 1.2);
    }
}

#[test]
fn silence_is_taken_for_death_above_all_at_n_minus_one() {
    let file = "scenarios/catalog/silent-reasoning-read-timeout.toml";
    let result = simulated(&[file]);
    assert_eq!(number(&result, "retries.read_timed_out"), number(&result, "requests.timed_out"));
    let lost = |full: bool| {
        let phases = phases(&result).iter().filter(|phase| (at(phase, "serving_min") == 4) == full);
        let (lost, all) = phases.fold((0.0, 0.0), |(lost, all), phase| {
            (lost + number(phase, "requests.timed_out"), all + number(phase, "requests.arrived"))
        });
        lost / all
    };
    let (full, fewer) = (lost(true), lost(false));
    assert!((0.05..0.09).contains(&full), "{full} lost at N");
    assert!(fewer > 1.9 * full, "{fewer} lost at N-1 against {full}");
    assert!(phases(&result).iter().all(|phase| number(phase, "queue_max") < 5.0));
    assert!(number(&result, "ttft_s.p99") < 1.0);
    let patient = simulated(&[file, "--set", "router.read_timeout=10m"]);
    assert_eq!(number(&patient, "requests.completed"), number(&patient, "requests.arrived"));
}

#[test]
fn groups_of_gpus_roll_as_replicas_do() {
    let result = simulated(&["scenarios/catalog/eight-gpus-tp2.toml"]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(at(&result, "rollout.moves").as_array().map(Vec::len), Some(4));
    assert!(phases(&result).iter().all(|phase| number(phase, "serving_min") >= 3.0));
    assert_eq!(number(&result, "requests.cut"), 0.0);
    assert_eq!(at(&result, "service.kept"), true);
    assert!(number(&result, "ttft_s.p99") < 0.33);
}

#[test]
fn one_replica_over_all_gpus_cannot_roll_and_recreate_shows_its_price() {
    let file = "scenarios/catalog/single-tp8.toml";
    let result = simulated(&[file]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    let nobody = number(&result, "rollout.below_n_s");
    assert!((270.0..330.0).contains(&nobody), "{nobody} s without anybody");
    assert!((800.0..1000.0).contains(&number(&result, "requests.rejected")));
    assert_eq!(at(&result, "service.kept"), false);
    let refused = slackwater(&["simulate", file, "--set", "rollout.strategy=rolling"]);
    assert_eq!(refused.status.code(), Some(1));
    let message = stderr(&refused);
    for wanted in ["on 8 GPUs", "recreate", "fleet.replicas = 2", "fleet.tensor_parallel = 4"] {
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
}

#[test]
fn a_slower_and_more_verbose_version_fails_by_its_capacity() {
    let file = "scenarios/catalog/slower-and-more-verbose.toml";
    let result = simulated(&[file]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(number(&result, "requests.cut"), 0.0);
    assert_eq!(at(last(&result), "serving_min"), 4);
    assert!(number(last(&result), "attainment") < 0.7, "all four together miss it");
    let alike = ["to.step_time_factor=1", "to.output_length_factor=1"];
    let alike = simulated(&[file, "--set", alike[0], "--set", alike[1]]);
    assert_eq!(at(&alike, "service.kept"), true);
    let less = simulated(&[file, "--scale", "0.8"]);
    assert!(number(last(&less), "attainment") > 0.99, "with a fifth less traffic it is well afterwards");
}

#[test]
fn a_window_that_closes_holds_at_n_with_two_versions() {
    let result = simulated(&["scenarios/catalog/window-closes.toml"]);
    let outcome = at(&result, "rollout.outcome").as_str().expect("an outcome is text");
    assert!(outcome.starts_with("held: ") && outcome.contains("window"), "{outcome}");
    let moves = at(&result, "rollout.moves").as_array().expect("moves are a list");
    assert_eq!(moves.iter().filter(|one| at(one, "result") == "done").count(), 2);
    assert_eq!(at(last(&result), "name"), "hold");
    assert_eq!(at(last(&result), "serving_min"), 4);
    assert_eq!(at(&result, "service.kept"), true);
}

#[test]
fn a_canary_finds_a_version_slower_than_declared_before_anybody_else_is_touched() {
    let file = "scenarios/catalog/canary-slower-than-declared.toml";
    let found = simulated(&[file]);
    assert_eq!(at(&found, "rollout.outcome"), "rolled_back");
    let moves = at(&found, "rollout.moves").as_array().expect("moves are a list");
    assert!(moves.iter().all(|moved| at(moved, "replica") == "replica-0"), "nobody else was touched");
    let served = number(&found, "rollout.moves.1.started_s") - number(&found, "rollout.moves.0.admitted_s");
    assert!((120.0..600.0).contains(&served), "found {served} s after the canary's admission");
    assert_eq!(at(&found, "rollout.canary.worse_in"), "tpot");
    assert_eq!(number(&found, "requests.cut"), 0.0);
    assert_eq!(at(&found, "service.kept"), true);
    let declared = ["rollout.compare.ttft_ratio=1.4", "rollout.compare.tpot_ratio=1.4"];
    let declared = simulated(&[file, "--set", declared[0], "--set", declared[1]]);
    assert_eq!(at(&declared, "rollout.outcome"), "completed");
}

#[test]
fn sessions_kept_at_their_version_hardly_see_two() {
    let file = "scenarios/catalog/sessions-one-version.toml";
    let kept = simulated(&[file]);
    let left = simulated(&[file, "--set", "router.sticky=none"]);
    for result in [&kept, &left] {
        assert_eq!(at(result, "rollout.outcome"), "completed");
        assert!(number(result, "sessions.judged") > 300.0);
        assert_eq!(
            number(result, "baseline.sessions.saw_both"),
            0.0,
            "without a rollout there is one version"
        );
    }
    assert!(number(&left, "sessions.saw_both_share") > 0.45, "{}", at(&left, "sessions"));
    assert!(number(&left, "sessions.flips_back") > 0.5 * number(&left, "sessions.saw_both"));
    assert!(number(&kept, "sessions.saw_both_share") < 0.1, "{}", at(&kept, "sessions"));
    assert_eq!(number(&kept, "sessions.flips_back"), 0.0);
    assert_eq!(at(&kept, "service.kept"), true, "and it costs nobody the service level");
}

#[test]
fn agents_meet_cold_caches_not_too_few_replicas() {
    let file = "scenarios/catalog/agents-cold-cache.toml";
    let result = simulated(&[file]);
    let three = simulated(&[file, "--no-rollout", "--replicas", "3"]);
    let warm = number(&result, "baseline.ttft_s.p99");
    assert!(number(&result, "baseline.prefix_cache.all.hit_share") > 0.965);
    assert!(warm < 0.2, "{warm} s from four replicas");
    assert!(number(&three, "ttft_s.p99") < 0.2, "{} s from three", number(&three, "ttft_s.p99"));
    let phases = at(&result, "phases").as_array().expect("phases are a list");
    let moves = phases
        .iter()
        .filter(|phase| at(phase, "name").as_str().is_some_and(|name| name.starts_with("replica-")));
    let worst = moves.map(|phase| number(phase, "ttft_s.p99")).fold(0.0, f64::max);
    assert!(worst > 10.0 * warm, "{worst} s in the worst move, {warm} s without a rollout");
    let [during, after] =
        ["during", "after"].map(|part| number(&result, &format!("prefix_cache.{part}.hit_share")));
    assert!(during < after - 0.005, "{during} {after}");
}

#[test]
fn an_office_has_hours_in_which_one_replica_is_enough() {
    let file = "scenarios/catalog/office-week.toml";
    let sunday = simulated(&[file]);
    assert_eq!(at(&sunday, "rollout.outcome"), "completed");
    assert_eq!(at(&sunday, "service.kept"), true);
    let tuesday = simulated(&[file, "--start", "2026-03-24T13:00:00Z"]);
    assert_eq!(at(&tuesday, "baseline.service.kept"), true, "two carry the afternoon");
    assert_eq!(at(&tuesday, "service.kept"), false, "one does not");
}

/// A week of simulation from a series of rates, where it lies beside the checkout.
fn week_of_rates(name: &str, only: &str, scale: &str) -> Option<serde_json::Value> {
    let series = root().join("../shared/data/traces").join(name);
    if !series.exists() {
        println!("skipped: {} is not there", series.display());
        return None;
    }
    let series = series.to_str().expect("a plain path");
    let only = format!("traffic.only={only}");
    let tokens = "traffic.assume_tokens={ input = [{ median = 900, sigma = 1.0 }], output = [{ median = 100, sigma = 0.8 }] }";
    let bursts = "traffic.bursts={ clients = { count = 100, cv = 1.2, cv_p95 = 10 } }";
    let file = "scenarios/catalog/four-gpu-chat.toml";
    let keys = ["--set", &only, "--set", tokens, "--set", bursts, "--scale", scale, "--start", "3d"];
    Some(simulated(&[&[file, "--trace", series][..], &keys].concat()))
}

#[test]
fn a_measured_week_of_rates_is_simulated_whole() {
    // 45.1 requests a second and 1,790, a fiftieth and a two-thousandth of them.
    for (name, only, scale, rate) in [
        ("azure2024_week_rate_10min_digitised.csv.gz", "conv", "0.02", 0.902),
        ("servegen_total_rate_10min.csv.gz", "m-mid", "0.0005", 0.895),
    ] {
        let Some(result) = week_of_rates(name, only, scale) else { continue };
        let days = number(&result, "traffic.span_s") / 86_400.0;
        assert!((6.9..14.1).contains(&days), "{name}: {days} days");
        let expected = rate * days * 86_400.0;
        let arrived = number(&result, "requests.arrived");
        assert!((arrived / expected - 1.0).abs() < 0.05, "{name}: {arrived} of {expected}");
        assert_eq!(at(&result, "rollout.outcome"), "completed");
        assert_eq!(number(&result, "requests.completed"), arrived, "{name}: nobody is lost at this rate");
        assert_eq!(at(&result, "service.kept"), true);
    }
}

#[test]
fn every_catalog_file_claims_something_in_its_first_line() {
    let folder = root().join("scenarios/catalog");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the catalog is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# Claim: "), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 14);
}

#[test]
fn a_real_hour_at_its_own_rate_and_where_it_hurts() {
    let trace = root().join("../shared/data/traces/azure2023_conv.csv.gz");
    if !trace.exists() {
        println!("skipped: {} is not there", trace.display());
        return;
    }
    let trace = trace.to_str().expect("a plain path");
    let file = "scenarios/catalog/four-gpu-chat.toml";
    let calm = simulated(&[file, "--trace", trace]);
    assert_eq!(number(&calm, "requests.arrived"), 19_366.0);
    assert_eq!(
        at(&calm, "service.kept"),
        true,
        "at the trace's own rate four A100-class replicas barely notice"
    );
    let hurt = simulated(&[file, "--trace", trace, "--scale", "3", "--start", "2m"]);
    assert_eq!(at(&hurt, "baseline.service.kept"), true);
    assert_eq!(at(&hurt, "service.kept"), false, "at three times the rate N-1 hurts");
}
