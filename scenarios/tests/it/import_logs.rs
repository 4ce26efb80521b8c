//! Logs: in order of the requests' ends, mostly without token counts.

use slackwater_scenarios::{HumanDuration, ReadOptions, SharedTrace};

use crate::import_formats::{assumed, dropped, refused};
use crate::support::{arrival, load};

pub(crate) const NGINX_JSON: &str = r#"{"msec":"1767603604.456","request_time":"4.333","upstream_header_time":"0.678","status":200,"request":"POST /v1/chat/completions HTTP/1.1","request_length":3310,"body_bytes_sent":5100}
{"msec":1767603605.0,"request_time":0.5,"status":"200","request_method":"POST","request_uri":"/v1/completions","request_length":"100","body_bytes_sent":"900"}
{"msec":1767603605.1,"request_time":0.001,"status":"200","request":"GET /health HTTP/1.1","body_bytes_sent":2}
{"msec":1767603605.2,"request_time":0.2,"status":"503","request":"POST /v1/completions HTTP/1.1","body_bytes_sent":2}
{"msec":1767603609.0,"request_time":8.9,"status":"200","request":"POST /v1/completions HTTP/1.1","body_bytes_sent":200,"input_tokens":77,"output_tokens":"66"}
"#;

pub(crate) const COMBINED: &str = r#"10.0.0.1 - - [05/Jan/2026:09:00:04 +0000] "POST /v1/chat/completions HTTP/1.1" 200 5123 "-" "python-httpx/0.27"
10.0.0.2 - alice [05/Jan/2026:11:00:06 +0200] "POST /v1/chat/completions HTTP/1.1" 200 200 "-" "a \"quoted\" agent" 0.500
10.0.0.3 - - [05/Jan/2026:09:00:07 +0000] "POST /v1/chat/completions HTTP/1.1" 200 300 "-" "agent" 1234 5.250 [llm] [] 10.1.1.1:80
10.0.0.3 - - [05/Jan/2026:09:00:08 +0000] "POST /v1/chat/completions HTTP/1.1" 200 400 "-" "agent" rt=2.000 uct="0.001"
"#;

pub(crate) const HAPROXY: &str = r#"Feb  6 12:14:10 lb haproxy[14389]: Proxy http-in started.
Feb  6 12:14:16 lb haproxy[14389]: 10.0.1.2:33317 [06/Feb/2026:12:14:14.655] http-in llm/r1 10/0/30/69/1500 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "POST /v1/completions HTTP/1.1"
Feb  6 12:14:17 lb haproxy[14389]: 10.0.1.2:33318 [06/Feb/2026:12:14:13.655] http-in llm/r2 10/0/30/69/+3000 200 +100 - - ---- 1/1/1/1/0 0/0 "POST /v1/completions HTTP/1.1"
Feb  6 12:14:18 lb haproxy[14389]: 10.0.1.2:33319 [06/Feb/2026:12:14:15.000] http-in llm/<NOSRV> 10/-1/-1/-1/50 503 0 - - sQ-- 1/1/1/1/0 0/0 "POST /v1/completions HTTP/1.1"
"#;

pub(crate) const ENVOY: &str = r#"[2026-04-15T20:17:00.310Z] "POST /v1/completions HTTP/2" 200 - 154 1000 2260 100 "10.0.35.28" "nsq2http" "cc21d9b0" "locations" "tcp://10.0.2.1:80"
[2026-04-15T20:17:00.010Z] "POST /v1/completions HTTP/1.1" 200 - via_upstream - "-" 154 2000 4260 100 "-" "agent" "id" "host" "10.0.2.1:80"
[2026-04-15T20:17:05.000Z] "POST /v1/completions HTTP/1.1" 0 DC 154 0 10 - "-" "agent" "id" "host" "-"
"#;

pub(crate) const ENVOY_JSON: &str = r#"{"start_time":"2026-04-15T20:17:00.310Z","duration":2260,"response_code":200,"method":"POST","path":"/v1/completions","bytes_received":154,"bytes_sent":1000,"response_flags":"-"}
{"start_time":"2026-04-15T20:17:00.010Z","duration":"4260","response_code":"200","method":"POST","path":"/v1/completions","bytes_received":"154","bytes_sent":"2000","input_tokens":9,"output_tokens":8}
"#;

pub(crate) const LITELLM: &str = "request_id,call_type,startTime,endTime,completionStartTime,prompt_tokens,completion_tokens,model,session_id,status,cache_hit,messages
a,acompletion,2026-01-05 09:00:00.123,2026-01-05 09:00:04.456,2026-01-05 09:00:00.801,812,143,gpt-4o,s-1,success,False,\"[{\"\"role\"\": \"\"user\"\"},
{}]\"
b,acompletion,2026-01-05 08:59:59.123,2026-01-05 09:00:05.000,,10,20,qwen,s-1,success,None,
c,aembedding,2026-01-05 09:00:01,2026-01-05 09:00:05.100,,10,0,e5,s-1,success,False,
d,acompletion,2026-01-05 09:00:02,2026-01-05 09:00:05.200,,10,20,gpt-4o,s-1,success,True,
e,acompletion,2026-01-05 09:00:03,,,0,0,gpt-4o,s-1,failure,False,
";

fn stated() -> ReadOptions {
    ReadOptions { assume_tokens: Some(assumed()), ..ReadOptions::default() }
}

fn read(text: &str, format: &str) -> SharedTrace {
    let trace = load(text.as_bytes(), stated()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(trace.report.format, format);
    trace
}

const MILLISECOND: u64 = 1_000_000_000;

#[test]
fn nginx_json_is_put_in_order_of_start() {
    let trace = read(NGINX_JSON, "nginx-json");
    // Starts at .100, .123, 4.5; output at one token for 100 bytes where the log has no count.
    assert_eq!(
        &*trace.arrivals,
        [arrival(0, 77, 66), arrival(23 * MILLISECOND, 800, 51), arrival(4400 * MILLISECOND, 800, 9)]
    );
    assert_eq!(trace.epoch_ns, Some(1_767_603_600_100_000_000));
    assert_eq!(trace.report.reordered, 1);
    assert_eq!(
        dropped(&trace),
        [("its status is not 2xx: it was not answered", 1, 4), ("not a POST: no request for tokens", 1, 3)]
    );
    let warnings = trace.report.warnings().join("\n");
    for word in
        ["one for 100 bytes", "input tokens are not in the file: drawn", "up to 9 s (the longest request)"]
    {
        assert!(warnings.contains(word), "{warnings}");
    }
    refused(
        NGINX_JSON,
        ReadOptions::default(),
        &["row 1", "how many input tokens", "traffic.assume_tokens = {"],
    );
    let only = ReadOptions { only: Some("/v1/chat".into()), ..stated() };
    assert_eq!(load(NGINX_JSON.as_bytes(), only).unwrap().arrivals.len(), 1);
    refused(
        &format!("{NGINX_JSON}{{\"msec\": \"noon\", \"status\": 200}}\n"),
        stated(),
        &["row 6", "`msec`"],
    );
    refused(&format!("{NGINX_JSON}{{\"msec\": 17676036"), stated(), &["row 6", "EOF"]);
}

#[test]
fn a_request_longer_than_is_sorted_over_is_named() {
    let short = ReadOptions { longest_request: HumanDuration::from_millis(100), ..stated() };
    refused(
        NGINX_JSON,
        short.clone(),
        &["row 5", "4.400000 s before", "traffic.longest_request", "traffic.sort = true"],
    );
    let sorted = ReadOptions { sort: true, ..short };
    assert_eq!(
        load(NGINX_JSON.as_bytes(), sorted).unwrap().arrivals,
        read(NGINX_JSON, "nginx-json").arrivals
    );
}

#[test]
fn nginx_combined_is_late_and_says_so() {
    let trace = read(COMBINED, "nginx-combined");
    // 9:00:01.75, 9:00:04 (when it ended), 9:00:05.5, 9:00:06.
    let times: Vec<u64> = trace.arrivals.iter().map(|arrival| arrival.at_ps / MILLISECOND).collect();
    assert_eq!(times, [0, 2250, 3750, 4250]);
    let outputs: Vec<u32> = trace.arrivals.iter().map(|arrival| arrival.output_tokens).collect();
    assert_eq!(outputs, [3, 51, 2, 4]);
    assert!(
        trace.report.warnings().iter().any(|warning| warning.starts_with("1 requests are logged without"))
    );
    for (row, word) in [
        ("10.0.0.1 - - [yesterday] \"POST / HTTP/1.1\" 200 5 \"-\" \"-\"", "its time is `yesterday`"),
        ("10.0.0.1 - - [05/Jan/2026:09:00:04 +0000] \"POST / HTTP/1.1", "it has no request"),
        ("10.0.0.1 - - [05/Jan/2026:09:00:04 +0000] \"POST / HTTP/1.1\" ok 5", "its status is no number"),
        ("hello", "it has no [time]"),
    ] {
        refused(&format!("{COMBINED}{row}\n"), stated(), &["row 5", word, "each line must be like 10.0.0.1"]);
    }
}

#[test]
fn haproxy_logs_a_request_with_its_start() {
    let trace = read(HAPROXY, "haproxy-http");
    assert_eq!(&*trace.arrivals, [arrival(0, 800, 1), arrival(1000 * MILLISECOND, 800, 28)]);
    assert_eq!(
        dropped(&trace),
        [
            ("a message of the balancer, no request", 1, 1),
            ("its status is not 2xx: it was not answered", 1, 4)
        ]
    );
    assert!(trace.report.warnings().iter().any(|warning| warning.contains("UTC is assumed")));
    let zone = ReadOptions { time_zone: Some("+02:00".into()), ..stated() };
    let moved = load(HAPROXY.as_bytes(), zone).unwrap();
    assert_eq!(moved.epoch_ns.unwrap(), trace.epoch_ns.unwrap() - 7_200_000_000_000);
    assert!(!moved.report.warnings().iter().any(|warning| warning.contains("UTC")));
    let tcp = "10.0.1.2:3 [06/Feb/2026:12:14:14.655] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0\n";
    refused(&format!("{HAPROXY}{tcp}"), stated(), &["row 5", "option httplog"]);
}

#[test]
fn envoy_logs_in_both_forms() {
    let text = read(ENVOY, "envoy-text");
    assert_eq!(&*text.arrivals, [arrival(0, 800, 20), arrival(300 * MILLISECOND, 800, 10)]);
    assert_eq!(dropped(&text), [("its status is not 2xx: it was not answered", 1, 3)]);
    let json = read(ENVOY_JSON, "envoy-json");
    assert_eq!(&*json.arrivals, [arrival(0, 9, 8), arrival(300 * MILLISECOND, 800, 10)]);
    assert_eq!(text.epoch_ns, json.epoch_ns);
    refused(
        &format!("{ENVOY}[2026-04-15T20:17:05.000Z] \"POST /\" 200\n"),
        stated(),
        &["row 4", "it ends before"],
    );
    refused(&format!("{ENVOY_JSON}{{\"start_time\": 5}}\n"), stated(), &["row 3", "missing field"]);
}

#[test]
fn litellm_rows_by_what_happened_to_them() {
    let trace = load(LITELLM.as_bytes(), ReadOptions::default()).unwrap();
    assert_eq!(trace.report.format, "litellm-csv");
    assert_eq!(&*trace.arrivals, [arrival(0, 10, 20), arrival(1000 * MILLISECOND, 812, 143)]);
    let reasons: Vec<(u64, u64)> = dropped(&trace).iter().map(|drop| (drop.1, drop.2)).collect();
    assert_eq!(reasons, [(1, 6), (1, 5), (1, 7)], "{:?}", dropped(&trace));
    let only = ReadOptions { only: Some("qwen".into()), ..ReadOptions::default() };
    assert_eq!(&*load(LITELLM.as_bytes(), only).unwrap().arrivals, [arrival(0, 10, 20)]);
    let bad = "f,completion,2026-01-05 09:00:03,2026-01-05 09:00:02,,1,1,m,s,success,False,\n";
    refused(&format!("{LITELLM}{bad}"), ReadOptions::default(), &["row 8", "endTime is before startTime"]);
    let bad = "f,completion,noon,2026-01-05 09:00:02,,1,1,m,s,success,False,\n";
    refused(&format!("{LITELLM}{bad}"), ReadOptions::default(), &["row 8", "startTime is `noon`"]);
}

/// Rows of any order within the longest request come out as a sort of the whole file gives them.
#[test]
fn sorting_while_streaming_is_sorting() {
    let mut text = String::new();
    let keyed = slackwater_scenarios::Keyed::new(7);
    for row in 0..5000_u64 {
        let took_ms = keyed.bits("took", &[row]) % 30_000;
        let end_ms = 1_767_603_600_000 + row * 40;
        text += &format!(
            "{{\"msec\": \"{}.{:03}\", \"request_time\": \"{}.{:03}\", \"status\": 200, \"input_tokens\": {}, \"output_tokens\": 5}}\n",
            end_ms / 1000,
            end_ms % 1000,
            took_ms / 1000,
            took_ms % 1000,
            row + 1
        );
    }
    let thirty = ReadOptions { longest_request: HumanDuration::from_secs(30), ..ReadOptions::default() };
    let streamed = load(text.as_bytes(), thirty.clone()).unwrap();
    let sorted = load(text.as_bytes(), ReadOptions { sort: true, ..thirty.clone() }).unwrap();
    assert_eq!(streamed.arrivals, sorted.arrivals);
    assert_eq!(streamed.arrivals.len(), 5000);
    let twice = load(text.as_bytes(), ReadOptions { repeat: 2, ..thirty }).unwrap();
    assert_eq!((twice.arrivals.len(), &twice.arrivals[..5000]), (10_000, &*streamed.arrivals));
}
