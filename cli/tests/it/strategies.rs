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

fn set<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let overrides = keys.iter().flat_map(|key| ["--set", key]);
    std::iter::once(CHAT).chain(overrides).collect()
}

#[test]
fn a_surge_never_serves_on_fewer_and_gives_the_spare_back() {
    let result = simulated(&set(&["rollout.strategy=surge", "fleet.spares=1"]));
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    assert_eq!(at(&result, "rollout.below_n_s"), 0.0);
    assert_eq!(moved(&result), ["spare-0", "replica-0", "replica-1", "replica-2", "replica-3", "spare-0"]);
    let phases = at(&result, "phases").as_array().expect("phases are a list");
    assert!(phases.iter().all(|phase| at(phase, "serving_min") == 4));
}

#[test]
fn blue_green_switches_once_and_side_by_side_one_by_one_and_neither_serves_on_fewer() {
    let onto_spares =
        simulated(&set(&["rollout.strategy=blue-green", "fleet.spares=4", "rollout.keep_old=5m"]));
    let beside = simulated(&set(&["rollout.strategy=side-by-side", "rollout.keep_old=5m"]));
    for result in [&onto_spares, &beside] {
        assert_eq!(at(result, "rollout.outcome"), "completed");
        assert_eq!(at(result, "rollout.below_n_s"), 0.0);
        assert_eq!(at(result, "requests.cut"), 0);
    }
    // Both versions serve for the moment of the switch, or from the first twin to the last.
    let admitted = |result, index: usize| number(result, &format!("rollout.moves.{index}.admitted_s"));
    assert!(admitted(&onto_spares, 3) - admitted(&onto_spares, 0) < 1.0);
    assert!(admitted(&beside, 6) - admitted(&beside, 0) > 180.0, "{:?}", moved(&beside));
}

#[test]
fn halves_serve_on_half_and_a_swap_is_back_sooner_than_a_restart() {
    let halves = simulated(&set(&["rollout.strategy=halves"]));
    assert_eq!(at(&halves, "rollout.outcome"), "completed");
    let phases = at(&halves, "phases").as_array().expect("phases are a list");
    assert_eq!(phases.iter().filter_map(|phase| at(phase, "serving_min").as_u64()).min(), Some(2));
    let rolling = simulated(&set(&[]));
    let swap = simulated(&set(&["rollout.strategy=swap"]));
    assert_eq!(at(&swap, "rollout.outcome"), "completed");
    assert!(number(&swap, "rollout.below_n_s") < 0.5 * number(&rolling, "rollout.below_n_s"));
}

#[test]
fn a_version_that_fails_its_evaluation_never_serves_or_is_taken_back() {
    let fails = ["to.passes_evaluation=false", "rollout.quality.takes=90s"];
    let before = simulated(&set(&[&fails[..], &["rollout.quality.out_of_rotation=true"]].concat()));
    assert_eq!(at(&before, "rollout.outcome"), "rolled_back");
    assert!(at(&before, "rollout.moves.0.admitted_s").is_null(), "it never took a request");
    assert_eq!(moved(&before), ["replica-0", "replica-0"], "there, and back to the old version");
    let live = ["rollout.quality.out_of_rotation=false", "rollout.quality.live=true"];
    let live = simulated(&set(&[&fails[..], &live].concat()));
    assert_eq!(at(&live, "rollout.outcome"), "rolled_back");
    assert_eq!(at(&live, "requests.cut"), 0);
    let passes = simulated(&set(&["rollout.quality.live=true", "rollout.quality.replicas=each"]));
    assert_eq!(at(&passes, "rollout.outcome"), "completed");
}

#[test]
fn a_ramp_brings_a_replica_back_little_by_little() {
    let ramp = "rollout.ramp={ from = 10, steps = 9, over = \"3m\" }";
    let result = simulated(&set(&["router.policy=haproxy-leastconn", ramp]));
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    let first = number(&result, "rollout.moves.0.admitted_s");
    let next = number(&result, "rollout.moves.1.started_s");
    assert!(next - first >= 240.0, "the ramp's three minutes and the soak's one: {}", next - first);
}

#[test]
fn a_canary_slower_than_declared_is_found_and_taken_back() {
    let canary = ["rollout.strategy=canary", "to.step_time_factor=1.3"];
    let undeclared = simulated(&set(&[&canary[..], &["rollout.compare.false_alarm=0.01"]].concat()));
    assert_eq!(at(&undeclared, "rollout.outcome"), "rolled_back");
    assert_eq!(
        moved(&undeclared).iter().filter(|name| **name != "replica-0").count(),
        0,
        "nobody else was touched"
    );
    let declared = ["rollout.compare.ttft_ratio=1.4", "rollout.compare.tpot_ratio=1.4"];
    let declared = simulated(&set(&[&canary[..], &declared].concat()));
    assert_eq!(at(&declared, "rollout.outcome"), "completed");
}

#[test]
fn what_a_strategy_needs_is_asked_for() {
    for (keys, wanted) in [
        (&["rollout.strategy=blue-green"][..], "fleet.spares = 4"),
        (&["rollout.strategy=surge"], "fleet.spares"),
        (&["fleet.spares=1"], "surge"),
        (&["rollout.compare.blocks_min=5"], "canary"),
        (&["rollout.first_half=[\"replica-0\"]"], "halves"),
        (&["rollout.ramp={ from = 0, steps = 1, over = \"1m\" }"], "rollout.ramp.from"),
        (&["rollout.quality.out_of_rotation=false"], "never asked"),
    ] {
        let arguments: Vec<&str> = std::iter::once("simulate").chain(set(keys)).collect();
        let said = crate::mistakes::refused(&arguments, 1);
        assert!(said.contains(wanted), "{keys:?}: {said}");
    }
}

#[test]
fn a_rollback_half_way_has_its_price_and_an_abort_leaves_two_versions() {
    let order = |what: &str| format!("orders=[{{ at = \"20m30s\", order = \"{what}\" }}]");
    let (rollback, abort) = (order("rollback"), order("abort"));
    let through = simulated(&set(&[]));
    let back = simulated(&set(&[&rollback]));
    assert_eq!(at(&back, "rollout.outcome"), "rolled_back");
    // At 20 min 30 s two have moved and the third is on its way: all three are moved back.
    let names = moved(&back);
    assert_eq!(names.len(), 6, "{names:?}");
    let price = number(&back, "rollout.ended_s") - 1230.0;
    assert!(price > 120.0, "two more moves at N-1: {price} s");
    assert!(number(&back, "rollout.below_n_s") > number(&through, "rollout.below_n_s"));
    let left = simulated(&set(&[&abort]));
    assert_eq!(at(&left, "rollout.outcome"), "aborted");
    let last = at(&left, "phases").as_array().and_then(|phases| phases.last()).expect("phases are a list");
    assert_eq!(at(last, "serving_min"), 4, "hold means N, and so does the end");
}

#[test]
fn a_rollout_that_a_closing_window_held_goes_on_in_the_next() {
    let windows = ["rollout.window=5m30s", "rollout.next_windows=[{ start = \"35m\", lasts = \"15m\" }]"];
    let result = simulated(&set(&windows));
    assert_eq!(at(&result, "rollout.outcome"), "completed");
    let holds = at(&result, "rollout.report.holds").as_array().expect("holds are a list");
    assert_eq!(holds.len(), 1);
    let moves = at(&result, "rollout.moves").as_array().expect("moves are a list");
    let left = moves.iter().filter_map(|one| at(one, "taken_out_s").as_f64()).collect::<Vec<_>>();
    let within = |from: f64, to: f64| left.iter().filter(|at| (from..to).contains(*at)).count();
    assert_eq!((left.len(), within(900.0, 1230.0) + within(2100.0, 3000.0)), (4, 4), "each in a window");
    assert!(within(900.0, 1230.0) >= 1 && within(2100.0, 3000.0) >= 1);
    let alone = ["rollout.next_windows=[{ start = \"35m\", lasts = \"15m\" }]"];
    let arguments: Vec<&str> = std::iter::once("simulate").chain(set(&alone)).collect();
    assert!(crate::mistakes::refused(&arguments, 1).contains("no first window"));
}

/// p99 TPOT of the worst phase of the moves.
fn worst_tpot(result: &serde_json::Value) -> f64 {
    let phases = at(result, "phases").as_array().expect("phases are a list").iter();
    let moves =
        phases.filter(|phase| at(phase, "name").as_str().is_some_and(|name| name.starts_with("replica-")));
    moves.filter_map(|phase| at(phase, "tpot_s.p99").as_f64()).fold(0.0, f64::max)
}

#[test]
fn two_engines_at_work_on_the_same_gpu_slow_each_other_down_and_one_alone_is_not_slowed() {
    let beside = |slowdown: &str, more: &[&str]| {
        let keys = ["rollout.strategy=side-by-side", "rollout.keep_old=10m", "to.name=v2", slowdown];
        simulated(&set(&[&keys[..], more].concat()))
    };
    let (free, slow) = (beside("rollout.beside_slowdown=1", &[]), beside("rollout.beside_slowdown=6", &[]));
    assert!(worst_tpot(&slow) > 1.3 * worst_tpot(&free), "{} {}", worst_tpot(&slow), worst_tpot(&free));
    // The old one is drained within seconds, and kept for ten minutes: kept, it costs nothing.
    let p50 = |result| number(result, "tpot_s.p50");
    assert!(p50(&slow) < 1.02 * p50(&free), "{} {}", p50(&slow), p50(&free));
    // Nor does one that died while both had work, though nobody was told of it for long.
    let died = "faults=[{ kind = \"replica-crash\", replica = \"replica-0\", during = \"drain\", of = \"replica-0\", noticed_after = \"20m\" }]";
    let died = beside("rollout.beside_slowdown=6", &[died]);
    assert!(p50(&died) < 1.02 * p50(&free), "{} {}", p50(&died), p50(&free));
}
