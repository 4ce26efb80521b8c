//! What `plan` writes for people, over a horizon short enough for a test.

use std::path::Path;

use crate::{at, slackwater, stderr, stdout};

const CHAT: &str = "scenarios/catalog/four-gpu-chat.toml";

/// A search that takes seconds: little traffic, few futures.
const SMALL: [&str; 7] = [
    "plan.horizon=1h",
    "plan.every=10m",
    "plan.futures=4",
    "plan.certify_futures=60",
    "plan.certify_windows=1",
    "plan.risk=0.1",
    "traffic.generate.rate_per_s=0.3",
];

/// Runs a small plan with these further settings; gives its exit code, text, talk, and plan.json.
fn planned(out: &Path, further: &[&str]) -> (Option<i32>, String, String, serde_json::Value) {
    let mut arguments = vec!["plan", CHAT, "--out", out.to_str().expect("a plain path")];
    for set in SMALL.iter().chain(further) {
        arguments.extend(["--set", set]);
    }
    let output = slackwater(&arguments);
    let json =
        std::fs::read(out.join("plan.json")).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let json = serde_json::from_slice(&json).expect("plan.json is JSON");
    (output.status.code(), stdout(&output), stderr(&output), json)
}

#[test]
fn a_window_is_told_on_the_page_in_markdown_and_in_the_terminal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path();
    let settings = [
        "plan.time_zone=Europe/Berlin",
        "plan.drain_timeouts=[\"30s\"]",
        "traffic.generate.start=2026-01-05T02:00:00Z",
    ];
    let (code, text, talk, json) = planned(out, &settings);
    assert_eq!(code, Some(0), "{talk}");
    assert!(talk.contains(&format!("report: {}", out.join("report.html").display())), "{talk}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let (page, markdown) = (read("report.html"), read("report.md"));
    // The first start, 02:00 in UTC.
    let start = at(&json, "recommended.start").as_str().expect("a start");
    assert!(start.ends_with("+01:00"), "{start}");
    let clock = &start[11..16];
    for told in [&text, &markdown, &page] {
        for fact in [
            "GO",
            "v1",
            "v2",
            clock,
            "Europe/Berlin",
            "slackwater run plan.toml --deployment FILE",
            "rolling",
        ] {
            assert!(told.contains(fact), "{fact:?} is missing in:\n{told}");
        }
    }
    assert!(page.contains("</html>") && !page.contains("src=") && !page.contains("href="));
    let rows = csv::Reader::from_reader(read("windows.csv").as_bytes()).into_records().count();
    assert_eq!(rows, at(&json, "windows").as_array().map_or(0, Vec::len));
    assert!(rows > 3);
    for name in ["starts", "load", "drain-by-hour", "drain-timeouts", "rollout"] {
        for ending in [".svg", ".png", "-dark.svg"] {
            let file = out.join("plots").join(format!("{name}{ending}"));
            assert!(std::fs::metadata(&file).is_ok_and(|file| file.len() > 1_000), "{}", file.display());
        }
    }
}

#[test]
fn no_go_says_what_would_work() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (code, text, talk, json) =
        planned(folder.path(), &["fleet.replicas=1", "plan.drain_timeouts=[\"30s\"]"]);
    assert_eq!(code, Some(3), "{talk}");
    assert!(at(&json, "recommended").is_null());
    let markdown = std::fs::read_to_string(folder.path().join("report.md")).expect("report.md");
    let page = std::fs::read_to_string(folder.path().join("report.html")).expect("report.html");
    for told in [&text, &markdown, &page] {
        assert!(told.contains("NO-GO"), "{told}");
        assert!(told.to_lowercase().contains("what would work"), "{told}");
        assert!(!told.contains("slackwater run"), "{told}");
    }
    assert!(!folder.path().join("plan.toml").exists());
}

#[test]
fn schema_describes_the_answer() {
    let output = slackwater(&["schema", "plan"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["recommended", "windows", "drain", "strategies", "capacity", "sensitivity", "hash"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    assert_eq!(at(&schema, "$defs.StartVerdict.properties.risk.$ref").as_str(), Some("#/$defs/Risk"));
    // What the answer has and its schema must know: one level is enough, for the rest is derived.
    let slo = &schema["$defs"]["SloSchema"]["properties"];
    let facts = serde_json::to_value(slackwater_sim::SloFacts::default()).expect("plain data");
    let keys = |value: &serde_json::Value| value.as_object().map(|of| of.keys().cloned().collect::<Vec<_>>());
    assert_eq!(keys(slo), keys(&facts));
}
