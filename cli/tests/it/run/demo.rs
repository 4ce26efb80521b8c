//! The demo, as anybody would start it.

use super::fleet::{BINARY, text};

#[test]
fn the_demo_loses_nothing_and_says_how_far_the_prediction_was_off() {
    let folder = tempfile::Builder::new().prefix("sw").tempdir().unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["demo", "--json", "--replicas", "2", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["outcome"], "completed", "{result}");
    let requests = &result["requests"];
    assert_eq!(requests["sent"], requests["completed"], "{requests}");
    assert!(requests["sent"].as_u64().unwrap() > 10, "{requests}");
    for side in ["predicted", "actual"] {
        assert_eq!(result[side]["moves"].as_array().unwrap().len(), 2, "{result}");
        assert!(result[side]["mean"]["load_s"].as_f64().unwrap() >= 3.0, "{side}: it takes 3 s to start");
    }
    assert!(result["errors"]["out_s"].is_number(), "{result}");
    // What clients saw, before, during each move and after, beside what the simulator said they would.
    let latency = result["latency"].as_array().unwrap();
    let phases: Vec<&str> = latency.iter().map(|row| row["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["before", "replica-0", "replica-1", "after"], "{result}");
    let sent: u64 = latency.iter().map(|row| row["actual"]["count"].as_u64().unwrap()).sum();
    assert_eq!(sent, requests["completed"].as_u64().unwrap(), "each request is in one phase");
    for row in latency {
        for (figure, error) in [("ttft_p50_s", "ttft_p50_error_s"), ("tpot_p99_s", "tpot_p99_error_s")] {
            let side = |side: &str| row[side][figure].as_f64().unwrap();
            let said = side("actual") - side("predicted");
            assert!(side("predicted") > 0.001 && side("actual") > 0.001, "{figure}: {row}");
            assert!((row[error].as_f64().unwrap() - said).abs() < 1e-9, "{error}: {row}");
        }
    }
    assert_eq!(result["basis"]["rollouts"], 40);
    assert!(folder.path().join("report.html").exists());
    assert!(String::from_utf8_lossy(&output.stderr).contains("report: "), "its path is printed");

    // The same rollout through `slackwater report`, out of its journal.
    let state = folder.path().join("state").display().to_string();
    let predicted = folder.path().display().to_string();
    let scenario = folder.path().join("scenario.toml");
    let output = std::process::Command::new(BINARY)
        .args([
            "report",
            "--actual",
            &state,
            "--predicted",
            &predicted,
            "--simulate",
            "40",
            "--json",
            "--update",
        ])
        .arg(&scenario)
        .arg("--out")
        .arg(folder.path().join("again"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let again: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for part in ["moves", "mean", "rollout_s", "cut"] {
        assert_eq!(again["rollouts"][0]["actual"][part], result["actual"][part], "{part}");
        assert_eq!(again["rollouts"][0]["predicted"][part], result["predicted"][part], "{part}");
    }
    assert!(folder.path().join("again/actual.html").exists());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("-startup = \"3s\"") || said.contains("-# startup was not stated here"), "{said}");
    let measured = std::fs::read_to_string(folder.path().join("scenario.measured.toml")).unwrap();
    assert!(measured.contains("# measured in 2 moves"), "{measured}");
    assert_eq!(
        std::fs::read_to_string(&scenario).unwrap().matches("measured").count(),
        0,
        "the scenario is as it was"
    );
    let simulated = std::process::Command::new(BINARY)
        .args(["simulate", "--json"])
        .arg(folder.path().join("scenario.measured.toml"))
        .output()
        .unwrap();
    assert!(simulated.status.success(), "{}", text(&simulated));
}
