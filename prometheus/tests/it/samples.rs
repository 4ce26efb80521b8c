//! Samples as they were scraped.

use slackwater_prometheus::{Samples, buckets, samples};

use crate::chunks::{client, success};
use crate::server::{Question, Server};

/// A scrape every fifteen seconds, not on whole seconds, of two replicas that count two a second.
fn scraped(question: &Question) -> Option<crate::server::Answer> {
    let query = question.get("query");
    if query.starts_with("sum by (le)") {
        assert_eq!(query, "sum by (le) (increase(vllm:request_prompt_tokens_bucket{job=\"vllm\"}[7200s]))");
        let row = |bound: &str, value: f64| {
            format!("{{\"metric\":{{\"le\":\"{bound}\"}},\"value\":[0,\"{value}\"]}}")
        };
        let rows = [row("+Inf", 9.0), row("100.0", 4.0), row("20.0", 0.0)];
        return Some(success(&format!("{{\"resultType\":\"vector\",\"result\":[{}]}}", rows.join(","))));
    }
    let (which, range) = query.rsplit_once('[').expect("a range");
    assert_eq!(which, "{__name__=~\"vllm:a_total|vllm:b\",job=\"vllm\"}");
    let seconds: i64 = range.trim_end_matches("s]").parse().expect("whole seconds");
    assert!(seconds <= 3600, "no answer is too large");
    let until: i64 = question.get("time").parse().expect("a time");
    let rows: Vec<String> = ["a", "b"]
        .iter()
        .map(|replica| {
            let values: Vec<String> = (until - seconds..=until)
                .filter(|at| at % 15 == 0)
                .map(|at| format!("[{at}.25,\"{}\"]", 2 * at))
                .collect();
            format!(
                "{{\"metric\":{{\"__name__\":\"vllm:a_total\",\"instance\":\"{replica}\"}},\"values\":[{}]}}",
                values.join(",")
            )
        })
        .collect();
    Some(success(&format!("{{\"resultType\":\"matrix\",\"result\":[{}]}}", rows.join(","))))
}

#[test]
fn every_scrape_comes_once_at_its_own_time() {
    let server = Server::start(scraped);
    let client = client(&server.url);
    let (from_s, until_s) = (1_767_571_200, 1_767_571_200 + 7200);
    let names = ["vllm:a_total", "vllm:b"];
    let found = samples(&client, "job=\"vllm\"", &names, (from_s, until_s)).expect("answers");
    assert_eq!(found.len(), 2);
    for Samples { name, labels, points } in &found {
        assert_eq!((name.as_str(), labels.len()), ("vllm:a_total", 1));
        assert_eq!(points.len(), 481, "two hours of four a minute, and the end of one is not twice there");
        assert_eq!(points[1].0 - points[0].0, 15.0);
        assert!((points[0].0.fract() - 0.25).abs() < 1e-6, "times are not rounded: {}", points[0].0);
    }
    assert_eq!(server.asked().len(), 2, "an hour at a time");
    let lengths = buckets(&client, "{job=\"vllm\"}", "vllm:request_prompt_tokens", (from_s, until_s));
    assert_eq!(lengths.expect("answers"), [(20.0, 0.0), (100.0, 4.0), (f64::INFINITY, 9.0)]);
}

#[test]
fn nothing_there_is_said_with_what_was_looked_for() {
    let server = Server::start(|_| Some(success("{\"resultType\":\"matrix\",\"result\":[]}")));
    let error = samples(&client(&server.url), "job=\"x\"", &["vllm:a_total"], (0, 60)).expect_err("nothing");
    let said = error.to_string();
    assert!(said.contains("vllm:a_total") && said.contains("job=\"x\""), "{said}");
    let error = samples(&client(&server.url), "", &["vllm:a_total"], (60, 60)).expect_err("no time");
    assert!(error.to_string().contains("longer"), "{error}");
}
