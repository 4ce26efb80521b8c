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
        assert!(result[side]["ttft_p50_s"].as_f64().unwrap() > 0.001, "{side}: {result}");
    }
    assert!(result["errors"]["out_s"].is_number(), "{result}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("report: "), "its path is printed");
}
