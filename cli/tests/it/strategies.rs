//! The strategies, as a scenario asks for them.

use crate::{at, number, simulated};

const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";

fn moved(result: &serde_json::Value) -> Vec<&str> {
    let moves = at(result, "rollout.moves").as_array().expect("moves are a list");
    moves.iter().map(|one| at(one, "replica").as_str().expect("a name")).collect()
}

#[test]
fn a_canary_is_watched_before_the_others_follow() {
    let result = simulated(&[
        CHAT,
        "--set",
        "rollout.strategy=canary",
        "--set",
        "rollout.canary=replica-2",
        "--set",
        "rollout.canary_soak=10m",
    ]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(moved(&result)[0], "replica-2");
    let watched =
        number(&result, "rollout.moves.1.started_s") - number(&result, "rollout.moves.0.admitted_s");
    assert!(watched >= 600.0, "the canary was watched for {watched} s");
}

#[test]
fn recreate_serves_nobody_for_a_while_and_says_so() {
    let result =
        simulated(&[CHAT, "--set", "rollout.strategy=recreate", "--set", "rollout.accept_downtime=true"]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert!(number(&result, "requests.rejected") > 0.0, "requests met no replica");
    assert_eq!(at(&result, "service.kept"), false);
    let phases = at(&result, "phases").as_array().expect("phases are a list");
    assert!(phases.iter().any(|phase| at(phase, "serving_min") == 0));
}

#[test]
fn a_restart_drill_of_one_replica_moves_that_one_alone() {
    let result =
        simulated(&[CHAT, "--set", "rollout.restart_only=true", "--set", "rollout.only=[\"replica-3\"]"]);
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(moved(&result), ["replica-3"]);
    assert_eq!(at(&result, "service.kept"), true);
}
