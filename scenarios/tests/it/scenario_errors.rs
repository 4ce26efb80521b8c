//! Every mistake is shown where it was written, with what would be right.

use slackwater_scenarios::{Scenario, ScenarioError};

use crate::support::{SHORT, on_disk};

/// What is added to the short scenario; line and column of the mistake within it; words of the message.
const MISTAKES: &[(&str, (usize, usize), &[&str])] = &[
    ("[rollout]\nsoack = 3", (2, 1), &["unknown key `soack` in `rollout`", "did you mean `soak`?"]),
    ("[rollot]", (1, 2), &["unknown key `rollot` at the top level", "did you mean `rollout`?"]),
    ("[rollout]\nsoak = '3 parsecs'", (2, 8), &["`rollout.soak`", "not a duration", "90s"]),
    ("[rollout]\nsoak = -1", (2, 8), &["`rollout.soak`", "between 0 and 200 days"]),
    ("[rollout]\nsoak = inf", (2, 8), &["`rollout.soak`", "between 0 and 200 days"]),
    ("[rollout]\nsoak = '300d'", (2, 8), &["longer than 200 days"]),
    ("[rollout]\nat_deadline = 'cutt'", (2, 15), &["unknown choice `cutt`", "did you mean `cut`?"]),
    ("[rollout]\nmax_unavailable = 'one'", (2, 19), &["`rollout.max_unavailable`", "whole number"]),
    ("[rollout]\nmax_unavailable = -1", (2, 19), &["`-1`", "whole number from 0"]),
    ("[rollout]\nmax_unavailable = 99999999999", (2, 19), &["99999999999", "4294967295"]),
    ("[rollout]\nmax_unavailable = 0", (2, 19), &["from 1 up"]),
    ("[rollout]\nat_deadline = {extend = {to = '60s'}}", (2, 31), &["not after drain_timeout"]),
    ("[rollout]\nstart = 2026-01-05T00:00:00", (2, 9), &["2026-01-05T03:00:00Z"]),
    ("[rollout]\norder = ['replica-9']", (2, 10), &["no replica is called `replica-9`", "did you mean"]),
    ("[slo]\nshare = nan", (2, 9), &["NaN is not a share", "0.99"]),
    ("[slo]\nshare = 1.2.3", (2, 12), &["invalid"]),
    ("[slo]\nttft = '2s'\nttft = '3s'", (3, 1), &["duplicate key"]),
    ("[to]\nengine = 'h100-qwen3-14'", (2, 10), &["no engine profile", "did you mean `h100-qwen3-14b`?"]),
    ("[to]\nengine = {c0_ms = 1}", (2, 10), &["missing key `source`", "base = \"h100-qwen3-14b\""]),
    ("[to.engine]\nbase = 'h100-qwen3-14b'\nc0_ms = -1", (3, 9), &["-1 is out of range", "between 0 and"]),
    ("[to]\noutput_length_factor = nan", (2, 24), &["NaN is out of range"]),
    ("[to]\nstartup = {median = '60s'}", (2, 11), &["missing key `p95`"]),
    ("[to]\nstartup = {median = '60s', p95 = '5s'}", (2, 11), &["0 < median <= p95"]),
    ("[router]\nworkers = 2", (2, 11), &["only nginx-least-conn"]),
    ("[router]\npolicy = 'best'", (2, 10), &["unknown choice `best`", "`round-robin`"]),
    ("[traffic]\nfile = 'x.csv'", (1, 2), &["duplicate key"]),
    ("[[faults]]\nkind = 'slow-gpu'\nfactor = 2", (1, 1), &["`faults[0].at`", "needs this key", "during"]),
    ("[[faults]]\nkind = 'gpu-lost'\nat = 3", (1, 1), &["`faults[0].replica`", "needs this key"]),
    (
        "[[faults]]\nkind = 'gpu-lost'\nreplica = 'replica-1'\nat = 3\nduring = 'soak'",
        (5, 10),
        &["`faults[0].during`", "beside `at`"],
    ),
    (
        "[[faults]]\nkind = 'gpu-lost'\nduring = 'soak'\nof = 'replica-9'",
        (4, 6),
        &["`faults[0].of`", "no replica is called `replica-9`"],
    ),
    ("[[faults]]\nkind = 'gpu-lost'\nduring = 'soack'", (3, 10), &["did you mean `soak`?"]),
    (
        "[[faults]]\nkind = 'slow-gpu'\nfactor = 2\nduring = 'soak'\nuntil = 9",
        (5, 9),
        &["`faults[0].until`", "for = "],
    ),
    (
        "[[faults]]\nkind = 'gpu-lost'\nreplica = 'replica-1'\nat = { between = [9, 3] }",
        (4, 6),
        &["the earlier one first"],
    ),
    ("[router]\nslow_start = 60", (2, 14), &["`router.slow_start`", "haproxy-leastconn"]),
    ("[to.silent_tokens]\nrequests = 0.5", (1, 1), &["`to.silent_tokens`", "does not say how many"]),
    ("[router]\nsticky = 'user'", (2, 10), &["unknown choice `user`", "`session`", "`version`"]),
    ("[router]\nprefix_aware = { cache_threshold = 0.5 }", (2, 16), &["only prefix-aware has it"]),
    (
        "[traffic.generate.sessions]\nturns = { fixed = 0 }\nthink = 3",
        (2, 19),
        &["`traffic.generate.sessions.turns.fixed`", "between 1 and 1000"],
    ),
    (
        "[traffic.generate.sessions]\nturns = { geometric = 0.5 }\nthink = 3",
        (2, 23),
        &["0.5 is out of range"],
    ),
    ("[traffic.generate.sessions]\nturns = { fixed = 3 }", (1, 1), &["missing key `think`"]),
    (
        "[traffic.generate.sessions]\nturns = { fixed = 900 }\nthink = '100d'",
        (3, 9),
        &["sessions would be under way at the start", "in_course = false"],
    ),
    (
        "[traffic.generate.sessions]\nturns = { fixed = 3 }\nthink = 3\nsystem_prompts = { count = 2, tokens = 40000 }",
        (4, 40),
        &["leave no room below max_input_tokens, 32768"],
    ),
    ("[[faults]]\nat = 3", (1, 1), &["missing key `kind` in `faults`"]),
    ("[[faults]]\nkind = 'replica-crsh'", (2, 8), &["unknown choice", "did you mean `replica-crash`?"]),
    ("[[faults]]\nkind = 'replica-crash'\nbak_after = 3", (3, 1), &["did you mean `back_after`?"]),
    ("[[faults]]\nkind = 'replica-crash'\nat = 'noon'", (3, 6), &["`faults[0].at`", "not a duration"]),
    (
        "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-9'\nat = 3",
        (3, 11),
        &["`faults[0].replica`", "no replica is called `replica-9`", "did you mean"],
    ),
    (
        "[[faults]]\nkind = 'replica-crash'\nat = 3",
        (1, 1),
        &["`faults[0].replica`: a replica-crash needs this key", "replica = \"replica-0\""],
    ),
    (
        "[[faults]]\nkind = 'never-healthy'\nshare = 0.5",
        (3, 9),
        &["a never-healthy has no such key", "`replica`, `nth`, `version`"],
    ),
    ("[[faults]]\nkind = 'start-failure'\nnth = 0", (3, 7), &["from 1 up"]),
    ("[[faults]]\nkind = 'slow-start'\nfactor = -1", (3, 10), &["-1 is out of range"]),
    ("[[faults]]\nkind = 'lost-replies'\nshare = 1.5", (3, 9), &["1.5 is out of range"]),
    ("[[faults]]\nkind = 'lost-replies'\nshare = 1\nat = 9\nuntil = 9", (5, 9), &["is not after `at`"]),
    (
        "[[faults]]\nkind = 'replica-crash'\nreplica = 'replica-0'\nat = 9\nback_after = 5",
        (5, 14),
        &["not longer than `noticed_after`"],
    ),
];

#[test]
fn mistakes_are_shown_where_they_are() {
    let before = SHORT.lines().count();
    for (extra, (line, column), words) in MISTAKES {
        let text = format!("{SHORT}{extra}\n");
        let Err(ScenarioError::Invalid(found)) = Scenario::parse(&text, "dir/bad.toml") else {
            // A second [traffic] after [traffic.generate] is valid TOML; it is then both.
            let error = Scenario::parse(&text, "dir/bad.toml").expect_err(extra);
            panic!("{extra}: {error}");
        };
        let message = found.to_string();
        if !extra.starts_with("[traffic]") {
            assert_eq!((found.line, found.column), (before + line, *column), "{message}");
            for word in *words {
                assert!(message.contains(word), "`{word}` is not in:\n{message}");
            }
        }
        assert!(message.contains("dir/bad.toml:") && message.contains("= help: "), "{message}");
    }
}

#[test]
fn an_overrides_mistake_is_shown_in_the_override() {
    for (assignment, words) in [
        ("fleet.replicas=four", &["a number of replicas such as 4"][..]),
        ("fleet.replicaz=4", &["unknown key `replicaz` in `fleet`", "did you mean `replicas`?"]),
        ("nonsense", &["needs a `=`"]),
        ("=4", &["empty part"]),
        ("fleet..replicas=4", &["empty part"]),
        ("to.engine.c0_mss=3", &["did you mean `c0_ms`?"]),
        ("from.engine=h100", &["no engine profile is called `h100`"]),
        ("fleet.gpus=3", &["`fleet.gpus`", "need 4", "3 replicas fit"]),
        ("name.x=1", &["`name`", "expected a text in quotes"]),
        ("seed=[1", &["unclosed array"]),
        ("seed=18446744073709551615", &["`seed`"]),
    ] {
        let message =
            Scenario::parse_with(SHORT, "dir/x.toml", &[assignment]).expect_err(assignment).to_string();
        assert!(message.starts_with(&format!("--set {assignment}: ")), "{message}");
        for word in words {
            assert!(message.contains(word), "`{word}` is not in:\n{message}");
        }
        assert!(message.contains("= help: "), "{message}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (text, words) in [
        ("", &["missing key `fleet`", "[fleet]"][..]),
        ("[fleet]\nreplicas = 2", &["missing key `from`"]),
        ("[fleet]", &["missing key `replicas` in `fleet`"]),
        ("[fleet]\nreplicas=2\n[from]\nname='v1'\n[traffic]\nfile='x'", &["missing key `engine` in `from`"]),
        (
            "[fleet]\nreplicas=2\n[from]\nengine='h100-qwen3-14b'\n[traffic]\nrate_scale=2",
            &["has none of `file`, `generate` and `prometheus`"],
        ),
        ("[fleet]\nreplicas=0\n[from]\nengine='h100-qwen3-14b'\n[traffic]\nfile='x'", &["0 replicas"]),
        ("\u{feff}[fleet", &["x.toml:1:"]),
    ] {
        let message = Scenario::parse(text, "x.toml").expect_err(text).to_string();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in:\n{message}");
        }
    }
}

#[test]
fn a_file_that_is_no_text_is_shown_where_it_stops_being_text() {
    let file = on_disk(b"[fleet]\nreplicas = 4\nname = '\xff\x1b[31m'\n");
    let message = Scenario::load(&file.path).unwrap_err().to_string();
    assert!(message.contains("trace.in:3:9: the file is not UTF-8"), "{message}");
    assert!(!message.contains('\x1b'), "{message}");
}

#[test]
fn endless_and_deep_files_are_refused() {
    let endless = on_disk(&vec![b'a'; 2 << 20]);
    let message = Scenario::load(&endless.path).unwrap_err().to_string();
    assert!(message.contains("trace.in") && message.contains("larger than 1048576 bytes"), "{message}");
    for deep in
        ["x = ".to_owned() + &"[".repeat(100_000), "a.".repeat(100_000) + "b = 1", "{a=".repeat(50_000)]
    {
        let message = Scenario::parse(&deep, "deep.toml").unwrap_err().to_string();
        assert!(message.contains("deep.toml:1:") && message.len() < 2000, "{message}");
        let _ = Scenario::parse_with(SHORT, "deep.toml", &[&deep]);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = Scenario::load("no/such/file.toml").unwrap_err().to_string();
    assert!(message.contains("no/such/file.toml") && message.contains("cannot read"), "{message}");
}
