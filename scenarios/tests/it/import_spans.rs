//! Spans, a benchmark's result, an agent's rounds.

use slackwater_scenarios::{ReadOptions, SharedTrace};

use crate::import_formats::{dropped, refused};
use crate::support::{arrival, load};

pub(crate) const OTLP: &str = r#"{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"x"},"spans":[
{"traceId":"t","spanId":"b","startTimeUnixNano":"1767603605000000000","endTimeUnixNano":"1767603606000000000","attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intValue":"812"}},{"key":"gen_ai.usage.output_tokens","value":{"intValue":143}},{"key":"gen_ai.request.model","value":{"stringValue":"qwen"}},{"key":"x","value":{"doubleValue":0.5}}]},
{"traceId":"t","spanId":"c","parentSpanId":"b","startTimeUnixNano":"1767603605100000000","endTimeUnixNano":"1767603605900000000","attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intValue":"812"}},{"key":"gen_ai.usage.output_tokens","value":{"intValue":"143"}}]},
{"traceId":"t","spanId":"d","startTimeUnixNano":"1767603605000000000","endTimeUnixNano":"1767603606000000000","attributes":[]}]}]}]}
{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"e","startTimeUnixNano":1767603600000000000,"endTimeUnixNano":1767603607000000000,"attributes":[{"key":"gen_ai.usage.prompt_tokens","value":{"intValue":"7"}},{"key":"gen_ai.usage.completion_tokens","value":{"intValue":"8"}}]},{"spanId":"f","startTimeUnixNano":"1767603606000000000","endTimeUnixNano":"1767603607000000000","attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intValue":"7"}},{"key":"error.type","value":{"stringValue":"timeout"}}]}]}]}]}
"#;

pub(crate) const VLLM: &str = r#"{"date": "20260105-090000", "backend": "vllm", "completed": 3, "request_throughput": 1.5, "input_lens": [10, 20, 30, 40], "output_lens": [1, 2, 0, 4], "ttfts": [0.1, 0.2, 0.0, 0.3], "itls": [[], [0.1], [], [0.1]], "start_times": [100.5, 100.25, 101.0, 102.0], "errors": ["", "", "timeout", ""]}"#;

pub(crate) const TRACELAB: &str = r#"{"provider":"claude","session_id":"b","round_index":0,"model":"m","input_tokens_total":322,"prefix_tokens":2,"output_tokens":9,"timing_events":[{"event_type":"user_message","timestamp":"2026-06-01T05:40:20.151Z"},{"event_type":"text","timestamp":"2026-06-01T05:40:29.420Z"}],"tools":[]}
{"provider":"claude","session_id":"b","round_index":1,"model":"m","input_tokens_total":400,"prefix_tokens":2,"output_tokens":8,"timing_events":[{"event_type":"tool_result","timestamp":"2026-06-01T05:40:31.000Z"},{"event_type":"tool_result","timestamp":"2026-06-01T05:40:50.151Z"},{"event_type":"text","timestamp":"2026-06-01T05:41:29.420Z"}]}
"#;

const SECOND: u64 = 1_000_000_000_000;

fn read(text: &str, format: &str) -> SharedTrace {
    let trace = load(text.as_bytes(), ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(trace.report.format, format);
    trace
}

#[test]
fn spans_with_names_old_and_new() {
    let trace = read(OTLP, "otlp-json");
    assert_eq!(&*trace.arrivals, [arrival(0, 7, 8), arrival(5 * SECOND, 812, 143)]);
    assert_eq!(trace.epoch_ns, Some(1_767_603_600_000_000_000));
    assert_eq!(
        dropped(&trace),
        [
            ("a span that counts no tokens", 1, 3),
            ("a span with an error.type: the request failed", 1, 5),
            ("a span within a request that is counted", 1, 2)
        ]
    );
    let only = ReadOptions { only: Some("qwen".into()), ..ReadOptions::default() };
    assert_eq!(load(OTLP.as_bytes(), only).unwrap().arrivals.len(), 1);
    refused(&OTLP[..OTLP.len() - 40], ReadOptions::default(), &["row 5", "cut off"]);
    let text = OTLP.replace("\"1767603606000000000\"", "\"soon\"");
    refused(&text, ReadOptions::default(), &["row 2", "expected a whole number", "resourceSpans"]);
    let text = OTLP.replace("\"1767603606000000000\"", "\"1\"");
    refused(&text, ReadOptions::default(), &["span 1 (b)", "ends before it begins"]);
}

#[test]
fn spans_may_be_one_long_line() {
    let export = OTLP.lines().next_back().unwrap();
    let spans =
        &export[export.find("{\"spanId\":\"e\"").unwrap()..export.find(",{\"spanId\":\"f\"").unwrap()];
    let many = vec![spans; 5000].join(",");
    let text = format!("{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{many}]}}]}}]}}");
    assert!(text.len() > 1 << 20);
    assert_eq!(read(&text, "otlp-json").arrivals.len(), 5000);
}

#[test]
fn a_benchmarks_result() {
    let trace = read(VLLM, "vllm-bench-json");
    assert_eq!(
        &*trace.arrivals,
        [arrival(0, 20, 2), arrival(SECOND / 4, 10, 1), arrival(SECOND * 7 / 4, 40, 4)]
    );
    assert_eq!(dropped(&trace), [("it has an error: the request failed", 1, 3)]);
    assert_eq!(trace.epoch_ns, None);
    let pretty = VLLM.replace(", ", ",\n    ").replace('{', "{\n    ");
    assert_eq!(read(&pretty, "vllm-bench-json").arrivals, trace.arrivals);
    let text = VLLM.replace("start_times", "begin_times");
    refused(&text, ReadOptions::default(), &["lacks one of `start_times`", "--save-detailed"]);
    refused(
        &VLLM.replace("[10, ", "["),
        ReadOptions::default(),
        &["3 input_lens", "not of the same requests"],
    );
    refused(&VLLM[..VLLM.len() - 9], ReadOptions::default(), &["row 1", "EOF"]);
}

#[test]
fn an_agents_rounds_are_sent_with_their_last_input() {
    let trace = read(TRACELAB, "tracelab-jsonl");
    assert_eq!(&*trace.arrivals, [arrival(0, 322, 9), arrival(30 * SECOND, 400, 8)]);
    refused(
        &format!("{TRACELAB}{{\"input_tokens_total\": 5, \"output_tokens\": 5, \"timing_events\": []}}\n"),
        ReadOptions::default(),
        &["row 3", "no timing_events"],
    );
}
