//! `slackwater report` on simulated journals, in place of lived ones: what a user meets, and what their mistakes say. A live rollout's
//! journal goes through it in `run/demo.rs`.

use std::path::Path;

use crate::{at, slackwater, stderr, stdout};

/// A scenario with comments, small enough for many rollouts.
const SCENARIO: &str = "\
seed = 1
[fleet]
replicas = 2

[from]
name = 'v1'
engine = 'a100-llama-3.1-8b'
stop = '2s'            # as the supervisor does it
startup = { median = '20s', p95 = '30s' }
warm_up = '3s'
[to]
name = 'v2'            # the new one
[traffic.generate]
duration = '15m'
rate_per_s = 2.0
[slo]
ttft = '2s'
tpot = '100ms'
share = 0.99
[rollout]
start = '2m'
soak = '5s'
drain_timeout = '60s'
";

fn scenario(folder: &Path) -> String {
    let path = folder.join("chat.toml");
    std::fs::write(&path, SCENARIO).expect("written");
    path.display().to_string()
}

/// The journal of a rollout simulated with this seed.
fn journal(folder: &Path, scenario: &str, seed: u32) -> String {
    let out = folder.join(format!("seed-{seed}"));
    let output = slackwater(&[
        "simulate",
        scenario,
        "--seed",
        &seed.to_string(),
        "--out",
        out.to_str().expect("a plain path"),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    out.join("journal.jsonl").display().to_string()
}

#[test]
fn one_rollout_is_told_beside_its_prediction() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scenario = scenario(folder.path());
    let journal = journal(folder.path(), &scenario, 1);
    let arguments = ["report", "--actual", &journal, "--predicted", &scenario, "--simulate", "30"];
    let output = slackwater(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for said in ["v1 to v2: Completed", "30 simulated rollouts of this plan", "drain", "warm-up", "replica-1"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = slackwater(&[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    // The first of the simulated rollouts is the very one whose journal it is.
    let load = |side: &str, place: usize| {
        at(&json, &format!("rollouts.0.{side}.moves.{place}.load_s")).as_f64().expect("seconds")
    };
    assert!(load("actual", 0) > 10.0 && load("predicted", 0) > 10.0);
    assert_eq!(at(&json, "rollouts.0.outcome"), "completed");
    assert_eq!(at(&json, "calibration"), &serde_json::Value::Null, "one rollout shows nothing of a promise");
}

#[test]
fn many_rollouts_say_how_many_they_are_and_whether_the_promise_is_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scenario = scenario(folder.path());
    let journals: Vec<String> = (2..8).map(|seed| journal(folder.path(), &scenario, seed)).collect();
    let out = folder.path().join("report");
    let report = |predicted: &str| {
        let mut arguments = vec!["report", "--predicted", predicted, "--out", out.to_str().expect("a path")];
        journals.iter().for_each(|journal| arguments.extend(["--actual", journal]));
        let output = slackwater(&arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let text = report(&scenario);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("6 rollouts (6 completed), 12 moves"), "{text}");
    assert!(text.contains("no sign against it") && !text.contains("NOT KEPT"), "{text}");
    let page = std::fs::read_to_string(out.join("actual.html")).expect("a page");
    assert!(page.contains("Is the promise kept?") && page.contains("<svg"));

    // A scenario that believes in much shorter starts is found out.
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, SCENARIO.replace("median = '20s', p95 = '30s'", "median = '5s', p95 = '6s'"))
        .expect("written");
    let text = report(wrong.to_str().expect("a path"));
    assert!(text.contains("NOT KEPT"), "{text}");
}

#[test]
fn measured_delays_go_into_the_scenario_with_its_comments_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scenario = scenario(folder.path());
    let journals: Vec<String> = (2..6).map(|seed| journal(folder.path(), &scenario, seed)).collect();
    let mut arguments = vec!["report", "--update", &scenario];
    journals.iter().for_each(|journal| arguments.extend(["--actual", journal]));
    let output = slackwater(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("-stop = '2s'"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&scenario).expect("read"), SCENARIO, "only a copy was written");
    let copy = std::fs::read_to_string(folder.path().join("chat.measured.toml")).expect("a copy");
    assert!(copy.contains("name = 'v2'            # the new one"), "{copy}");
    assert!(copy.contains("# measured in 8 moves"), "{copy}");
    let (from, to) = copy.split_once("[to]").expect("two versions");
    assert!(from.contains("stop = ") && to.contains("startup = { median = "), "{copy}");

    arguments.push("--in-place");
    assert!(slackwater(&arguments).status.success());
    assert_eq!(std::fs::read_to_string(&scenario).expect("read"), copy, "the same in place");
}

#[test]
fn a_plan_folder_predicts_in_its_own_futures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (plan, out) = (folder.path().join("plan"), folder.path().join("simulated"));
    let path = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let chat = "scenarios/catalog/four-gpu-chat.toml";
    let mut arguments = vec!["plan".to_owned(), chat.to_owned(), "--out".to_owned(), path(&plan)];
    for set in [
        "plan.horizon=1h",
        "plan.every=10m",
        "plan.futures=4",
        "plan.certify_futures=60",
        "plan.certify_windows=1",
        "plan.risk=0.1",
        "traffic.generate.rate_per_s=0.3",
    ] {
        arguments.extend(["--set".to_owned(), set.to_owned()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = slackwater(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let set = ["--set", "traffic.generate.rate_per_s=0.3"];
    let output = slackwater(&[&["simulate", chat, "--out", &path(&out)][..], &set].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let journal = path(&out.join("journal.jsonl"));
    let output = slackwater(&[
        "report",
        "--actual",
        &journal,
        "--predicted",
        &path(&plan),
        "--simulate",
        "20",
        "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(at(&json, "rollouts.0.basis.rollouts"), 20);
    assert_eq!(at(&json, "rollouts.0.predicted.moves").as_array().expect("moves").len(), 4);
    assert!(at(&json, "rollouts.0.errors.load_s").is_number(), "{json}");
}

#[test]
fn mistakes_say_what_was_expected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let empty = folder.path().to_str().expect("a plain path");
    let scenario = scenario(folder.path());
    let journal = journal(folder.path(), &scenario, 1);
    let other = folder.path().join("other.toml");
    std::fs::write(&other, SCENARIO.replace("replicas = 2", "replicas = 3")).expect("written");
    let other = other.to_str().expect("a plain path");
    let void = folder.path().join("void");
    std::fs::create_dir(&void).expect("a folder");
    let void = void.to_str().expect("a plain path");
    for (arguments, said) in [
        (vec!["--actual", empty], "nothing was run with this deployment yet"),
        (vec!["--actual", &journal, "--predicted", void], "there is neither plan.json nor scenario.toml"),
        (
            vec!["--actual", &journal, "--predicted", other],
            "the scenario has replica-0, replica-1, replica-2",
        ),
        (vec!["--actual", "nowhere/journal.jsonl"], "wants its plan beside it"),
    ] {
        let output = slackwater(&[&["report"][..], &arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{said}: {}", stderr(&output));
    }
}
