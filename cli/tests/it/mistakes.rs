//! Wrong arguments and wrong files: what is wrong, where, and what to do; never a panic, never silence.

use std::io::Write;

use crate::{slackwater, stderr};

/// The message on standard error of a call that must fail with `code`, and must not panic.
pub(crate) fn refused(arguments: &[&str], code: i32) -> String {
    let output = slackwater(arguments);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty(), "a failure leaves standard output empty");
    message
}

const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";

#[test]
fn a_missing_scenario_is_named() {
    let message = refused(&["simulate", "no-such.toml"], 1);
    assert!(message.contains("no-such.toml"), "{message}");
}

#[test]
fn a_misspelt_key_is_shown_with_what_was_meant() {
    let message = refused(&["simulate", CHAT, "--set", "rollout.drain_timout=30s"], 1);
    assert!(message.contains("did you mean `drain_timeout`"), "{message}");
}

#[test]
fn wrong_arguments_have_their_own_exit_code() {
    refused(&["simulate"], 2);
    refused(&["simulate", CHAT, "--no-such-flag"], 2);
    refused(&["simulate", CHAT, "--replicas", "four"], 2);
    refused(&["frobnicate"], 2);
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_the_key() {
    for (arguments, expected) in [
        (["--scale", "0"], "rate_scale"),
        (["--scale", "NaN"], "rate_scale"),
        (["--replicas", "0"], "replicas"),
        (["--set", "slo.share=1.5"], "share"),
        (["--set", "rollout.strategy=recreate"], "accept_downtime"),
        (["--set", "rollout.only=[\"replica-7\"]"], "replica-7"),
        (["--set", "from.engine.kv_blocks=0"], "kv_blocks"),
    ] {
        let message = refused(&["simulate", CHAT, arguments[0], arguments[1]], 1);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn a_fleet_that_cannot_roll_is_told_what_to_do_instead() {
    for strategy in ["rolling", "canary"] {
        let message = refused(
            &["simulate", CHAT, "--replicas", "1", "--set", &format!("rollout.strategy={strategy}")],
            1,
        );
        for wanted in [strategy, "recreate", "accept_downtime = true", "fleet.replicas = 2", "side by side"] {
            assert!(message.contains(wanted), "{wanted}: {message}");
        }
        assert!(!message.contains("tensor_parallel"), "one GPU is no group: {message}");
    }
    let group = refused(&["simulate", CHAT, "--replicas", "1", "--set", "fleet.tensor_parallel=8"], 1);
    assert!(group.contains("on 8 GPUs"), "{group}");
    assert!(group.contains("fleet.tensor_parallel = 4 and fleet.replicas = 2"), "{group}");
    // The traffic of one replica is none of a rollout's business.
    let calm = slackwater(&[
        "simulate",
        CHAT,
        "--replicas",
        "1",
        "--no-rollout",
        "--set",
        "traffic.generate.duration=2m",
    ]);
    assert!(calm.status.success(), "{}", stderr(&calm));
}

#[test]
fn it_is_refused_before_the_traffic_is_even_looked_for() {
    let message = refused(&["simulate", CHAT, "--replicas", "1", "--trace", "no-such.csv"], 1);
    assert!(message.contains("single replica") && !message.contains("no-such"), "{message}");
}

#[test]
fn a_start_after_the_traffic_is_refused() {
    let message = refused(&["simulate", CHAT, "--start", "3h"], 1);
    assert!(message.contains("--start"), "{message}");
}

#[test]
fn a_broken_trace_is_refused_with_its_row() {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().expect("a temporary file");
    writeln!(
        file,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.9,-3,10"
    )
    .expect("written");
    let path = file.path().to_str().expect("a plain path");
    let message = refused(&["simulate", CHAT, "--trace", path], 1);
    assert!(message.contains(path) && message.contains("row 3"), "{message}");
}

#[test]
fn a_plan_without_a_history_says_what_to_give() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (text, expected) in
        [("", "the file is empty"), ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "the file has no rows")]
    {
        let path = folder.path().join("history.csv");
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("a plain path");
        let message = refused(&["plan", CHAT, "--history", path], 1);
        for part in [expected, path, "there is no history to learn from", "--history FILE"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
