//! Prometheus' history, and the other ways in: `--dequantise`, `--set` for a log that has no token counts.

use std::fmt::Write as _;
use std::fs;

use crate::mistakes::refused;
use crate::{at, number, simulated, slackwater, stderr, stdout};

/// 2026-01-05T00:00:00Z.
const MONDAY: i64 = 1_767_571_200;

/// Two hours of two replicas, a request a second each; nobody scraped for ten minutes.
fn history() -> String {
    let mut series = Vec::new();
    for replica in ["a", "b"] {
        let mut points = String::new();
        for minute in (0..120_i64).filter(|minute| !(60..70).contains(minute)) {
            let comma = if points.is_empty() { "" } else { "," };
            let _ = write!(points, "{comma}[{},{}]", MONDAY + 60 * minute, 60 * minute);
        }
        series.push(format!("{{\"labels\":{{\"instance\":\"{replica}\"}},\"points\":[{points}]}}"));
    }
    let lengths = |name: &str, sum: u32| {
        format!(
            "{{\"metric\":\"{name}\",\"sum\":{sum},\"buckets\":[[100.0,0.0],[200.0,900.0],[null,1000.0]]}}"
        )
    };
    let (from, until) = (MONDAY, MONDAY + 7200);
    format!(
        "{{\"slackwater_history\":1,\"url\":\"http://127.0.0.1:9\",\"selector\":\"job=\\\"vllm\\\"\",\"engine\":\"vllm\",\
         \"step_s\":60,\"from_s\":{from},\"until_s\":{until},\"chunks\":[{{\"from_s\":{from},\"until_s\":{until},\
         \"counter\":\"vllm:request_success_total\",\"counts\":\"finished\",\"series\":[{}],\"input\":{},\"output\":{}}}]}}",
        series.join(","),
        lengths("vllm:request_prompt_tokens", 180_000),
        lengths("vllm:request_generation_tokens", 160_000)
    )
}

const SCENARIO: &str = "\
[fleet]
replicas = 3
[from]
engine = 'a100-llama-3.1-8b'
startup = { median = '30s', p95 = '40s' }
[traffic.prometheus]
url = 'http://127.0.0.1:9'
selector = 'job=\"vllm\"'
days = 0.0833333333
until = '2026-01-05T02:00:00Z'
cache = 'kept.json'
[rollout]
start = '15m'
";

#[test]
fn what_was_fetched_is_simulated_without_asking_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("fleet.toml");
    fs::write(&scenario, SCENARIO).expect("written");
    fs::write(folder.path().join("kept.json"), history()).expect("written");
    let path = scenario.to_str().expect("a plain path");
    let result = simulated(&[path]);
    let requests = number(&result, "requests.arrived");
    assert!((14_270.0..=14_290.0).contains(&requests), "119 minutes of two a second: {requests}");
    let warnings = at(&result, "warnings").to_string();
    assert!(warnings.contains("from 2026-01-05T00:59:00Z to 2026-01-05T01:09:00Z"), "{warnings}");

    let output = slackwater(&["trace", "inspect", path, "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let inspected: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(number(&inspected, "requests"), requests);
    // The file is a trace like any other.
    let kept = folder.path().join("kept.json");
    let result = simulated(&[path, "--trace", kept.to_str().expect("plain"), "--scale", "0.5"]);
    assert!((number(&result, "requests.arrived") - requests / 2.0).abs() <= 1.0);
}

#[test]
fn a_server_that_is_away_is_named_with_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("fleet.toml");
    fs::write(&scenario, SCENARIO.replace("02:00:00", "03:00:00")).expect("written");
    let path = scenario.to_str().expect("a plain path");
    let message = refused(&["simulate", path], 1);
    assert!(message.contains("http://127.0.0.1:9: no answer in 4 attempts"), "{message}");
    fs::write(folder.path().join("kept.json"), history()).expect("written");
    let message = refused(&["simulate", path], 1);
    assert!(message.contains("until = \"2026-01-05T02:00:00Z\""), "{message}");

    let out = folder.path().join("out.json");
    let out = out.to_str().expect("plain");
    let message = refused(&["trace", "fetch", "http://ada:s3cret@127.0.0.1:9", "-o", out], 1);
    assert!(message.contains("SLACKWATER_PROMETHEUS_USER") && !message.contains("s3cret"), "{message}");
    refused(&["trace", "fetch", "http://127.0.0.1:9", "-o", out, "--days", "0"], 2);
    refused(&["trace", "fetch", "http://127.0.0.1:9", "-o", out, "--step", "1.5s"], 2);
    let message = refused(&["trace", "fetch", "http://127.0.0.1:9", "-o", out, "--engine", "triton"], 2);
    assert!(message.contains("sglang"), "{message}");
    let both = format!("{SCENARIO}[traffic.generate]\nduration = '1h'\nrate_per_s = 1\n");
    fs::write(&scenario, both).expect("written");
    let message = refused(&["simulate", path], 1);
    assert!(message.contains("both `prometheus` and `generate`"), "{message}");
}

#[test]
fn any_log_is_inspected_and_replayed_with_what_it_lacks_said_on_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let mut text = String::new();
    for row in 0..600 {
        let _ = writeln!(
            text,
            "10.0.0.1 - - [05/Jan/2026:09:{:02}:{:02} +0000] \"POST /v1/completions HTTP/1.1\" 200 5123 \"-\" \"agent\" 900 1.250",
            row / 60,
            row % 60
        );
    }
    fs::write(&log, text).expect("written");
    let log = log.to_str().expect("plain");
    let message = refused(&["trace", "inspect", log], 1);
    assert!(message.contains("traffic.assume_tokens"), "{message}");
    let stated = [
        "--set",
        "traffic.assume_tokens.bytes_per_input_token=4",
        "--set",
        "traffic.assume_tokens.bytes_per_output_token=200",
    ];
    let output = slackwater(&[&["trace", "inspect", log][..], &stated].concat());
    assert!(output.status.success() && stdout(&output).contains("600 requests"), "{}", stderr(&output));
    let message = refused(&["trace", "inspect", log, "--set", "traffic.assume_token=1"], 1);
    assert!(message.contains("assume_tokens"), "{message}");
}

#[test]
fn quantised_arrivals_are_spread_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("ticks.jsonl");
    let row = |index: u32| {
        format!("{{\"timestamp\": {}, \"input_length\": 90, \"output_length\": 9}}\n", index / 10 * 3000)
    };
    fs::write(&trace, (0..3000).map(row).collect::<String>()).expect("written");
    let trace = trace.to_str().expect("plain");
    let inspected = |arguments: &[&str]| {
        let output = slackwater(&[&["trace", "inspect", trace, "--json"][..], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        number(&json, "arrivals.cv")
    };
    assert!(inspected(&[]) > 2.0);
    assert!(inspected(&["--dequantise"]) < 1.3);
    let simulate = |arguments: &[&str]| {
        let all =
            [&["scenarios/catalog/four-gpu-chat.toml", "--trace", trace, "--no-rollout"][..], arguments]
                .concat();
        at(&simulated(&all), "warnings").to_string()
    };
    assert!(simulate(&[]).contains("quantised"));
    assert!(simulate(&["--dequantise"]).contains("are spread within it"));
}
