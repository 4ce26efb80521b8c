//! What `simulate` prints and writes.

use slackwater_policy::{Plan, Record, Rollout};

use crate::{at, number, simulated, slackwater, stderr, stdout};

const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";

#[test]
fn json_has_the_fields_that_scripts_rely_on() {
    let result = simulated(&[CHAT]);
    for path in [
        "requests.arrived",
        "requests.completed",
        "requests.cut",
        "requests.timed_out",
        "requests.rejected",
        "requests.unfinished",
        "requests.retried",
        "ttft_s.mean",
        "tpot_s.p50",
        "e2e_s.p90",
        "ttft_s.p99",
        "phases.0.rate_per_s",
        "rollout.started_s",
        "rollout.ended_s",
        "rollout.moves.0.admitted_s",
        "steps",
        "wall_s",
        "requests_per_wall_s",
        "seed",
        "capacity.3.rate_per_s",
    ] {
        assert!(number(&result, path) >= 0.0, "{path}");
    }
    assert_eq!(at(&result, "hash").as_str().map(str::len), Some(64));
    assert_eq!(at(&result, "inputs.scenario").as_str().map(str::len), Some(64));
}

#[test]
fn the_seed_decides_everything() {
    let hash = |arguments: &[&str]| at(&simulated(arguments), "hash").clone();
    assert_eq!(hash(&[CHAT]), hash(&[CHAT]));
    assert_ne!(hash(&[CHAT]), hash(&[CHAT, "--seed", "2"]));
}

#[test]
fn the_table_fits_eighty_columns_and_ends_with_the_verdict() {
    let output = slackwater(&["simulate", CHAT]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    for word in ["before", "replica-0", "replica-3", "after"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}

#[test]
fn no_rollout_means_none() {
    let result = simulated(&[CHAT, "--no-rollout"]);
    assert!(at(&result, "rollout").is_null());
    assert!(at(&result, "baseline").is_null());
    assert_eq!(at(&result, "phases").as_array().map(Vec::len), Some(1));
}

#[test]
fn out_writes_a_plan_that_loads_and_a_journal_that_replays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().to_str().expect("a plain path");
    let output = slackwater(&["simulate", CHAT, "--out", out, "--requests"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);

    let plan: Plan = toml::from_str(&read("plan.toml")).expect("plan.toml is a plan");
    plan.validate().expect("the plan holds");
    let journal: Vec<Record> =
        read("journal.jsonl").lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let rollout = Rollout::replay(plan, &journal).expect("the journal is that of the plan");
    assert_eq!(rollout.outcome(), Some(slackwater_policy::Outcome::Completed));

    let result: serde_json::Value = serde_json::from_str(&read("result.json")).expect("JSON");
    let rows = csv::Reader::from_reader(read("requests.csv").as_bytes()).into_records().count();
    assert_eq!(rows as f64, number(&result, "requests.arrived"));
    assert!(read("report.html").contains("</html>"));
    for plot in std::fs::read_dir(folder.path().join("plots")).expect("a folder of plots") {
        assert!(plot.expect("readable").metadata().expect("readable").len() > 1000);
    }
    // The resolved scenario is a scenario again, with the same outcome.
    let scenario = folder.path().join("scenario.toml");
    let again = simulated(&[scenario.to_str().expect("a plain path")]);
    assert_eq!(at(&again, "hash"), at(&result, "hash"));
}

#[test]
fn schema_describes_the_scenario() {
    let output = slackwater(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["fleet", "from", "to", "traffic", "rollout", "slo"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}
