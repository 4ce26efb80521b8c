//! Each catalog file shows what its first line claims.

use crate::{at, number, root, simulated};

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
fn every_catalog_file_claims_something_in_its_first_line() {
    let folder = root().join("scenarios/catalog");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the catalog is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# Claim: "), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3);
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
